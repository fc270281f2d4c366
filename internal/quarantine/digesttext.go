package quarantine

import "text/template"

// digestText is the plain half of a digest. It is written as quoted-printable, so
// lines may be as long as links are.
var digestText = template.Must(template.New("text").Parse(
	`{{.Count}} held in quarantine for {{.To}} since the last of these mails.
Nothing is delivered unless you ask for it; held messages are deleted after {{.Days}} days.
{{range .Items}}
Received: {{.Received}}
From:     {{.Sender}}
Subject:  {{.Subject}}
Why:      {{.Kind}}
{{if .Release}}Release:  {{.Release}}
{{else}}Release:  by your administrator only
{{if .Ask}}Ask:      {{.Ask}}
{{end}}{{end}}{{if .Delete}}Delete:   {{.Delete}}
{{end}}{{end}}{{if .More}}
There are more. Ask your administrator about them.
{{end}}
Each link opens a page that asks before anything happens. The links are for you
alone: do not pass this mail on.
{{if .Settings}}
How often and when these mails come: {{.Settings}}
{{end}}`))

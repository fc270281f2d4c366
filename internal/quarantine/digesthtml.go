package quarantine

import "html/template"

// digestHTML is the other half: no scripts, nothing that is loaded, and every
// value escaped for its place.
var digestHTML = template.Must(template.New("html").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Mail quarantine</title></head>
<body style="font-family:sans-serif;color:#222;background:#fff">
<p>{{.Count}} held in quarantine for <b>{{.To}}</b> since the last of these mails.
Nothing is delivered unless you ask for it; held messages are deleted after {{.Days}} days.</p>
<table cellpadding="6" style="border-collapse:collapse">
<tr style="text-align:left"><th>Received</th><th>From</th><th>Subject</th><th>Why</th><th></th></tr>
{{range .Items}}<tr style="border-top:1px solid #ccc;vertical-align:top"><td>{{.Received}}</td><td>{{.Sender}}</td><td>{{.Subject}}</td><td>{{.Kind}}</td><td>{{if .Release}}<a href="{{.Release}}">Release</a>{{else}}by your administrator only{{if .Ask}} · <a href="{{.Ask}}">Ask for it</a>{{end}}{{end}}{{if .Delete}} · <a href="{{.Delete}}">Delete</a>{{end}}</td></tr>
{{end}}</table>
{{if .More}}<p>There are more. Ask your administrator about them.</p>
{{end}}<p>Each link opens a page that asks before anything happens. The links are for you alone: do not pass this mail on.</p>
{{if .Settings}}<p><a href="{{.Settings}}">How often and when these mails come</a></p>
{{end}}</body></html>
`))

package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"

	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// DigestLinks knows what the links in digests mean.
type DigestLinks interface {
	// Look tells what a link would do; it changes nothing.
	Look(ctx context.Context, token string) (*quarantine.Link, error)
	// Follow does it.
	Follow(ctx context.Context, token string) (*quarantine.Link, error)
}

// linkStyle is the only style on the page; the policy names it by its hash.
const linkStyle = `body{font-family:sans-serif;color:#222;background:#fff;max-width:40em;margin:3em auto;padding:0 1em}` +
	`th{text-align:left;font-weight:normal;color:#666;padding-right:1em;vertical-align:top;white-space:nowrap}` +
	`td{overflow-wrap:anywhere}button,select{font:inherit;padding:.5em}button{display:block;padding:.5em 1.5em;margin-top:1.5em}label{display:block;margin:1em 0 .2em}` +
	`@media(prefers-color-scheme:dark){:root{color-scheme:dark}body{color:#ddd;background:#181818}th{color:#aaa}}`

// linkPage is the page behind a link. It holds no script, loads nothing, and its
// button posts to the address that it has.
var linkPage = template.Must(template.New("link").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex,nofollow"><meta name="referrer" content="no-referrer">
<title>{{.Title}}</title><style>` + linkStyle + `</style></head>
<body><main><h1>{{.Title}}</h1>
{{if .Text}}<p>{{.Text}}</p>
{{end}}{{with .Link}}<table>
<tr><th scope="row">From</th><td>{{.Sender}}</td></tr>
<tr><th scope="row">Subject</th><td>{{.Subject}}</td></tr>
<tr><th scope="row">To</th><td>{{.Recipient}}</td></tr>
<tr><th scope="row">Received</th><td>{{.Received}}</td></tr>
<tr><th scope="row">Size</th><td>{{.Size}}</td></tr>
<tr><th scope="row">Held because</th><td>{{.Kind}}</td></tr>
</table>
{{end}}{{if .Button}}<form method="post">{{with .Setting}}
<label for="often">How often</label><select id="often" name="often">{{$often := .Often}}{{range $.Oftens}}<option value="{{.}}"{{if eq . $often}} selected{{end}}>{{.}}</option>{{end}}</select>
<label for="hour">At which hour</label><select id="hour" name="hour">{{$s := .}}{{range $h := 24}}<option value="{{$h}}"{{if eq $h $s.Hour}} selected{{end}}>{{printf "%02d:%02d" $h $s.Minute}}</option>{{end}}</select>
{{end}}<button type="submit">{{.Button}}</button></form>
{{end}}</main></body></html>
`))

// linkText is what one page says.
type linkText struct {
	status int
	Title  string
	Text   string
	Button string
	Link   *quarantine.Link
	// Setting is asked for on the page for digests.
	Setting *quarantine.DigestSetting
}

// Oftens are what can be chosen.
func (linkText) Oftens() []quarantine.Often { return quarantine.Oftens() }

func (s *Server) routeDigestLinks(r *router) {
	sum := sha256.Sum256([]byte(linkStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	path := quarantine.LinkPath + "{token}"
	links := s.cfg.DigestLinks
	serve := func(act func(context.Context, string) (*quarantine.Link, error), text func(*quarantine.Link) linkText) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			link, err := act(r.Context(), r.PathValue("token"))
			page := linkText{}
			switch {
			case err != nil:
				page = s.linkFailure(err)
			case link.Action == quarantine.LinkSettings:
				page = s.digestPage(r, link.Recipient)
			default:
				page = text(link)
			}
			writeLinkPage(w, policy, page)
		}
	}
	// GET never changes anything: programs that check or preview links follow
	// them on their own.
	r.add(
		Route{Method: "GET", Path: path, Public: true, Capability: true, Do: plain(serve(links.Look, lookText))},
		Route{Method: "POST", Path: path, Public: true, Capability: true, Do: plain(serve(s.follow, followText))},
	)
}

// follow does what a link says; what the one for digests asks for is in the form.
func (s *Server) follow(ctx context.Context, token string) (*quarantine.Link, error) {
	link, err := s.cfg.DigestLinks.Look(ctx, token)
	if err != nil || link.Action == quarantine.LinkSettings {
		return link, err
	}
	return s.cfg.DigestLinks.Follow(ctx, token)
}

// digestPage shows when an address gets digests, and changes it by POST.
func (s *Server) digestPage(r *http.Request, address string) linkText {
	if s.cfg.Digests == nil {
		return linkText{status: http.StatusGone, Title: "There are no digests now", Text: "Ask your administrator."}
	}
	page := linkText{status: http.StatusOK, Title: "Mails about what is held", Text: "For " + address + ". Weekly is on Mondays.", Button: "Save"}
	if r.Method == http.MethodPost {
		choice, err := ReadDigestForm(r, address)
		if err == nil {
			err = s.cfg.Digests.Choose(r.Context(), choice)
		}
		switch {
		case err == nil:
			page.Title = "Saved"
		case errors.Is(err, quarantine.ErrUnavailable):
			return s.linkFailure(err)
		default:
			page.status, page.Title, page.Text = http.StatusUnprocessableEntity, "This was not saved", "Choose how often, and an hour."
		}
	}
	now, err := s.cfg.Digests.Setting(r.Context(), address)
	if err != nil {
		return s.linkFailure(err)
	}
	page.Setting = &now
	return page
}

// linkFailure says why there is nothing to show. Whatever is wrong with a link
// that is not ours, the answer is the same to the byte.
func (s *Server) linkFailure(err error) linkText {
	switch {
	case errors.Is(err, quarantine.ErrBadLink):
		return linkText{status: http.StatusNotFound, Title: "This link is not valid", Text: "Take it whole from the mail that it came in."}
	case errors.Is(err, quarantine.ErrLinkExpired):
		return linkText{status: http.StatusGone, Title: "This link has expired", Text: "Ask your administrator about the message."}
	case errors.Is(err, quarantine.ErrNotFound), errors.Is(err, quarantine.ErrDeleted):
		return linkText{status: http.StatusGone, Title: "The message is no longer held", Text: "It was deleted."}
	case errors.Is(err, quarantine.ErrReleased):
		return linkText{status: http.StatusGone, Title: "The message was released already", Text: "It is on its way or in your mailbox."}
	case errors.Is(err, quarantine.ErrForbidden):
		return linkText{status: http.StatusForbidden, Title: "This message is not released by a link", Text: "Ask your administrator about it."}
	}
	s.cfg.Log.Error("link of a digest could not be followed", "error", err)
	return linkText{status: http.StatusServiceUnavailable, Title: "This does not work now", Text: "Please try again later."}
}

// lookText asks before anything happens.
func lookText(l *quarantine.Link) linkText {
	t := linkText{status: http.StatusOK, Title: "Release this message?", Text: "It will be delivered to your mailbox.", Button: "Release", Link: l}
	if l.Action == quarantine.LinkDelete {
		t.Title, t.Text, t.Button = "Delete this message?", "You will not get it.", "Delete"
	}
	if l.Action == quarantine.LinkAsk {
		t.Title, t.Text, t.Button = "Ask for this message?", "An administrator decides whether you get it.", "Ask"
	}
	return t
}

// followText says what was done.
func followText(l *quarantine.Link) linkText {
	t := linkText{status: http.StatusOK, Title: "The message was released", Text: "It will be in your mailbox in a moment.", Link: l}
	if l.Action == quarantine.LinkDelete {
		t.Title, t.Text = "The message was deleted", ""
	}
	if l.Action == quarantine.LinkAsk {
		t.Title, t.Text = "An administrator sees now that you want it", ""
	}
	if l.Threat == mail.ThreatUnscanned && l.Action == quarantine.LinkRelease {
		t.Text += " It could not be checked for viruses: take care with what it holds."
	}
	return t
}

func writeLinkPage(w http.ResponseWriter, policy string, page linkText) {
	var b bytes.Buffer
	if err := linkPage.Execute(&b, page); err != nil {
		fail(w, http.StatusInternalServerError, "the page cannot be written")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	// The address is the permission: it must not reach anybody else.
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(page.status)
	_, _ = w.Write(b.Bytes())
}

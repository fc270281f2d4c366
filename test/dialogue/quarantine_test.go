package dialogue

import (
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// WEB-16: what the quarantine holds can be looked at, and what is released goes
// out as it came, to whom it was for, and is not held again.
func TestTheQuarantineFromTheCommandLine(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("kept", "subject = 'keep'", `then = "quarantine"`) +
		filter("programs", `attachment_name = '\.exe$'`, `then = "strip"`) + flowOf(`{ use = "filters" }`)})
	c := g.Hello("")
	data := "From: ada@out.example\nTo: a@in.example\nSubject: keep \x1b]0;me\x07 <b>&\nX-Gatepost-Verdict: forged\nMessage-ID: <k1@out.example>\n\n" +
		".dots\n..\nlast line without tricks\n"
	say(t, c, "MAIL FROM:<ada@out.example> RET=HDRS ENVID=env-1", "250", "RCPT TO:<a@in.example> NOTIFY=SUCCESS,FAILURE", "250", "RCPT TO:<b@in.example>", "250", "DATA", "354")
	if err := c.Send(strings.ReplaceAll(crlf(data), "\r\n.", "\r\n..") + ".\r\n"); err != nil {
		t.Fatal(err)
	}
	r, err := c.Reply()
	if err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	id := idOf(t, r)
	second := give(t, c, "eve@out.example", "a@in.example", "Subject: keep two\n\nbody\n")
	list := quarantine(t, g, 2)
	if list[0].ID != second || list[1].ID != id || list[1].Size != int64(len(crlf(data))) || list[1].Sender != "ada@out.example" {
		t.Errorf("list %+v", list)
	}
	for _, tt := range []struct {
		n    int
		args []string
	}{
		{1, []string{"--sender", "ada@out.example"}}, {2, []string{"--recipient", "a@in.example"}}, {1, []string{"--recipient", "b@in.example"}},
		{2, []string{"--domain", "in.example"}}, {0, []string{"--domain", "out.example"}}, {0, []string{"--threat", "virus"}}, {2, []string{"--threat", "filter"}},
		{1, []string{"--text", "two"}}, {1, []string{"--limit", "1"}}, {2, []string{"--since", "1d"}}, {0, []string{"--before", "1d"}}, {0, []string{"--state", "released"}},
	} {
		quarantine(t, g, tt.n, tt.args...)
	}
	for _, args := range [][]string{{"quarantine", "list"}, {"quarantine", "show", id}} {
		out, err := g.Run(args...)
		if err != nil {
			t.Fatal(err)
		}
		mustContain(t, args[1], out, id, "held", "ada@out.example", "a@in.example", "subject matched ")
		if strings.ContainsAny(out, "\x1b\x07") {
			t.Errorf("%q tells the terminal what the sender wrote", args)
		}
	}
	if got := original(t, g, id); got != crlf(data) {
		t.Errorf("the quarantine has %q", got)
	}
	drained(t, g)
	if n := len(s.Mails()); n != 0 {
		t.Fatalf("%d mails before the release", n)
	}
	releaseAndDelete(t, g, s, id, crlf(data))
}

// releaseAndDelete does with one message what can be done.
func releaseAndDelete(t *testing.T, g *gatepost.Instance, s *sink.Sink, id, data string) {
	t.Helper()
	var results []held
	ask(t, g, &results, "quarantine", "release", "--json", "--recipient", "b@in.example", id)
	if len(results) != 1 || len(results[0].ReleasedAs) != 26 || results[0].ReleasedAs == id || strings.Join(results[0].Recipients, ",") != "b@in.example" {
		t.Errorf("released %+v", results)
	}
	front := strings.Join(added(t, theMail(t, s, "b@in.example"), strings.Replace(data, "X-Gatepost-Verdict: forged\r\n", "", 1)[strings.Index(data, "X-Gate"):]), "")
	if strings.Contains(front, "X-Gatepost") || strings.Count(front, "Received:") != 1 || !strings.HasSuffix(front, "From: ada@out.example\r\nTo: a@in.example\r\nSubject: keep \x1b]0;me\x07 <b>&\r\n") {
		t.Errorf("in front of the released message stands %q", front)
	}
	out, err := g.Run("quarantine", "release", id)
	if err != nil || !strings.HasPrefix(out, id+" released for a@in.example as ") {
		t.Errorf("release says %q, %v", out, err)
	}
	m := theMail(t, s, "a@in.example")
	if !strings.HasPrefix(m.From, "<ada@out.example>") {
		t.Errorf("released from %s", m.From)
	}
	drained(t, g)
	quarantine(t, g, 2)
	quarantine(t, g, 1, "--state", "released")
	if said := fails(t, g, 1, "quarantine", "release", id); !strings.Contains(said, "released already") {
		t.Errorf("a second release says %q", said)
	}
	if out, err := g.Run("quarantine", "release", "--force", "--recipient", "a@in.example", id); err != nil || !strings.Contains(out, " released for a@in.example as ") {
		t.Errorf("a forced release says %q, %v", out, err)
	}
	if out, err := g.Run("quarantine", "delete", id); err != nil || !strings.HasPrefix(out, id+" deleted for ") {
		t.Errorf("delete says %q, %v", out, err)
	}
	quarantine(t, g, 1)
	fails(t, g, 1, "quarantine", "release", id)
	drained(t, g)
	// Two releases for a@in.example, who asked to hear of success, and one for b.
	if n, reports := len(s.Mails()), len(mailsTo(s, "ada@out.example")); n-reports != 3 || reports != 2 {
		t.Errorf("%d mails and %d reports, want 3 and 2", n-reports, reports)
	}
	quarantine(t, g, 1)
}

// A message whose attachment was taken out can be released whole. The DSN options
// of its sender hold then: this is the delivery that they were meant for.
func TestReleasedMailKeepsItsEnvelope(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"DSN", "8BITMIME", "SIZE 1000000"}})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("kept", "size_over = 0", `then = "quarantine"`) + flowOf(`{ use = "filters" }`)})
	c := g.Hello("")
	say(t, c, "MAIL FROM:<ada@out.example> BODY=8BITMIME RET=HDRS ENVID=env-1", "250", "RCPT TO:<a@in.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@in.example", "250", "DATA", "354")
	if err := c.Send("Subject: caf\xc3\xa9\r\n\r\nbody\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	id := quarantine(t, g, 1)[0].ID
	if _, err := g.Run("quarantine", "release", id); err != nil {
		t.Fatal(err)
	}
	m := theMail(t, s, "a@in.example")
	for _, word := range []string{"BODY=8BITMIME", "RET=HDRS", "ENVID=env-1"} {
		if !strings.Contains(m.From, word) {
			t.Errorf("MAIL FROM:%s, want %s", m.From, word)
		}
	}
	if want := "<a@in.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@in.example"; m.To[0] != want {
		t.Errorf("RCPT TO:%s, want %s", m.To[0], want)
	}
	if front := strings.Join(added(t, m, "Subject: caf\xc3\xa9\r\n\r\nbody\r\n"), ""); strings.Count(front, "Received:") != 1 {
		t.Errorf("in front stands %q", front)
	}
}

// Training from the quarantine teaches the filter.
func TestReleasingTeaches(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("kept", "size_over = 0", `then = "quarantine"`) + flowOf(`{ use = "filters" }, { use = "bayes" }`)})
	c := g.Hello("")
	one := give(t, c, "ada@out.example", "a@in.example", "Subject: one\n\nsome words about nothing\n")
	two := give(t, c, "ada@out.example", "a@in.example", "Subject: two\n\nother words about everything\n")
	quarantine(t, g, 2)
	learned := func(ham, spam int) {
		t.Helper()
		var status struct{ Scopes []struct{ Ham, Spam int } }
		ask(t, g, &status, "bayes", "status", "--json")
		if len(status.Scopes) != 1 || status.Scopes[0].Ham != ham || status.Scopes[0].Spam != spam {
			t.Errorf("learned %+v, want %d and %d", status, ham, spam)
		}
	}
	if out, err := g.Run("quarantine", "train", "spam", one, two); err != nil || strings.Count(out, " trained as spam\n") != 2 {
		t.Errorf("train says %q, %v", out, err)
	}
	learned(0, 2)
	if out, err := g.Run("quarantine", "release", "--train", one); err != nil || !strings.HasSuffix(out, ", trained as ham\n") {
		t.Errorf("release says %q, %v", out, err)
	}
	learned(1, 1)
	s.WaitMails(t, 1, patience)
}

// What happened to content is counted, and its parts have a line in /healthz.
func TestMetricsAndHealthOfContent(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning + "\nprocessing = \"queued\"", More: filter("kept", "subject = 'keep'", `then = "quarantine"`) +
		filter("gone", "recipient = 'gone@in.example'", `then = "discard"`) + flowOf(`{ use = "filters" }, { use = "bayes" }, { use = "score", mark = 5 }`)})
	c := g.Hello("")
	give(t, c, "ada@out.example", "a@in.example,gone@in.example", "Subject: keep\n\nbody\n")
	give(t, c, "ada@out.example", "b@in.example,gone@in.example", "Subject: fine\n\nbody\n")
	s.WaitMails(t, 1, patience)
	quarantine(t, g, 1)
	drained(t, g)
	wanted := []string{
		`gatepost_verdicts_total{action="deliver",flow="inbound",threat=""} 1`,
		`gatepost_verdicts_total{action="discard",flow="inbound",threat="filter"} 1`,
		`gatepost_verdicts_total{action="quarantine",flow="inbound",threat="filter"} 2`,
		`gatepost_scan_answers_total{block="filters",result="match"} 2`,
		`gatepost_scan_answers_total{block="structure",result="clean"} 2`,
		`gatepost_scan_duration_seconds_count{block="bayes"} 2`,
		`gatepost_part_up{part="store"} 1`,
		`gatepost_delivery_attempts_total{status="delivered",transport="quarantine"} 2`,
		`gatepost_delivery_attempts_total{status="delivered",transport="scanner"} 4`,
	}
	text := get(t, g, "/metrics")
	for _, line := range wanted {
		if !strings.Contains(text, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			t.Errorf("metrics lack %s; there is %q", line, linesWith(text, name+"{"))
		}
	}
	mustContain(t, "healthz", get(t, g, "/healthz"), `{"name":"store","ok":true`)
	if out, err := g.Run("status"); err != nil || !strings.Contains(out, "store") {
		t.Errorf("status says %q, %v", out, err)
	}
	gatepost.Eventually(t, "mail.log tells of both messages", patience, func() bool {
		return len(linesWith(g.MailLog(), " Email-Scanner scanned id=")) == 2
	})
}

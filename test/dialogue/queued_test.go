package dialogue

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// afterwards is a listener that answers first and scans then.
const afterwards = scanning + "\nprocessing = \"queued\""

// incoming waits until this many items wait for the scanner, and returns them.
func incoming(t *testing.T, g *gatepost.Instance, n int) []map[string]any {
	t.Helper()
	var rows []map[string]any
	ok := gatepost.Holds(patience, func() bool {
		ask(t, g, &rows, "queue", "list", "--json", "--state", "incoming")
		return len(rows) == n
	})
	if !ok {
		t.Fatalf("%d items are incoming, want %d: %v", len(rows), n, rows)
	}
	return rows
}

// A queued listener answers 250 whatever comes, and the scanner sees to it then.
// While it is paused the mail is visible as incoming, over a restart too.
func TestQueuedMailIsScannedAfterTheAnswer(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: afterwards, More: filter("kept", "subject = 'keep'", `then = "quarantine"`) +
		filter("refused", "subject = 'refuse'", `then = "reject"`) + filter("gone", "subject = 'discard'", `then = "discard"`) +
		filter("not for no", "recipient = 'no@in.example'", `then = "reject"`) + filter("no programs", `attachment_name = '\.exe$'`, `then = "strip"`) +
		flowOf(`{ use = "filters" }`)})
	if out, err := g.Run("queue", "pause", "--transport", "scanner"); err != nil {
		t.Fatal(out, err)
	}
	c := g.Hello("")
	mails := map[string]string{}
	ids := map[string]string{}
	for _, subject := range []string{"keep", "refuse", "discard", "fine"} {
		mails[subject] = fmt.Sprintf("From: ada@out.example\nSubject: %s\n\n.body\n", subject)
		ids[subject] = give(t, c, "ada@out.example", subject+"@in.example", mails[subject])
	}
	mails["split"] = "Subject: split\n\nbody\n"
	ids["split"] = give(t, c, "ada@out.example", "no@in.example,yes@in.example", mails["split"])
	mails["strip"] = twoParts("strip", "a.exe", "MZ")
	ids["strip"] = give(t, c, "ada@out.example", "strip@in.example", mails["strip"])
	rows := incoming(t, g, 6)
	for _, row := range rows {
		if row["state"] != "incoming" || row["transport"] != "scanner" || row["attempts"] != 0.0 {
			t.Errorf("row %v", row)
		}
	}
	mustContain(t, "metrics", get(t, g, "/metrics"), `gatepost_queue_items{state="incoming"} 6`+"\n")
	if out, err := g.Run("queue", "list", "--state", "incoming"); err != nil || !strings.Contains(out, ids["keep"]+":1") {
		t.Errorf("queue list says %s, %v", out, err)
	}
	c.Quit()
	g.Stop()
	if got := linesWith(g.MailLog(), " Scanner-Queue waits for the scanner id="); len(got) != 6 || !strings.Contains(got[0], "id="+ids["keep"]+" sender=<ada@out.example> recipients=1 size=") {
		t.Errorf("mail.log says %q", got)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	incoming(t, g, 6)
	if n := len(s.Mails()); n != 0 {
		t.Fatalf("%d mails before the scan", n)
	}
	quarantine(t, g, 0)
	if out, err := g.Run("queue", "resume", "--transport", "scanner"); err != nil {
		t.Fatal(out, err)
	}
	drained(t, g)
	for to, subject := range map[string]string{"fine": "fine", "yes": "split"} {
		front := strings.Join(added(t, theMail(t, s, to+"@in.example"), crlf(mails[subject])), "")
		mustContain(t, to, front, "X-Gatepost-ID: "+ids[subject]+"\r\n", "X-Gatepost-Verdict: deliver\r\n", " id "+ids[subject])
	}
	mustContain(t, "strip", string(theMail(t, s, "strip@in.example").Data), `The attachment "a.exe" was removed`)
	if n := len(s.Mails()); n != 3 {
		t.Errorf("%d mails, want 3: no bounce, nothing that was refused", n)
	}
	kept := map[string]held{}
	for _, q := range quarantine(t, g, 4) {
		kept[q.ID] = q
	}
	for _, subject := range []string{"keep", "refuse", "split", "strip"} {
		q, ok := kept[ids[subject]]
		if !ok || original(t, g, q.ID) != crlf(mails[subject]) {
			t.Errorf("%s is not in the quarantine as it came: %+v", subject, q)
		}
		if refused := subject == "refuse" || subject == "split"; strings.HasSuffix(q.Reason, "(would have been refused)") != refused {
			t.Errorf("%s: %s", subject, q.Reason)
		}
	}
	if q := kept[ids["split"]]; strings.Join(q.Recipients, ",") != "no@in.example" {
		t.Errorf("split is held for %v", q.Recipients)
	}
}

// What waits for the scanner is held, released and deleted like other mail.
func TestIncomingMailObeysTheQueueCommands(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: afterwards, More: flowOf(`{ use = "structure" }`)})
	if out, err := g.Run("queue", "pause", "--transport", "scanner"); err != nil {
		t.Fatal(out, err)
	}
	c := g.Hello("")
	give(t, c, "ada@out.example", "a@in.example", "Subject: a\n\n\n")
	give(t, c, "ada@out.example", "b@in.example", "Subject: b\n\n\n")
	incoming(t, g, 2)
	if out, err := g.Run("queue", "delete", "--recipient", "a@in.example", "--yes"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	incoming(t, g, 1)
	if out, err := g.Run("queue", "hold", "--recipient", "b@in.example"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	incoming(t, g, 0)
	if out, err := g.Run("queue", "resume", "--transport", "scanner"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if n := waiting(t, g); n != 1 || len(s.Mails()) != 0 {
		t.Errorf("%d items wait, %d mails", n, len(s.Mails()))
	}
	if out, err := g.Run("queue", "release", "--state", "hold"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	theMail(t, s, "b@in.example")
	drained(t, g)
}

// DSN: that a message was scanned is no delivery, and of what is quarantined or
// discarded the sender hears nothing; the one report is that of the delivery.
func TestScanningIsNoDelivery(t *testing.T) {
	t.Parallel()
	for name, listener := range map[string]string{"queued": afterwards, "inline": scanning} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := next(t, sink.Options{Extensions: []string{"8BITMIME"}})
			s.SetScript(func(step sink.Step) sink.Reaction {
				if step.Stage == sink.RcptTo && strings.Contains(step.Line, "<bad@") {
					return sink.Reaction{Reply: "550 5.1.1 nobody"}
				}
				return sink.Reaction{}
			})
			g := behind(t, s, gatepost.Settings{Listener: listener, More: filter("kept", "recipient = 'held@in.example'", `then = "quarantine"`) +
				filter("gone", "recipient = 'gone@in.example'", `then = "discard"`) + filter("more", "recipient = 'ok@in.example'", `then = "copy:copy@in.example"`) +
				filter("moved", "recipient = 'moved@in.example'", `then = "redirect:bad@in.example"`) + flowOf(`{ use = "filters" }`)})
			c := g.Hello("")
			say(t, c, "MAIL FROM:<ada@out.example> ENVID=e1", "250")
			for _, to := range []string{"ok", "held", "gone", "bad", "moved"} {
				say(t, c, "RCPT TO:<"+to+"@in.example> NOTIFY=SUCCESS,FAILURE", "250")
			}
			say(t, c, "DATA", "354", "Subject: x\r\n\r\nbody\r\n.", "250")
			quarantine(t, g, 1)
			drained(t, g)
			theMail(t, s, "ok@in.example")
			theMail(t, s, "copy@in.example")
			reports := map[string]string{}
			for _, m := range mailsTo(s, "ada@out.example") {
				for _, r := range readReport(t, m).recipients {
					reports[r.Get("Final-Recipient")] += r.Get("Action") + " "
				}
			}
			if got := fmt.Sprint(reports); got != "map[rfc822; bad@in.example:failed  rfc822; ok@in.example:relayed ]" {
				t.Errorf("reports %s", got)
			}
		})
	}
}

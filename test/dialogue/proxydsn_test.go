package dialogue

import (
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// A sender who wants to hear of success is told by us where the server, which once had
// DSN, has it no more; where it has, the server is asked to.
func TestSuccessIsReportedForServersWithoutDSN(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Extensions: []string{"8BITMIME", "SIZE", "DSN"}})
	g, reports := through(t, s, gatepost.Settings{}, "messages_per_session = 1")
	c := g.Hello("")
	send := func(parameters string) {
		t.Helper()
		say(t, c, "MAIL FROM:<ada@in.example> ENVID=e7", "250")
		say(t, c, "RCPT TO:<bob@live.example>"+parameters, "250")
		say(t, c, "DATA", "354")
		if err := c.Send(crlf("Subject: x\n\nx\n") + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Reply(); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
	}
	send(" NOTIFY=SUCCESS")
	if m := theMail(t, s, "bob@live.example"); !strings.Contains(m.To[0], "NOTIFY=SUCCESS") {
		t.Fatalf("the server was not told: %s", m.To)
	}
	s.SetScript(sink.Fail(sink.Ehlo, "250-sink\r\n250 8BITMIME"))
	send("")
	send(" NOTIFY=NEVER")
	send(" NOTIFY=SUCCESS,FAILURE")
	theReport(t, reports, "bob@live.example", "relayed", "2.0.0")
	drained(t, g)
	if n := len(reports.Mails()); n != 1 {
		t.Errorf("%d reports, want one", n)
	}
	if n := len(s.Mails()); n != 4 {
		t.Errorf("the server got %d mails, want 4", n)
	}
}

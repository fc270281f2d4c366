package interop

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/postfix"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// Postfix is the server that mail is passed through to: its own answers come back,
// it is told who the client is, and mail is there when the client has its answer.
func TestMailIsPassedThroughToPostfix(t *testing.T) {
	end := sink.Start(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8"}})
	p := startPostfix(t, postfix.Config{Next: end.Addr, Params: map[string]string{
		"smtpd_authorized_xclient_hosts": "127.0.0.0/8",
		"smtpd_recipient_restrictions":   "check_recipient_access inline:{{nobody@live.example=550 5.1.1 Postfix does not know him}},reject_unauth_destination",
		"relay_domains":                  "live.example",
		"message_size_limit":             "5000000",
	}})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"live.example\"\ntransport = \"live\"\ndelivery = \"proxy\"\n"+
		"[[transport]]\nname = \"live\"\nkind = \"smtp\"\nhosts = [%q]\nclient_identity = \"xclient\"\n", p.Addr)}})
	var hello wire.Reply
	gatepost.Eventually(t, "EHLO promises what Postfix does", patience, func() bool {
		c, r, err := wire.Hello(g.SMTP, wire.Options{})
		if err == nil {
			c.Close()
		}
		hello = r
		return err == nil && r.Has("SMTPUTF8") && r.Has("DSN")
	})
	if !strings.Contains(hello.Text(), "SIZE 5000000 ") {
		t.Errorf("EHLO says %v", hello)
	}
	c := g.Hello("127.0.0.9")
	for _, m := range []ledger.Message{ledger.New(2000), ledger.New(3 << 20), ledger.Wrap("nobody", nil)} {
		for _, step := range [][2]string{
			{"MAIL FROM:<ada@out.example> BODY=8BITMIME RET=HDRS", "250 2.1.0"}, {"RCPT TO:<nobody@live.example>", "550 5.1.1 <nobody@live.example>: Recipient address rejected: Postfix does not know him"},
			{"RCPT TO:<bob@live.example> NOTIFY=NEVER", "250 2.1.5 Ok"}, {"DATA", "354"},
		} {
			if r, err := c.Cmd("%s", step[0]); err != nil || !strings.HasPrefix(r.String(), step[1]) {
				t.Fatalf("%s: %v, %v", step[0], r, err)
			}
		}
		if err := c.Send(string(wire.Stuff(m.Data)) + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Reply(); err != nil || !strings.HasPrefix(r.String(), "250 2.0.0 Ok: ") || !strings.Contains(r.Text(), "queued as ") {
			t.Fatalf("%v, %v", r, err)
		}
		arrived(t, end, m.ID)
	}
	if log := p.Log(); !strings.Contains(log, "client=unknown[127.0.0.9]") && !strings.Contains(log, "[127.0.0.9]") {
		t.Error("Postfix does not know who the client was")
	}
	// A second client gets none of the name of the first.
	d := g.Hello("127.0.0.10")
	m := ledger.New(100)
	if r, err := d.Deliver("ada@out.example", []string{"bob@live.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	got := arrived(t, end, m.ID)
	if !strings.Contains(string(got.Data), "127.0.0.10") || strings.Contains(string(got.Data), "127.0.0.9") {
		t.Errorf("it says\n%s", got.Data)
	}
}

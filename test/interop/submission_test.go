package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"gatepost/test/dovecot"
	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// submission is a Dovecot whose users send mail to end, and a gateway through which they
// do.
func submission(t *testing.T, end *sink.Sink, limits string) (*gatepost.Instance, *dovecot.Instance) {
	t.Helper()
	if _, err := os.Stat("/usr/lib/dovecot/submission"); err != nil {
		t.Skip("dovecot-submissiond is not installed")
	}
	cert := peer.NewCertificate(t, "dovecot.example")
	d := dovecot.Run(t, dovecot.Config{Users: []string{"joe", "eve"}, Relay: end.Addr, CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{
		Limits: limits, Listener: "auth_upstream = \"dovecot\"",
		More: fmt.Sprintf("[users]\nsend_as = \"any\"\n[[domain]]\nname = \"live.example\"\ntransport = \"dovecot\"\ndelivery = \"proxy\"\n"+
			"[[transport]]\nname = \"dovecot\"\nkind = \"smtp\"\nhosts = [%q]\ntls = \"verify\"\ntls_ca_file = %q\ntls_name = \"dovecot.example\"\n", d.Submission, cert.CertFile),
	}})
	gatepost.Eventually(t, "EHLO offers what Dovecot does", patience, func() bool {
		c, _, err := wire.Hello(g.SMTP, wire.Options{})
		if err != nil {
			return false
		}
		defer c.Close()
		r, err := c.Cmd("EHLO client.example")
		return err == nil && r.Has("8BITMIME")
	})
	return g, d
}

// Users log in at Dovecot's submission server through the gateway, with each mechanism
// that both can, and their mail goes that way.
func TestUsersLogInAtDovecotThroughTheGateway(t *testing.T) {
	peer.Require(t, "swaks")
	end := sink.Start(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE"}})
	g, d := submission(t, end, "error_delay = \"1ms\"")
	for _, mechanism := range []string{"PLAIN", "LOGIN", "CRAM-MD5"} {
		m := ledger.New(3000)
		r := swaks(t, g, []string{"--tls", "--auth", mechanism, "--auth-user", "joe", "--auth-password", dovecot.Password, "--from", "joe@live.example", "--to", "bob@live.example"},
			"--data", "@"+write(t, m.Data))
		if r.Status != 0 || !strings.Contains(r.Output, "235 2.7.0 Logged in") {
			t.Fatalf("%s: status %d\n%s", mechanism, r.Status, r.Output)
		}
		if got := arrived(t, end, m.ID); !strings.HasPrefix(got.From, "<joe@live.example>") || !strings.Contains(string(got.Data), "by gw.example.com") {
			t.Errorf("%s: from %s\n%s", mechanism, got.From, got.Data)
		}
	}
	// Once only: Dovecot lets who guesses wait.
	if r := swaks(t, g, []string{"--tls", "--auth", "CRAM-MD5", "--auth-user", "joe", "--auth-password", "wrong", "--to", "bob@live.example"}); r.Status == 0 || !strings.Contains(r.Output, "535 5.7.8") {
		t.Errorf("with a wrong password: status %d\n%s", r.Status, r.Output)
	}
	if r := swaks(t, g, []string{"--tls", "--to", "bob@live.example"}); r.Status == 0 || !strings.Contains(r.Output, "<~* 530 5.7.0 Authentication required") {
		t.Errorf("without a login: status %d\n%s", r.Status, r.Output)
	}
	if n := len(end.Mails()); n != 3 {
		t.Errorf("%d mails, want 3", n)
	}
	gatepost.Eventually(t, "the log says who has logged in", patience, func() bool { return strings.Count(g.MailLog(), "user=joe") >= 3 })
	if strings.Contains(g.MailLog()+g.Output(), dovecot.Password) {
		t.Error("a log has the password")
	}

	// A Dovecot that is not there any more says nothing about passwords.
	d.Stop()
	r := swaks(t, g, []string{"--tls", "--auth", "PLAIN", "--auth-user", "joe", "--auth-password", dovecot.Password, "--to", "bob@live.example"})
	if r.Status == 0 || !strings.Contains(r.Output, "<~* 454 4.7.0") {
		t.Errorf("Dovecot is down: status %d\n%s", r.Status, r.Output)
	}
}

// What Dovecot refuses is refused in its words, and what it takes after that is there.
func TestDovecotsWordsComeBack(t *testing.T) {
	peer.Require(t, "swaks")
	end := sink.Start(t, sink.Options{Extensions: []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", "SIZE"}})
	g, _ := submission(t, end, "")
	login := []string{"--tls", "--auth", "PLAIN", "--auth-user", "joe", "--auth-password", dovecot.Password, "--from", "joe@live.example"}
	for stage, words := range map[sink.Stage]string{
		sink.RcptTo: "550 5.7.1 <bob@live.example> not him", // Dovecot puts the address in
		sink.EOD:    "550 5.7.1 not him",
	} {
		end.SetScript(sink.Fail(stage, "550 5.7.1 not him"))
		r := swaks(t, g, append(login, "--to", "bob@live.example"))
		if r.Status == 0 || !strings.Contains(r.Output, words) {
			t.Errorf("refused at %s: status %d\n%s", stage, r.Status, r.Output)
		}
	}
	end.SetScript(nil)
	m := ledger.New(300_000)
	if r := swaks(t, g, append(login, "--to", "bob@live.example"), "--data", "@"+write(t, m.Data)); r.Status != 0 {
		t.Fatalf("status %d\n%s", r.Status, r.Output)
	}
	arrived(t, end, m.ID)
	if n := len(end.Mails()); n != 1 {
		t.Errorf("%d mails, want 1", n)
	}
}

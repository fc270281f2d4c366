package dialogue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// hangUp sends SIGHUP and waits until the log says n times that it worked, or
// did not.
func hangUp(t *testing.T, g *gatepost.Instance, n int, want string) {
	t.Helper()
	g.Signal(syscall.SIGHUP)
	gatepost.Eventually(t, "the log says "+want, patience, func() bool { return len(linesWith(g.MailLog(), want)) == n })
}

const (
	reloaded    = "configuration reloaded"
	notReloaded = "configuration not reloaded, the old one stays in use"
)

// A reload changes what the next session and the next delivery see; the session
// that is open goes on, in the middle of a message.
func TestReloadTakesEverythingAndDropsNobody(t *testing.T) {
	t.Parallel()
	first, second := next(t, sink.Options{}), next(t, sink.Options{})
	more := gatepost.FreeAddress(t)
	g := behind(t, first, gatepost.Settings{})
	c := g.Hello("")
	if err := c.Open("ada@out.example", "bob@in.example"); err != nil {
		t.Fatal(err)
	}
	if err := c.Send("Subject: half\r\n\r\nfirst half,\r\n"); err != nil {
		t.Fatal(err)
	}

	g.Configure(gatepost.Settings{
		Next: second.Addr, Limits: "max_recipients = 100",
		More: fmt.Sprintf("[[listener]]\nname = \"more\"\naddress = [%q]\ntls = \"off\"\n[[domain]]\nname = \"new.example\"\ntransport = \"next\"\n", more),
	})
	hangUp(t, g, 1, reloaded)

	if err := c.Send("second half\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatalf("the session was dropped: %v, %v", r, err)
	}
	// It was accepted under the old configuration for a transport that has changed:
	// it goes where that transport leads now.
	if m := second.WaitMails(t, 1, patience)[0]; !strings.HasSuffix(string(m.Data), "\r\n\r\nfirst half,\r\nsecond half\r\n") {
		t.Errorf("the message is %q", m.Data)
	}

	n, hello, err := wire.Hello(more, wire.Options{})
	if err != nil {
		t.Fatalf("the new listener: %v", err)
	}
	defer n.Close()
	if !hello.Has("LIMITS") || !strings.Contains(hello.Text(), "RCPTMAX=100 ") && !strings.HasSuffix(hello.Text(), "RCPTMAX=100") || hello.Has("STARTTLS") {
		t.Errorf("the new listener says %v", hello)
	}
	give(t, n, "ada@out.example", "bob@new.example", message)
	second.WaitMails(t, 2, patience)

	g.Configure(gatepost.Settings{Next: second.Addr})
	hangUp(t, g, 2, reloaded)
	gatepost.Eventually(t, "the listener that was removed is closed", patience, func() bool {
		conn, err := net.Dial("tcp", more)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@new.example>", "550 5.7.1", "RSET", "250")
	give(t, c, "ada@out.example", "bob@in.example", message)
	second.WaitMails(t, 3, patience)
	drained(t, g)
	if len(first.Mails()) != 0 {
		t.Errorf("%d mails at the old next hop", len(first.Mails()))
	}
}

// What is wrong with the new configuration, and what a running process cannot
// change, leaves everything as it was.
func TestABadConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{})
	busy := next(t, sink.Options{}).Addr
	fresh := gatepost.FreeAddress(t)
	listener := "[[listener]]\nname = %q\naddress = [%q]\n"
	tests := []struct {
		name string
		s    gatepost.Settings
		want string // in the log
	}{
		{"a key that is not known", gatepost.Settings{Next: s.Addr, Limits: "max_reciepients = 7"}, "max_reciepients"},
		{"a transport that nobody defines", gatepost.Settings{Next: s.Addr, More: "[[domain]]\nname = \"x.example\"\ntransport = \"nowhere\"\n"}, "nowhere"},
		{"a file that is missing", gatepost.Settings{Next: s.Addr, More: "[[domain]]\nname = \"x.example\"\ntransport = \"next\"\nrecipients = [\"file:gone.txt\"]\n"}, "gone.txt"},
		{"an address that is taken", gatepost.Settings{Next: s.Addr,
			More: fmt.Sprintf(listener, "a", fresh) + fmt.Sprintf(listener, "b", busy) + "[[domain]]\nname = \"x.example\"\ntransport = \"next\"\n"}, "address already in use"},
		{"what needs a restart", gatepost.Settings{Next: s.Addr, More: "[queue]\nmemory = \"1MiB\"\n[[domain]]\nname = \"x.example\"\ntransport = \"next\"\n"}, "a change of queue needs a restart"},
	}
	c := g.Hello("")
	for i, tt := range tests {
		g.Configure(tt.s)
		hangUp(t, g, i+1, notReloaded)
		if !strings.Contains(g.MailLog(), tt.want) {
			t.Errorf("%s: the log does not say %q", tt.name, tt.want)
		}
		if out, err := g.Run("reload"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: the command says %q, %v; want %q", tt.name, out, err, tt.want)
		}
		if conn, err := net.Dial("tcp", fresh); err == nil {
			conn.Close()
			t.Errorf("%s: a listener of the bad configuration is open", tt.name)
		}
		say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@x.example>", "550 5.7.1", "RSET", "250")
		mustContain(t, "healthz", get(t, g, "/healthz"), tt.want)
		mustContain(t, "metrics", get(t, g, "/metrics"), "gatepost_config_last_reload_successful 0\n")
	}
	if n := len(linesWith(g.MailLog(), reloaded)); n != 0 {
		t.Errorf("%d reloads", n)
	}
	give(t, c, "ada@out.example", "bob@in.example", message)
	s.WaitMails(t, 1, patience)
	g.Configure(gatepost.Settings{Next: s.Addr})
	if out, err := g.Run("reload"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	mustContain(t, "metrics", get(t, g, "/metrics"), "gatepost_config_last_reload_successful 1\n")
	give(t, c, "ada@out.example", "bob@in.example", message)
	s.WaitMails(t, 2, patience)
}

// logrotate moves the file away and sends SIGHUP; that works with a bad
// configuration too.
func TestLogFilesAreReopened(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{})
	c := g.Hello("")
	one := give(t, c, "ada@out.example", "bob@in.example", message)
	drained(t, g)
	traffic := filepath.Join(g.LogDir, "smtp_proxy.log")
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
	gatepost.Eventually(t, "the first message is in both logs", patience, func() bool {
		return strings.Contains(read(traffic), one) && strings.Contains(g.MailLog(), one)
	})
	if n := len(linesWith(read(traffic), "id=")); n != 1 {
		t.Errorf("%d lines in smtp_proxy.log, want one for each mail", n)
	}
	for _, name := range []string{traffic, g.MailLogFile} {
		if err := os.Rename(name, name+".old"); err != nil {
			t.Fatal(err)
		}
	}
	g.Configure(gatepost.Settings{Next: s.Addr, Limits: "nonsense = 1"})
	hangUp(t, g, 1, notReloaded)
	two := give(t, c, "ada@out.example", "bob@in.example", message)
	gatepost.Eventually(t, "the second message is in both new logs", patience, func() bool {
		return strings.Contains(read(traffic), two) && strings.Contains(g.MailLog(), two)
	})
	if strings.Contains(read(traffic+".old"), two) || strings.Contains(read(traffic), one) {
		t.Error("the old files are still written to")
	}
}

// A certificate that was renewed is shown to the next session.
func TestACertificateIsReloaded(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	install := func(c peer.Certificate) {
		for to, from := range map[string]string{certFile: c.CertFile, keyFile: c.KeyFile} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	old, renewed := peer.NewCertificate(t, "gw.example.com"), peer.NewCertificate(t, "gw.example.com")
	install(old)
	g := behind(t, s, gatepost.Settings{More: fmt.Sprintf("[tls]\ncert_file = %q\nkey_file = %q\n", certFile, keyFile)})
	trusts := func(pool *x509.CertPool) error {
		c := g.Hello("")
		_, err := c.StartTLS(&tls.Config{RootCAs: pool, ServerName: "gw.example.com"})
		return err
	}
	if err := trusts(old.Pool); err != nil {
		t.Fatal(err)
	}
	open := g.Hello("")
	if _, err := open.StartTLS(&tls.Config{RootCAs: old.Pool, ServerName: "gw.example.com"}); err != nil {
		t.Fatal(err)
	}
	install(renewed)
	hangUp(t, g, 1, reloaded)
	if err := trusts(renewed.Pool); err != nil {
		t.Errorf("after the reload: %v", err)
	}
	say(t, open, "EHLO client.example", "250", "NOOP", "250")
}

// DUR-28: a second gateway on the same data_dir says so and ends, and the first
// one does not notice.
func TestASecondGatewayOnTheSameDataIsRefused(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{})
	other := gatepost.New(t, gatepost.Options{DataDir: g.DataDir, Settings: gatepost.Settings{Next: s.Addr}})
	out, err := exec.Command(os.Getenv(gatepost.BinaryVar), "serve", "-c", other.ConfigFile).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the second one ended with %v", err)
	}
	mustContain(t, "its output", string(out), "stop the other gatepost that has this data_dir")
	give(t, g.Hello(""), "ada@out.example", "bob@in.example", message)
	s.WaitMails(t, 1, patience)
	drained(t, g)
	if out, err := g.Run("status"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// SIGTERM: whoever is in the middle of a message may finish it, nobody else is
// let in, and the rest hears 421.
func TestStopLetsTransactionsFinish(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{})
	sending, idle := g.Hello(""), g.Hello("")
	if err := sending.Open("ada@out.example", "bob@in.example"); err != nil {
		t.Fatal(err)
	}
	if err := sending.Send("Subject: half\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	g.Signal(syscall.SIGTERM)
	if r, err := idle.Reply(); err != nil || r.Code != 421 {
		t.Errorf("the idle session heard %v, %v", r, err)
	}
	gatepost.Eventually(t, "nobody is let in", patience, func() bool {
		c, err := net.Dial("tcp", g.SMTP)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if err := sending.Send("body\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := sending.Reply(); err != nil || r.Code != 250 {
		t.Errorf("the end of the message: %v, %v", r, err)
	}
	if r, err := sending.Reply(); err != nil || r.Code != 421 {
		t.Errorf("after it: %v, %v", r, err)
	}
	if status, err := g.Wait(30 * time.Second); err != nil || status != 0 {
		t.Errorf("status %d, %v", status, err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	s.WaitMails(t, 1, patience)
	drained(t, g)
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// A delivery that is under way when its transport changes ends where it began.
func TestReloadLetsDeliveriesFinish(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	first, second := next(t, sink.Options{}), next(t, sink.Options{})
	first.SetScript(func(s sink.Step) sink.Reaction {
		if s.Stage == sink.EOD {
			return sink.Reaction{Wait: release}
		}
		return sink.Reaction{}
	})
	g := behind(t, first, gatepost.Settings{})
	c := g.Hello("")
	give(t, c, "ada@out.example", "bob@in.example", message)
	gatepost.Eventually(t, "the message is on its way", patience, func() bool {
		return strings.Contains(strings.Join(first.Wire(), ""), "secret body\r\n.\r\n")
	})
	g.Configure(gatepost.Settings{Next: second.Addr})
	hangUp(t, g, 1, reloaded)
	give(t, c, "ada@out.example", "eve@in.example", message)
	second.WaitMails(t, 1, patience)
	close(release)
	first.WaitMails(t, 1, patience)
	drained(t, g)
	if len(first.Mails()) != 1 || len(second.Mails()) != 1 {
		t.Errorf("%d mails at the first, %d at the second next hop", len(first.Mails()), len(second.Mails()))
	}
}

// Mail for a transport that is no longer configured waits, and says why, until
// it is back.
func TestMailOfATransportThatIsGoneWaits(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	away := &hop{name: "away", script: sink.Fail(sink.RcptTo, "450 4.2.1 later")}
	away.sink = next(t, sink.Options{Script: away.script})
	tables := fmt.Sprintf("[[domain]]\nname = \"away.example\"\ntransport = \"away\"\n[[transport]]\nname = \"away\"\nkind = \"smtp\"\nhosts = [%q]\nretry = { delays = [\"1s\"] }\n", away.sink.Addr)
	g := behind(t, s, gatepost.Settings{More: tables})
	give(t, g.Hello(""), "ada@out.example", "bob@away.example", message)
	deferred(t, g, "450 4.2.1 later")
	g.Configure(gatepost.Settings{Next: s.Addr})
	hangUp(t, g, 1, reloaded)
	away.sink.SetScript(nil)
	gatepost.Eventually(t, "the queue says why it waits", patience, func() bool {
		rows, err := g.Queue()
		return err == nil && len(rows) == 1 && strings.Contains(orEmpty(rows[0]["reason"]), "not configured")
	})
	g.Stop()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	if rows, err := g.Queue(); err != nil || len(rows) != 1 {
		t.Errorf("after a restart: %v, %v", rows, err)
	}
	g.Configure(gatepost.Settings{Next: s.Addr, More: tables})
	hangUp(t, g, 2, reloaded)
	away.sink.WaitMails(t, 1, patience)
	drained(t, g)
}

package smtpserver

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
)

// logBuffer is a log that several sessions may write to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTheLogHasNoSecretsAndNoMail(t *testing.T) {
	var log logBuffer
	o := Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	x := startServer(t, Config{Auth: []string{"PLAIN", "LOGIN"}, AuthWithoutTLS: true}, o)
	c := x.dial().greet()
	c.send("AUTH LOGIN", "YWxpY2U=", "c2VjcmV0")
	c.expect("334", "334", "235")
	c.send("MAIL FROM:<a@out.example>", "RCPT TO:<reject@in.example>", "RCPT TO:<v@in.example>", "DATA", "Subject: private", "", "private", ".")
	c.expect("250", "550", "250", "354", "250")
	c.sendRaw("EHLO evil\x1b[31m\r\n")
	c.expect("500")
	c.quit()
	d := x.dial().greet()
	d.send("AUTH PLAIN AGFsaWNlAHdyb25n", "AUTH LOGIN AGFsaWNlAHdyb25n")
	d.conn.Close()
	x.stop()
	got := log.String()
	for _, secret := range []string{"secret", "c2VjcmV0", "wrong", "AGFsaWNlAHdyb25n", "private", "\x1b"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is in the log:\n%s", secret, got)
		}
	}
	for _, want := range []string{
		"level=DEBUG msg=command verb=MAIL", `level=INFO msg=refused stage=rcpt act=reject client=192.0.2.1:`, "sender=a@out.example recipient=reject@in.example", "reason=test",
		`level=INFO msg="session ended"`, "client=192.0.2.1:", "helo=client.example", "reason=quit messages=1 errors=2",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %q:\n%s", want, got)
		}
	}
}

func TestAPanicIsLoggedWithItsStack(t *testing.T) {
	var log logBuffer
	x := startServer(t, Config{}, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := x.dial()
	c.expect("220")
	c.send("HELO panic.example")
	c.expect("421 4.3.0")
	c.expectClosed()
	other := x.dial().greet()
	other.quit()
	x.stop()
	if got := log.String(); !strings.Contains(got, "panic=scripted") || !strings.Contains(got, "harness_test.go") {
		t.Errorf("log: %s", got)
	}
}

// TestWhatAnEnvelopeHolds checks what hooks and intake are told of a message.
func TestWhatAnEnvelopeHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{TrustedNetworks: prefixes("192.0.2.0/24")}, Options{})
		c := x.dial()
		c.expect("220")
		c.send("EHLO seen.example")
		c.expect("250")
		c.send("MAIL FROM:<a@Out.Example> SIZE=7 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x+20y",
			"RCPT TO:<seen@in.example> NOTIFY=DELAY ORCPT=rfc822;v@old.example", "DATA", "x: é", "", "é", ".")
		c.expect("250", "250", "354", "250")
		c.quit()
		mails := x.stop()
		if len(mails) != 1 {
			t.Fatalf("%d mails", len(mails))
		}
		env := mails[0].env
		if env.ID.IsZero() || env.Session.ID.IsZero() || env.ID == env.Session.ID {
			t.Errorf("IDs %v and %v", env.ID, env.Session.ID)
		}
		to := mail.Address{Local: "seen", Domain: "in.example", Raw: "seen@in.example"}
		// Two hooks said the same: it is noted once.
		seen := mail.Finding{Module: "test", Symbol: "seen", Result: mail.Match}
		want := mail.Envelope{
			ID: env.ID, Received: time.Now(),
			Session: mail.Session{
				ID: env.Session.ID, Listener: "in", Client: env.Session.Client, Local: env.Session.Local, Started: time.Now(),
				Helo: "seen.example", ESMTP: true, Trusted: true,
				Findings: []mail.Finding{
					seen, {Module: "protocol", Symbol: "pipelining-data", Result: mail.Match, Reason: "bytes before the reply to DATA"},
				},
			},
			Sender: mail.Address{Local: "a", Domain: "out.example", Raw: "a@Out.Example"},
			Recipients: []mail.Recipient{{
				Address: to, Original: to, Notify: mail.NotifyDelay, ORcpt: "rfc822;v@old.example", Route: mail.Route{Transport: "test"},
			}},
			Body: mail.Body8Bit, SMTPUTF8: true, Ret: mail.RetFull, EnvID: "x y", Size: 7,
		}
		if diff := cmp.Diff(want, env, cmpopts.EquateComparable(netip.AddrPort{}, mail.ID{}), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("envelope (-want +got):\n%s", diff)
		}
		if env.Session.Client.Addr().String() != "192.0.2.1" || env.Session.Local.String() != "192.0.2.25:25" {
			t.Errorf("from %v to %v", env.Session.Client, env.Session.Local)
		}
		if f := mails[0].facts; f != (DataFacts{Size: 13, HeaderSize: 9, Has8Bit: true, HeaderUTF8: true}) {
			t.Errorf("facts %+v", f)
		}
		if sum := x.hooks.sums[0]; sum.Reason != "quit" || sum.Messages != 1 || sum.Errors != 0 || sum.BytesIn != 16 {
			t.Errorf("summary %+v", sum)
		}
	})
}

// TestHeloNamesAreSafeForAHeader is ADR-05.
func TestHeloNamesAreSafeForAHeader(t *testing.T) {
	for in, want := range map[string]string{
		"mail.example.org":         "mail.example.org",
		"[IPv6:2001:db8::1]":       "[IPv6:2001:db8::1]",
		"<script>alert(1)</script": "?script?alert?1???script",
		`a";b\c,d`:                 "a??b?c?d",
		"two words":                "two",
		strings.Repeat("x", 300):   strings.Repeat("x", 255),
		"":                         "",
	} {
		if got := safeName([]byte(in)); got != want {
			t.Errorf("safeName(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestTLSVersionsAndReload is TLS-08: old versions are refused, and a new
// certificate serves new sessions without disturbing old ones.
func TestTLSVersionsAndReload(t *testing.T) {
	first, second := testTLS(t), testTLS(t)
	var mu sync.Mutex
	now := &first.Certificates[0]
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		return now, nil
	}}
	x := startServer(t, Config{TLS: TLSImplicit, TLSConfig: cfg}, Options{})
	c := x.dial()
	c.startTLS()
	c.greet()
	mu.Lock()
	now = &second.Certificates[0]
	mu.Unlock()
	d := x.dial()
	d.startTLS()
	d.greet()
	cert := func(c *client) []byte { return c.conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw }
	if !bytes.Equal(cert(c), first.Certificates[0].Certificate[0]) || !bytes.Equal(cert(d), second.Certificates[0].Certificate[0]) {
		t.Error("wrong certificates")
	}
	c.inSync()
	c.quit()
	d.quit()
	old := tls.Client(x.dial().raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	x.stop()
	if s := x.hooks.sessions[0].TLS; s.Version != "TLSv1.3" || !strings.HasPrefix(s.Cipher, "TLS_") {
		t.Errorf("session TLS %+v", s)
	}
}

// TestARefusingGreetingWaitsForQUIT is RFC 5321 §3.1.
func TestARefusingGreetingWaitsForQUIT(t *testing.T) {
	tests := []struct {
		name        string
		connect     mail.Decision
		banner, ans string
	}{
		{"reject", mail.Decision{Act: mail.Reject}, "554 5.7.1", "503 5.5.1"},
		{"defer closes", mail.Decision{Act: mail.Defer}, "421 4.7.0", ""},
		{"defer with a reply of its own", mail.Decision{Act: mail.Defer, Reply: mail.ReplyTryLater.Reply()}, "451 4.7.1", "451 4.7.1"},
		{"reject and close", mail.Decision{Act: mail.Reject, Close: true}, "554 5.7.1", ""},
		{"drop", mail.Decision{Act: mail.Drop}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := startServer(t, Config{}, Options{})
			x.hooks.connect = tt.connect
			c := x.dial()
			if tt.banner != "" {
				c.expect(tt.banner)
			}
			if tt.ans != "" {
				c.send("EHLO c", "MAIL FROM:<a@b.example>", "BDAT 6 LAST", "QUIT")
				c.expect(tt.ans, tt.ans, tt.ans)
				c.quit()
			} else {
				c.expectClosed()
			}
			x.stop()
		})
	}
}

// counter is an Observer.
type counter struct {
	mu      sync.Mutex
	started int
	ended   int
	replies map[string]int
	bytes   int64
}

func (o *counter) SessionStarted(string) { o.mu.Lock(); defer o.mu.Unlock(); o.started++ }
func (o *counter) SessionEnded(string, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended++
}

func (o *counter) Replied(_, verb string, code int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replies[verb+" "+string(rune('0'+code/100))]++
}

func (o *counter) Received(_ string, n int64) { o.mu.Lock(); defer o.mu.Unlock(); o.bytes += n }

func TestTheObserverCounts(t *testing.T) {
	o := &counter{replies: map[string]int{}}
	x := startServer(t, Config{}, Options{Observer: o})
	c := x.dial().intoData()
	c.send("x", ".", "FOO")
	c.expect("250", "500")
	c.quit()
	x.stop()
	want := map[string]int{"CONNECT 2": 1, "EHLO 2": 1, "MAIL 2": 1, "RCPT 2": 1, "DATA 3": 1, "MESSAGE 2": 1, "UNKNOWN 5": 1, "QUIT 2": 1}
	if diff := cmp.Diff(want, o.replies); diff != "" || o.started != 1 || o.ended != 1 || o.bytes != 3 {
		t.Errorf("%d started, %d ended, %d bytes, replies (-want +got):\n%s", o.started, o.ended, o.bytes, diff)
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	good := (&scriptedHooks{}).all()
	for name, c := range map[string]struct {
		Config
		Hooks
	}{
		"no host name":       {Config{}, good},
		"no intake":          {Config{Hostname: "h"}, Hooks{}},
		"TLS without config": {Config{Hostname: "h", TLS: TLSStart}, good},
		"unknown mechanism":  {Config{Hostname: "h", Auth: []string{"CRAM-MD5"}}, good},
	} {
		if _, err := New(c.Config, c.Hooks, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTheClientsLastWordsDoNotBreakOurs sends more than is read after a 421: the
// reply must reach the client all the same.
func TestTheClientsLastWordsDoNotBreakOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial()
		c.expect("220")
		go func() {
			io.WriteString(c.conn, "GET / HTTP/1.1\r\n"+strings.Repeat("Header: x\r\n", 10_000))
		}()
		c.expect("421")
		c.expectClosed()
		start := time.Now()
		waitUntilGone(x)
		if took := time.Since(start); took > lingerTimeout+100*time.Millisecond {
			t.Errorf("lingered for %v", took)
		}
		x.stop()
	})
}

func waitUntilGone(x *tester) {
	for x.server.opts.Limiter.Sessions() > 0 {
		<-time.After(100 * time.Millisecond)
	}
}

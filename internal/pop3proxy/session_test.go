package pop3proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
	"gatepost/test/popserver"
)

const hello = "From: a@b.example\r\nSubject: hello\r\n\r\nHello\r\n"

// in runs a dialogue in virtual time.
func in(t *testing.T, server *popserver.Server, c Config, dialogue func(x *tester)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		x := start(t, server, c)
		dialogue(x)
		x.stop()
	})
}

func TestAnOrdinarySession(t *testing.T) {
	in(t, popserver.New(hello, "Subject: two\r\n\r\n2\r\n"), Config{}, func(x *tester) {
		c := x.connect()
		c.expect("+OK POP3 server ready " + popserver.Timestamp)
		c.send("user joe", "pAsS secret")
		c.expect("+OK", "+OK logged in")
		c.send("STAT", "LIST", "UIDL", "LIST 2", "UIDL 2", "NOOP", "LAST")
		c.expect(fmt.Sprintf("+OK 2 %d", len(hello)+19), "+OK")
		if got := c.data(); got != fmt.Sprintf("1 %d\r\n2 19\r\n", len(hello)) {
			t.Errorf("LIST %q", got)
		}
		c.expect("+OK")
		if got := c.data(); got != "1 uid-1\r\n2 uid-2\r\n" {
			t.Errorf("UIDL %q", got)
		}
		c.expect("+OK 2 19", "+OK 2 uid-2", "+OK", "+OK 0")
		c.send("RETR 1")
		c.expect(fmt.Sprintf("+OK %d octets", len(hello)))
		if got := c.text(); got != hello {
			t.Errorf("RETR %q", got)
		}
		c.send("DELE 1", "DELE 2", "RSET", "DELE 1")
		c.expect("+OK", "+OK", "+OK", "+OK")
		c.quit()
	})
}

func TestWhatAnEnvelopeAndTheAccountHold(t *testing.T) {
	var x *tester
	in(t, popserver.New(hello), Config{TrustedNetworks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, func(y *tester) {
		x = y
		c := x.login()
		c.send("RETR 1", "DELE 1")
		c.expect("+OK")
		c.text()
		c.expect("+OK")
		c.quit()
		x.settle()
	})
	env := x.scanner.envs[0]
	s := env.Session
	want := mail.Session{ID: s.ID, Listener: "pop", Protocol: mail.POP3, Client: s.Client, Local: s.Local, Started: s.Started,
		Server: "pop.example.com:110", User: "joe", Trusted: true}
	if diff := cmp.Diff(want, s, cmpopts.EquateComparable(netip.AddrPort{}, mail.ID{})); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
	r := env.Recipients[0]
	if r.Address.String() != "joe@pop.example.com" || r.Route.Flow != "pop" || r.Route.Domain != "pop3" || env.Size != int64(len(hello)) || !env.Sender.IsNull() {
		t.Errorf("envelope %+v", env)
	}
	if k := x.scanner.keys[0]; k != (Key{Server: "pop.example.com:110", User: "joe", UIDL: "uid-1"}) {
		t.Errorf("key %+v", k)
	}
	m, sum := x.traffic.messages[0], x.traffic.sessions[0]
	if m.Fate != FatePassed || m.Verb != "RETR" || m.Number != 1 || m.UIDL != "uid-1" || m.Size != int64(len(hello)) {
		t.Errorf("message %+v", m)
	}
	if sum.Reason != "quit" || sum.Messages != 1 || sum.Deleted != 1 || sum.Replaced != 0 || sum.Errors != 0 {
		t.Errorf("session %+v", sum)
	}
	if len(x.server.Left()) != 0 {
		t.Errorf("left %v", x.server.Left())
	}
}

func TestMailboxesAsAddresses(t *testing.T) {
	for _, tt := range []struct{ user, server, want string }{
		{"joe", "pop.example.com:110", "joe@pop.example.com"},
		{"joe@example.com", "pop.example.com:110", "joe@example.com"},
		{"joe", "192.0.2.5:110", "joe@[192.0.2.5]"},
		{"joe", "[2001:db8::5]:110", "joe@[IPv6:2001:db8::5]"},
		{"joe bloggs", "pop.example.com:110", `"joe bloggs"@pop.example.com`},
		{`dom\joe"`, "pop.example.com:110", `"dom\\joe\""@pop.example.com`},
		{"", "pop.example.com:110", "unknown@pop.example.com"},
		{strings.Repeat("x", 255), "pop:110", "unknown@pop"},
	} {
		s := &session{set: &settings{Config: Config{Hostname: "gw.example.com"}}}
		s.sess.User, s.sess.Server = tt.user, tt.server
		if got := s.mailboxAddress().String(); got != tt.want {
			t.Errorf("%q at %s is %q, want %q", tt.user, tt.server, got, tt.want)
		}
	}
}

// TestPipelinedCommandsAreAnsweredInOrder sends a whole session in one piece.
func TestPipelinedCommandsAreAnsweredInOrder(t *testing.T) {
	in(t, popserver.New(hello, "Subject: "+virus+"\r\n\r\n", hello), Config{}, func(x *tester) {
		c := x.connect()
		c.send("CAPA", "USER joe", "PASS secret", "RETR 1", "RETR 2", "XTND XMIT", "TOP 3 0", "NOOP", "RETR 9", "DELE 2", "STAT", "QUIT")
		c.expect("+OK", "+OK")
		c.data()
		c.expect("+OK", "+OK", "+OK")
		if got := c.text(); got != hello {
			t.Errorf("RETR 1: %q", got)
		}
		c.expect("+OK")
		if got := c.text(); got != notice {
			t.Errorf("RETR 2: %q", got)
		}
		c.expect("-ERR unknown command", "+OK")
		if got := c.text(); got != "From: a@b.example\r\nSubject: hello\r\n\r\n" {
			t.Errorf("TOP 3 0: %q", got)
		}
		c.expect("+OK", "-ERR no such message", "+OK", "+OK 2 ", "+OK bye")
		c.closed()
	})
}

// TestWhatIsRefusedWithoutAskingTheServer is POP-11 and the odd spellings: nothing of it
// reaches the server.
func TestWhatIsRefusedWithoutAskingTheServer(t *testing.T) {
	server := popserver.New(hello)
	in(t, server, Config{MaxErrors: 100}, func(x *tester) {
		c := x.login()
		before := len(server.Said()[0])
		for _, line := range []string{
			"RETR 4294967297", "RETR -1", "RETR 0", "RETR", "RETR 1 2", "RETR +1", "RETR 0x1", "RETR ¹", "RETR\t1", "TOP 1", "TOP 1 -1", "TOP 1 1 1", "TOP -1 1", "TOP 1 4294967297",
			"LIST -1", "UIDL x", "DELE *", "STAT x", "XTND XMIT 1", "XTND ARCHIVE", "RETR1", "XRETR 1", "GET 1", "RPOP joe", "XCLIENT ADDR=127.0.0.1", "*ENV", "FETCH 1", "", " RETR 1",
			"RETR 1\x00", "RETR 1\rRETR 1", "USER other", "PASS other", "AUTH PLAIN", "APOP a b", "STLS", "UTF8", "LANG a b", "NOOP RETR 1", "CAP",
		} {
			c.send(line)
			if got := c.line(); !strings.HasPrefix(got, "-ERR ") {
				t.Errorf("%q: %q", line, got)
			}
		}
		if got := server.Said()[0][before:]; len(got) != 0 {
			t.Errorf("the server heard %q", got)
		}
		c.inSync()
		c.quit()
	})
}

func TestHarmlessSpellings(t *testing.T) {
	in(t, popserver.New(hello), Config{}, func(x *tester) {
		c := x.login()
		for _, line := range []string{"retr 1", "RETR  1", "RETR 1 ", "RETR 1\t", "rEtR 001"} {
			c.send(line)
			c.expect("+OK")
			if got := c.text(); got != hello {
				t.Errorf("%q: %q", line, got)
			}
		}
		c.sendRaw("STAT\nNOOP \r\n") // old clients end lines so
		c.expect("+OK 1", "+OK")
		c.quit()
		if said := x.server.Said()[0]; slices.ContainsFunc(said, func(l string) bool { return strings.Contains(strings.ToUpper(l), "RETR") && l != "RETR 1" }) {
			t.Errorf("commands were passed on as they came: %q", said)
		}
	})
}

func TestBeforeTheLoginThereIsNoMailbox(t *testing.T) {
	server := popserver.New(hello)
	in(t, server, Config{}, func(x *tester) {
		c := x.connect()
		c.expect("+OK")
		c.send("RETR 1", "TOP 1 0", "LIST", "STAT", "UIDL", "DELE 1", "PASS secret", "NOOP", "LANG", "UTF8")
		c.expect("-ERR log in", "-ERR log in", "-ERR log in", "-ERR log in", "-ERR log in", "-ERR log in", "-ERR USER", "+OK", "+OK")
		if got := c.data(); got != "en English\r\nde Deutsch\r\n" {
			t.Errorf("LANG %q", got)
		}
		c.expect("+OK UTF8")
		c.quit()
		if said := server.Lines(); strings.Contains(said, "RETR") || strings.Contains(said, "PASS") {
			t.Errorf("the server heard %q", said)
		}
	})
}

// TestCapabilities is POP-10: what both sides can do.
func TestCapabilities(t *testing.T) {
	ours, _ := certificate(t, "gw.example.com")
	for _, tt := range []struct {
		name string
		caps []string
		mode TLSMode
		want string
	}{
		{"the intersection", []string{"TOP", "UIDL", "STLS", "XOIP", "sasl PLAIN SCRAM-SHA-1-PLUS EXTERNAL X", "EXPIRE NEVER", "LOGIN-DELAY 60", "UTF8 USER", "LANG", "RESP-CODES", "PIPELINING", "\x01BAD"}, TLSOff,
			"TOP UIDL SASL PLAIN X EXPIRE NEVER LOGIN-DELAY 60 UTF8 USER LANG RESP-CODES PIPELINING"},
		{"with our own STLS", []string{"TOP"}, TLSStart, "TOP STLS"},
		{"TLS required before a login", []string{"TOP", "USER", "SASL PLAIN"}, TLSRequired, "TOP STLS"},
		{"a server without CAPA", nil, TLSStart, "TOP USER UIDL STLS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New()
			server.Capabilities = tt.caps
			in(t, server, Config{TLS: tt.mode, TLSConfig: ours}, func(x *tester) {
				c := x.connect()
				c.expect("+OK")
				c.send("CAPA")
				c.expect("+OK")
				if got := strings.TrimSpace(strings.ReplaceAll(c.data(), "\r\n", " ")); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
				c.quit()
			})
		})
	}
	t.Run("neither CAPA nor TLS", func(t *testing.T) {
		server := popserver.New()
		server.Capabilities = nil
		in(t, server, Config{}, func(x *tester) {
			c := x.connect()
			c.send("CAPA", "STLS")
			c.expect("+OK", "-ERR", "-ERR TLS is not available")
			c.quit()
			if strings.Contains(server.Lines(), "STLS") {
				t.Error("the server heard STLS")
			}
		})
	})
}

func TestTooManyErrorsEndTheSession(t *testing.T) {
	in(t, popserver.New(), Config{MaxErrors: 4}, func(x *tester) {
		c := x.connect()
		c.expect("+OK")
		for range 4 {
			c.send("XTND")
			c.expect("-ERR unknown command")
		}
		c.send("XTND")
		c.expect("-ERR too many errors")
		c.closed()
	})
}

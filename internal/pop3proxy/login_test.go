package pop3proxy

import (
	"crypto/md5"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/memconn"
	"gatepost/test/popserver"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestEveryWayToLogIn is POP-10: whatever a client says between AUTH and its answer goes
// to the server as it is and is no command, and none of it is logged.
func TestEveryWayToLogIn(t *testing.T) {
	digest := fmt.Sprintf("%x", md5.Sum([]byte(popserver.Timestamp+"secret")))
	for _, tt := range []struct {
		name   string
		send   []string
		expect []string
		user   string
		heard  []string
	}{
		{"USER and PASS", []string{"USER joe", "PASS secret"}, []string{"+OK", "+OK"}, "joe", []string{"USER joe", "PASS secret"}},
		{"APOP with the server's timestamp", []string{"APOP joe " + digest}, []string{"+OK"}, "joe", []string{"APOP joe " + digest}},
		{"AUTH PLAIN in one line", []string{"AUTH PLAIN " + b64("\x00joe\x00secret")}, []string{"+OK"}, "joe", []string{"AUTH PLAIN " + b64("\x00joe\x00secret")}},
		{"AUTH PLAIN in two", []string{"auth plain", b64("\x00joe\x00secret")}, []string{"+ ", "+OK"}, "joe", []string{"AUTH plain", b64("\x00joe\x00secret")}},
		{"AUTH LOGIN", []string{"AUTH LOGIN", b64("joe"), b64("secret")}, []string{"+ ", "+ ", "+OK"}, "joe", nil},
		{"AUTH CRAM-MD5", []string{"AUTH CRAM-MD5", b64("joe 0123")}, []string{"+ ", "+OK"}, "joe", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New(hello)
			in(t, server, Config{}, func(x *tester) {
				c := x.connect()
				c.expect("+OK")
				c.send(tt.send...) // in one piece
				c.expect(tt.expect...)
				c.inSync()
				c.quit()
				x.settle()
				if got := x.traffic.ended[0].User; got != tt.user {
					t.Errorf("user %q", got)
				}
				if said := server.Said()[0]; tt.heard != nil && fmt.Sprint(said[:len(tt.heard)]) != fmt.Sprint(tt.heard) {
					t.Errorf("the server heard %q", said)
				}
				for _, secret := range []string{"secret", b64("secret"), b64("\x00joe\x00secret"), digest, b64("joe 0123")} {
					if strings.Contains(x.log.String(), secret) {
						t.Errorf("%q is in the log:\n%s", secret, x.log)
					}
				}
			})
		})
	}
}

// TestContinuationLinesAreNoCommands sends what looks like commands into an AUTH.
func TestContinuationLinesAreNoCommands(t *testing.T) {
	server := popserver.New(hello)
	server.Hook = answering("AUTH X-ECHO", func(c *popserver.Conn) {
		c.Line("+ ")
		for range 3 {
			line, err := c.In.ReadString('\n')
			if err != nil {
				return
			}
			c.Line("+ " + b64(strings.TrimSpace(line)))
		}
		if _, err := c.In.ReadString('\n'); err == nil {
			c.Line("-ERR [AUTH] no")
		}
	})
	in(t, server, Config{}, func(x *tester) {
		c := x.connect()
		c.send("AUTH X-ECHO", "RETR 1", "STLS", "QUIT", "", "NOOP")
		c.expect("+OK", "+ ", "+ "+b64("RETR 1"), "+ "+b64("STLS"), "+ "+b64("QUIT"), "-ERR [AUTH] no", "+OK")
		c.quit()
	})
}

func TestAUTH(t *testing.T) {
	in(t, popserver.New(hello), Config{}, func(x *tester) {
		c := x.connect()
		c.send("AUTH", "AUTH EXTERNAL =", "AUTH SCRAM-SHA-1-PLUS", "AUTH a b c", "AUTH PLAIN", "*", "AUTH LOGIN", "x\x00y", "AUTH "+strings.Repeat("x", 1000))
		c.expect("+OK", "+OK")
		if got := c.data(); got != "PLAIN\r\nLOGIN\r\nCRAM-MD5\r\n" {
			t.Errorf("%q", got)
		}
		c.expect("-ERR", "-ERR", "-ERR", "+ ", "-ERR [AUTH]", "+ ", "-ERR [AUTH]", "-ERR [AUTH] unknown mechanism")
		c.send("USER joe", "PASS secret")
		c.expect("+OK", "+OK")
		c.quit()
	})
	t.Run("a line that is too long", func(t *testing.T) {
		in(t, popserver.New(hello), Config{}, func(x *tester) {
			c := x.connect()
			c.send("AUTH PLAIN")
			c.expect("+OK", "+ ")
			go io.WriteString(c.conn, strings.Repeat("A", 1<<20)) // as much of it as is taken
			if got := c.rest(); !strings.HasPrefix(got, "-ERR line too long") {
				t.Errorf("%q", got)
			}
		})
	})
	t.Run("one without an end", func(t *testing.T) {
		server := popserver.New()
		server.Hook = func(c *popserver.Conn, said string) bool {
			if said != "" {
				c.Line("+ ")
			}
			return said != ""
		}
		in(t, server, Config{}, func(x *tester) {
			c := x.connect()
			c.expect("+OK")
			c.send("AUTH X")
			for range 40 {
				line := c.line()
				if strings.HasPrefix(line, "-ERR") {
					c.closed()
					return
				}
				c.send("eA==")
			}
			t.Error("it goes on")
		})
	})
}

// guarded makes a proxy with a guard.
func guarded(t *testing.T, server *popserver.Server, g *guard) *tester {
	x := &tester{t: t, server: server, ln: memconn.Listen(), scanner: &scanner{}, traffic: &traffic{}, log: &logBuffer{}, guard: g}
	return x.start(Config{}, true)
}

func TestFailedLoginsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := popserver.New(hello)
		g := &guard{delay: 4 * time.Second}
		x := guarded(t, server, g)
		c := x.connect()
		c.expect("+OK")
		begun := time.Now()
		c.send("USER joe", "PASS wrong", "APOP ann x", "AUTH PLAIN "+b64("\x00eve\x00wrong"), "AUTH LOGIN", b64("joe"), b64("wrong"), "AUTH LOGIN", b64("nobody"))
		c.expect("+OK", "-ERR [AUTH]", "-ERR [AUTH]", "-ERR [AUTH]", "+ ", "+ ", "-ERR [AUTH]", "+ ", "-ERR [AUTH]")
		if took := time.Since(begun); took != 16*time.Second {
			t.Errorf("took %v", took)
		}
		server.Hook = func(c *popserver.Conn, said string) bool {
			if strings.HasPrefix(said, "PASS") {
				c.Line("-ERR " + strings.TrimPrefix(said, "PASS ") + " sorry")
				return true
			}
			return false
		}
		c.send("USER joe", "PASS [IN-USE]", "USER joe", "PASS [LOGIN-DELAY]", "USER joe", "PASS [sys/temp]", "USER joe", "PASS no", "USER joe")
		c.expect("+OK", "-ERR [IN-USE] sorry", "+OK", "-ERR [LOGIN-DELAY] sorry", "+OK", "-ERR [sys/temp] sorry", "+OK", "-ERR no sorry", "+OK")
		server.Hook = nil
		c.send("PASS secret")
		c.expect("+OK")
		c.quit()
		x.stop()
		f, u := LoginFailed, LoginUnknown
		if want := []LoginResult{f, f, f, f, u, u, u, f, LoginOK}; fmt.Sprint(g.done) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", g.done, want)
		}
		if fmt.Sprint(g.users) != "[joe ann eve joe joe joe joe joe joe]" {
			t.Errorf("%q", g.users)
		}
	})
}

func TestARefusedLoginDoesNotReachTheServer(t *testing.T) {
	for _, final := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := popserver.New(hello)
			x := guarded(t, server, &guard{refuse: "too many", final: final, delay: time.Second})
			c := x.connect()
			c.send("USER joe", "PASS secret")
			c.expect("+OK", "+OK", "-ERR [SYS/TEMP] too many failed logins")
			if final {
				c.closed()
			} else {
				c.send("AUTH LOGIN", b64("joe"), b64("secret"))
				c.expect("+ ", "+ ", "-ERR [SYS/TEMP] too many failed logins")
				c.quit()
			}
			x.stop()
			if strings.Contains(server.Lines(), "secret") || strings.Contains(server.Lines(), b64("secret")) {
				t.Errorf("the server heard %q", server.Lines())
			}
		})
	}
}

func TestTheClientNamesTheServer(t *testing.T) {
	server := popserver.New(hello)
	up := Upstream{Mode: Login, Hosts: []string{"pop.example.com", "*.example.net:1110", "192.0.2.7:2110"}}
	in(t, server, Config{Upstream: up, MaxErrors: 100}, func(x *tester) {
		c := x.connect()
		if line := c.line(); line != "+OK gw.example.com POP3 ready\r\n" {
			t.Errorf("greeted with %q", line)
		}
		c.send("NOOP", "CAPA")
		c.expect("+OK", "+OK")
		if got := c.data(); strings.Contains(got, "SASL") || strings.Contains(got, "STLS") || !strings.Contains(got, "USER") {
			t.Errorf("CAPA %q", got)
		}
		for _, line := range []string{
			"USER joe", "USER %pop.example.com", "USER joe%", "USER joe%evil.example", "USER joe%pop.example.com:25", "USER joe%example.net:1110", "USER joe%a.example.net",
			"USER joe%a.example.net:0", "USER joe%a.example.net:99999999", "USER joe%127.0.0.1", "USER joe%192.0.2.7", "USER joe%pop.example.com.evil.example", "USER joe%evilexample.net:1110",
			"APOP joe x", "AUTH PLAIN", "UTF8", "LANG", "PASS secret",
		} {
			c.send(line)
			if got := c.line(); !strings.HasPrefix(got, "-ERR") {
				t.Errorf("%s: %q", line, got)
			}
		}
		if len(x.dialed) != 0 {
			t.Errorf("connected to %v", x.dialed)
		}
		c.send("USER joe%POP.example.com", "USER eve%x@a.b.example.net:1110", "USER joe%192.0.2.7:2110", "USER joe%pop.example.com:110", "PASS secret", "RETR 1")
		c.expect("+OK")
		c.expect("-ERR [AUTH]") // x@a.b… is no name below the domain
		c.expect("+OK", "+OK", "+OK", "+OK")
		if got := c.text(); got != hello {
			t.Errorf("%q", got)
		}
		c.quit()
		x.settle()
		if want := "[pop.example.com:110 192.0.2.7:2110 pop.example.com:110]"; fmt.Sprint(x.dialed) != want {
			t.Errorf("connected to %v, want %s", x.dialed, want)
		}
		if k := x.scanner.keys[0]; k.User != "joe" || k.Server != "pop.example.com:110" {
			t.Errorf("%+v", k)
		}
		if strings.Contains(server.Lines(), "%") {
			t.Errorf("the server heard %q", server.Lines())
		}
	})
}

func TestNoServer(t *testing.T) {
	greeting := func(line string) *popserver.Server {
		s := popserver.New()
		s.Hook = answering("", func(c *popserver.Conn) { c.Raw(line) })
		return s
	}
	for _, tt := range []struct {
		name   string
		server *popserver.Server
		refuse error
		want   string
	}{
		{"unreachable", popserver.New(), errors.New("no route"), "-ERR [SYS/TEMP] the server does not answer\r\n"},
		{"it does not want us", greeting("-ERR [SYS/TEMP] maintenance\r\n"), nil, "-ERR [SYS/TEMP] maintenance\r\n"},
		{"it is no POP3 server", greeting("220 mail.example ESMTP\r\n"), nil, "-ERR [SYS/TEMP] the server does not answer\r\n"},
		{"its greeting does not end", greeting("+OK " + strings.Repeat("x", 1<<20)), nil, "-ERR [SYS/TEMP] the server does not answer\r\n"},
		{"it says nothing", greeting(""), nil, "-ERR [SYS/TEMP] the server does not answer\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, tt.server, Config{}, func(x *tester) {
				x.refuse["pop.example.com:110"] = tt.refuse
				c := x.connect()
				begun := time.Now()
				if got := c.rest(); got != tt.want {
					t.Errorf("%q", got)
				}
				if took := time.Since(begun); took > 30*time.Second {
					t.Errorf("after %v", took)
				}
			})
		})
	}
}

func TestSTLS(t *testing.T) {
	ours, _ := certificate(t, "gw.example.com")
	for _, mode := range []TLSMode{TLSStart, TLSRequired, TLSImplicit} {
		server := popserver.New(hello)
		in(t, server, Config{TLS: mode, TLSConfig: ours}, func(x *tester) {
			c := x.connect()
			if mode == TLSImplicit {
				c.startTLS()
				c.expect("+OK POP3 server ready")
			} else {
				c.send("USER joe", "PASS wrong", "STLS now")
				c.expect("+OK")
				if mode == TLSRequired {
					c.expect("-ERR use STLS", "-ERR use STLS")
				} else {
					c.expect("+OK", "-ERR [AUTH]")
				}
				c.expect("-ERR wrong arguments")
				c.send("STLS")
				c.expect("+OK")
				c.startTLS()
			}
			c.send("STLS", "CAPA", "USER joe", "PASS secret", "RETR 1")
			c.expect("-ERR TLS is active", "+OK")
			if got := c.data(); strings.Contains(got, "STLS") || !strings.Contains(got, "USER") {
				t.Errorf("CAPA %q", got)
			}
			c.expect("+OK", "+OK", "+OK")
			if got := c.text(); got != hello {
				t.Errorf("%q", got)
			}
			c.send("QUIT")
			c.expect("+OK")
			if s := x.scanner.envs[0].Session; s.TLS.Version != "TLSv1.3" {
				t.Errorf("%+v", s.TLS)
			}
		})
		if strings.Contains(server.Lines(), "STLS") {
			t.Error("the server heard STLS")
		}
	}
}

// TestNothingIsBelievedFromBeforeSTLS is TLS-02.
func TestNothingIsBelievedFromBeforeSTLS(t *testing.T) {
	ours, _ := certificate(t, "gw.example.com")
	server := popserver.New(hello)
	in(t, server, Config{TLS: TLSStart, TLSConfig: ours}, func(x *tester) {
		c := x.connect()
		c.expect("+OK")
		c.sendRaw("STLS\r\nCAPA\r\nUSER inj\r\n")
		if got := c.rest(); strings.Contains(got, "+OK") {
			t.Errorf("%q", got)
		}
		d := x.connect()
		d.send("USER inj")
		d.expect("+OK", "+OK")
		d.send("STLS")
		d.expect("+OK")
		d.startTLS()
		d.send("PASS secret")
		d.expect("-ERR USER comes first")
		d.send("QUIT")
		d.expect("+OK")
	})
	if said := server.Said(); len(said[0]) != 0 || fmt.Sprint(said[1]) != "[USER inj QUIT]" {
		t.Errorf("the server heard %q", said)
	}
}

// TestTLSTowardsTheServer holds each mode against servers that can, cannot, and lie.
func TestTLSTowardsTheServer(t *testing.T) {
	good, pool := certificate(t, "pop.example.com")
	other, _ := certificate(t, "pop.example.com")
	wrong, wrongPool := certificate(t, "other.example")
	type want struct{ ok, tls bool }
	for _, tt := range []struct {
		name string
		mode UpstreamTLS
		has  *tls.Config
		offers, implicit,
		injects bool
		wrongName bool
		want      want
	}{
		{name: "off", mode: UpstreamOff, has: good, offers: true, want: want{true, false}},
		{name: "opportunistic, offered", mode: UpstreamOpportunistic, has: other, offers: true, want: want{true, true}},
		{name: "opportunistic, not offered", mode: UpstreamOpportunistic, has: good, want: want{true, false}},
		{name: "opportunistic, offered and refused", mode: UpstreamOpportunistic, offers: true, want: want{true, false}},
		{name: "required", mode: UpstreamStart, has: good, offers: true, want: want{true, true}},
		{name: "required and refused", mode: UpstreamStart, want: want{false, false}},
		{name: "required with a certificate of somebody else", mode: UpstreamStart, has: other, want: want{false, false}},
		{name: "required with another name", mode: UpstreamStart, has: wrong, wrongName: true, want: want{false, false}},
		{name: "required, and somebody injects", mode: UpstreamStart, has: good, injects: true, want: want{false, false}},
		{name: "implicit", mode: UpstreamImplicit, has: good, implicit: true, want: want{true, true}},
		{name: "implicit with a certificate of somebody else", mode: UpstreamImplicit, has: other, implicit: true, want: want{false, false}},
		{name: "implicit, and the server does not know", mode: UpstreamImplicit, want: want{false, false}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New(hello)
			server.TLS = tt.has
			if tt.offers {
				server.Capabilities = append(server.Capabilities, "STLS")
			}
			if tt.injects {
				// TLS-03: what a server says in the clear behind its answer.
				server.Hook = answering("STLS", func(c *popserver.Conn) { c.Raw("+OK\r\n+OK logged in\r\n") })
			}
			if tt.implicit {
				server.Hook = answering("", func(c *popserver.Conn) { c.StartTLS(tt.has) })
			}
			roots := pool
			if tt.wrongName {
				roots = wrongPool
			}
			in(t, server, Config{Upstream: Upstream{TLS: tt.mode, Roots: roots}}, func(x *tester) {
				c := x.connect()
				line := c.line()
				if got := strings.HasPrefix(line, "+OK"); got != tt.want.ok {
					t.Fatalf("greeted with %q", line)
				}
				if !tt.want.ok {
					c.closed()
					return
				}
				c.send("USER joe", "PASS secret", "RETR 1")
				c.expect("+OK", "+OK", "+OK")
				if got := c.text(); got != hello {
					t.Errorf("%q", got)
				}
				c.send("QUIT")
				c.expect("+OK")
				c.closed()
				x.settle()
				if s := x.traffic.sessions[0]; s.UpstreamTLS.Active() != tt.want.tls || s.UpstreamTLS.Verified != (tt.want.tls && tt.mode >= UpstreamStart) {
					t.Errorf("%+v", s.UpstreamTLS)
				}
			})
		})
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	dial := (&tester{}).dialServer
	for name, c := range map[string]Config{
		"no host name":         {Upstream: Upstream{Address: "a:110", Dial: dial}},
		"no server":            {Hostname: "h", Upstream: Upstream{Dial: dial}},
		"no port":              {Hostname: "h", Upstream: Upstream{Address: "a", Dial: dial}},
		"no hosts":             {Hostname: "h", Upstream: Upstream{Mode: Login, Dial: dial}},
		"no way to connect":    {Hostname: "h", Upstream: Upstream{Address: "a:110"}},
		"TLS without a config": {Hostname: "h", TLS: TLSStart, Upstream: Upstream{Address: "a:110", Dial: dial}},
	} {
		if _, err := New(c, Hooks{}, Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

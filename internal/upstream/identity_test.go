package upstream_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"gatepost/internal/intercept"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

// believer takes XCLIENT and XFORWARD.
func believer(e sinktest.Event) *sinktest.Act {
	switch {
	case strings.HasPrefix(e.Line, "XCLIENT"):
		return sinktest.Reply("220 sink.example ESMTP")
	case strings.HasPrefix(e.Line, "XFORWARD"):
		return sinktest.Reply("250 2.0.0 Ok")
	}
	return nil
}

// from is an envelope of another client.
func from(t *testing.T, client, helo, user string) *mail.Envelope {
	env := envelope(t)
	env.Session.Client, env.Session.Helo, env.Session.User = netip.MustParseAddrPort(client), helo, user
	return env
}

func TestXClient(t *testing.T) {
	offer := "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"
	const first = "XCLIENT NAME=[UNAVAILABLE] ADDR=198.51.100.7 PORT=4711 PROTO=ESMTP HELO=a.example LOGIN=us+2Ber DESTADDR=192.0.2.99 DESTPORT=25"
	const second = "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 PORT=1 PROTO=ESMTP HELO=b.example LOGIN=[UNAVAILABLE] DESTADDR=192.0.2.99 DESTPORT=25"
	login := &smtpclient.Credentials{Username: "u", Password: "p", AllowCleartext: true}
	for _, tc := range []struct {
		name  string
		offer string
		auth  *smtpclient.Credentials
		want  string // the lines but those of the transactions; "/" between connections
	}{
		{"the session gets a new name for another client", offer, nil,
			"EHLO gw.example|" + first + "|EHLO a.example|" + second + "|EHLO b.example"},
		{"not where that would undo the login", offer, login,
			"EHLO gw.example|" + first + "|EHLO a.example|AUTH CRAM-MD5|resp|EHLO gw.example|" + second + "|EHLO b.example|AUTH CRAM-MD5|resp"},
		{"only what is offered", "XCLIENT ADDR FOO", nil,
			"EHLO gw.example|XCLIENT ADDR=198.51.100.7|EHLO a.example|XCLIENT ADDR=IPV6:2001:db8::7|EHLO b.example"},
		{"not offered", "DSN", nil, "EHLO gw.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{tc.offer, "AUTH CRAM-MD5"}, Script: func(e sinktest.Event) *sinktest.Act {
					switch {
					case e.Stage == sinktest.Auth:
						return sinktest.Reply("334 PDFAeD4=")
					case e.Stage == sinktest.Other && len(e.Line) > 20 && !strings.HasPrefix(e.Line, "X"):
						return sinktest.Reply("235 2.7.0 in")
					}
					return believer(e)
				}})
				s := n.server(upstream.Config{Identity: upstream.IdentityXClient, Auth: tc.auth})
				for _, env := range []*mail.Envelope{
					from(t, "198.51.100.7:4711", "a.example", "us+er"), from(t, "198.51.100.7:4711", "a.example", "us+er"), from(t, "[2001:db8::7]:1", "b.example", ""),
				} {
					if res := deliverAs(t, s, env, short); !res.OK() {
						t.Fatalf("%s (%v)", brief(res), res.Err)
					}
					synctest.Wait()
				}
				var got []string
				for _, l := range sink.Lines() {
					verb, _, _ := strings.Cut(l, " ")
					switch {
					case slices.Contains([]string{"EHLO", "XCLIENT", "AUTH"}, verb):
						got = append(got, l)
					case !slices.Contains([]string{"MAIL", "RCPT", "DATA", "QUIT"}, verb):
						got = append(got, "resp")
					}
				}
				if s := strings.Join(got, "|"); s != tc.want {
					t.Errorf("lines\n%s\nwant\n%s", s, tc.want)
				}
			})
		})
	}
}

func TestXClientThatIsRefusedIsNoSession(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"XCLIENT ADDR"}, Script: at(sinktest.Other, sinktest.Reply("550 5.7.0 not you"))})
	s := n.server(upstream.Config{Identity: upstream.IdentityXClient})
	if res := deliver(t, s, short); brief(res) != "ehlo 451 unreached" {
		t.Errorf("%s", brief(res))
	}
}

func TestXForward(t *testing.T) {
	n := newNetwork(t)
	sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"}, Script: believer})
	s := n.server(upstream.Config{Identity: upstream.IdentityXForward})
	a := from(t, "198.51.100.7:4711", "a.example\r\nMAIL", "")
	a.Session.Name = "client.example"
	b := from(t, "198.51.100.8:4712", "", "user")
	for _, env := range []*mail.Envelope{a, b} {
		if res := deliverAs(t, s, env, short); !res.OK() {
			t.Fatalf("%s (%v)", brief(res), res.Err)
		}
	}
	var got []string
	for _, l := range sink.Lines() {
		if strings.HasPrefix(l, "X") {
			got = append(got, l)
		}
	}
	id := a.ID.String()
	want := []string{
		"XFORWARD NAME=client.example ADDR=198.51.100.7 PORT=4711 PROTO=ESMTP HELO=a.example+0D+0AMAIL IDENT=" + id + " SOURCE=REMOTE",
		"XFORWARD NAME=[UNAVAILABLE] ADDR=198.51.100.8 PORT=4712 PROTO=ESMTP HELO=[UNAVAILABLE] IDENT=" + id + " SOURCE=LOCAL",
	}
	if !slices.Equal(got, want) || sink.Conns() != 1 {
		t.Errorf("over %d connections\n%q\nwant\n%q", sink.Conns(), got, want)
	}
}

func TestXForwardThatIsRefusedDoesNoHarm(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"XFORWARD NAME"}})
	mustDeliver(t, n.server(upstream.Config{Identity: upstream.IdentityXForward}))
}

// proxied takes the PROXY header off each connection.
type proxied struct {
	net.Listener
	mu      sync.Mutex
	headers []intercept.Header
}

func (p *proxied) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	h, err := intercept.ReadHeader(c)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.headers = append(p.headers, h)
	return c, nil
}

func TestProxyHeader(t *testing.T) {
	for _, identity := range []upstream.Identity{upstream.IdentityProxyV1, upstream.IdentityProxyV2} {
		t.Run(string(identity), func(t *testing.T) {
			n := newNetwork(t)
			ln := &proxied{Listener: n.listen("192.0.2.1:25")}
			sink := sinktest.Start(t, ln, sinktest.Config{})
			s := n.server(upstream.Config{Identity: identity})
			unknown := envelope(t)
			unknown.Session.Client, unknown.Session.Local = netip.AddrPort{}, netip.AddrPort{}
			for _, env := range []*mail.Envelope{
				from(t, "198.51.100.7:4711", "a", ""), from(t, "198.51.100.7:4711", "a", ""), // one session of a client
				from(t, "198.51.100.7:4712", "a", ""), from(t, "[2001:db8::7]:4711", "a", ""), unknown,
			} {
				if res := deliverAs(t, s, env, short); !res.OK() {
					t.Fatalf("%s (%v)", brief(res), res.Err)
				}
			}
			got := ""
			for _, h := range ln.headers {
				if h.Known {
					got += h.Source.String() + " to " + h.Original.String() + ", "
				} else {
					got += "unknown"
				}
			}
			want := "198.51.100.7:4711 to 192.0.2.99:25, 198.51.100.7:4712 to 192.0.2.99:25, [2001:db8::7]:4711 to [::ffff:192.0.2.99]:25, unknown"
			if strings.ReplaceAll(got, "to 192.0.2.99:25, unknown", "to [::ffff:192.0.2.99]:25, unknown") != want || sink.Conns() != 4 {
				t.Errorf("over %d connections:\n%s\nwant\n%s", sink.Conns(), got, want)
			}
		})
	}
}

func TestSessionsOfOtherClientsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		sink := sinktest.Start(t, &proxied{Listener: n.listen("192.0.2.1:25")}, sinktest.Config{})
		s := n.server(upstream.Config{Identity: upstream.IdentityProxyV2, Sessions: 2})
		for port := range uint16(6) {
			env := envelope(t)
			env.Session.Client = netip.AddrPortFrom(env.Session.Client.Addr(), port+1)
			if res := deliverAs(t, s, env, short); !res.OK() {
				t.Fatalf("%s (%v)", brief(res), res.Err)
			}
		}
		synctest.Wait()
		if sink.Conns() != 6 || count(sink, "QUIT") != 4 || s.Health().Hosts[0].Open != 2 {
			t.Errorf("%d connections, %q, %+v", sink.Conns(), sink.Lines(), s.Health())
		}
	})
}

// A session in the name of one client is not what another one waits for.
func TestWaiterGetsASessionOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		ln := &proxied{Listener: n.listen("192.0.2.1:25")}
		sink := sinktest.Start(t, ln, sinktest.Config{})
		s := n.server(upstream.Config{Identity: upstream.IdentityProxyV1, Sessions: 1})
		tx, _ := s.Begin(t.Context(), from(t, "198.51.100.7:1", "a", ""))
		done := make(chan upstream.Result)
		go func() { done <- deliverAs(t, s, from(t, "198.51.100.8:2", "b", ""), short) }()
		synctest.Wait()
		tx.Abort()
		if res := <-done; !res.OK() {
			t.Errorf("%s (%v)", brief(res), res.Err)
		}
		if m := sink.Messages(); len(m) != 1 || m[0].Conn != 2 || ln.headers[1].Source.String() != "198.51.100.8:2" || sink.Peak() != 1 {
			t.Errorf("messages %+v, headers %+v", m, ln.headers)
		}
	})
}

func TestLongAttributesGoInSeveralCommands(t *testing.T) {
	n := newNetwork(t)
	sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"XFORWARD NAME ADDR HELO"}, Script: believer})
	s := n.server(upstream.Config{Identity: upstream.IdentityXForward})
	env := from(t, "198.51.100.7:4711", strings.Repeat("h", 255), "")
	env.Session.Name = strings.Repeat("n", 250)
	for range 2 {
		if res := deliverAs(t, s, env, short); !res.OK() {
			t.Fatalf("%s (%v)", brief(res), res.Err)
		}
		env.Session.Helo = strings.Repeat("h", 256) // is no name
	}
	var lengths []int
	for _, l := range sink.Lines() {
		if strings.HasPrefix(l, "X") {
			lengths = append(lengths, len(l))
		}
	}
	if !slices.Equal(lengths, []int{282, 269, 301}) {
		t.Errorf("lengths %v in %q", lengths, sink.Lines())
	}
}

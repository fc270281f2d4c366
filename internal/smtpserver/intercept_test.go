package smtpserver

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/intercept"
	"gatepost/internal/mail"
	"gatepost/internal/memconn"
)

// diverted starts a server to which connections are diverted that were meant for the
// address of the listener; own says that it is ours.
func diverted(t *testing.T, mode TLSMode, own bool) (*memconn.Listener, chan mail.Session) {
	t.Helper()
	ln, sessions := memconn.Listen(), make(chan mail.Session, 10)
	gc := intercept.GuardConfig{Addresses: func() ([]netip.Addr, error) { return nil, nil }}
	if own {
		gc.Listening = []netip.AddrPort{addrPort(ln.Addr())}
	}
	guard := intercept.NewGuard(gc)
	c := Config{Listener: "in", Hostname: "gw.example", TLS: mode}
	if mode != TLSOff {
		c.TLSConfig = testTLS(t)
	}
	h := (&scriptedHooks{counts: map[string]int{}}).all()
	h.End = told(sessions)
	srv, err := New(c, h, Options{})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(context.Background(), intercept.Accepting(ln, intercept.TProxy, func() *intercept.Guard { return guard }))
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Shutdown(ctx)
	})
	return ln, sessions
}

type told chan mail.Session

// End implements EndHook.
func (c told) End(s *mail.Session, _ Summary) { c <- *s }

func TestDivertedSessionKnowsWhereItWasMeantToGo(t *testing.T) {
	ln, sessions := diverted(t, TLSOff, false)
	conn := dialMem(t, ln)
	c := &client{t: t, raw: conn, conn: conn}
	c.expect("220")
	c.send("QUIT")
	c.expect("221")
	if s := <-sessions; s.Original != addrPort(ln.Addr()) || !s.Original.IsValid() {
		t.Errorf("it was meant for %v", s.Original)
	}
}

func TestDivertedSessionThatWouldComeBackIsTurnedAway(t *testing.T) {
	ln, _ := diverted(t, TLSOff, true)
	conn := dialMem(t, ln)
	c := &client{t: t, raw: conn, conn: conn}
	if line := c.line(); !strings.HasPrefix(line, "421 4.4.6 ") || c.line() != "" {
		t.Errorf("it hears %q", line)
	}
	// Before a handshake nobody can be told why.
	ln, _ = diverted(t, TLSImplicit, true)
	if n, err := dialMem(t, ln).Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func dialMem(t *testing.T, ln *memconn.Listener) *memconn.Conn {
	t.Helper()
	conn, err := ln.DialFrom(t.Context(), netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

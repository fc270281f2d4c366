package postfix_test

import (
	"net"
	"testing"
	"time"

	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/postfix"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

func TestInstanceRelaysToTheNextHop(t *testing.T) {
	peer.RequireRoot(t)
	peer.Require(t, "postfix")
	next := sink.Start(t, sink.Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	p, err := postfix.New(postfix.Config{Dir: t.TempDir(), Listen: addr, Next: next.Addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, _, err := wire.Hello(addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	m := ledger.New(1000)
	if r, err := c.Deliver("a@out.example", []string{"b@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Fatalf("%v, %v", r, err)
	}
	mails := next.WaitMails(t, 1, 20*time.Second)
	if id, why := ledger.Check(mails[0].Data); id != m.ID || why != "" {
		t.Errorf("arrived as %q: %s\n%s", id, why, p.Log())
	}
}

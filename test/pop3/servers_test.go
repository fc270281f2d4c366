package pop3

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"gatepost/test/clamd"
	"gatepost/test/dovecot"
	"gatepost/test/gatepost"
	"gatepost/test/popa3d"
)

// What a client sees of clean mail is what it sees without us, byte for byte.
func TestCleanMailIsIdenticalThroughTheProxy(t *testing.T) {
	c := clamd.Run(t, clamd.Config{})
	mails := clean(300)
	d := startDovecot(t, "joe", mails...)
	o := scanning(c)
	o.upstream = d.Addr
	g := startProxy(t, o)
	t.Run("Dovecot", func(t *testing.T) {
		same(t, d.Addr, g.Addr, "joe", dovecot.Password, len(mails))
	})
	var mbox strings.Builder
	for _, m := range mails[:60] {
		text := strings.ReplaceAll(string(m), "\r\n", "\n")
		fmt.Fprintf(&mbox, "From ada@out.example Thu Oct  1 10:00:00 2026\n%s\n\n", strings.TrimSuffix(text, "\n"))
	}
	p := popa3d.Run(t, mbox.String())
	o.upstream = p.Addr
	g = startProxy(t, o)
	t.Run("popa3d", func(t *testing.T) {
		same(t, p.Addr, g.Addr, popa3d.User, popa3d.Password, 60)
	})
}

// same compares what a mailbox looks like at the server and through the proxy.
func same(t *testing.T, server, proxy, user, password string, n int) {
	t.Helper()
	look := func(addr string) map[string]string {
		c := login(t, addr, user, password)
		seen := map[string]string{"STAT": c.ok("STAT"), "LIST": string(c.list("LIST")), "UIDL": string(c.list("UIDL")), "LIST 2": c.ok("LIST 2"), "UIDL 2": c.ok("UIDL 2")}
		for i := 1; i <= n; i++ {
			cmd := fmt.Sprintf("RETR %d", i)
			seen[cmd] = string(c.list(cmd))
			if i%5 == 0 {
				cmd = fmt.Sprintf("TOP %d %d", i, i%9)
				seen[cmd] = string(c.list(cmd))
			}
		}
		seen["beyond"] = c.cmd(fmt.Sprintf("RETR %d", n+1))[:4]
		c.ok("QUIT")
		return seen
	}
	direct, through := look(server), look(proxy)
	for cmd, want := range direct {
		if got := through[cmd]; got != want {
			t.Errorf("%s: %d bytes through the proxy, %d without it:\n%.300q\n%.300q", cmd, len(got), len(want), got, want)
		}
	}
}

// The mail stays where it is, its reader gets a notice, the quarantine has it once.
func TestInfectedMailIsReplaced(t *testing.T) {
	c := clamd.Run(t, clamd.Config{})
	d := startDovecot(t, "joe", clean(1)[0], infected("invoice"), clean(2)[1])
	o := scanning(c)
	o.upstream = d.Addr
	g := startProxy(t, o)
	for range 2 {
		p := login(t, g.Addr, "joe", dovecot.Password)
		for _, cmd := range []string{"RETR 2", "RETR 2", "TOP 2 100", "retr 2"} {
			got := p.list(cmd)
			if bytes.Contains(got, clamd.EICAR()[:30]) {
				t.Fatalf("%s: the virus came through", cmd)
			}
			if !bytes.Contains(got, []byte("invoice")) || !bytes.Contains(got, []byte("Test.Eicar")) {
				t.Errorf("%s: the notice does not say what and why:\n%s", cmd, got)
			}
		}
		if got := p.list("RETR 1"); !bytes.Contains(got, []byte("Subject: mail 0")) {
			t.Errorf("RETR 1 is\n%s", got)
		}
		p.ok("QUIT")
	}
	held, err := g.Quarantine()
	if err != nil || len(held) != 1 {
		t.Fatalf("the quarantine has %+v, %v", held, err)
	}
	p := login(t, g.Addr, "joe", dovecot.Password)
	p.ok("DELE 2")
	p.ok("QUIT")
	if n, err := d.Held("joe"); err != nil || n != 2 {
		t.Errorf("the mailbox holds %d, %v; want 2", n, err)
	}
	if log := g.MailLog(); strings.Contains(log, dovecot.Password) {
		t.Error("the log has the password")
	}
}

// A client that vanishes has deleted nothing.
func TestVanishedClientDeletesNothing(t *testing.T) {
	d := startDovecot(t, "joe", clean(3)...)
	g := startProxy(t, options{upstream: d.Addr})
	p := login(t, g.Addr, "joe", dovecot.Password)
	p.ok("DELE 1")
	p.Close()
	gatepost.Eventually(t, "the server's session ends", patience, func() bool {
		q := dial(t, g.Addr)
		defer q.Close()
		return strings.HasPrefix(q.cmd("USER joe"), "+OK") && strings.HasPrefix(q.cmd("PASS "+dovecot.Password), "+OK") && strings.HasPrefix(q.cmd("STAT"), "+OK 3 ")
	})
}

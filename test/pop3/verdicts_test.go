package pop3

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/test/clamd"
	"gatepost/test/dovecot"
	"gatepost/test/gatepost"
)

// What is released passes when it is fetched the next time, also after a restart.
func TestReleasedMessagePassesAtTheNextFetch(t *testing.T) {
	c := clamd.Run(t, clamd.Config{})
	d := startDovecot(t, "joe", infected("invoice"))
	o := scanning(c)
	o.upstream = d.Addr
	g := startProxy(t, o)
	p := login(t, g.Addr, "joe", dovecot.Password)
	if got := p.list("RETR 1"); bytes.Contains(got, clamd.EICAR()[:30]) {
		t.Fatal("the virus came through")
	}
	p.ok("QUIT")
	held, err := g.Quarantine("--recipient", "joe@")
	if err != nil || len(held) != 1 {
		t.Fatalf("held: %+v, %v", held, err)
	}
	if out, err := g.Run("quarantine", "release", held[0].ID); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	for range 2 {
		p = login(t, g.Addr, "joe", dovecot.Password)
		if got := p.list("RETR 1"); !bytes.Contains(got, clamd.EICAR()[:30]) {
			t.Errorf("after its release:\n%s", got)
		}
		p.ok("QUIT")
		g.Stop()
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
	}
	if held, err = g.Quarantine(); err != nil || len(held) != 1 || held[0].State != "released" {
		t.Errorf("held: %+v, %v", held, err)
	}
}

// A scanner that is down is nobody's virus and nobody's clean bill: the message stays
// where it is until the scanner is back.
func TestScannerThatIsDown(t *testing.T) {
	c := clamd.Run(t, clamd.Config{})
	d := startDovecot(t, "joe", clean(2)...)
	o := scanning(c)
	o.upstream = d.Addr
	o.blocks = strings.Replace(o.blocks, "}", `, timeout = "2s" }`, 1)
	g := startProxy(t, o)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	p := login(t, g.Addr, "joe", dovecot.Password)
	if got := p.cmd("RETR 1"); !strings.HasPrefix(got, "-ERR [SYS/TEMP]") {
		t.Errorf("with a scanner that is down: %s", got)
	}
	// The session goes on, and the mailbox has everything.
	if got := p.ok("STAT"); !strings.HasPrefix(got, "+OK 2 ") {
		t.Error(got)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	gatepost.Eventually(t, "the scanner is back", patience, func() bool {
		q := login(t, g.Addr, "joe", dovecot.Password)
		defer q.Close()
		return strings.HasPrefix(q.cmd("RETR 1"), "+OK")
	})
}

// With on_unknown = "mark" mail that could not be scanned passes and says so.
func TestUnscannedMailIsMarked(t *testing.T) {
	c := clamd.Run(t, clamd.Config{})
	d := startDovecot(t, "joe", clean(2)...)
	o := scanning(c)
	o.upstream = d.Addr
	o.blocks = `{ use = "clamav", on_unknown = "mark", timeout = "2s" }`
	g := startProxy(t, o)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	p := login(t, g.Addr, "joe", dovecot.Password)
	got := string(p.list("RETR 2"))
	if !strings.Contains(got, "X-Gatepost-Verdict: mark (clamav") || !strings.Contains(got, "Subject: mail 1") {
		t.Errorf("%s", got)
	}
}

// Signatures that come later count: what passed before is looked at again.
func TestNewRulesCountForOldMail(t *testing.T) {
	mails := clean(2)
	d := startDovecot(t, "joe", mails...)
	o := options{upstream: d.Addr, blocks: `{ use = "filters" }`, more: "[[filter]]\nname = \"none\"\nwhen = { body = \"nothing like it\" }\nthen = \"quarantine\"\n"}
	g := startProxy(t, o)
	look := func() string {
		p := login(t, g.Addr, "joe", dovecot.Password)
		defer p.ok("QUIT")
		return string(p.list("RETR 2"))
	}
	for range 2 {
		if got := look(); !strings.Contains(got, ".hidden") {
			t.Fatalf("%s", got)
		}
	}
	text, err := os.ReadFile(g.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.ConfigFile, bytes.Replace(text, []byte("nothing like it"), []byte("hidden"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := g.Run("reload"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if got := look(); strings.Contains(got, ".hidden") || !strings.Contains(got, "held back") {
		t.Errorf("after the rules have changed:\n%s", got)
	}
}

// Four large messages at once, in bounded memory.
func TestLargeMessages(t *testing.T) {
	const size = 100 << 20
	body := bytes.Repeat([]byte(strings.Repeat("x", 76)+"\r\n"), size/78)
	mail := append([]byte("From: a@b.example\r\nSubject: large\r\n\r\n"), body...)
	d := dovecot.Run(t, dovecot.Config{Users: []string{"joe", "jim", "ann", "bob"}})
	users := []string{"joe", "jim", "ann", "bob"}
	for _, u := range users {
		if err := d.Put(u, dovecot.Name(1), mail); err != nil {
			t.Fatal(err)
		}
	}
	g := startProxy(t, options{upstream: d.Addr, blocks: `{ use = "structure", on_limit = "deliver", on_unknown = "deliver" }, { use = "filters" }`,
		limits: "max_message_size = \"200MiB\"\nmax_scan_size = \"200MiB\""})
	results := make(chan error)
	for _, u := range users {
		go func() { results <- fetchLarge(g.Addr, u, len(mail)) }()
	}
	for range users {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if most := peak(t, g); most > 600<<10 {
		t.Errorf("%d MiB resident for four messages of 100 MiB", most>>10)
	}
}

// peak is the most memory that the server had resident, in KiB.
func peak(t *testing.T, g proxy) int {
	t.Helper()
	pid, err := g.ServerPid()
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

// fetchLarge fetches the only message of a user and counts its bytes.
func fetchLarge(addr, user string, size int) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(4 * patience))
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		return err
	}
	for _, line := range []string{"USER " + user, "PASS " + dovecot.Password, "RETR 1"} {
		fmt.Fprintf(c, "%s\r\n", line)
		if answer, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(answer, "+OK") {
			return fmt.Errorf("%s: %s, %w", line, answer, err)
		}
	}
	n, waits := 0, 0
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return fmt.Errorf("%s got %d bytes of %d: %w", user, n, size, err)
		case string(line) != ".\r\n" && bytes.HasPrefix(line, []byte("X-Gatepost-Wait:")):
			waits++
		case string(line) != ".\r\n":
			n += len(line)
		case n != size:
			return fmt.Errorf("%s got %d bytes of %d, and %d lines to wait", user, n, size, waits)
		default:
			return nil
		}
	}
}

package fault

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/wire"
)

// openInData opens n sessions that are in the middle of their data, and returns
// them with the identifiers of their messages. Whatever else is sent before the
// final dot must be part of the message, so the checksum is of nothing known:
// such messages count by being there or not.
func openInData(r *rig, n int) (conns []*wire.Conn, ids []string) {
	r.t.Helper()
	for range n {
		body := []byte(strings.Repeat("line\r\n", 500))
		more := append(bytes.Clone(body), []byte(strings.Repeat("more\r\n", 10))...)
		m := ledger.Wrap(ledger.New(0).ID, more)
		c := r.g.Hello("")
		if err := c.Open("sender@out.example", "user@in.example"); err != nil {
			r.t.Fatal(err)
		}
		head, _, _ := bytes.Cut(m.Data, []byte("\r\n\r\n"))
		if err := c.Send(string(head) + "\r\n\r\n" + string(body)); err != nil {
			r.t.Fatal(err)
		}
		r.book.Sending(m.ID)
		conns, ids = append(conns, c), append(ids, m.ID)
	}
	return conns, ids
}

// clientResets cuts connections with RST: in the middle of the data, after which
// nothing may ever arrive, and right after the final dot, after which a whole
// message may arrive or none (RFC 1047).
func clientResets(t *testing.T, o gatepost.Options) []string {
	r := newRig(t, o)
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	half := map[string]bool{}
	conns, ids := openInData(r, 10)
	for i, c := range conns {
		if err := c.Reset(); err != nil {
			t.Fatal(err)
		}
		half[ids[i]] = true
	}
	for range 10 {
		m := ledger.New(5000)
		c := r.g.Hello("")
		if err := c.Open("sender@out.example", "user@in.example"); err != nil {
			return append(wrong, err.Error())
		}
		r.book.Sending(m.ID)
		if err := c.Send(string(wire.Stuff(m.Data)) + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.Reset(); err != nil {
			t.Fatal(err)
		}
	}
	wrong = append(wrong, r.sendOne("after the resets")...)
	wrong = append(wrong, r.settle(0)...)
	for _, m := range r.next.Mails() {
		if id, _ := ledger.Check(m.Data); half[id] {
			wrong = append(wrong, id+": arrived though its client never finished it")
		}
	}
	return wrong
}

// noDescriptors lets the server have few file descriptors and takes them all
// with idle connections. It must not acknowledge what it cannot keep, must not
// burn the processor, and must be well again when they are released.
func noDescriptors(t *testing.T, o gatepost.Options) []string {
	const limit = 128
	o.Wrap = []string{"prlimit", "--nofile=" + strconv.Itoa(limit)}
	o.Limits = "max_sessions_per_ip = 10000"
	r := newRig(t, o)
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	var idle []*wire.Conn
	for range 3 * limit {
		c, err := wire.Dial(r.g.SMTP, wire.Options{})
		if err != nil {
			break
		}
		idle = append(idle, c)
		t.Cleanup(func() { c.Close() })
	}
	pid, err := r.g.ServerPid()
	if err != nil {
		t.Fatal(err)
	}
	before, err := processCPU(pid)
	if err != nil {
		t.Fatal(err)
	}
	// A server that accepts in a circle burns a whole processor meanwhile; one
	// that waits uses next to nothing.
	const while = 3 * time.Second
	<-time.After(while)
	after, err := processCPU(pid)
	if err != nil {
		return []string{"ended for lack of descriptors: " + err.Error()}
	}
	var wrong []string
	if used := time.Duration(after-before) * 10 * time.Millisecond; used > while/4 {
		wrong = append(wrong, fmt.Sprintf("used %v of processor time in %v without descriptors", used, while))
	}
	for _, c := range idle {
		c.Close()
	}
	if !gatepost.Holds(r.patience, func() bool {
		acked, _, err := r.send(1, 1000)
		return acked == 1 && err == nil
	}) {
		wrong = append(wrong, "does not take mail again after the descriptors were released")
	}
	return append(wrong, r.settle(0)...)
}

// strangeFiles puts things that do not belong there into the data directory and
// into what is below it: the server starts, delivers what is healthy, follows
// no link and leaves what is not its own alone.
func strangeFiles(t *testing.T, o gatepost.Options) []string {
	r := newRig(t, o)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	if acked, reply, err := r.send(20, 3000); acked != 20 {
		return []string{fmt.Sprintf("%d messages taken, then %v, %v", acked, reply, err)}
	}
	r.g.Kill()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("From: secret\r\n\r\nsecret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range directories(t, r.g.DataDir) {
		if err := os.WriteFile(filepath.Join(dir, "foo"), []byte("bar"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(secret, filepath.Join(dir, "mlink")); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "strange", "directory"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.accept()
	if err := r.g.Start(); err != nil {
		return []string{"with strange files: " + err.Error()}
	}
	wrong := append(r.sendOne("with strange files"), r.settle(0)...)
	if _, err := os.Stat(secret); err != nil {
		wrong = append(wrong, "what a link points to is gone: "+err.Error())
	}
	return wrong
}

func directories(t *testing.T, root string) []string {
	t.Helper()
	list := []string{root}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, filepath.Join(root, e.Name()))
		}
	}
	return list
}

// secondProcess starts another server on the same data directory: it must end
// at once and say why, and the first must not notice.
func secondProcess(t *testing.T, o gatepost.Options) []string {
	r := newRig(t, o)
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	o.Next, o.Dir, o.DataDir, o.NoWait = r.next.Addr, t.TempDir(), r.g.DataDir, true
	second := gatepost.New(t, o)
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	var wrong []string
	status, err := second.Wait(r.patience)
	out := second.Output()
	second.Kill()
	switch {
	case err != nil:
		wrong = append(wrong, "a second process serves the same data directory")
	case status != 1:
		wrong = append(wrong, fmt.Sprintf("the second process ends with status %d, want 1: %s", status, out))
	case !strings.Contains(out, "lock") && !strings.Contains(out, "another process"):
		wrong = append(wrong, "the second process does not say why it ends: "+out)
	}
	wrong = append(wrong, r.sendOne("beside a second process")...)
	return append(wrong, r.settle(0)...)
}

// manyAtOnce sends from fifty connections at once and restarts the server in
// the middle: no message may take another's name or place.
func manyAtOnce(t *testing.T, o gatepost.Options) []string {
	o.Limits = "max_sessions_per_ip = 10000"
	r := newRig(t, o)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	burst := func() {
		var wg sync.WaitGroup
		for range 50 {
			// An error ends the burst of one connection; the books know how far it came.
			wg.Go(func() { _, _, _ = r.send(20, 500) })
		}
		wg.Wait()
	}
	burst()
	r.g.Kill()
	if err := r.g.Start(); err != nil {
		return []string{"after the restart: " + err.Error()}
	}
	burst()
	r.accept()
	wrong := r.settle(0)
	if sent, acked, _ := r.book.Totals(); acked < sent*9/10 {
		wrong = append(wrong, fmt.Sprintf("only %d of %d messages were taken", acked, sent))
	}
	return wrong
}

// openUmask starts the server with umask 000, as a careless script does.
func openUmask(t *testing.T, o gatepost.Options) []string {
	o.Wrap = []string{"sh", "-c", `umask 000; exec "$@"`, "sh"}
	r := newRig(t, o)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	if acked, reply, err := r.send(5, 300_000); acked != 5 {
		return []string{fmt.Sprintf("%d messages taken, then %v, %v", acked, reply, err)}
	}
	var wrong []string
	err := filepath.WalkDir(r.g.DataDir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // files come and go
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 && info.Mode().Type() != os.ModeSymlink {
			wrong = append(wrong, fmt.Sprintf("%s has mode %v", path, info.Mode()))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.accept()
	return append(wrong, r.settle(0)...)
}

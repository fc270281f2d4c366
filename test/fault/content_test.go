package fault

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gatepost/test/clamd"
	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// scanned are settings with a flow of these blocks on the listener, and on a
// second one, at the address, that answers first and scans then.
func scanned(queued, socket, blocks string) gatepost.Settings {
	return gatepost.Settings{
		Listener: `flows = { content = "inbound" }`, Limits: "max_sessions_per_ip = 10000",
		More: fmt.Sprintf("[[listener]]\nname = \"queued\"\naddress = [%q]\ntls = \"off\"\nprocessing = \"queued\"\nflows = { content = \"inbound\" }\n", queued) +
			"[[flow]]\nname = \"inbound\"\nstage = \"content\"\nblocks = [" + blocks + "]\n[clamav]\naddress = \"" + socket + "\"\ntimeout = \"2s\"\n",
	}
}

// infected is a message with the test file in it.
func infected() ledger.Message {
	m := ledger.New(0)
	return ledger.Wrap(m.ID, append(clamd.EICAR(), fmt.Sprintf("\r\nand %s\r\n", m.ID)...))
}

// everything enters what the quarantine holds into the books, and returns what is
// there for another reason than a virus, by its reason.
func everything(t *testing.T, g *gatepost.Instance, book *ledger.Book) map[string]int {
	t.Helper()
	list, err := g.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	others := map[string]int{}
	for _, q := range list {
		out, err := g.Run("quarantine", "get", q.ID)
		if err != nil {
			t.Fatal(err)
		}
		book.Arrived([]byte(out))
		if virus := strings.Contains(out, "EICAR"); virus != (q.Threat == "virus") {
			others[q.Reason]++
		}
	}
	return others
}

// settled waits until nothing is in the queue.
func settled(t *testing.T, g *gatepost.Instance) {
	t.Helper()
	var rows []map[string]any
	if !gatepost.Holds(3*patience(gatepost.Options{}), func() bool {
		var err error
		if rows, err = g.Queue(); err != nil {
			t.Fatal(err)
		}
		return len(rows) == 0
	}) {
		t.Fatalf("the queue is not empty: %v", rows)
	}
}

// Killed at any moment, while clean mail and viruses flow through listeners of
// both kinds, every message that was acknowledged is delivered or quarantined, and
// no virus is delivered, ever.
func TestKilledWhileScanning(t *testing.T) {
	t.Parallel()
	p := clamd.Run(t, clamd.Config{})
	queued := gatepost.FreeAddress(t)
	r := newRig(t, gatepost.Options{Settings: scanned(queued, p.Unix, `{ use = "clamav" }`)})
	const rounds = 6
	random := rand.New(rand.NewPCG(5, 1))
	for round := range rounds {
		if err := r.g.Start(); err != nil {
			t.Fatal(err)
		}
		var acks atomic.Int64
		limit := int64(10 + random.IntN(150))
		var wg sync.WaitGroup
		for n := range 6 {
			addr := []string{r.g.SMTP, queued}[n%2]
			wg.Go(func() { r.flow(addr, func() bool { return acks.Add(1) >= limit }) })
		}
		wg.Wait()
		r.g.Kill()
		t.Logf("round %d: killed after %d acknowledgements", round, acks.Load())
	}
	if err := r.g.Start(); err != nil {
		t.Fatal(err)
	}
	settled(t, r.g)
	others := everything(t, r.g, r.book)
	for reason, n := range others {
		// Whatever was being scanned at three deaths is suspect, however harmless.
		if reason != "it killed or stalled its scanner three times" {
			t.Errorf("%d messages held because %s", n, reason)
		}
	}
	for _, wrong := range r.book.Audit(1000) {
		t.Error(wrong)
	}
	for _, m := range r.next.Mails() {
		if bytes.Contains(m.Data, clamd.EICAR()[:60]) {
			t.Errorf("a virus was delivered: %s", m.Data)
		}
	}
	sent, acked, arrived := r.book.Totals()
	t.Logf("%d sent, %d acknowledged, %d arrived; suspects %v", sent, acked, arrived, others)
	if acked < 10*rounds {
		t.Errorf("only %d of %d messages were acknowledged", acked, sent)
	}
}

// flow sends clean mail and viruses until the server is gone; done is told of each
// acknowledgement and says when the server is to die.
func (r *rig) flow(addr string, done func() bool) {
	c, _, err := wire.Hello(addr, wire.Options{})
	if err != nil {
		return
	}
	defer c.Close()
	for n := 0; ; n++ {
		m := ledger.New(2000)
		if n%3 == 2 {
			m = infected()
		}
		r.book.Sending(m.ID)
		reply, err := c.Deliver("sender@out.example", []string{"user@in.example"}, m.Data)
		if err != nil {
			return
		}
		if !reply.Positive() {
			continue
		}
		r.book.Acked(m.ID)
		if done() {
			r.g.Signal(9)
		}
	}
}

// A message at which the process dies three times goes to the quarantine, and says
// so; what came with it is scanned and delivered.
func TestAMessageThatKillsTheScanner(t *testing.T) {
	t.Parallel()
	fake := startFake(t)
	queued := gatepost.FreeAddress(t)
	r := newRig(t, gatepost.Options{Settings: scanned(queued, fake.address, `{ use = "clamav", timeout = "60s" }`)})
	if err := r.g.Start(); err != nil {
		t.Fatal(err)
	}
	bad, good := r.killer(t, queued)
	const deaths = 3
	for n := range deaths {
		fake.waitForHang(t)
		r.g.Kill()
		if err := r.g.Start(); err != nil {
			t.Fatalf("after death %d: %v", n+1, err)
		}
	}
	// Each death may come before it is written down that a message was delivered.
	r.condemned(t, bad, deaths*len(good), "it killed or stalled its scanner three times")
	if n := fake.hangs(); n != deaths {
		t.Errorf("the message was tried %d times, want %d", n, deaths)
	}
}

// The same for one that only stalls it: three times the scan runs out of time.
func TestAMessageThatStallsTheScanner(t *testing.T) {
	t.Parallel()
	fake := startFake(t)
	queued := gatepost.FreeAddress(t)
	r := newRig(t, gatepost.Options{Settings: scanned(queued, fake.address, `{ use = "clamav" }`)})
	if err := r.g.Start(); err != nil {
		t.Fatal(err)
	}
	bad, good := r.killer(t, queued)
	for n := range 2 {
		fake.waitForHang(t)
		gatepost.Eventually(t, "the message waits to be tried again", r.patience, func() bool {
			var rows []map[string]any
			err := r.g.Ask(&rows, "queue", "list", "--json", "--state", "incoming")
			return err == nil && len(rows) == 1 && rows[0]["attempts"] == float64(n+1)
		})
		if out, err := r.g.Run("queue", "retry", "--all"); err != nil {
			t.Fatal(out, err)
		}
	}
	r.condemned(t, bad, len(good), "it killed or stalled its scanner three times: clamav: timeout: the message: scan with clamd: context deadline exceeded")
	if n := fake.hangs(); n != 3 {
		t.Errorf("the message was tried %d times, want 3", n)
	}
}

// killer sends the message at which the fake hangs among others.
func (r *rig) killer(t *testing.T, addr string) (bad ledger.Message, good []ledger.Message) {
	t.Helper()
	c, _, err := wire.Hello(addr, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	bad = ledger.Wrap(ledger.New(0).ID, []byte(hangWord+"\r\n"))
	good = []ledger.Message{ledger.New(100), ledger.New(100), ledger.New(100)}
	for _, m := range []ledger.Message{good[0], bad, good[1], good[2]} {
		r.book.Sending(m.ID)
		if reply, err := c.Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || reply.Code != 250 {
			t.Fatalf("%v, %v", reply, err)
		}
		r.book.Acked(m.ID)
	}
	return bad, good
}

// condemned checks that the bad message ends in the quarantine, and the good ones, at most
// so many of them twice,
// at the next hop.
func (r *rig) condemned(t *testing.T, bad ledger.Message, duplicates int, why string) {
	t.Helper()
	var list []gatepost.Held
	gatepost.Eventually(t, "the message is quarantined", 3*r.patience, func() bool {
		var err error
		if list, err = r.g.Quarantine(); err != nil {
			t.Fatal(err)
		}
		return len(list) == 1
	})
	if q := list[0]; q.Threat != "unscanned" || q.Block != "scanner" || q.Reason != why {
		t.Errorf("held for %+v", q)
	}
	if out, err := r.g.Run("quarantine", "get", list[0].ID); err != nil || out != string(bad.Data) {
		t.Errorf("the quarantine has %q, %v", out, err)
	}
	r.book.Arrived(bad.Data)
	for _, wrong := range r.settle(duplicates) {
		t.Error(wrong)
	}
	settled(t, r.g)
	for _, m := range r.next.Mails() {
		if id, _ := ledger.Check(m.Data); id == bad.ID {
			t.Error("it was delivered")
		}
	}
}

// The database is on a file system that is full: mail is accepted and delivered,
// what is to be held waits in the queue, and all is told.
func TestTheDatabaseIsFull(t *testing.T) {
	t.Parallel()
	peer.RequireRoot(t)
	peer.Require(t, "mount", "umount")
	small, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	must(t, "mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", small)
	t.Cleanup(func() { must(t, "umount", "-l", small) })
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(small, "records.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(small, "records.db"), filepath.Join(data, "records.db")); err != nil {
		t.Fatal(err)
	}
	next := sink.Start(t, sink.Options{})
	g := gatepost.Start(t, gatepost.Options{DataDir: data, Settings: gatepost.Settings{
		Next: next.Addr, Listener: `flows = { content = "inbound" }`,
		More: "[[filter]]\nname = \"kept\"\nwhen = { header.X-Keep = 'yes' }\nthen = \"quarantine\"\n" +
			"[[flow]]\nname = \"inbound\"\nstage = \"content\"\nblocks = [{ use = \"filters\" }, { use = \"bayes\" }, { use = \"reputation\" }, { use = \"score\", mark = 5 }]\n",
	}})
	filler := filepath.Join(small, "filler")
	if err := os.WriteFile(filler, make([]byte, 4<<20), 0o600); err == nil {
		t.Fatal("there is more space than there should be")
	}
	c := g.Hello("")
	book := ledger.NewBook()
	give := func(m ledger.Message) {
		t.Helper()
		book.Sending(m.ID)
		if reply, err := c.Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || reply.Code != 250 {
			t.Fatalf("%v, %v", reply, err)
		}
		book.Acked(m.ID)
	}
	for range 5 {
		give(ledger.New(1000))
		give(ledger.New(50_000, "X-Keep: yes"))
	}
	for _, m := range next.WaitMails(t, 5, patience(gatepost.Options{})) {
		book.Arrived(m.Data)
	}
	check := func(ok bool) {
		t.Helper()
		var c gatepost.Check
		if !gatepost.Holds(patience(gatepost.Options{}), func() bool {
			checks, err := g.Checks()
			if err != nil {
				t.Fatal(err)
			}
			c = checks["store"]
			return c.Name == "store" && c.OK == ok
		}) {
			t.Errorf("healthz says %+v, want %v", c, ok)
		}
	}
	check(false)
	var rows []map[string]any
	if err := g.Ask(&rows, "queue", "list", "--json", "--transport", "quarantine"); err != nil || len(rows) != 5 {
		t.Errorf("%d items wait for the quarantine, %v", len(rows), err)
	}
	if err := g.Health(); err != nil {
		t.Errorf("without its database the gateway is not ready: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	settled(t, g)
	check(true)
	everything(t, g, book)
	for _, wrong := range book.Audit(0) {
		t.Error(wrong)
	}
}

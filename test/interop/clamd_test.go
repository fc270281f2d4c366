package interop

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gatepost/test/clamd"
	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// scans is a listener with the flow "inbound", whose blocks these are.
func scans(c *clamd.Instance, blocks string) gatepost.Settings {
	return gatepost.Settings{
		Listener: `flows = { content = "inbound" }`, Limits: "max_sessions_per_ip = 100",
		More: "[[flow]]\nname = \"inbound\"\nstage = \"content\"\nblocks = [" + blocks + "]\n[clamav]\naddress = \"" + c.Unix + "\"\n",
	}
}

// infected is a message with the test file in an attachment.
func infected(headers ...string) ledger.Message {
	m := ledger.New(0)
	return ledger.Wrap(m.ID, []byte("--b\r\n\r\nSee attachment.\r\n--b\r\nContent-Type: application/octet-stream; name=a.com\r\n\r\n"+string(clamd.EICAR())+"\r\n--b--\r\n"),
		append(headers, "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=b")...)
}

// quarantined waits until the quarantine has n messages.
func quarantined(t *testing.T, g *gatepost.Instance, n int) []gatepost.Held {
	t.Helper()
	var list []gatepost.Held
	ok := gatepost.Holds(patience, func() bool {
		var err error
		if list, err = g.Quarantine(); err != nil {
			t.Fatal(err)
		}
		return len(list) == n
	})
	if !ok {
		t.Fatalf("%d messages in the quarantine, want %d: %+v", len(list), n, list)
	}
	return list
}

// well waits until /healthz says that a part is well, or is not and why.
func well(t *testing.T, g *gatepost.Instance, part string, ok bool, why string) {
	t.Helper()
	var c gatepost.Check
	if !gatepost.Holds(patience, func() bool {
		checks, err := g.Checks()
		if err != nil {
			t.Fatal(err)
		}
		c = checks[part]
		return c.Name == part && c.OK == ok && strings.Contains(c.Why, why)
	}) {
		t.Fatalf("%s is %+v, want %v %s", part, c, ok, why)
	}
	if err := g.Health(); err != nil {
		t.Errorf("%s is %v, and the gateway is not ready: %v", part, ok, err)
	}
}

// answered delivers a message and compares the answer.
func answered(t *testing.T, c *wire.Conn, to string, m ledger.Message, want string) {
	t.Helper()
	r, err := c.Deliver("sender@out.example", strings.Split(to, ","), m.Data)
	if err != nil || !strings.HasPrefix(r.String(), want) {
		t.Errorf("to %s: %v, %v, want %s", to, r, err, want)
	}
}

// SCN-01: while clamd is away the client keeps its mail, unless the administrator
// has said otherwise; once it is back all goes on by itself.
func TestClamdGoesAndComesBack(t *testing.T) {
	t.Parallel()
	p := clamd.Run(t, clamd.Config{})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(p.Dir, "clamd.sock")); err != nil {
		t.Fatal(err)
	}
	s := scans(p, `{ use = "clamav" }`)
	for _, action := range []string{"deliver", "mark"} {
		s.More += fmt.Sprintf("[[flow]]\nname = %q\nstage = \"content\"\nblocks = [{ use = \"clamav\", on_unknown = %q }]\n[[domain]]\nname = \"%s.example\"\ntransport = \"next\"\nflows = { content = %q }\n",
			action, action, action, action)
	}
	g, next := pair(t, s)
	well(t, g, "clamav", false, "clamd is down since ")
	c := g.Hello("")
	one, two, virus := ledger.New(1000), ledger.New(1000), infected()
	answered(t, c, "a@in.example", one, "451 4.7.1 Try again later (")
	answered(t, c, "a@in.example,b@deliver.example", one, "451 4.7.1 ")
	answered(t, c, "a@deliver.example", one, "250 2.0.0 ")
	answered(t, c, "a@mark.example", two, "250 2.0.0 ")
	mustContain(t, "what was delivered unscanned", header(arrived(t, next, one.ID)), "X-Gatepost-Verdict: deliver")
	mustContain(t, "what was marked", header(arrived(t, next, two.ID)), "X-Gatepost-Verdict: mark (clamav, ")
	quarantined(t, g, 0)

	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	well(t, g, "clamav", true, "")
	answered(t, c, "a@in.example", virus, "250 2.0.0 OK: queued (")
	third := ledger.New(1000)
	answered(t, c, "a@in.example", third, "250 ")
	mustContain(t, "what is clean", header(arrived(t, next, third.ID)), "X-Gatepost-Verdict: deliver\r\n")
	q := quarantined(t, g, 1)[0]
	if q.Threat != "virus" || q.Block != "clamav" || !strings.HasPrefix(q.Rule, "Test.Eicar") || !strings.Contains(q.Reason, "Test.Eicar") {
		t.Errorf("held for %+v", q)
	}
	if out, err := g.Run("quarantine", "get", q.ID); err != nil || out != string(virus.Data) {
		t.Errorf("the quarantine has %q, %v", out, err)
	}

	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		answered(t, c, "a@in.example", third, "451 4.7.1 ")
	}
	well(t, g, "clamav", false, "clamd is down since ")
	if n := len(next.Mails()); n != 3 {
		t.Errorf("%d mails went out, want 3", n)
	}
}

// A clamd without signatures finds nothing; that is not the same as clean.
func TestClamdWithoutSignaturesIsNotBelieved(t *testing.T) {
	t.Parallel()
	none := "00000000000000000000000000000000:1:Test.None\n"
	p := clamd.Run(t, clamd.Config{Signatures: map[string]string{"gatepost.hdb": none, "gatepost.ndb": "Test.None.NDB:0:*:" + strings.Repeat("ab", 20) + "\n"}})
	g, next := pair(t, scans(p, `{ use = "clamav" }`))
	well(t, g, "clamav", false, "clamd is not detecting since ")
	c := g.Hello("")
	answered(t, c, "a@in.example", ledger.New(100), "451 4.7.1 ")
	answered(t, c, "a@in.example", infected(), "451 4.7.1 ")
	if err := p.Signature("gatepost.hdb", "44d88612fea8a8f36de82e1278abb02f:68:Test.Eicar.HDB\n"); err != nil {
		t.Fatal(err)
	}
	p.Reload(t)
	well(t, g, "clamav", true, "")
	m := ledger.New(100)
	answered(t, c, "a@in.example", m, "250 ")
	arrived(t, next, m.ID)
	if n := len(next.Mails()); n != 1 {
		t.Errorf("%d mails went out, want 1", n)
	}
}

// Mail that was accepted first waits as incoming while clamd is down, and is
// scanned by itself when it is back.
func TestQueuedMailWaitsForClamd(t *testing.T) {
	t.Parallel()
	p := clamd.Run(t, clamd.Config{})
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	s := scans(p, `{ use = "clamav", on_match = "reject" }`)
	s.Listener += "\nprocessing = \"queued\""
	g, next := pair(t, s)
	c := g.Hello("")
	book := map[string]ledger.Message{}
	for range 5 {
		m := ledger.New(5000)
		book[m.ID] = m
		answered(t, c, "a@in.example", m, "250 2.0.0 OK: queued (")
	}
	virus := infected()
	answered(t, c, "a@in.example", virus, "250 2.0.0 OK: queued (")
	var rows []map[string]any
	gatepost.Eventually(t, "all wait, and say why", patience, func() bool {
		if err := g.Ask(&rows, "queue", "list", "--json", "--state", "incoming"); err != nil {
			t.Fatal(err)
		}
		why := 0
		for _, row := range rows {
			if text, ok := row["last_error"].(string); ok && strings.Contains(text, "clamd is down") {
				why++
			}
		}
		return len(rows) == 6 && why == 6
	})
	if n := len(next.Mails()); n != 0 {
		t.Fatalf("%d mails went out unscanned", n)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	for id := range book {
		arrived(t, next, id)
	}
	q := quarantined(t, g, 1)[0]
	if q.Threat != "virus" || !strings.HasSuffix(q.Reason, "(would have been refused)") {
		t.Errorf("held for %+v", q)
	}
	if n := len(next.Mails()); n != 5 {
		t.Errorf("%d mails went out, want 5 and no bounce", n)
	}
}

// SCN-02: a clamd that takes connections and says nothing is no message's fault:
// clients hear 451 after the time that a scan may take, what was accepted before
// waits, and nothing of it is quarantined.
func TestAClamdThatHangsBlamesNobody(t *testing.T) {
	t.Parallel()
	p := clamd.Run(t, clamd.Config{})
	s := scans(p, `{ use = "clamav" }`)
	s.More += "timeout = \"1s\"\n"
	queued := gatepost.FreeAddress(t)
	s.More += fmt.Sprintf("[[listener]]\nname = \"queued\"\naddress = [%q]\ntls = \"off\"\nprocessing = \"queued\"\nflows = { content = \"inbound\" }\n", queued)
	g, next := pair(t, s)
	well(t, g, "clamav", true, "")
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c, _, err := wire.Hello(queued, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var ids []string
	for range 12 {
		m := ledger.New(100)
		ids = append(ids, m.ID)
		answered(t, c, "a@in.example", m, "250 ")
	}
	inline := g.Hello("")
	answered(t, inline, "a@in.example", ledger.New(100), "451 4.7.1 ")
	well(t, g, "clamav", false, "clamd is down since ")
	answered(t, inline, "a@in.example", ledger.New(100), "451 4.7.1 ")
	gatepost.Eventually(t, "every message was tried twice", patience, func() bool {
		if out, err := g.Run("queue", "retry", "--all"); err != nil {
			t.Fatal(out, err)
		}
		var rows []map[string]any
		if err := g.Ask(&rows, "queue", "list", "--json", "--state", "incoming"); err != nil {
			t.Fatal(err)
		}
		tried := 0
		for _, row := range rows {
			if n, ok := row["attempts"].(float64); ok && n >= 2 {
				tried++
			}
		}
		return tried == len(ids)
	})
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	well(t, g, "clamav", true, "")
	if out, err := g.Run("queue", "retry", "--all"); err != nil {
		t.Fatal(out, err)
	}
	for _, id := range ids {
		arrived(t, next, id)
	}
	quarantined(t, g, 0)
}

// crafted are the messages of a collection, as they go over the wire, by a local
// part for each; the test is skipped where it is not there.
func crafted(t *testing.T, name string) map[string][]byte {
	t.Helper()
	root := os.Getenv("GATEPOST_CORPORA")
	if root == "" {
		t.Skip("GATEPOST_CORPORA does not name the folder of the corpora")
	}
	files, err := filepath.Glob(filepath.Join(root, "noxxi", name, "*"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d messages in %s, %v", len(files), root, err)
	}
	all := map[string][]byte{}
	for i, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
		all[fmt.Sprintf("m%d", i)] = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
	}
	return all
}

// stopped sends messages, and counts those that were refused or quarantined; it
// names the rest.
func stopped(t *testing.T, g *gatepost.Instance, next *sink.Sink, all map[string][]byte) (caught int) {
	t.Helper()
	names := make(chan string)
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for range 4 {
		c := g.Hello("")
		wg.Go(func() {
			for name := range names {
				r, err := c.Deliver("sender@out.example", []string{name + "@in.example"}, all[name])
				mu.Lock()
				switch {
				case err != nil || r.Code/100 == 4:
					t.Errorf("%s: %v, %v", name, r, err)
				case r.Code/100 == 5:
					refused++
				}
				mu.Unlock()
			}
		})
	}
	for name := range all {
		names <- name
	}
	close(names)
	wg.Wait()
	gatepost.Eventually(t, "the queue is empty", patience, func() bool {
		rows, err := g.Queue()
		return err == nil && len(rows) == 0
	})
	for _, m := range next.Mails() {
		name, _, _ := strings.Cut(strings.TrimPrefix(m.To[0], "<"), "@")
		id, _, _ := bytes.Cut(all[name][bytes.Index(all[name], []byte("X-Payload-Id:")):], []byte("\r\n"))
		t.Logf("passed: %s %s", name, id)
	}
	held, err := g.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	if sum := len(held) + refused + len(next.Mails()); sum != len(all) {
		t.Errorf("%d quarantined, %d refused, %d delivered of %d", len(held), refused, len(next.Mails()), len(all))
	}
	viruses := 0
	for _, q := range held {
		if q.Threat == "virus" {
			viruses++
		}
	}
	t.Logf("%d messages: %d quarantined, %d of them as a virus, %d refused, %d passed", len(all), len(held), viruses, refused, len(next.Mails()))
	return len(held) + refused
}

// MIM-01: mails that hide a virus.
func TestHiddenContentIsCaught(t *testing.T) {
	t.Parallel()
	all := crafted(t, "hide-content")
	g, next := pair(t, scans(clamd.Run(t, clamd.Config{}), `{ use = "clamav" }`))
	if n := stopped(t, g, next, all); n < 365 {
		t.Errorf("%d of %d were caught, want 365", n, len(all))
	}
}

// MIM-02: mails that hide the name of a file.
func TestHiddenNamesAreBlocked(t *testing.T) {
	t.Parallel()
	all := crafted(t, "hide-filename")
	// Only the filter counts here, and what is refused before.
	g, next := pair(t, gatepost.Settings{
		Listener: `flows = { content = "inbound" }`,
		More: "[[filter]]\nname = \"no zip\"\nwhen = { attachment_name = '\\.zip$' }\nthen = \"quarantine\"\n[[flow]]\nname = \"inbound\"\nstage = \"content\"\n" +
			`blocks = [{ use = "filters" }, { use = "structure", on_ambiguous = "deliver", on_encrypted = "deliver", on_damaged = "deliver", on_limit = "deliver" }]` + "\n",
	})
	if n := stopped(t, g, next, all); n < 170 {
		t.Errorf("%d of %d were blocked, want 170", n, len(all))
	}
}

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/store/storetest"
	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/sink"
)

// databases is the PostgreSQL of the tests that need the same one; who stops it
// has one of its own.
var databases = storetest.Postgres{}

// node is a gateway that keeps its records at a URL.
func node(t *testing.T, name, url string) (*gatepost.Instance, *sink.Sink) {
	t.Helper()
	return pair(t, gatepost.Settings{
		Listener: `flows = { content = "inbound" }`,
		More: fmt.Sprintf("[store]\nurl = %q\nnode = %q\n[bayes]\nmin_trained = 10\n", url, name) +
			"[[filter]]\nname = \"kept\"\nwhen = { header.X-Keep = 'yes' }\nthen = \"quarantine\"\n" +
			"[[flow]]\nname = \"inbound\"\nstage = \"content\"\nblocks = [{ use = \"filters\" }, { use = \"bayes\" }, { use = \"score\", mark = 2.5 }]\n",
	})
}

// letters writes messages of the same words into a folder.
func letters(t *testing.T, n int, words string) string {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		text := fmt.Sprintf("From: a%d@out.example\r\nSubject: %s\r\nMessage-ID: <%d.%s@out.example>\r\n\r\n%s\r\n", i, words, i, words[:4], words)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What one node holds the other shows and releases, and what one is taught the
// other knows.
func TestTwoNodesShareTheirRecords(t *testing.T) {
	t.Parallel()
	url := databases.NewDatabase(t)
	a, nextA := node(t, "gw1", url)
	b, nextB := node(t, "gw2", url)
	well(t, a, "store", true, "")
	held := ledger.New(600_000, "X-Keep: yes")
	answered(t, a.Hello(""), "a@in.example,b@in.example", held, "250 ")
	q := quarantined(t, b, 1)[0]
	if q.Node != "gw1" || len(q.Recipients) != 2 {
		t.Errorf("the other node shows %+v", q)
	}
	if out, err := b.Run("quarantine", "get", q.ID); err != nil || out != string(held.Data) {
		t.Errorf("the other node has %d bytes, want %d; %v", len(out), len(held.Data), err)
	}
	if out, err := b.Run("quarantine", "release", "--recipient", "a@in.example", q.ID); err != nil || !strings.Contains(out, " released for a@in.example as ") {
		t.Errorf("%s, %v", out, err)
	}
	m := arrived(t, nextB, held.ID)
	if !strings.HasSuffix(string(m.Data), string(held.Data)) || len(m.To) != 1 || !strings.HasPrefix(m.To[0], "<a@in.example>") {
		t.Errorf("released to %v as %d bytes, want %d", m.To, len(m.Data), len(held.Data))
	}
	if out, err := a.Run("quarantine", "release", "--recipient", "a@in.example", q.ID); err == nil || !strings.Contains(err.Error(), "released already") {
		t.Errorf("released twice: %s, %v", out, err)
	}
	if out, err := a.Run("quarantine", "release", q.ID); err != nil || !strings.Contains(out, " released for b@in.example as ") {
		t.Errorf("%s, %v", out, err)
	}
	arrived(t, nextA, held.ID)

	const bad, good = "lottery winner casino pills cheap miracle", "meeting minutes project budget garden picnic"
	for kind, dir := range map[string]string{"spam": letters(t, 12, bad), "ham": letters(t, 12, good)} {
		if out, err := a.Run("train", "-q", kind, dir); err != nil || !strings.HasPrefix(out, "12 messages learned") {
			t.Fatalf("%s, %v", out, err)
		}
	}
	c := b.Hello("")
	gatepost.Eventually(t, "the other node marks what the first was taught", patience, func() bool {
		spam := ledger.Wrap(ledger.New(0).ID, []byte(bad+"\r\n"+bad+"\r\n"), "X-Again: "+bad)
		answered(t, c, "c@in.example", spam, "250 ")
		return strings.Contains(header(arrived(t, nextB, spam.ID)), "X-Gatepost-Verdict: mark (score, mark)")
	})
}

// While PostgreSQL is away nobody notices but the administrator.
func TestNodesWorkWhilePostgreSQLIsAway(t *testing.T) {
	t.Parallel()
	var server storetest.Postgres
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	url := server.NewDatabase(t)
	a, nextA := node(t, "gw1", url)
	b, nextB := node(t, "gw2", url)
	nodes := []*gatepost.Instance{a, b}
	nexts := []*sink.Sink{nextA, nextB}
	server.Kill(t)
	kept := map[string]ledger.Message{}
	for i, g := range nodes {
		c := g.Hello("")
		for range 5 {
			clean, keep := ledger.New(3000), ledger.New(3000, "X-Keep: yes")
			answered(t, c, "a@in.example", clean, "250 ")
			answered(t, c, "a@in.example", keep, "250 ")
			kept[keep.ID] = keep
			arrived(t, nexts[i], clean.ID)
		}
		well(t, g, "store", false, "")
		if out, err := g.Run("quarantine", "list"); err == nil || !strings.Contains(err.Error(), "not available") {
			t.Errorf("the list says %q, %v", out, err)
		}
		var rows []map[string]any
		gatepost.Eventually(t, "what is held waits in the queue", patience, func() bool {
			if err := g.Ask(&rows, "queue", "list", "--json", "--transport", "quarantine"); err != nil {
				t.Fatal(err)
			}
			return len(rows) == 5
		})
	}
	// One of them is started anew while the database is away.
	b.Kill()
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	clean := ledger.New(3000)
	answered(t, b.Hello(""), "a@in.example", clean, "250 ")
	arrived(t, nextB, clean.ID)

	server.Restart(t)
	for _, g := range nodes {
		well(t, g, "store", true, "")
	}
	for _, q := range quarantined(t, a, len(kept)) {
		out, err := b.Run("quarantine", "get", q.ID)
		id, why := ledger.Check([]byte(out))
		if err != nil || why != "" || string(kept[id].Data) != out {
			t.Errorf("%s: %s, %v", q.ID, why, err)
		}
		delete(kept, id)
	}
	if len(kept) != 0 {
		t.Errorf("%d messages are not in the quarantine", len(kept))
	}
	for _, g := range nodes {
		gatepost.Eventually(t, "the queue is empty", patience, func() bool {
			rows, err := g.Queue()
			return err == nil && len(rows) == 0
		})
	}
	// One may be delivered twice: the kill can come between the answer of the next hop
	// and the note that it was given.
	if n := len(nextA.Mails()) + len(nextB.Mails()); n != 11 && n != 12 {
		t.Errorf("%d mails went out, want 11, or 12 with the one of the kill", n)
	}
}

// A database that takes connections and answers nothing holds nobody up either.
func TestADatabaseThatHangsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	var server storetest.Postgres
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	g, next := node(t, "gw1", server.NewDatabase(t))
	thaw := server.Freeze(t)
	defer thaw()
	c := g.Hello("")
	keep := ledger.New(1000, "X-Keep: yes")
	answered(t, c, "a@in.example", keep, "250 ")
	for range 3 {
		m := ledger.New(1000)
		answered(t, c, "a@in.example", m, "250 ")
		arrived(t, next, m.ID)
	}
	thaw()
	if got := quarantined(t, g, 1); len(got) != 1 || !strings.HasPrefix(got[0].Subject, "test "+keep.ID) {
		t.Errorf("held %+v", got)
	}
	well(t, g, "store", true, "")
}

package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	netmail "net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/scan/structure"
	"gatepost/internal/spool"
)

// boxes are a memory of mailboxes and a quarantine, and count what is asked of them.
type boxes struct {
	mu     sync.Mutex
	judged map[mail.Mailed]mail.Judged
	held   map[mail.ID]string
	why    map[mail.ID]*mail.Verdict
	holds  int
	rules  string
	fails  error
}

func newBoxes() *boxes {
	return &boxes{judged: map[mail.Mailed]mail.Judged{}, held: map[mail.ID]string{}, why: map[mail.ID]*mail.Verdict{}, rules: "today's"}
}

func (b *boxes) mailboxes() gateway.Mailboxes {
	return gateway.Mailboxes{Memory: b, Hold: b.hold, Kept: 30 * 24 * time.Hour, Rules: func() string { return b.rules }}
}

func (b *boxes) Recall(_ context.Context, m mail.Mailed) (*mail.Judged, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	j, ok := b.judged[m]
	return &j, ok
}

func (b *boxes) Claim(_ context.Context, m mail.Mailed, hash []byte, id mail.ID) (mail.ID, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if j, ok := b.judged[m]; ok && bytes.Equal(j.Hash, hash) {
		return j.Message, nil
	}
	b.judged[m] = mail.Judged{Rules: mail.RulesClaimed, Hash: hash, Message: id}
	return id, nil
}

func (b *boxes) Remember(_ context.Context, m mail.Mailed, j *mail.Judged) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.judged[m] = *j
}

func (b *boxes) hold(_ context.Context, m mail.Message, r mail.Recipient) error {
	text, err := io.ReadAll(io.NewSectionReader(m.Body, 0, m.Body.Size()))
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return b.fails
	}
	b.holds++
	b.held[m.Envelope.ID], b.why[m.Envelope.ID] = string(text), r.Verdict
	return err
}

// letter is a message in joe's mailbox.
var letter = mail.Mailed{Server: "pop.example:110", User: "joe", UIDL: "7"}

// fetching is what a session knows of a message before it is fetched.
func fetching(t *testing.T) *mail.Envelope {
	id := mail.NewID()
	joe := address(t, "joe@pop.example")
	return &mail.Envelope{ID: id, Received: arrival, Session: mail.Session{ID: id, Protocol: mail.POP3, User: "joe", Server: "pop.example:110", Listener: "pop"},
		Recipients: []mail.Recipient{{Address: joe, Original: joe, Route: mail.Route{Domain: "pop3", Flow: "inbound"}}}}
}

// fetch has a message judged, and returns what the client gets.
func (r *rig) fetch(from mail.Mailed, text string) (*gateway.Retrieved, string) {
	r.t.Helper()
	done, out, err := r.tryFetch(from, text)
	if err != nil {
		r.t.Fatal(err)
	}
	return done, out
}

func (r *rig) tryFetch(from mail.Mailed, text string) (*gateway.Retrieved, string, error) {
	r.t.Helper()
	in, err := r.gateway.Retrieve(r.t.Context(), fetching(r.t), from)
	if err != nil {
		return nil, "", err
	}
	defer in.Close()
	for rest := text; rest != ""; {
		n := min(len(rest), 1000)
		if _, err := io.WriteString(in, rest[:n]); err != nil {
			return nil, "", err
		}
		rest = rest[n:]
	}
	done, err := in.Judge(r.t.Context())
	switch {
	case err != nil:
		return nil, "", err
	case done.Pass:
		return done, delivered(r.t, mail.Message{Envelope: &mail.Envelope{Edits: done.Edits}, Body: done.Body}), nil
	}
	return done, string(done.Notice), nil
}

func TestFetchedMailIsPassedAsItIs(t *testing.T) {
	b := newBoxes()
	content := contentFlow(mail.ActionQuarantine)
	score := content.Flows["inbound"]
	score.Decide.Blocks = score.Decide.Blocks[:2] // a score says so in each message
	r := newRig(t, rigOptions{content: content, mailboxes: b.mailboxes()})
	for i, text := range []string{
		"", "\r\n", "\n", "no header, no line end", "Subject: x\r\n\r\n.\r\n..\r\n.\r\n", "Subject: x\n\nbare\nline\nends",
		"Subject: \xff\xfe\r\n\r\n\x00\x01\xff\r\n", crlf("Subject: x\n\n") + strings.Repeat("long", 1<<20), "\r\r\n\n\r",
		crlf("X-Gatepost-Verdict: deliver\nAuthentication-Results: gw.example.com; spf=pass\n\nfrom our own SMTP\n"),
	} {
		for range 2 {
			done, out := r.fetch(mail.Mailed{Server: "s", User: "joe", UIDL: fmt.Sprint(i)}, text)
			if out != text || !done.Pass {
				t.Errorf("%.60q came out as %.60q", text, out)
			}
		}
	}
	if b.holds != 0 {
		t.Errorf("%d messages were held", b.holds)
	}
}

func TestMailWithoutAFlowIsNotLookedAt(t *testing.T) {
	r := newRig(t, rigOptions{mailboxes: newBoxes().mailboxes()})
	if done, out := r.fetch(letter, saying("virus")); !done.Pass || done.Verdict != nil || out != saying("virus") {
		t.Errorf("%+v", done)
	}
}

func TestInfectedMailIsReplacedAndHeldOnce(t *testing.T) {
	for _, action := range []mail.Action{mail.ActionQuarantine, mail.ActionReject, mail.ActionDiscard} {
		b := newBoxes()
		r := newRig(t, rigOptions{content: contentFlow(action), mailboxes: b.mailboxes()})
		text := crlf("From: =?utf-8?q?M=C3=A4x?= <m@evil.example>\nSubject: =?utf-8?q?R=C3=A9sum=C3=A9_=3D=3Futf-8=3Fq=3F=5F=3F=3D?=\nX-Test: virus\n" +
			"Date: Mon, 2 Nov 2026 09:00:00 +0100\n\nthe virus itself\n")
		first, notice := r.fetch(letter, text)
		if first.Pass || b.held[first.ID] != text || b.why[first.ID].Action != mail.ActionQuarantine || b.why[first.ID].Threat != mail.ThreatVirus {
			t.Fatalf("%s: %+v, held %q", action, first, b.held[first.ID])
		}
		if strings.Contains(notice, "virus itself") {
			t.Errorf("%s: the message is in the notice", action)
		}
		m, err := netmail.ReadMessage(strings.NewReader(notice))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
		if err != nil || !strings.Contains(string(body), first.ID.String()) || !strings.Contains(string(body), "Mäx") || !strings.Contains(string(body), "virus") {
			t.Errorf("%v in\n%s", err, body)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		if err != nil || subject != "[held back] Résumé = ?utf-8?q?_?=" {
			t.Errorf("subject %q, %v", subject, err)
		}
		if date, err := m.Header.Date(); err != nil || !date.Equal(time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)) || m.Header.Get("To") != "<joe@pop.example>" {
			t.Errorf("date %v, %v, to %q", date, err, m.Header.Get("To"))
		}
		for line := range strings.SplitSeq(notice, "\r\n") {
			if len(line) > 78 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("line %q", line)
			}
		}
		known, ok := r.gateway.Known(t.Context(), fetching(t), letter)
		if !ok || string(known.Notice) != notice || known.ID != first.ID || !known.Cached {
			t.Errorf("%s: not known: %+v", action, known)
		}
		again, out := r.fetch(letter, text)
		if out != notice || again.ID != first.ID || !again.Cached || b.holds != 1 {
			t.Errorf("%s: at the second fetch %+v, held %d times", action, again, b.holds)
		}
	}
}

func TestTheSameMessageIsOneEntryWhateverHappens(t *testing.T) {
	b := newBoxes()
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), mailboxes: b.mailboxes()})
	text := saying("virus")
	// A quarantine that is away keeps the message from its reader.
	b.fails = errors.New("away")
	if _, _, err := r.tryFetch(letter, text); err == nil {
		t.Fatal("not held, and yet judged")
	}
	b.fails = nil
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if done, _, err := r.tryFetch(letter, text); err != nil || done.Pass {
				t.Errorf("%+v, %v", done, err)
			}
		})
	}
	wg.Wait()
	b.rules = "tomorrow's"
	if _, ok := r.gateway.Known(t.Context(), fetching(t), letter); ok {
		t.Error("known by other rules")
	}
	done, _ := r.fetch(letter, text)
	if len(b.held) != 1 || b.held[done.ID] != text {
		t.Errorf("held %d times", len(b.held))
	}
	// What the quarantine has forgotten it gets again.
	j := b.judged[letter]
	j.Seen = time.Now().Add(-31 * 24 * time.Hour)
	b.judged[letter] = j
	clear(b.held)
	if _, ok := r.gateway.Known(t.Context(), fetching(t), letter); ok {
		t.Error("a notice about what is in no quarantine any more")
	}
	if again, _ := r.fetch(letter, text); again.ID != done.ID || b.held[done.ID] != text {
		t.Errorf("held again as %s, was %s", again.ID, done.ID)
	}
}

func TestNameOfAMessageIsNoProofOfItsContent(t *testing.T) {
	b := newBoxes()
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), mailboxes: b.mailboxes()})
	r.fetch(letter, saying("nothing"))
	if done, _ := r.fetch(letter, saying("virus")); done.Pass {
		t.Error("passed by the verdict about another content")
	}
	// Nor is there one without a name: then the content is.
	nameless := mail.Mailed{Server: letter.Server, User: letter.User}
	for i, text := range []string{saying("nothing"), saying("virus"), saying("nothing"), saying("virus")} {
		done, _ := r.fetch(nameless, text)
		if done.Cached != (i > 1) || done.Pass != (i%2 == 0) {
			t.Errorf("fetch %d: %+v", i, done)
		}
	}
}

func TestReleasedMessagePasses(t *testing.T) {
	b := newBoxes()
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), mailboxes: b.mailboxes()})
	r.fetch(letter, saying("virus"))
	j := b.judged[letter]
	j.Allowed, j.Notice = true, nil
	b.judged[letter] = j
	b.rules = "tomorrow's"
	if _, ok := r.gateway.Known(t.Context(), fetching(t), letter); ok {
		t.Error("it has a notice still")
	}
	if done, out := r.fetch(letter, saying("virus")); !done.Pass || out != saying("virus") || done.ID != j.Message {
		t.Errorf("%+v", done)
	}
}

func TestMarksAreTheSameAtEachFetch(t *testing.T) {
	b := newBoxes()
	content := contentFlow(mail.ActionQuarantine)
	content.Edits = func(findings []mail.Finding, _ *message.Header) ([]string, []mail.Span) {
		if len(findings) == 0 {
			return nil, nil
		}
		return []string{"X-Engine: says so"}, nil
	}
	r := newRig(t, rigOptions{content: content, mailboxes: b.mailboxes()})
	for _, text := range []string{saying("spam"), strings.ReplaceAll(saying("spam"), "\r\n", "\n")} {
		first, out := r.fetch(letter, text)
		if !first.Pass || !strings.Contains(out, "Subject: [SPAM] hello") || !strings.Contains(out, "X-Gatepost-Verdict: mark") || !strings.Contains(out, "X-Engine") {
			t.Errorf("%+v\n%s", first, out)
		}
		again, same := r.fetch(letter, text)
		if !again.Cached || same != out {
			t.Errorf("at the second fetch\n%s", same)
		}
	}
}

func TestScannerThatIsDownLeavesMailWhereItIs(t *testing.T) {
	b := newBoxes()
	content := contentFlow(mail.ActionQuarantine)
	r := newRig(t, rigOptions{content: content, mailboxes: b.mailboxes()})
	done, _ := r.fetch(letter, saying("down"))
	if done.Pass || done.Notice != nil || done.Verdict.Action != mail.ActionDefer || len(b.judged) != 0 || b.holds != 0 {
		t.Errorf("%+v, remembered %v", done, b.judged)
	}
	for _, tt := range []struct {
		action mail.Action
		want   string
	}{{mail.ActionDeliver, "X-Gatepost-Unscanned: clamav (error)\r\n"}, {mail.ActionMark, "X-Gatepost-Verdict: mark (clamav"}} {
		content.Flows["inbound"].Decide.Blocks[0].OnUnknown = tt.action
		for range 2 {
			done, out := r.fetch(letter, saying("down"))
			if !done.Pass || done.Cached || !strings.Contains(out, tt.want) || !strings.HasSuffix(out, saying("down")) {
				t.Errorf("%s: %+v\n%s", tt.action, done, out)
			}
		}
	}
	// Held for that reason alone, it is looked at again.
	content.Flows["inbound"].Decide.Blocks[0].OnUnknown = mail.ActionQuarantine
	first, _ := r.fetch(letter, saying("down"))
	if _, ok := r.gateway.Known(t.Context(), fetching(t), letter); ok || first.Notice == nil {
		t.Errorf("known for good: %+v", first)
	}
	if again, _ := r.fetch(letter, saying("down")); again.ID != first.ID || again.Cached || len(b.held) != 1 {
		t.Errorf("%+v, held %d", again, len(b.held))
	}
}

func TestHeaderThatCannotBeReadIsHeld(t *testing.T) {
	b := newBoxes()
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), maxHeader: 1000, mailboxes: b.mailboxes()})
	text := "Subject: " + strings.Repeat("x", 2000) + "\r\n\r\nbody\r\n"
	if done, out := r.fetch(letter, text); done.Pass || !strings.Contains(out, "could not be examined") || b.held[done.ID] != text {
		t.Errorf("%+v", done)
	}
}

func TestAttachmentGoesAndTheOriginalIsHeld(t *testing.T) {
	b := newBoxes()
	rule := flow.Defaults("filters")
	rule.Key, rule.Filters = "filters", []flow.FilterRule{{Name: "programs", Then: []flow.FilterAction{{Verb: flow.VerbStrip}}}}
	finds := scripted(func(in *scan.Input) ([]mail.Finding, error) {
		var all []mail.Finding
		for _, p := range in.Tree.Parts {
			if len(p.Names) > 0 {
				all = append(all, mail.Finding{Module: "filters", Symbol: "programs", Result: mail.Match, Part: p.Path, Reason: "a program"})
			}
		}
		return all, nil
	})
	content := gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
		Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{rule}},
		Blocks: []scan.Block{{Key: "filters", Use: "filters", Module: finds}},
	}}}
	r := newRig(t, rigOptions{content: content, mailboxes: b.mailboxes()})
	for _, ends := range []string{"\r\n", "\n"} {
		text := strings.ReplaceAll("Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: application/x; name=a.exe\n\nMZ the program\n--b--\n", "\n", ends)
		first, out := r.fetch(letter, text)
		if !first.Pass || strings.Contains(out, "MZ the program") || !strings.Contains(out, "hello") || !strings.Contains(out, "was removed") || b.held[first.ID] != text {
			t.Errorf("%+v\n%s", first, out)
		}
		holds := b.holds
		if again, same := r.fetch(letter, text); !again.Cached || same != out || b.holds != holds {
			t.Errorf("at the second fetch %+v\n%s", again, same)
		}
	}
}

func TestNothingOfAFetchedMessageStays(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), mailboxes: newBoxes().mailboxes()})
	r.fetch(letter, saying("virus")+strings.Repeat("large", 1<<20))
	r.fetch(letter, saying("nothing")+strings.Repeat("large", 1<<20))
	if left := storedIn(t, crash(r.fs, 0)); len(left) != 0 {
		t.Errorf("%d messages in the spool", len(left))
	}
	if n := len(r.queue.added); n != 0 {
		t.Errorf("%d messages queued", n)
	}
}

func TestFullSpoolIsOurFailure(t *testing.T) {
	free := int64(1 << 30)
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), freeSpace: func() (int64, error) { return free, nil }, reserve: 1 << 20, mailboxes: newBoxes().mailboxes()})
	if _, _, err := r.tryFetch(letter, saying("nothing")); err != nil {
		t.Fatal(err)
	}
	full := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine), freeSpace: func() (int64, error) { return 0, nil }, reserve: 1 << 20, mailboxes: newBoxes().mailboxes()})
	if _, _, err := full.tryFetch(letter, saying("nothing")); !errors.Is(err, spool.ErrNoSpace) {
		t.Errorf("%v", err)
	}
}

// TestOrdinaryMailInAnyLineEndsPasses holds for the shapes that servers send mail in: the
// block structure with its default actions, and nothing changed.
func TestOrdinaryMailInAnyLineEndsPasses(t *testing.T) {
	block := flow.Defaults("structure")
	block.Key = "structure"
	content := gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
		Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{block}},
		Blocks: []scan.Block{{Key: "structure", Use: "structure", Module: structure.New(structure.Config{})}},
	}}, Options: scan.Options{Unpacker: archive.New(archive.Config{})}}
	r := newRig(t, rigOptions{content: content, mailboxes: newBoxes().mailboxes()})
	for name, text := range ordinaryMail(t) {
		unix := strings.ReplaceAll(text, "\r\n", "\n")
		for _, text := range []string{unix, crlf(unix), strings.TrimRight(unix, "\n")} {
			done, out := r.fetch(mail.Mailed{Server: "s", User: "joe"}, text)
			if !done.Pass || out != text {
				t.Errorf("%s: %s", name, done.Reason)
			}
		}
	}
}

// ordinaryMail is some, by name, and 300 of SpamAssassin's public corpus where
// GATEPOST_HAM names its directory.
func ordinaryMail(t *testing.T) map[string]string {
	all := map[string]string{
		"text": "From: a@b.example\nSubject: x\n\nhello\n.\n..\n",
		"both forms": "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=\"b\"\n\n--b\nContent-Type: text/plain\n\nhello\n--b\n" +
			"Content-Type: text/html\n\n<p>hello\n--b--\n",
		"a file": "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b\nContent-Type: text/csv; name=a.csv\n" +
			"Content-Transfer-Encoding: base64\n\nYSxiCg==\n--b--\n",
	}
	dir := os.Getenv("GATEPOST_HAM")
	if dir == "" {
		return all
	}
	files, err := filepath.Glob(filepath.Join(dir, "*ham*", "*.txt"))
	if err != nil || len(files) < 300 {
		t.Fatalf("%d mails in %s, %v", len(files), dir, err)
	}
	for _, file := range files[:300] {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(text)
	}
	return all
}

func TestMessageFromAMailboxIsMailedInTheFormOfMail(t *testing.T) {
	r := newRig(t, rigOptions{})
	for name, tt := range map[string]struct{ held, want string }{
		"LF":       {"Subject: x\n\nbody\n.\n", "Subject: x\r\n\r\nbody\r\n.\r\n"},
		"mixed":    {"Subject: x\r\n\r\na\nb\rc\r\r\n\r\nend", "Subject: x\r\n\r\na\r\nb\r\nc\r\n\r\n\r\nend\r\n"},
		"last CR":  {"Subject: x\r\n\r\na\r", "Subject: x\r\n\r\na\r\n"},
		"no end":   {"Subject: x\r\n\r\n" + strings.Repeat("x", 100_000), "Subject: x\r\n\r\n" + strings.Repeat("x", 100_000) + "\r\n"},
		"as it is": {"Subject: x\r\n\r\na\r\n", "Subject: x\r\n\r\na\r\n"},
	} {
		env := fetching(t)
		env.Session.Client, env.Session.Helo = netip.MustParseAddrPort("10.9.8.7:4711"), ""
		boss := address(t, "boss@in.example")
		env.Recipients = []mail.Recipient{{Address: boss, Original: boss}}
		in, err := r.gateway.Retrieve(t.Context(), fetching(t), letter)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, tt.held); err != nil {
			t.Fatal(err)
		}
		done, err := in.Judge(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.gateway.Release(t.Context(), env, done.Body); err != nil {
			t.Fatal(err)
		}
		in.Close()
		got := r.queue.added[len(r.queue.added)-1]
		out := delivered(t, got.m)
		if !strings.HasSuffix(out, "\r\n"+tt.want) || !strings.HasPrefix(out, "Received: from pop.example\r\n\tby gw.example.com with POP3 id ") || strings.Contains(out, "10.9.8.7") {
			t.Errorf("%s: mailed as %.300q", name, out)
		}
		if got.items[0].Transport != "next" || !got.m.Envelope.Sender.IsNull() {
			t.Errorf("%+v", got.items[0])
		}
	}
}

package main

import (
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// ward is a quarantine over a real store, served on a socket, with the command
// line beside it.
type ward struct {
	t        *testing.T
	store    *store.Store
	socket   string
	released []string // bodies
	trained  []bool
	count    byte // of messages held
}

func (w *ward) Release(_ context.Context, _ *mail.Envelope, body mail.Body) (mail.ID, error) {
	b, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	w.released = append(w.released, string(b))
	return mail.NewID(), err
}

func (w *ward) Train(_ context.Context, _ mail.Message, spam bool) (bool, error) {
	w.trained = append(w.trained, spam)
	return len(w.trained) == 1, nil
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, socket: filepath.Join(t.TempDir(), admin.SocketName)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.store, err = store.Open(t.Context(), store.Options{Dir: t.TempDir(), Node: "gw1"})
	must(err)
	q, err := quarantine.New(quarantine.Config{Store: w.store, Releaser: w, Trainer: w})
	must(err)
	s, err := admin.New(admin.Config{Queue: &cannedQueue{}, Health: checks{}, Quarantine: q})
	must(err)
	l, err := admin.ListenSocket(w.socket)
	must(err)
	done := make(chan error, 1)
	go func() { done <- s.ServeAPI(l) }()
	t.Cleanup(func() {
		must(s.Shutdown(context.Background()))
		must(<-done)
		must(w.store.Close())
	})
	return w
}

// scrawl is what a sender may write.
const scrawl = "Cheap \x1b[31mpills\r\nforged line \u202e"

// quarantinedBytes are what no terminal and no text mode would leave alone.
const quarantinedBytes = "Subject: Cheap pills\r\nX-A: \x1b[31mb\r\n\r\nBuy \x1b]0;evil\x07now\r\n.\r\n\x00\xff no line end"

// hold quarantines a message and returns its ID.
func (w *ward) hold(threat mail.Threat, from string, to ...string) string {
	w.t.Helper()
	env := &mail.Envelope{
		ID: mail.NewID(), Received: time.Now().Add(-2*time.Hour - time.Minute), Subject: scrawl, Size: int64(len(quarantinedBytes)),
		Session:  mail.Session{Listener: "inbound", Helo: "mx.sender.example"},
		Findings: []mail.Finding{{Module: "bayes", Symbol: "spam", Result: mail.Match, Score: 6, Reason: scrawl}},
	}
	// IDs of one millisecond are in no order of their own.
	w.count++
	env.ID[6] = w.count
	if from != "" {
		env.Sender = w.address(from)
	}
	d := &mail.Delivery{Message: mail.Message{Envelope: env, Body: inMemory{strings.NewReader(quarantinedBytes)}}}
	for _, name := range to {
		a := w.address(name)
		d.Recipients = append(d.Recipients, mail.Recipient{
			Address: a, Original: a, Route: mail.Route{Domain: a.Domain, Transport: "exchange"},
			Verdict: &mail.Verdict{Action: mail.ActionQuarantine, Threat: threat, Block: "score", Reason: "score 12.0 is at least 10.0", Flow: "inbound", Score: 12},
		})
	}
	env.Recipients = d.Recipients
	transport, err := quarantine.NewTransport(w.store, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range transport.Deliver(w.t.Context(), d) {
		if o.Status != mail.Delivered {
			w.t.Fatalf("%+v", o)
		}
	}
	return env.ID.String()
}

// inMemory is a body in memory.
type inMemory struct{ *strings.Reader }

func (b inMemory) Size() int64 { return b.Reader.Size() }

func (w *ward) address(s string) mail.Address {
	w.t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// run runs a quarantine command, wants the status, and returns what it printed.
func (w *ward) run(status int, args ...string) (out, errs string) {
	w.t.Helper()
	var o, e strings.Builder
	args = append([]string{"quarantine", args[0], "--socket", w.socket}, args[1:]...)
	if got := run(args, &terminal{out: &o, err: &e}); got != status {
		w.t.Errorf("%v: status %d, want %d: %s%s", args, got, status, o.String(), e.String())
	}
	return o.String(), e.String()
}

func (w *ward) list(args ...string) []quarantine.Row {
	w.t.Helper()
	out, _ := w.run(0, append([]string{"list", "--json"}, args...)...)
	var rows []quarantine.Row
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return rows
}

func TestTheQuarantineIsWorkedByTheCommandLine(t *testing.T) {
	w := newWard(t)
	if out, _ := w.run(0, "list"); out != "Nothing is in the quarantine that fits.\n" {
		t.Error(out)
	}
	if out, _ := w.run(0, "list", "--json"); out != "[]\n" {
		t.Error(out)
	}
	spam := w.hold(mail.ThreatSpam, "a@sender.example", "anna@example.com", "bob@example.org")
	virus := w.hold(mail.ThreatVirus, "", "anna@example.com")

	out, _ := w.run(0, "list")
	want := "ID                          STATE  AGE  SIZE  THREAT  SCORE  SENDER            RECIPIENTS             SUBJECT                               WHY\n" +
		virus + "  held   2h   72 B  virus   12.0   <>                anna@example.com       Cheap ?[31mpills??forged line \\u202e  score 12.0 is at least 10.0\n" +
		spam + "  held   2h   72 B  spam    12.0   a@sender.example  anna@example.com (+1)  Cheap ?[31mpills??forged line \\u202e  score 12.0 is at least 10.0\n"
	if out != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
	rows := w.list("--threat", "spam")
	if len(rows) != 1 || rows[0].ID.String() != spam || strings.Join(rows[0].Recipients, " ") != "anna@example.com bob@example.org" {
		t.Fatalf("%+v", rows)
	}
	for _, c := range [][]string{
		{"--sender", "@sender.example"}, {"--recipient", "bob@example.org"}, {"--domain", "example.org"}, {"--text", "CHEAP", "--sender", "a@sender.example"},
		{"--state", "held", "--threat", "spam"}, {"--since", "3h", "--before", "2030-01-01", "--sender", "sender.example"},
	} {
		if rows := w.list(c...); len(rows) != 1 || rows[0].ID.String() != spam {
			t.Errorf("%v: %+v", c, rows)
		}
	}
	if rows := w.list("--sender", "<>"); len(rows) != 1 || rows[0].ID.String() != virus {
		t.Errorf("%+v", rows)
	}
	if rows := w.list("--limit", "1"); len(rows) != 1 {
		t.Errorf("%+v", rows)
	}

	if out, _ := w.run(0, "get", virus); out != quarantinedBytes {
		t.Errorf("%q", out)
	}
	if out, _ := w.run(0, "release", spam, "--recipient", "bob@example.org", "--train"); !strings.HasPrefix(out, spam+" released for bob@example.org as ") ||
		!strings.HasSuffix(out, ", trained as ham\n") || len(w.released) != 1 || w.released[0] != quarantinedBytes || w.trained[0] {
		t.Errorf("%s %v %v", out, w.released, w.trained)
	}
	if _, errs := w.run(1, "release", spam, "--recipient", "bob@example.org"); !strings.Contains(errs, "released already") {
		t.Error(errs)
	}
	w.run(0, "release", spam, "--recipient", "bob@example.org", "--force")
	out, errs := w.run(1, "release", spam, mail.NewID().String())
	if !strings.HasPrefix(out, spam+" released for anna@example.com as ") || !strings.Contains(errs, "no such message in the quarantine") {
		t.Errorf("one of two: %s%s", out, errs)
	}
	if rows := w.list("--state", "released"); len(rows) != 1 || rows[0].State != quarantine.Released {
		t.Errorf("%+v", rows)
	}
	if out, _ := w.run(0, "train", "spam", virus); out != virus+" trained as spam (was known already)\n" {
		t.Error(out)
	}
	if out, _ := w.run(0, "delete", virus, "--json"); !strings.Contains(out, `"id": "`+virus+`"`) {
		t.Error(out)
	}
	w.run(1, "get", virus)
	w.run(1, "delete", virus)
}

func TestShowExplainsAMessageAndIsSafeForATerminal(t *testing.T) {
	w := newWard(t)
	id := w.hold(mail.ThreatSpam, "a@sender.example", "anna@example.com")
	out, _ := w.run(0, "show", id)
	for _, want := range []string{
		"ID:        " + id + "\n", "Sender:    a@sender.example\n", "Threat:    spam\n", "Why:       score 12.0 is at least 10.0\n",
		"\nfor anna@example.com: held\n", "  Flow:    inbound\n", "\nFindings\n  bayes  spam  match  +6.0  Cheap ?[31mpills??forged line \\u202e\n",
		"\nStructure\n  1  text/plain", "\nHeader\n  Subject: Cheap pills\n", "\nText\n  Buy ]0;evilnow\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if strings.ContainsAny(out, "\x1b\x00\r\x07") {
		t.Errorf("%q", out)
	}
	out, _ = w.run(0, "show", id, "--json")
	var d map[string]any
	if err := json.Unmarshal([]byte(out), &d); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"id", "sender", "recipients", "state", "reason", "threat", "findings", "structure", "headers", "text", "entries", "received", "size"} {
		if d[key] == nil {
			t.Errorf("no %s in %s", key, out)
		}
	}
	w.run(1, "show", mail.NewID().String())
	w.run(1, "show", "../../etc/passwd")
}

func TestWrongUsageOfTheQuarantineCommands(t *testing.T) {
	w := newWard(t)
	for _, args := range [][]string{
		{"release"}, {"delete"}, {"train", "ham"}, {"train", "eggs", "x"}, {"list", "--state", "gone"}, {"list", "--threat", "bad"},
		{"list", "--since", "soon"}, {"list", "--limit", "-1"}, {"show"},
	} {
		w.run(2, args...)
	}
}

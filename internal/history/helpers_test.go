package history

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
	"gatepost/internal/store"
	"gatepost/internal/store/storetest"
)

var server = storetest.Postgres{}

func TestMain(m *testing.M) {
	code := m.Run()
	server.Close()
	os.Exit(code)
}

// openStore opens the history of a database until the end of the test.
func openStore(t testing.TB, url, dir string) *store.History {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{URL: url, Dir: dir, Node: "gw1", Timeout: time.Minute, ConnectTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	hs, err := s.OpenHistory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(hs.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return hs
}

// openHistory opens a history until the end of the test, in a directory of its own
// where cfg has no store.
func openHistory(t testing.TB, cfg Config) *History {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = openStore(t, "", t.TempDir())
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Hour // tests flush
	}
	h, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// fakeOutbox is an outbox in memory.
type fakeOutbox struct {
	mu    sync.Mutex
	notes []spool.Note
}

func (o *fakeOutbox) PutNote(n spool.Note) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notes = append(o.notes, n)
	slices.SortFunc(o.notes, func(a, b spool.Note) int { return compareID(a.ID, b.ID) })
	return nil
}

func (o *fakeOutbox) PutNoteSync(n spool.Note) error { return o.PutNote(n) }

func (o *fakeOutbox) DropNotes(ids []mail.ID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notes = slices.DeleteFunc(o.notes, func(n spool.Note) bool { return slices.Contains(ids, n.ID) })
	return nil
}

func (o *fakeOutbox) Notes(behind mail.ID, fn func(spool.Note) (bool, error)) error {
	o.mu.Lock()
	all := slices.Clone(o.notes)
	o.mu.Unlock()
	for _, n := range all {
		if compareID(n.ID, behind) <= 0 {
			continue
		}
		if more, err := fn(n); err != nil || !more {
			return err
		}
	}
	return nil
}

func (o *fakeOutbox) length() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.notes)
}

// randomEvent is an event like those of real traffic.
func randomEvent(rng *rand.Rand) *mail.Event {
	pick := func(all ...string) string { return all[rng.IntN(len(all))] }
	domain := pick("example.com", "mail.example.com", "example.org", "example.net")
	e := &mail.Event{
		Kind: mail.EventMessage, Result: mail.EventAccepted, Session: mail.NewID(), Message: mail.NewID(),
		Listener: "inbound", Client: netip.AddrFrom4([4]byte{192, 0, byte(rng.IntN(3)), byte(rng.IntN(40))}), Helo: pick("mx.example.org", "localhost"),
		Sender:    pick("alice@example.org", "Bob@Sender.Example", "<>", fmt.Sprintf("user%d@example.net", rng.IntN(50))),
		Subject:   pick("Invoice 4711", "Re: the meeting", "Grüße aus Köln", "") + pick("", " for you", fmt.Sprint(" ", rng.IntN(9))),
		MessageID: fmt.Sprintf("<%d@example.org>", rng.IntN(1000)), Size: rng.Int64N(100000),
		Action: mail.Action(pick("deliver", "mark", "quarantine")), Reply: "250 2.0.0 OK: queued", Score: float64(rng.IntN(100)) / 10,
		TLS: mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
	}
	for range 1 + rng.IntN(2) {
		e.Recipients = append(e.Recipients, mail.Addressee{Address: fmt.Sprintf("rcpt%d@%s", rng.IntN(20), domain), Domain: domain, Transport: "exchange", Flow: "content", Action: e.Action})
	}
	if e.Action != mail.ActionDeliver {
		e.Findings = []mail.Finding{{Module: "dnsbl", Symbol: pick("zen.example.org", "bl.example.net"), Result: mail.Match, Score: 3}, {Module: "spf", Symbol: "pass", Result: mail.Clean}}
		e.Threat = mail.ThreatSpam
	}
	switch rng.IntN(4) {
	case 0:
		e.Kind, e.Result, e.Item, e.Attempt, e.Host = mail.EventAttempt, mail.EventDelivered, 1, 1, "mx1.example.net [192.0.2.9]:25"
		e.Transport = "exchange"
	case 1:
		e.Kind, e.Result, e.Message, e.Recipients, e.Stage = mail.EventConnect, mail.EventRefused, mail.ID{}, nil, "connect"
		e.Subject, e.Sender = "", ""
	}
	return e
}

func fillEvents(rng *rand.Rand, n int) []*mail.Event {
	all := make([]*mail.Event, n)
	for i := range all {
		all[i] = randomEvent(rng)
	}
	return all
}

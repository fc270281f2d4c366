package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Message returns a message for the quarantine with a body of so many bytes.
func Message(sender, subject string, size int, recipients ...string) (*store.QuarantinedMessage, mail.Body) {
	id := mail.NewID()
	cause := store.QuarantineCause{Threat: mail.ThreatSpam, Reason: "score 9.5 is 8 or more", Block: "score", Rule: "quarantine", Flow: "default", Score: 9.5}
	m := &store.QuarantinedMessage{
		ID: id, Received: id.Time().UTC(), Node: "gw1", Sender: sender, Client: "192.0.2.7", Helo: "mail.example.net", Listener: "inbound",
		Direction: "inbound", Subject: subject, MessageID: "<" + id.String() + "@example.net>", QuarantineCause: cause,
		Envelope: &mail.Envelope{ID: id, Sender: Address(sender), Size: int64(size), Subject: subject,
			Session:  mail.Session{Client: netip.MustParseAddrPort("192.0.2.7:2525")},
			Findings: []mail.Finding{{Module: "bayes", Symbol: "spam", Result: mail.Match, Score: 6}}},
	}
	for _, to := range recipients {
		a := Address(to)
		m.Envelope.Recipients = append(m.Envelope.Recipients, mail.Recipient{Address: a})
		m.Entries = append(m.Entries, store.QuarantineEntry{Recipient: a, Domain: a.Domain, State: store.QuarantineHeld, QuarantineCause: cause})
	}
	return m, Body(size)
}

// Address makes an address of "local@domain".
func Address(s string) mail.Address {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return mail.Address{}
	}
	return mail.Address{Local: s[:at], Domain: s[at+1:], Raw: s}
}

// Body returns a body of that many bytes, the same for the same size.
func Body(size int) *bytes.Reader {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return bytes.NewReader(b)
}

// sameMessage compares but for what the store sets.
func sameMessage(want, got *store.QuarantinedMessage) string {
	return cmp.Diff(want, got,
		cmpopts.IgnoreFields(store.QuarantinedMessage{}, "Stored"), cmpopts.IgnoreFields(store.QuarantineEntry{}, "Stored"),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }), cmpopts.EquateEmpty())
}

func quarantinePut(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	m, body := Message("Alice@Example.net", "hello", 20_000, "bob@example.com", "carol@example.org")
	m.Scan = []byte(`{"tree":[1,2]}`)
	must(t, s.PutQuarantined(ctx, m, body))
	m.Size = 20_000
	got, err := s.Quarantined(ctx, m.ID)
	must(t, err)
	if diff := sameMessage(m, got); diff != "" {
		t.Errorf("what comes out is not what went in (-want +got):\n%s", diff)
	}
	if since := time.Since(got.Stored); since < 0 || since > time.Hour || got.Entries[0].Stored.IsZero() {
		t.Errorf("stored at %v and %v", got.Stored, got.Entries[0].Stored)
	}

	t.Run("the same again with a further recipient joins", func(t *testing.T) {
		again := *m
		again.Entries = []store.QuarantineEntry{m.Entries[0], {Recipient: Address("Dave@example.com"), Domain: "example.com", QuarantineCause: m.QuarantineCause}}
		again.Entries[0].Reason = "another reason"
		for range 2 {
			must(t, s.PutQuarantined(ctx, &again, body))
		}
		got, err := s.Quarantined(ctx, m.ID)
		must(t, err)
		if len(got.Entries) != 3 || got.Entries[0].Reason != m.Reason || got.Entries[2].Recipient.Key() != "dave@example.com" {
			t.Errorf("entries after joining: %+v", got.Entries)
		}
		if found, _, err := s.FindQuarantined(ctx, store.QuarantineQuery{Text: "dave@"}); err != nil || len(found) != 1 {
			t.Errorf("the recipient who joined is not found by text: %v, %v", found, err)
		}
	})
	t.Run("the same ID with another body is refused", func(t *testing.T) {
		if err := s.PutQuarantined(ctx, m, Body(5)); err == nil {
			t.Error("want an error")
		}
	})
	t.Run("a message without recipients is refused", func(t *testing.T) {
		bad, body := Message("a@example.net", "", 1)
		if err := s.PutQuarantined(ctx, bad, body); err == nil {
			t.Error("want an error")
		}
	})
	t.Run("an unknown ID is not found", func(t *testing.T) {
		if _, err := s.Quarantined(ctx, mail.NewID()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if _, err := s.QuarantinedBody(ctx, mail.NewID()); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("any bytes in texts are taken", func(t *testing.T) {
		odd, body := Message("", "NUL \x00 and \xff\xfe and 'quotes' \\ \"", 3, "postmaster@example.com")
		odd.Helo, odd.Reason = "\x00", "\xc3"
		must(t, s.PutQuarantined(ctx, odd, body))
		got, err := s.Quarantined(ctx, odd.ID)
		must(t, err)
		if want := "NUL  and \uFFFD and 'quotes' \\ \""; got.Subject != want {
			t.Errorf("subject is %q, want %q", got.Subject, want)
		}
	})
	t.Run("puts of one message at once give one message", func(t *testing.T) { putTogether(t, s, db.Open(t)) })
}

// putTogether has two stores put the same message for different recipients.
func putTogether(t *testing.T, a, b *store.Store) {
	m, body := Message("eve@example.net", "together", 3<<20, "x@example.com")
	var wg sync.WaitGroup
	for i, s := range []*store.Store{a, b, a, b} {
		wg.Go(func() {
			mine := *m
			mine.Entries = []store.QuarantineEntry{{Recipient: Address(fmt.Sprintf("x%d@example.com", i)), QuarantineCause: m.QuarantineCause}}
			if err := s.PutQuarantined(t.Context(), &mine, body); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := a.Quarantined(t.Context(), m.ID)
	must(t, err)
	if len(got.Entries) != 4 {
		t.Errorf("%d entries, want 4", len(got.Entries))
	}
	checkBody(t, b, m.ID, 3<<20)
}

// checkBody compares a stored body with what Message gave it.
func checkBody(t *testing.T, s *store.Store, id mail.ID, size int) {
	t.Helper()
	body, err := s.QuarantinedBody(t.Context(), id)
	must(t, err)
	got, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	must(t, err)
	want, _ := io.ReadAll(Body(size))
	if !bytes.Equal(want, got) {
		t.Errorf("body of %d bytes comes back as %d others", size, len(got))
	}
}

func quarantineBodies(t *testing.T, db *Database) {
	s := db.Open(t)
	const chunk = 256 << 10
	for _, size := range []int{0, 1, chunk - 1, chunk, chunk + 1, 4 * chunk, 4*chunk + 1, 9*chunk + 17} {
		m, body := Message("a@example.net", "body", size, "b@example.com")
		must(t, s.PutQuarantined(t.Context(), m, body))
		checkBody(t, s, m.ID, size)
		checkAt(t, s, m.ID, size)
	}
	t.Run("a body that ends early is refused and leaves nothing to find", func(t *testing.T) {
		for _, size := range []int{1000, 3 << 20} {
			m, body := Message("a@example.net", "short", size, "b@example.com")
			if err := s.PutQuarantined(t.Context(), m, &short{Body: body, end: int64(size) - 1}); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("got %v", err)
			}
			if _, err := s.Quarantined(t.Context(), m.ID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("half a message can be read: %v", err)
			}
			if found, _, err := s.FindQuarantined(t.Context(), store.QuarantineQuery{Subject: "short"}); err != nil || len(found) > 0 {
				t.Errorf("half a message is found: %v, %v", found, err)
			}
			must(t, s.PutQuarantined(t.Context(), m, body))
			checkBody(t, s, m.ID, size)
			must(t, s.DeleteQuarantined(t.Context(), m.ID))
		}
	})
	t.Run("a body that is deleted while it is read gives an error", func(t *testing.T) {
		m, body := Message("a@example.net", "gone", 2*chunk, "b@example.com")
		must(t, s.PutQuarantined(t.Context(), m, body))
		open, err := s.QuarantinedBody(t.Context(), m.ID)
		must(t, err)
		must(t, s.DeleteQuarantined(t.Context(), m.ID))
		if _, err := open.ReadAt(make([]byte, 1), 0); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// checkAt reads a body at many places from several goroutines.
func checkAt(t *testing.T, s *store.Store, id mail.ID, size int) {
	t.Helper()
	body, err := s.QuarantinedBody(t.Context(), id)
	must(t, err)
	want, _ := io.ReadAll(Body(size))
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 2))
			for range 5 {
				off, p := r.Int64N(int64(size)+2), make([]byte, r.IntN(400<<10))
				n, err := body.ReadAt(p, off)
				if left := max(int64(size)-off, 0); int64(n) != min(left, int64(len(p))) || n < len(p) && err != io.EOF || n == len(p) && err != nil {
					t.Errorf("ReadAt of %d bytes at %d of %d gives %d, %v", len(p), off, size, n, err)
				}
				if n > 0 && !bytes.Equal(p[:n], want[off:off+int64(n)]) {
					t.Errorf("wrong bytes at %d", off)
				}
			}
		})
	}
	wg.Wait()
}

// short is a body that ends before its size.
type short struct {
	mail.Body
	end int64
}

func (b *short) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(b.Body, 0, b.end).ReadAt(p, off)
}

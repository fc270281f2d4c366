package mailbox

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// records is a store in memory; err is what it says instead.
type records struct {
	all     map[mail.Mailed]mail.Judged
	asked   time.Time
	writes  int
	touched int
	expired int
	err     error
}

func (r *records) Mailbox(_ context.Context, m mail.Mailed) (*mail.Judged, time.Time, error) {
	if r.err != nil {
		return nil, time.Time{}, r.err
	}
	j, ok := r.all[m]
	if !ok {
		return nil, time.Time{}, store.ErrNotFound
	}
	return &j, r.asked, nil
}

func (r *records) RememberMailbox(_ context.Context, entries []store.MailboxEntry) error {
	if r.err != nil {
		return r.err
	}
	r.writes++
	for _, e := range entries {
		r.all[e.Name] = e.Judged
	}
	return nil
}

func (r *records) ClaimMailbox(_ context.Context, m mail.Mailed, _ []byte, id mail.ID) (mail.ID, error) {
	if j, ok := r.all[m]; ok {
		id = j.Message
	}
	return id, r.err
}

func (r *records) TouchMailbox(context.Context, mail.Mailed) error { r.touched++; return r.err }

func (r *records) AllowMailbox(_ context.Context, id mail.ID) ([]mail.Mailed, error) {
	for name, j := range r.all {
		if j.Message == id {
			return []mail.Mailed{name}, nil
		}
	}
	return nil, store.ErrNotFound
}

func (r *records) ExpireMailbox(context.Context, time.Time, int64) (int64, error) {
	r.expired++
	return 1, r.err
}

func memoryOn(t *testing.T, r *records) *Memory {
	t.Helper()
	m, err := New(Config{Store: r})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func name(n int) mail.Mailed { return mail.Mailed{Server: "s:110", User: "u", UIDL: fmt.Sprint(n)} }

func TestCleanMessagesAreWrittenTogetherAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &records{all: make(map[mail.Mailed]mail.Judged), asked: time.Now()}
		m := memoryOn(t, r)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		for i := range 100 {
			m.Remember(ctx, name(i%10), &mail.Judged{Size: int64(i)})
		}
		// Nobody has written yet, but they are known.
		writes := r.writes
		if j, ok := m.Recall(ctx, name(3)); writes != 0 || !ok || j.Size != 93 {
			t.Errorf("%d writes, recalled %+v", writes, j)
		}
		time.Sleep(2 * writeEvery)
		synctest.Wait()
		if r.writes != 1 || len(r.all) != 10 || r.all[name(9)].Size != 99 {
			t.Errorf("%d writes, %v", r.writes, r.all)
		}
		time.Sleep(expireEvery)
		synctest.Wait()
		if r.expired == 0 {
			t.Error("nothing was forgotten")
		}
		m.Remember(ctx, name(77), &mail.Judged{})
		stop()
		<-done
		if _, ok := r.all[name(77)]; !ok {
			t.Error("what waited at the end was not written")
		}
	})
}

func TestHeldMessagesAreWrittenAtOnce(t *testing.T) {
	r := &records{all: make(map[mail.Mailed]mail.Judged), asked: time.Now().Add(-2 * touchAfter)}
	m := memoryOn(t, r)
	id := mail.NewID()
	m.Remember(t.Context(), name(1), &mail.Judged{Held: true, Message: id})
	if j, ok := m.Recall(t.Context(), name(1)); !ok || !j.Held {
		t.Errorf("%+v, %v", j, ok)
	}
	m.write(t.Context())
	if r.touched != 1 {
		t.Errorf("noted %d times that somebody asked", r.touched)
	}
	if ok, err := m.Allow(t.Context(), id); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if ok, err := m.Allow(t.Context(), mail.NewID()); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

func TestMessageThatWaitsIsClaimedAsItself(t *testing.T) {
	r := &records{all: make(map[mail.Mailed]mail.Judged)}
	m := memoryOn(t, r)
	first := mail.NewID()
	m.Remember(t.Context(), name(1), &mail.Judged{Hash: []byte{1}, Message: first})
	if id, err := m.Claim(t.Context(), name(1), []byte{1}, mail.NewID()); err != nil || id != first {
		t.Errorf("claimed as %s, %v, want %s", id, err, first)
	}
	other := mail.NewID()
	if id, err := m.Claim(t.Context(), name(1), []byte{2}, other); err != nil || id != other {
		t.Errorf("other content claimed as %s, %v", id, err)
	}
	// What is held now is not to be overwritten by what was judged before.
	m.Remember(t.Context(), name(1), &mail.Judged{Hash: []byte{1}, Message: first, Held: true})
	m.write(t.Context())
	if !r.all[name(1)].Held {
		t.Error("a verdict of before was written last")
	}
}

func TestWhatCannotBeWrittenIsTriedAgain(t *testing.T) {
	r := &records{all: make(map[mail.Mailed]mail.Judged), err: errors.New("away")}
	m := memoryOn(t, r)
	m.Remember(t.Context(), name(1), &mail.Judged{})
	m.write(t.Context())
	r.err = nil
	m.write(t.Context())
	if len(r.all) != 1 || len(m.later) != 0 {
		t.Errorf("%d written, %d wait", len(r.all), len(m.later))
	}
}

func TestStoreThatIsAwayCostsNothingButMemory(t *testing.T) {
	r := &records{all: make(map[mail.Mailed]mail.Judged), err: errors.New("away")}
	m := memoryOn(t, r)
	m.Remember(t.Context(), name(1), &mail.Judged{Held: true})
	if _, ok := m.Recall(t.Context(), name(1)); ok {
		t.Error("recalled from a store that is away")
	}
	for i := range 2 * maxWaiting {
		m.Remember(t.Context(), name(i), &mail.Judged{})
	}
	if len(m.later) > maxWaiting {
		t.Errorf("%d messages wait", len(m.later))
	}
	m.write(t.Context())
}

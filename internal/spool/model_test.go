package spool

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// model is what a test knows of the messages it gave to a spool. A snapshot of
// it, taken before a crash, says what must be there afterwards.
type model struct {
	mu   sync.Mutex
	msgs map[mail.ID]fate
}

// fate is what happened to a message.
type fate struct {
	body  [32]byte
	size  int
	items int
	// acked: Commit returned nil. refused: it returned an error, and a commit that
	// came later returned nil, so the removal of the refused one is durable too.
	acked, refused bool
	done           []doneFate
}

// doneFate is what happened to an item.
type doneFate uint8

const (
	kept   doneFate = iota
	maybe           // Done was called
	gone            // and returned
	synced          // and a commit that began after that was acknowledged
)

func newModel() *model { return &model{msgs: make(map[mail.ID]fate)} }

func (m *model) begin(id mail.ID, body []byte, items int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.msgs[id] = fate{body: sum(body), size: len(body), items: items, done: make([]doneFate, items)}
}

func (m *model) change(id mail.ID, fn func(*fate)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.msgs[id]
	f.done = append([]doneFate(nil), f.done...)
	fn(&f)
	m.msgs[id] = f
}

// settle notes that a commit that began after all earlier calls returned nil.
func (m *model) settle(before map[mail.ID]fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, old := range before {
		f := m.msgs[id]
		f.done = append([]doneFate(nil), f.done...)
		for i, d := range old.done {
			if d >= gone {
				f.done[i] = synced
			}
		}
		m.msgs[id] = f
	}
}

func (m *model) snapshot() map[mail.ID]fate {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.msgs)
}

// doubted is what was known before a copy was made, but for the items that somebody
// began to finish before it was there.
func doubted(before, after map[mail.ID]fate) map[mail.ID]fate {
	for id, f := range before {
		f.done = append([]doneFate(nil), f.done...)
		for i, d := range f.done {
			if d == kept && after[id].done[i] != kept {
				f.done[i] = maybe
			}
		}
		before[id] = f
	}
	return before
}

// commit puts a message into the spool and the model.
func (m *model) commit(s *Spool, body []byte, items int) (mail.ID, error) {
	id := mail.NewID()
	m.begin(id, body, items)
	before := m.snapshot()
	err := tryPut(s, id, body, items)
	if err == nil {
		m.change(id, func(f *fate) { f.acked = true })
		m.settle(before)
	} else {
		m.change(id, func(f *fate) { f.refused = true })
	}
	return id, err
}

func (m *model) finish(s *Spool, q mail.QueueID) error {
	m.change(q.Message, func(f *fate) { f.done[q.N-1] = max(f.done[q.N-1], maybe) })
	if err := s.Done(q); err != nil {
		return err
	}
	m.change(q.Message, func(f *fate) { f.done[q.N-1] = max(f.done[q.N-1], gone) })
	return nil
}

// verify opens the spool on fs and compares it with what was known before the
// crash. strict says that refused messages must not be there.
func verify(fs vfs.FS, known map[mail.ID]fate, strict bool) error {
	s, err := Open(memOptions(fs))
	if err != nil {
		return err
	}
	err = verifyOpen(s, known, strict)
	return errors.Join(err, s.Close())
}

func verifyOpen(s *Spool, known map[mail.ID]fate, strict bool) error {
	found := make(map[mail.QueueID]bool)
	if err := s.Scan(func(e Entry) error { found[e.ID] = true; return nil }); err != nil {
		return err
	}
	for id, f := range known {
		if err := verifyMessage(s, id, f, found, strict); err != nil {
			return err
		}
	}
	for q := range found {
		if _, ok := known[q.Message]; ok {
			continue
		}
		// A message that was begun after the snapshot: it must be whole.
		if _, err := s.Item(q); err != nil {
			return fmt.Errorf("unknown item %s: %w", q, err)
		}
	}
	if err := verifyNothingAside(s); err != nil {
		return err
	}
	return verifyNoOrphans(s, found)
}

// verifyNothingAside allows only what a crash itself explains: that parts of a log
// reached the disk and earlier ones did not.
func verifyNothingAside(s *Spool) error {
	aside, err := s.SetAside()
	for _, d := range aside {
		if !strings.HasPrefix(d.Reason, "torn by a crash") && !strings.Contains(d.Reason, "part of a log") {
			return fmt.Errorf("set aside: %+v", d)
		}
	}
	return err
}

func verifyMessage(s *Spool, id mail.ID, f fate, found map[mail.QueueID]bool, strict bool) error {
	here, gone := 0, 0
	for i, d := range f.done {
		q := mail.QueueID{Message: id, N: uint16(i + 1)}
		switch {
		case found[q]:
			here++
			if d == synced {
				return fmt.Errorf("item %s came back although its Done was synced", q)
			}
		default:
			gone++
			if f.acked && d == kept {
				return fmt.Errorf("item %s of an acknowledged message of %d bytes is lost", q, f.size)
			}
		}
	}
	untouched := true
	for _, d := range f.done {
		untouched = untouched && d == kept
	}
	if here > 0 && gone > 0 && untouched {
		return fmt.Errorf("message %s has %d of %d items", id, here, here+gone)
	}
	if here > 0 && f.refused && strict {
		return fmt.Errorf("message %s of %d bytes was refused and is there", id, f.size)
	}
	if here == 0 {
		return nil
	}
	if _, err := s.Envelope(id); err != nil {
		return fmt.Errorf("message of %d bytes: %w", f.size, err)
	}
	b, err := s.Body(id)
	if err != nil {
		return err
	}
	data, err := readBody(b)
	if err != nil {
		return fmt.Errorf("message of %d bytes: %w", f.size, err)
	}
	if sum(data) != f.body {
		return fmt.Errorf("body of %s differs: %d bytes of %d", id, len(data), f.size)
	}
	return nil
}

// verifyNoOrphans finds records of messages that have no item.
func verifyNoOrphans(s *Spool, found map[mail.QueueID]bool) error {
	live := make(map[mail.ID]bool)
	for q := range found {
		live[q.Message] = true
	}
	return s.each([]byte{famBody}, []byte{famSchedule + 1}, func(key, _ []byte) (bool, error) {
		if !live[mail.ID(key[1:17])] {
			return false, fmt.Errorf("orphan %s", keyName(key))
		}
		return true, nil
	})
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

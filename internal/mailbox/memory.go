// Package mailbox remembers what was judged of messages that lie in mailboxes at POP3
// servers: clients that leave their mail there fetch the same messages again and again.
//
// Invariants:
//   - What is not remembered is judged again; so nothing here can fail a fetch, and a
//     store that is away only costs time.
//   - That the quarantine holds a message is written before its reader gets a notice. All
//     else is written in batches off the way of the message, and may be lost.
//   - It is bounded: by age since somebody asked, and by number.
package mailbox

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// Store keeps what is remembered.
type Store interface {
	Mailbox(ctx context.Context, m mail.Mailed) (*mail.Judged, time.Time, error)
	RememberMailbox(ctx context.Context, entries []store.MailboxEntry) error
	ClaimMailbox(ctx context.Context, m mail.Mailed, hash []byte, id mail.ID) (mail.ID, error)
	TouchMailbox(ctx context.Context, m mail.Mailed) error
	AllowMailbox(ctx context.Context, id mail.ID) ([]mail.Mailed, error)
	ExpireMailbox(ctx context.Context, before time.Time, most int64) (int64, error)
}

// Config is what a Memory is made of; Store is required.
type Config struct {
	Store Store
	Log   *slog.Logger // default: discard
	// Keep is how long a message is remembered after somebody asked for it; default 90
	// days.
	Keep time.Duration
	// Most is how many messages are remembered; default 1,000,000.
	Most int64
	// Patience bounds a question to the store; default 5 s.
	Patience time.Duration
}

// Memory may be used by any number of goroutines.
type Memory struct {
	cfg Config
	mu  sync.Mutex // guards what follows; not held across I/O
	// later is what is to be written by Run; where there is too much, it is forgotten.
	later map[mail.Mailed]*mail.Judged
	// touched are names that were asked for, until Run writes that down.
	touched map[mail.Mailed]struct{}
}

// How much may wait to be written, how much is written at once, and how often.
const (
	maxWaiting = 4096
	batch      = 256
	writeEvery = time.Second
	// touchAfter is how old the note may be when somebody asked the last time.
	touchAfter  = 24 * time.Hour
	expireEvery = time.Hour
)

// New returns a Memory. Nothing is written later before Run.
func New(cfg Config) (*Memory, error) {
	if cfg.Store == nil {
		return nil, errors.New("make memory of mailboxes: no store")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Keep <= 0 {
		cfg.Keep = 90 * 24 * time.Hour
	}
	if cfg.Most <= 0 {
		cfg.Most = 1_000_000
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 5 * time.Second
	}
	return &Memory{cfg: cfg, later: make(map[mail.Mailed]*mail.Judged), touched: make(map[mail.Mailed]struct{})}, nil
}

// Recall returns what is remembered of a message.
func (m *Memory) Recall(ctx context.Context, name mail.Mailed) (*mail.Judged, bool) {
	if j := m.waiting(name); j != nil {
		return j, true
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Patience)
	defer cancel()
	j, asked, err := m.cfg.Store.Mailbox(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false
	}
	if err != nil {
		m.cfg.Log.Warn("nothing recalled of a message in a mailbox", "server", name.Server, "user", name.User, "error", err)
		return nil, false
	}
	if time.Since(asked) > touchAfter {
		m.touch(name)
	}
	return j, true
}

// waiting is what is still to be written of a message; nil for nothing.
func (m *Memory) waiting(name mail.Mailed) *mail.Judged {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.later[name]
}

func (m *Memory) touch(name mail.Mailed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.touched) < maxWaiting {
		m.touched[name] = struct{}{}
	}
}

// Claim returns the ID under which a message is to be held: id, or the one that the same
// content has already. When it returns nil that is durable.
func (m *Memory) Claim(ctx context.Context, name mail.Mailed, hash []byte, id mail.ID) (mail.ID, error) {
	if j := m.waiting(name); j != nil && bytes.Equal(j.Hash, hash) {
		id = j.Message
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Patience)
	defer cancel()
	return m.cfg.Store.ClaimMailbox(ctx, name, hash, id)
}

// Remember keeps a verdict: at once where the quarantine holds the message, else when
// there is time.
func (m *Memory) Remember(ctx context.Context, name mail.Mailed, j *mail.Judged) {
	m.mu.Lock()
	if _, waits := m.later[name]; j.Held {
		delete(m.later, name)
	} else if waits || len(m.later) < maxWaiting {
		m.later[name] = j
	}
	m.mu.Unlock()
	if !j.Held {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Patience)
	defer cancel()
	if err := m.cfg.Store.RememberMailbox(ctx, []store.MailboxEntry{{Name: name, Judged: *j}}); err != nil {
		m.cfg.Log.Warn("a message that is held is not remembered; it will be judged again", "id", j.Message.String(), "error", err)
	}
}

// Allow lets a message that the quarantine holds pass at its next fetch. It reports
// whether anything was remembered of it.
func (m *Memory) Allow(ctx context.Context, id mail.ID) (bool, error) {
	names, err := m.cfg.Store.AllowMailbox(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return len(names) > 0, err
}

// Run writes what is to be written and forgets what is old, until ctx ends.
func (m *Memory) Run(ctx context.Context) {
	write, expire := time.NewTicker(writeEvery), time.NewTicker(expireEvery)
	defer write.Stop()
	defer expire.Stop()
	for {
		select {
		case <-ctx.Done():
			// What is left is worth one try.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.cfg.Patience)
			m.write(last)
			cancel()
			return
		case <-write.C:
			m.write(ctx)
		case <-expire.C:
			n, err := m.cfg.Store.ExpireMailbox(ctx, time.Now().Add(-m.cfg.Keep), m.cfg.Most)
			if err != nil {
				m.cfg.Log.Warn("messages in mailboxes not forgotten", "error", err)
			} else if n > 0 {
				m.cfg.Log.Info("messages in mailboxes forgotten", "messages", n)
			}
		}
	}
}

// write writes all that waits.
func (m *Memory) write(ctx context.Context) {
	for {
		entries := m.next()
		if len(entries) == 0 {
			break
		}
		err := m.cfg.Store.RememberMailbox(ctx, entries)
		m.written(entries, err)
		if err != nil {
			m.cfg.Log.Warn("messages in mailboxes not remembered yet", "messages", len(entries), "error", err)
			return
		}
	}
	m.mu.Lock()
	touched := m.touched
	m.touched = make(map[mail.Mailed]struct{})
	m.mu.Unlock()
	for name := range touched {
		if err := m.cfg.Store.TouchMailbox(ctx, name); err != nil {
			m.cfg.Log.Warn("messages in mailboxes not noted", "error", err)
			return
		}
	}
}

// next are some of those that wait. They go on waiting, so that they are found, until
// they are written.
func (m *Memory) next() []store.MailboxEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	var entries []store.MailboxEntry
	for name, j := range m.later {
		if entries = append(entries, store.MailboxEntry{Name: name, Judged: *j}); len(entries) == batch {
			break
		}
	}
	return entries
}

// written ends the waiting of entries, unless they were judged anew meanwhile. When they
// could not be written they are tried again, while there is room.
func (m *Memory) written(entries []store.MailboxEntry, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && len(m.later) < maxWaiting {
		return
	}
	for i := range entries {
		e := &entries[i]
		if j := m.later[e.Name]; j != nil && j.Seen.Equal(e.Judged.Seen) {
			delete(m.later, e.Name)
		}
	}
}

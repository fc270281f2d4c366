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
	// later is what is to be written by Run; where it is full, it is forgotten.
	later chan store.MailboxEntry
	// touched are names that were asked for, until Run writes that down.
	mu      sync.Mutex
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
	return &Memory{cfg: cfg, later: make(chan store.MailboxEntry, maxWaiting), touched: make(map[mail.Mailed]struct{})}, nil
}

// Recall returns what is remembered of a message.
func (m *Memory) Recall(ctx context.Context, name mail.Mailed) (*mail.Judged, bool) {
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

func (m *Memory) touch(name mail.Mailed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.touched) < maxWaiting {
		m.touched[name] = struct{}{}
	}
}

// Remember keeps a verdict: at once where the quarantine holds the message, else when
// there is time.
func (m *Memory) Remember(ctx context.Context, name mail.Mailed, j *mail.Judged) {
	e := store.MailboxEntry{Name: name, Judged: *j}
	if !j.Held {
		select {
		case m.later <- e:
		default: // it is judged again
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Patience)
	defer cancel()
	if err := m.cfg.Store.RememberMailbox(ctx, []store.MailboxEntry{e}); err != nil {
		m.cfg.Log.Warn("a message that is held is not remembered; it may be held twice", "id", j.Message.String(), "error", err)
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
		if err := m.cfg.Store.RememberMailbox(ctx, entries); err != nil {
			m.cfg.Log.Warn("messages in mailboxes not remembered", "messages", len(entries), "error", err)
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

// next takes up to a batch of what waits, the last word about each message.
func (m *Memory) next() []store.MailboxEntry {
	var entries []store.MailboxEntry
	places := make(map[mail.Mailed]int)
	for len(entries) < batch {
		select {
		case e := <-m.later:
			if i, ok := places[e.Name]; ok {
				entries[i] = e
				continue
			}
			places[e.Name] = len(entries)
			entries = append(entries, e)
		default:
			return entries
		}
	}
	return entries
}

// Package authfile knows users from a text file: "name password" in a line, and
// where a third word stands, what the user may send as. The password is a hash
// (argon2id, bcrypt, salted SHA) or plain.
//
// Invariants:
//   - The file is read again when it changes. One that cannot be read, or has a line
//     that makes no sense, changes nothing: the last good one holds.
//   - Names are compared without regard to case, passwords byte by byte and in
//     constant time.
//   - Somebody who is not in the file costs the same time as somebody who is: the
//     password is checked against a hash of the kind that most lines have.
//   - What a hash may cost is bounded, and so is how many are computed at once.
//   - A password that starts like a hash of a kind that is not known is an error,
//     never taken for a plain one.
package authfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Name is how the block is named in flows.
const Name = "auth-file"

// Config is one file. Zero values take the default.
type Config struct {
	File string
	// Concurrency is how many hashes are computed at once; default the number of
	// processors. Further users wait.
	Concurrency int
	// Recheck is how often the file is looked at for changes, at most; default 1s.
	Recheck time.Duration
	Log     *slog.Logger
}

// Backend is the file. It may be used by any number of goroutines.
type Backend struct {
	cfg   Config
	slots chan struct{}
	table atomic.Pointer[table]
	// checked is when the file was looked at, in Unix nanoseconds; whoever moves it
	// looks.
	checked atomic.Int64
}

// New reads the file. The error names all lines that make no sense.
func New(cfg Config) (*Backend, error) {
	if cfg.File == "" {
		return nil, errors.New("file: it has no name")
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, runtime.GOMAXPROCS(0))
	cfg.Recheck = cmp.Or(cfg.Recheck, time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Concurrency < 0 {
		return nil, errors.New("concurrency: below 0")
	}
	b := &Backend{cfg: cfg, slots: make(chan struct{}, cfg.Concurrency)}
	t, err := load(cfg.File)
	if err != nil {
		return nil, err
	}
	for _, w := range t.warnings {
		cfg.Log.Warn("users file", "file", cfg.File, "warning", w)
	}
	b.table.Store(t)
	b.checked.Store(time.Now().UnixNano())
	return b, nil
}

// Warnings are what the administrator should know about the file.
func (b *Backend) Warnings() []string { return b.table.Load().warnings }

// Len is how many users there are.
func (b *Backend) Len() int { return len(b.table.Load().users) }

// Authenticate implements policy.AuthBackend.
func (b *Backend) Authenticate(ctx context.Context, _ *mail.Session, name, password string) (policy.AuthAnswer, error) {
	t := b.current()
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return policy.AuthAnswer{}, fmt.Errorf("wait for a processor: %w", context.Cause(ctx))
	}
	u, known := t.users[strings.ToLower(name)]
	right := known && u.secret.matches(password)
	if !known || u.secret.kind() != t.dummy.kind() {
		// The result does not matter, the time does.
		t.dummy.matches(password)
	}
	switch {
	case !known:
		return policy.AuthAnswer{Result: policy.AuthNobody, Reason: "the file has no such user"}, nil
	case !right:
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "wrong password"}, nil
	}
	return policy.AuthAnswer{Result: policy.AuthYes, User: u.name, Senders: u.senders}, nil
}

// current is the table, after a look at the file if it is time for one. One caller
// looks; the others use what is there meanwhile.
func (b *Backend) current() *table {
	t := b.table.Load()
	last, now := b.checked.Load(), time.Now()
	if now.UnixNano()-last < int64(b.cfg.Recheck) || !b.checked.CompareAndSwap(last, now.UnixNano()) {
		return t
	}
	info, err := os.Stat(b.cfg.File)
	if err == nil && t.stamp.same(info) {
		return t
	}
	var fresh *table
	if err == nil {
		fresh, err = load(b.cfg.File)
	}
	if err != nil {
		b.cfg.Log.Warn("users file not read, the last good one holds", "file", b.cfg.File, "error", err)
		if info != nil {
			// Not the same complaint each second.
			old := *t
			old.stamp = stampOf(info, now)
			b.table.Store(&old)
		}
		return t
	}
	for _, w := range fresh.warnings {
		b.cfg.Log.Warn("users file", "file", b.cfg.File, "warning", w)
	}
	b.cfg.Log.Info("users file read", "file", b.cfg.File, "users", len(fresh.users))
	b.table.Store(fresh)
	return fresh
}

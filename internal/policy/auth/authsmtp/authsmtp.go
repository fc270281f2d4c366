// Package authsmtp knows users by logging in where their mailboxes are: at the
// hosts of a transport, with the name and the password that the user gave.
//
// Invariants:
//   - Only the reply 535 to AUTH means no; a host that is down, busy, or does not
//     offer a mechanism that may be used has said nothing.
//   - Passwords go out under TLS as the transport's policy wants it, in clear text
//     only where that is configured.
//   - What is remembered is a yes, for a short time, as a keyed hash that is worth
//     nothing outside of this process. A no is always asked again.
package authsmtp

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
	"gatepost/internal/smtpclient"
)

// Name is how the block is named in flows.
const Name = "auth-smtp"

// Hosts is where users log in; a transport with hosts is one. Its error is an
// *smtpclient.Error with the reply where a host answered.
type Hosts interface {
	Login(ctx context.Context, cred smtpclient.Credentials) error
}

// Config is one backend. Zero values but Hosts take the default.
type Config struct {
	Hosts Hosts
	// Cleartext lets passwords go out without TLS.
	Cleartext bool
	// Timeout is for all hosts together; default 20s.
	Timeout time.Duration
	// Concurrency is how many logins there are at once; default 20. Further users
	// wait.
	Concurrency int
	// CacheFor is how long a yes is remembered, default 1m, below 0 not at all;
	// CacheSize how many are; default 10,000.
	CacheFor  time.Duration
	CacheSize int
}

// Backend asks the hosts. It may be used by any number of goroutines.
type Backend struct {
	cfg   Config
	slots chan struct{}
	key   [32]byte

	mu    sync.Mutex
	known map[digest]time.Time // until then
}

type digest [sha256.Size]byte

// New makes a backend.
func New(cfg Config) (*Backend, error) {
	if cfg.Hosts == nil {
		return nil, errors.New("transport: it has no hosts to log in at")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 20*time.Second)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 20)
	cfg.CacheFor = cmp.Or(cfg.CacheFor, time.Minute)
	cfg.CacheSize = cmp.Or(cfg.CacheSize, 10_000)
	if cfg.Timeout < 0 || cfg.Concurrency < 0 || cfg.CacheSize < 0 {
		return nil, errors.New("timeout, concurrency and cache_size must not be below 0")
	}
	b := &Backend{cfg: cfg, slots: make(chan struct{}, cfg.Concurrency), known: make(map[digest]time.Time)}
	rand.Read(b.key[:])
	return b, nil
}

// Authenticate implements policy.AuthBackend.
func (b *Backend) Authenticate(ctx context.Context, _ *mail.Session, user, password string) (policy.AuthAnswer, error) {
	if password == "" {
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "empty password"}, nil
	}
	sum := b.digest(user, password)
	if b.remembers(sum) {
		return policy.AuthAnswer{Result: policy.AuthYes, Reason: "the mail server said yes a moment ago"}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
	case <-ctx.Done():
		return policy.AuthAnswer{}, fmt.Errorf("wait to log in: %w", context.Cause(ctx))
	}
	err := b.cfg.Hosts.Login(ctx, smtpclient.Credentials{Username: user, Password: password, AllowCleartext: b.cfg.Cleartext})
	var e *smtpclient.Error
	switch {
	case err == nil:
		b.remember(sum)
		return policy.AuthAnswer{Result: policy.AuthYes, Reason: "the mail server says yes"}, nil
	case errors.As(err, &e) && e.Stage == "auth" && e.Reply.Code == 535: // RFC 4954 §6
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "the mail server says " + message.SafeText(e.Reply.String(), 200)}, nil
	}
	return policy.AuthAnswer{}, err
}

// digest stands for a name and a password.
func (b *Backend) digest(user, password string) (d digest) {
	h := hmac.New(sha256.New, b.key[:])
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(user))))
	h.Write([]byte(user))
	h.Write([]byte(password))
	h.Sum(d[:0])
	return d
}

func (b *Backend) remembers(d digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	until, ok := b.known[d]
	if ok && time.Now().After(until) {
		delete(b.known, d)
		return false
	}
	return ok
}

func (b *Backend) remember(d digest) {
	if b.cfg.CacheFor < 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if len(b.known) >= b.cfg.CacheSize {
		for k, until := range b.known {
			if now.After(until) {
				delete(b.known, k)
			}
		}
	}
	if len(b.known) >= b.cfg.CacheSize {
		// Only who has a password comes here: forgetting all costs a few logins.
		clear(b.known)
	}
	b.known[d] = now.Add(b.cfg.CacheFor)
}

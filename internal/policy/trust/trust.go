// Package trust is the check that remembers clients which passed the tests of a
// connect flow, so that they are not tested again for some time.
//
//	findings, err := t.Check(ctx, in)   // a block in front of the tests
//	if outcome.Passed { t.Passed(session) }
//
// Invariants:
//   - Only the very address that passed is trusted, and only until its time is over:
//     being trusted makes the time no longer.
//   - Memory is bounded by Config.MaxClients. What is forgotten, at a restart
//     everything, is tested once more and nothing worse.
package trust

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Use is how the block is named in flows, and the module in findings.
const Use = "trust"

// Config is for how long clients are trusted. Zero values but For stand for the
// defaults.
type Config struct {
	// For is how long a client that passed is not tested again, above 0.
	For time.Duration
	// MaxClients bounds how many are remembered; default 200,000, about 20 MB.
	MaxClients int
}

// Trust remembers clients.
type Trust struct {
	cfg Config

	mu    sync.Mutex
	until map[netip.Addr]time.Time
}

// New returns a block that knows nobody yet.
func New(cfg Config) (*Trust, error) {
	if cfg.For <= 0 {
		return nil, errors.New("trust: for: it must be above 0")
	}
	cfg.MaxClients = cmp.Or(max(cfg.MaxClients, 0), 200_000)
	return &Trust{cfg: cfg, until: map[netip.Addr]time.Time{}}, nil
}

// Check implements policy.Check: it allows clients that passed.
func (t *Trust) Check(_ context.Context, in *policy.Input) ([]mail.Finding, error) {
	client := in.Session.Client.Addr().Unmap()
	t.mu.Lock()
	until, known := t.until[client]
	t.mu.Unlock()
	if !known || !time.Now().Before(until) {
		return nil, nil
	}
	return []mail.Finding{{
		Module: Use, Symbol: policy.SymbolAllow, Result: mail.Clean,
		Reason: client.String() + " passed before, and is trusted until " + until.UTC().Format(time.RFC3339),
	}}, nil
}

// Passed remembers the client of a session. Call it for clients that went through
// all of the flow and that nothing was found against.
func (t *Trust) Passed(s *mail.Session) {
	client := s.Client.Addr().Unmap()
	if !client.IsValid() {
		return
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.until[client]; !known {
		t.makeRoom(now)
	}
	t.until[client] = now.Add(t.cfg.For)
}

// Forget takes the trust in an address back.
func (t *Trust) Forget(client netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.until, client.Unmap())
}

// Clients is how many are remembered.
func (t *Trust) Clients() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.until)
}

// makeRoom forgets some clients whose time is over, and in a full table, where it
// finds none, the one among a few whose time is over first.
func (t *Trust) makeRoom(now time.Time) {
	const look = 16
	var first netip.Addr
	least, n, full := time.Time{}, 0, len(t.until) >= t.cfg.MaxClients
	for client, until := range t.until {
		if !until.After(now) {
			delete(t.until, client)
			full = false
		} else if !first.IsValid() || until.Before(least) {
			first, least = client, until
		}
		if n++; n == look {
			break
		}
	}
	if full {
		delete(t.until, first)
	}
}

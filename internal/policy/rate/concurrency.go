package rate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// UseConcurrency is how the block is named in flows, and the module in findings.
const UseConcurrency = "concurrency"

// ConcurrencyConfig is how many sessions there may be at once.
type ConcurrencyConfig struct {
	// Limit is the sessions of one network, at least 1.
	Limit int
	// IPv4Bits and IPv6Bits are what makes a network; default 24 and 64.
	IPv4Bits, IPv6Bits int
}

// Concurrency is a block "concurrency". It remembers as many sessions as there are.
type Concurrency struct {
	cfg ConcurrencyConfig

	mu       sync.Mutex
	sessions map[mail.ID]netip.Prefix
	networks map[netip.Prefix]int
}

// NewConcurrency returns a block, or an error for a config that cannot be meant.
func NewConcurrency(cfg ConcurrencyConfig) (*Concurrency, error) {
	cfg.IPv4Bits, cfg.IPv6Bits = cmp.Or(cfg.IPv4Bits, 24), cmp.Or(cfg.IPv6Bits, 64)
	switch {
	case cfg.Limit < 1:
		return nil, errors.New("concurrency: limit: it must be at least 1")
	case cfg.IPv4Bits < 1 || cfg.IPv4Bits > 32 || cfg.IPv6Bits < 1 || cfg.IPv6Bits > 128:
		return nil, errors.New("concurrency: a network has 1 to 32 bits of IPv4 and 1 to 128 of IPv6")
	}
	return &Concurrency{cfg: cfg, sessions: map[mail.ID]netip.Prefix{}, networks: map[netip.Prefix]int{}}, nil
}

// Check implements policy.Check: it counts the session for its network, if there is
// a place for one more. Whoever runs it must call Leave when the session is over. A
// session that became another client's by XCLIENT is counted anew.
func (c *Concurrency) Check(_ context.Context, in *policy.Input) ([]mail.Finding, error) {
	network, ok := networkOf(in.Session.Client.Addr(), c.cfg.IPv4Bits, c.cfg.IPv6Bits)
	if !ok {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(in.Session.ID)
	if c.networks[network] >= c.cfg.Limit {
		return []mail.Finding{{
			Module: UseConcurrency, Symbol: "sessions", Name: network.String(), Result: mail.Match,
			Reason: fmt.Sprintf("%s: more than %d sessions at once", network, c.cfg.Limit),
		}}, nil
	}
	c.sessions[in.Session.ID] = network
	c.networks[network]++
	return nil, nil
}

// Leave gives the place of a session back. It is safe for one that has none.
func (c *Concurrency) Leave(session mail.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(session)
}

func (c *Concurrency) leave(session mail.ID) {
	network, ok := c.sessions[session]
	if !ok {
		return
	}
	delete(c.sessions, session)
	if c.networks[network]--; c.networks[network] <= 0 {
		delete(c.networks, network)
	}
}

// Sessions is how many sessions are counted.
func (c *Concurrency) Sessions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

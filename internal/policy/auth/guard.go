package auth

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// GuardConfig is how guessing is slowed down. Zero values take the default.
type GuardConfig struct {
	// Free is how many failures cost nothing, default 3. The next one delays the
	// answer by Delay, default 1s, and each further one twice as long, MaxDelay at
	// most, default 15s. For a network, more than AccountFailures are free.
	Free            int
	Delay, MaxDelay time.Duration
	// AccountFailures is how many failures at one account lock it for the network that
	// made them, default 10; NetworkFailures how many at several accounts lock
	// everything for the network, default 30. The same wrong password for the same
	// account counts once: a forgotten device is no attacker.
	AccountFailures, NetworkFailures int
	// Window is after how long without a failure they are forgotten, default 15m. Lock
	// is how long a lock lasts, default 15m; twice as long when it comes again within
	// a day, MaxLock at most, default 4h.
	Window, Lock, MaxLock time.Duration
	// KnownFor is how long a user who logged in from a network is known there;
	// default 30 days.
	KnownFor time.Duration
	// IPv4Bits and IPv6Bits are what makes a network; default 24 and 64.
	IPv4Bits, IPv6Bits int
	// MaxKeys is how many accounts, networks and pairs of both are remembered, of
	// each; default 50,000. Those of which nothing was heard longest are forgotten.
	MaxKeys int
}

// Guard counts failures. It may be used by any number of goroutines.
type Guard struct {
	cfg  GuardConfig
	seed maphash.Seed

	mu       sync.Mutex
	accounts *table[tally]
	networks *table[tally]
	pairs    *table[tally]
	known    *table[time.Time] // pairs: when the user last logged in
	// change is closed when an attempt is over, for those that wait for a place.
	change chan struct{}
}

// tally is what is known of an account, a network, or a pair of both.
type tally struct {
	failures, pending int
	last              time.Time // failure
	locked            time.Time // until
	locks             int
	wrong             [4]uint64 // the last wrong passwords, as keyed hashes
}

// lock is what an attempt runs against.
type lock uint8

const (
	unlocked lock = iota
	lockedAccount
	lockedNetwork
	crowded // too many attempts are under way
)

func (l lock) String() string {
	return [...]string{"", "account for the network", "network", "no"}[l]
}

func (l lock) reason() string {
	switch l {
	case lockedAccount:
		return "too many failed logins at this account from the network"
	case lockedNetwork:
		return "too many failed logins from the network"
	}
	return "too many logins at this account at once"
}

// again is how long it is remembered that something was locked before.
const again = 24 * time.Hour

// NewGuard makes a guard that knows nothing.
func NewGuard(cfg GuardConfig) (*Guard, error) {
	cfg.Free = cmp.Or(cfg.Free, 3)
	cfg.Delay, cfg.MaxDelay = cmp.Or(cfg.Delay, time.Second), cmp.Or(cfg.MaxDelay, 15*time.Second)
	cfg.AccountFailures, cfg.NetworkFailures = cmp.Or(cfg.AccountFailures, 10), cmp.Or(cfg.NetworkFailures, 30)
	cfg.Window, cfg.Lock, cfg.MaxLock = cmp.Or(cfg.Window, 15*time.Minute), cmp.Or(cfg.Lock, 15*time.Minute), cmp.Or(cfg.MaxLock, 4*time.Hour)
	cfg.KnownFor = cmp.Or(cfg.KnownFor, 30*24*time.Hour)
	cfg.IPv4Bits, cfg.IPv6Bits = cmp.Or(cfg.IPv4Bits, 24), cmp.Or(cfg.IPv6Bits, 64)
	cfg.MaxKeys = cmp.Or(cfg.MaxKeys, 50_000)
	switch {
	case cfg.Free < 0 || cfg.AccountFailures < 1 || cfg.MaxKeys < 2:
		return nil, errors.New("failures: want numbers above 0")
	case cfg.NetworkFailures <= cfg.AccountFailures:
		// Else guessing at one account would lock out the others of its network.
		return nil, errors.New("network_failures: want more than account_failures")
	case cfg.IPv4Bits < 1 || cfg.IPv4Bits > 32 || cfg.IPv6Bits < 1 || cfg.IPv6Bits > 128:
		return nil, errors.New("a network has 1 to 32 bits of IPv4 and 1 to 128 of IPv6")
	case min(cfg.Delay, cfg.MaxDelay, cfg.Window, cfg.Lock, cfg.MaxLock, cfg.KnownFor) < 0:
		return nil, errors.New("delay, window, lock and known_for must not be below 0")
	}
	return &Guard{cfg: cfg, seed: maphash.MakeSeed(), change: make(chan struct{}),
		accounts: newTable[tally](cfg.MaxKeys), networks: newTable[tally](cfg.MaxKeys),
		pairs: newTable[tally](cfg.MaxKeys), known: newTable[time.Time](cfg.MaxKeys)}, nil
}

// attempt is one login under way.
type attempt struct {
	guard *Guard
	lock  lock
	// delay is how long the answer waits, whatever it is: else a right guess would be
	// known by its speed.
	delay time.Duration
	// counted are the tallies that a failure counts for, with what locks them.
	pair, account, network *tally
	pairKey                uint64
	over                   bool
}

type pair struct {
	network netip.Prefix
	account string
}

// maxWait is how long an attempt waits for others to be over.
const maxWait = 30 * time.Second

// enter lets an attempt begin, or says why not. It waits while so many are under way
// that they could exceed the limits together.
func (g *Guard) enter(ctx context.Context, s *mail.Session, user string) *attempt {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	account := strings.ToLower(user)
	network := policy.Network(s.Client.Addr(), g.cfg.IPv4Bits, g.cfg.IPv6Bits)
	a := &attempt{guard: g, pairKey: maphash.Comparable(g.seed, pair{network, account})}
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		now := time.Now()
		seen := g.known.find(a.pairKey)
		known := seen != nil && now.Sub(*seen) < g.cfg.KnownFor
		// Behind a trusted client are many users, a web mail's: their failures are
		// not the network's.
		if a.network = nil; !known && !s.Trusted {
			a.network = g.networks.get(maphash.Comparable(g.seed, network))
		}
		if a.lock = a.locked(now); a.lock == unlocked {
			// Only now: a network that is locked must not fill the tables.
			a.pair, a.account = g.pairs.get(a.pairKey), g.accounts.get(maphash.String(g.seed, account))
			a.forget(now)
			a.lock = a.locked(now)
		}
		if a.lock != unlocked {
			a.delay = g.cfg.MaxDelay
			return a
		}
		if a.fits() {
			a.begin(known)
			return a
		}
		change := g.change
		g.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		}
		g.mu.Lock()
		if ctx.Err() != nil {
			a.lock, a.over = crowded, true
			return a
		}
	}
}

// each is the tallies of the attempt.
func (a *attempt) each() []*tally {
	return slices.DeleteFunc([]*tally{a.pair, a.account, a.network}, func(t *tally) bool { return t == nil })
}

// forget drops what is too old to count.
func (a *attempt) forget(now time.Time) {
	for _, t := range a.each() {
		if now.Sub(t.last) > a.guard.cfg.Window {
			t.failures, t.wrong = 0, [4]uint64{}
		}
		if now.Sub(t.last) > again && now.After(t.locked) {
			t.locks = 0
		}
	}
}

func (a *attempt) locked(now time.Time) lock {
	switch {
	case a.network != nil && now.Before(a.network.locked):
		return lockedNetwork
	case a.pair != nil && now.Before(a.pair.locked):
		return lockedAccount
	}
	return unlocked
}

// fits reports whether the attempt, and all that are under way, may fail without
// exceeding a limit.
func (a *attempt) fits() bool {
	cfg := &a.guard.cfg
	return a.pair.failures+a.pair.pending < cfg.AccountFailures &&
		(a.network == nil || a.network.failures+a.network.pending < cfg.NetworkFailures)
}

// begin counts the attempt as under way and finds its delay.
func (a *attempt) begin(known bool) {
	cfg := &a.guard.cfg
	for _, t := range a.each() {
		t.pending++
	}
	a.delay = cfg.delay(a.pair.failures - cfg.Free)
	if !known {
		// A user who is known here does not pay for what others do elsewhere.
		a.delay = max(a.delay, cfg.delay(a.account.failures-cfg.Free))
	}
	if a.network != nil {
		// Guesses at one account alone do not slow down the others of the network.
		a.delay = max(a.delay, cfg.delay(a.network.failures-cfg.AccountFailures-1))
	}
}

// delay doubles from Delay on.
func (cfg *GuardConfig) delay(over int) time.Duration {
	if over < 0 {
		return 0
	}
	return min(cfg.Delay<<min(over, 16), cfg.MaxDelay)
}

// done ends the attempt, and returns what it has locked. The first call counts.
func (a *attempt) done(result policy.AuthResult, password string) lock {
	g := a.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if a.over {
		return unlocked
	}
	a.over = true
	for _, t := range a.each() {
		t.pending--
	}
	close(g.change)
	g.change = make(chan struct{})
	now := time.Now()
	switch result {
	case policy.AuthYes:
		a.pair.failures, a.pair.locks = 0, 0
		*g.known.get(a.pairKey) = now
		return unlocked
	case policy.AuthUnknown:
		return unlocked
	}
	return a.failed(now, maphash.String(g.seed, password))
}

// failed counts a failure.
func (a *attempt) failed(now time.Time, wrong uint64) (locked lock) {
	if slices.Contains(a.pair.wrong[:min(a.pair.failures, len(a.pair.wrong))], wrong) {
		return unlocked
	}
	copy(a.pair.wrong[1:], a.pair.wrong[:])
	a.pair.wrong[0] = wrong
	for _, t := range a.each() {
		t.failures++
		t.last = now
	}
	cfg := &a.guard.cfg
	if a.pair.failures >= cfg.AccountFailures {
		a.pair.shut(now, cfg)
		locked = lockedAccount
	}
	if a.network != nil && a.network.failures >= cfg.NetworkFailures {
		a.network.shut(now, cfg)
		locked = lockedNetwork
	}
	return locked
}

// shut locks until the time is over.
func (t *tally) shut(now time.Time, cfg *GuardConfig) {
	t.locked = now.Add(min(cfg.Lock<<min(t.locks, 16), max(cfg.MaxLock, cfg.Lock)))
	t.locks++
	t.failures, t.wrong = 0, [4]uint64{}
}

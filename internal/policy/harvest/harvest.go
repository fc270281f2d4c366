// Package harvest is the block "harvest" of recipient flows: who names one recipient
// after the other that does not exist is collecting addresses, and is made slower
// and then sent away for a while.
//
//	h, err := harvest.New(harvest.Config{})
//	d := h.Decide(session)      // before each RCPT is looked at
//	h.UnknownRecipient(session) // after each that named nobody
//
// Invariants:
//   - What it says depends on what was counted before, not on the recipient at hand:
//     a delay or a refusal tells nothing about who exists.
//   - Authenticated and trusted clients are neither counted nor slowed down.
//   - Nobody is refused for good. What a network did counts half after
//     Config.HalfLife.
//   - Memory is bounded; under a flood of networks the oldest are forgotten.
package harvest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Name is how the block is named in flows, and the module in findings.
const Name = "harvest"

// Symbols of findings.
const (
	SymbolLimit = "limit" // match: too many unknown recipients
	SymbolSlow  = "slow"  // clean: enough to be made slower
)

// PropertyDelay is the property of a finding that tells how long an answer is to
// be held back, in milliseconds.
const PropertyDelay = "delay"

// Config is how the check works. Zero values take the default.
type Config struct {
	// SlowAfter is after how many unknown recipients of a session its answers are
	// held back, default 3; SessionLimit from how many on it is ended, default 20.
	SlowAfter, SessionLimit int
	// NetworkSlowAfter and NetworkLimit are the same for all sessions of a network,
	// counted over time; default 30 and 100.
	NetworkSlowAfter, NetworkLimit int
	// HalfLife is after how long what a network did counts half; default 15 minutes.
	HalfLife time.Duration
	// Delay is how much longer each further unknown recipient makes the wait, default
	// 1 s; MaxDelay its bound, default 10 s.
	Delay, MaxDelay time.Duration
	// IPv4Bits and IPv6Bits are the sizes of a network; default 24 and 64.
	IPv4Bits, IPv6Bits int
	// Except are networks that are spared: a relay that does not know our users.
	Except []netip.Prefix
	// Score is what a match counts; default 0.
	Score float64
	// MaxSessions and MaxNetworks bound what is remembered; default 20,000 and 50,000.
	MaxSessions, MaxNetworks int
}

func (c Config) withDefaults() Config {
	c.SlowAfter = cmp.Or(c.SlowAfter, 3)
	c.SessionLimit = cmp.Or(c.SessionLimit, 20)
	c.NetworkSlowAfter = cmp.Or(c.NetworkSlowAfter, 30)
	c.NetworkLimit = cmp.Or(c.NetworkLimit, 100)
	c.HalfLife = cmp.Or(c.HalfLife, 15*time.Minute)
	c.Delay = cmp.Or(c.Delay, time.Second)
	c.MaxDelay = cmp.Or(c.MaxDelay, 10*time.Second)
	c.IPv4Bits = cmp.Or(c.IPv4Bits, 24)
	c.IPv6Bits = cmp.Or(c.IPv6Bits, 64)
	c.MaxSessions = cmp.Or(c.MaxSessions, 20_000)
	c.MaxNetworks = cmp.Or(c.MaxNetworks, 50_000)
	return c
}

func (c *Config) check() error {
	switch {
	case c.SlowAfter < 0:
		return fmt.Errorf("harvest: slow_after is %d and must not be negative", c.SlowAfter)
	case c.SessionLimit < c.SlowAfter:
		return fmt.Errorf("harvest: session_limit is %d and must not be below slow_after, %d", c.SessionLimit, c.SlowAfter)
	case c.NetworkSlowAfter < 0:
		return fmt.Errorf("harvest: network_slow_after is %d and must not be negative", c.NetworkSlowAfter)
	case c.NetworkLimit < c.NetworkSlowAfter:
		return fmt.Errorf("harvest: network_limit is %d and must not be below network_slow_after, %d", c.NetworkLimit, c.NetworkSlowAfter)
	case c.HalfLife < time.Second:
		return fmt.Errorf("harvest: half_life is %v and must be 1s at least", c.HalfLife)
	case c.Delay < 0 || c.MaxDelay < c.Delay || c.MaxDelay > time.Minute:
		return fmt.Errorf("harvest: delay is %v and max_delay %v; want 0 <= delay <= max_delay <= 1m", c.Delay, c.MaxDelay)
	case c.IPv4Bits < 8 || c.IPv4Bits > 32:
		return fmt.Errorf("harvest: ipv4_bits is %d and must be between 8 and 32", c.IPv4Bits)
	case c.IPv6Bits < 16 || c.IPv6Bits > 128:
		return fmt.Errorf("harvest: ipv6_bits is %d and must be between 16 and 128", c.IPv6Bits)
	case c.MaxSessions < 0 || c.MaxNetworks < 0:
		return fmt.Errorf("harvest: max_sessions is %d and max_networks %d; neither must be negative", c.MaxSessions, c.MaxNetworks)
	}
	return nil
}

// Harvest is the check.
type Harvest struct {
	config Config

	mu       sync.Mutex
	sessions *recent[mail.ID]
	networks *recent[netip.Prefix]
}

// New returns the check, or an error for a Config that cannot be meant.
func New(c Config) (*Harvest, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Harvest{config: c, sessions: newRecent[mail.ID](c.MaxSessions), networks: newRecent[netip.Prefix](c.MaxNetworks)}, nil
}

// UnknownRecipient counts a recipient that does not exist.
func (h *Harvest) UnknownRecipient(s *mail.Session) {
	network, ok := h.network(s)
	if !ok {
		return
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions.put(s.ID, counter{h.sessions.get(s.ID).n + 1, now})
	h.networks.put(network, counter{h.decayed(h.networks.get(network), now) + 1, now})
}

// End forgets a session that is over.
func (h *Harvest) End(s *mail.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions.drop(s.ID)
}

// Decide says how the next answer to RCPT is given, whatever it is: after a delay,
// or by 421, which ends the session. It is to be asked before anybody looks at the
// recipient, so that known and unknown ones are treated alike.
func (h *Harvest) Decide(s *mail.Session) mail.Decision {
	v := h.look(s)
	d := mail.Decision{Delay: v.delay, Findings: v.findings(h.config.Score)}
	if v.over != "" {
		d.Act, d.Close, d.Reason = mail.Defer, true, "harvest: "+v.over
		d.Reply = mail.ReplyTooManyErrors.Reply()
	}
	return d
}

// Hook is Decide with another act for who has named too many, and with text behind
// the codes; "" is the usual one. Accept leaves the session to others and only slows
// it down.
func (h *Harvest) Hook(act mail.Act, text string) func(*mail.Session) mail.Decision {
	return func(s *mail.Session) mail.Decision {
		d := h.Decide(s)
		if d.Act == mail.Accept {
			return d
		}
		switch act {
		case mail.Accept:
			return mail.Decision{Delay: d.Delay}
		case mail.Reject:
			d.Reply = mail.ReplyAccessDenied.Reply()
		case mail.Drop:
			d.Reply = mail.Reply{}
		}
		d.Act = act
		if text != "" && act != mail.Drop {
			d.Reply = d.Reply.WithText(text)
		}
		return d
	}
}

// Check implements policy.Check. Its answer is that of the moment
// (policy.PerRecipient).
func (h *Harvest) Check(_ context.Context, in *policy.Input) ([]mail.Finding, error) {
	return h.look(in.Session).findings(h.config.Score), nil
}

// view is what the counts come to.
type view struct {
	delay time.Duration
	over  string // which limit is reached, and by how many; "" for none
}

func (v view) findings(score float64) []mail.Finding {
	switch {
	case v.over != "":
		return []mail.Finding{{Module: Name, Symbol: SymbolLimit, Result: mail.Match, Score: score, Reason: v.over}}
	case v.delay > 0:
		return []mail.Finding{{Module: Name, Symbol: SymbolSlow, Result: mail.Clean, Reason: "unknown recipients: answers wait for " + v.delay.String(),
			Properties: []mail.Property{{Name: PropertyDelay, Value: strconv.FormatInt(v.delay.Milliseconds(), 10)}}}}
	}
	return nil
}

func (h *Harvest) look(s *mail.Session) view {
	network, ok := h.network(s)
	if !ok {
		return view{}
	}
	h.mu.Lock()
	session := h.sessions.get(s.ID).n
	all := h.decayed(h.networks.get(network), time.Now())
	h.mu.Unlock()
	v := view{delay: max(h.delay(session, h.config.SlowAfter), h.delay(all, h.config.NetworkSlowAfter))}
	switch {
	case session >= float64(h.config.SessionLimit):
		v.over = fmt.Sprintf("%.0f unknown recipients in this session", session)
	case all >= float64(h.config.NetworkLimit):
		v.over = fmt.Sprintf("%.0f unknown recipients from %s lately", all, network)
	}
	return v
}

// delay grows by Config.Delay with each unknown recipient.
func (h *Harvest) delay(n float64, after int) time.Duration {
	more := math.Floor(n) - float64(after) + 1
	if more <= 0 {
		return 0
	}
	return time.Duration(min(more*float64(h.config.Delay), float64(h.config.MaxDelay)))
}

// network is what a client's unknown recipients count for; ok is false where they
// do not count.
func (h *Harvest) network(s *mail.Session) (_ netip.Prefix, ok bool) {
	client := s.Client.Addr().Unmap().WithZone("")
	if s.MayRelay() || slices.ContainsFunc(h.config.Except, func(p netip.Prefix) bool { return p.Contains(client) }) {
		return netip.Prefix{}, false
	}
	p := policy.Network(client, h.config.IPv4Bits, h.config.IPv6Bits)
	return p, p.IsValid()
}

func (h *Harvest) decayed(c counter, now time.Time) float64 {
	if c.n == 0 {
		return 0
	}
	return c.n * math.Exp2(-float64(now.Sub(c.at))/float64(h.config.HalfLife))
}

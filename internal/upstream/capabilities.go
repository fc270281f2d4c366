package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatepost/internal/smtp"
	"gatepost/internal/smtpclient"
)

// Capabilities are what upstreams offer that bears on what their clients may be
// promised. The zero Capabilities are those of a server that knows HELO only.
type Capabilities struct {
	EightBit   bool `json:"8bitmime,omitempty"`
	SMTPUTF8   bool `json:"smtputf8,omitempty"`
	Binary     bool `json:"binarymime,omitempty"`
	DSN        bool `json:"dsn,omitempty"`
	RequireTLS bool `json:"requiretls,omitempty"`
	// SizeLimit is the largest message in bytes, 0 where none is named; RcptMax the
	// most recipients of a transaction (RFC 9422), 0 where none is named.
	SizeLimit int64 `json:"size_limit,omitempty"`
	RcptMax   int   `json:"rcpt_max,omitempty"`
	// Auth are the SASL mechanisms, in upper case.
	Auth []string `json:"auth,omitempty"`
}

func capabilities(e smtpclient.Extensions) Capabilities {
	return Capabilities{EightBit: e.EightBit, SMTPUTF8: e.SMTPUTF8, Binary: e.Binary, DSN: e.DSN,
		RequireTLS: e.RequireTLS, SizeLimit: e.SizeLimit, RcptMax: e.RcptMax, Auth: e.Auth}
}

// And is what both can do.
func (c Capabilities) And(d Capabilities) Capabilities {
	c.EightBit = c.EightBit && d.EightBit
	c.SMTPUTF8 = c.SMTPUTF8 && d.SMTPUTF8
	c.Binary = c.Binary && d.Binary
	c.DSN = c.DSN && d.DSN
	c.RequireTLS = c.RequireTLS && d.RequireTLS
	c.SizeLimit = smaller(c.SizeLimit, d.SizeLimit)
	c.RcptMax = smaller(c.RcptMax, d.RcptMax)
	c.Auth = slices.DeleteFunc(slices.Clone(c.Auth), func(m string) bool { return !slices.Contains(d.Auth, m) })
	return c
}

// smaller is the lower of two limits, of which 0 is none.
func smaller[T cmp.Ordered](a, b T) T {
	var none T
	if a == none || b != none && b < a {
		return b
	}
	return a
}

// Restrict returns the extensions of own that a client may be promised in the name
// of the upstreams. What ends at Gatepost itself (PIPELINING, CHUNKING, STARTTLS,
// AUTH and the like) stays.
func (c Capabilities) Restrict(own smtp.Extensions) smtp.Extensions {
	for _, e := range []struct {
		can bool
		ext smtp.Extensions
	}{
		{c.EightBit, smtp.Ext8BitMIME}, {c.SMTPUTF8, smtp.ExtSMTPUTF8}, {c.Binary, smtp.ExtBinaryMIME},
		{c.DSN, smtp.ExtDSN}, {c.RequireTLS, smtp.ExtRequireTLS},
	} {
		if !e.can {
			own &^= e.ext
		}
	}
	return own
}

// Learned is what one address offered when it was last spoken to.
type Learned struct {
	Host    string    `json:"host"` // as configured
	Address string    `json:"address"`
	At      time.Time `json:"at"`
	Capabilities
}

// learn keeps what an address has offered.
func (s *Server) learn(ep *endpoint, e smtpclient.Extensions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[ep.target.Address] = Learned{Host: ep.host.configured, Address: ep.target.Address, At: time.Now(), Capabilities: capabilities(e)}
	if len(s.known) > maxEndpoints {
		s.forgetOldestLocked()
	}
}

func (s *Server) forgetOldestLocked() {
	var oldest Learned
	for _, l := range s.known {
		if oldest.Address == "" || l.At.Before(oldest.At) {
			oldest = l
		}
	}
	delete(s.known, oldest.Address)
}

// staleAfter is when an address that was not spoken to no longer counts, for the
// addresses of names change.
const staleAfter = 30 * 24 * time.Hour

// Capabilities returns what all addresses can do that are known. known is false
// where none is, and then the zero Capabilities are the safe ones to promise.
func (s *Server) Capabilities() (_ Capabilities, known bool) {
	var all Capabilities
	for i, l := range s.Known() {
		if i == 0 {
			all = l.Capabilities
			continue
		}
		all = all.And(l.Capabilities)
	}
	return all, len(s.Known()) > 0
}

// Known returns what was learned, for keeping it over a restart, in the order of
// the addresses.
func (s *Server) Known() []Learned {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Learned
	for _, l := range s.known {
		if time.Since(l.At) < staleAfter {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Learned) int { return cmp.Compare(a.Address, b.Address) })
	return out
}

// Recall takes what Known returned earlier. What concerns hosts that are no longer
// configured, or was learned again since, is left out.
func (s *Server) Recall(list []Learned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range list {
		configured := slices.ContainsFunc(s.hosts, func(h *host) bool { return h.configured == l.Host }) || s.cfg.Original && l.Host == originalHost
		if configured && s.known[l.Address].At.Before(l.At) && len(s.known) < maxEndpoints {
			s.known[l.Address] = l
		}
	}
}

// Probe opens a session to each address, to learn what it offers and to have it at
// hand. The error names each that could not be spoken to.
func (s *Server) Probe(ctx context.Context) error {
	if !s.enter() {
		return errClosed
	}
	defer s.running.Done()
	var errs []error
	for _, h := range s.hosts {
		eps, err := s.resolve(ctx, h)
		errs = append(errs, err)
		for _, ep := range eps {
			if err := s.probe(ctx, ep); err != nil {
				errs = append(errs, fmt.Errorf("probe %s: %w", ep.target, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (s *Server) probe(ctx context.Context, ep *endpoint) error {
	ctx, done := s.lookout(ctx)
	defer done()
	w := &want{fresh: true}
	g, c := s.claim(ep, w, true)
	if c != granted {
		// Full: others have just learned it. Resting: it is known to be down.
		return nil
	}
	sess, err := s.open(ctx, g.ep, w)
	if err != nil {
		return err
	}
	s.keep(sess)
	return nil
}

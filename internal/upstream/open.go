package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/dns/dane"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// want is what a transaction needs of its session.
type want struct {
	client *mail.Session // nil for a session of our own
	id     mail.ID
	// identity is in whose name the session must be; strict asks for a certificate
	// that was verified; fresh for a session that nobody had before.
	identity      string
	strict, fresh bool
	// only is the one address that it is for, "" for any.
	only string
}

// takes reports whether a session to ep is what the transaction needs.
func (w *want) takes(ep *endpoint) bool { return w.only == "" || w.only == ep.target.Address }

func (s *Server) want(env *mail.Envelope) *want {
	w := &want{client: &env.Session, id: env.ID, strict: env.RequireTLS}
	w.identity = s.identityOf(w.client)
	return w
}

var errSlow = errors.New("no session in time")

// lookout bounds the search for a session by OpenTimeout and by the life of the
// Server.
func (s *Server) lookout(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(errClosed) })
	ctx, done := context.WithTimeoutCause(ctx, s.cfg.OpenTimeout, errSlow)
	return ctx, func() {
		done()
		stop()
		cancel(nil)
	}
}

// session finds a session for w: an idle one, a new one, or one that it waits for.
func (s *Server) session(ctx context.Context, w *want) (*session, error) {
	if !s.enter() {
		return nil, errClosed
	}
	defer s.running.Done()
	ctx, done := s.lookout(ctx)
	defer done()
	if sess, ok, err := s.ownSession(ctx, w); ok {
		return sess, err
	}
	hosts, err := s.hostsFor(w)
	if err != nil {
		return nil, err
	}
	search := &search{hosts: hosts, tried: make(map[*endpoint]bool), last: errNobody}
	for {
		g, err := s.find(ctx, w, search)
		if err != nil {
			return nil, err
		}
		if g.sess != nil {
			s.observeSession(g.ep, true, 0)
			return g.sess, nil
		}
		begun := time.Now()
		sess, err := s.open(ctx, g.ep, w)
		if err == nil {
			s.observeSession(g.ep, false, time.Since(begun))
			return sess, nil
		}
		search.last = fmt.Errorf("%s: %w", g.ep.target, err)
		search.tried[g.ep] = true
		if ctx.Err() != nil || errors.Is(err, errRequireTLS) {
			return nil, search.last
		}
	}
}

func (s *Server) observeSession(ep *endpoint, reused bool, took time.Duration) {
	if s.deps.Observer != nil {
		s.deps.Observer.Session(ep.host.configured, reused, took)
	}
}

func (s *Server) observeFailure(ep *endpoint, err error) {
	if s.deps.Observer == nil {
		return
	}
	stage := "connect"
	var e *smtpclient.Error
	if errors.As(err, &e) {
		stage = e.Stage
	}
	s.deps.Observer.Failed(ep.host.configured, stage)
}

// search is how far the search for a session is.
type search struct {
	hosts []*host
	tried map[*endpoint]bool
	last  error // why the one that was tried last did not work
}

// find returns a session or a slot: of those that are well first, then of those
// that rest; where all that are well are full, it waits for one of them.
func (s *Server) find(ctx context.Context, w *want, sr *search) (grant, error) {
	for _, anyway := range []bool{false, true} {
		busy := false
		for _, h := range sr.hosts {
			eps, err := s.resolve(ctx, h)
			if err != nil {
				sr.last = err
				continue
			}
			for _, ep := range eps {
				if sr.tried[ep] {
					continue
				}
				g, c := s.claim(ep, w, anyway)
				if c == granted {
					return g, nil
				}
				busy = busy || c == full
			}
		}
		if busy {
			return s.await(ctx, w)
		}
	}
	if ctx.Err() != nil {
		return grant{}, context.Cause(ctx)
	}
	return grant{}, sr.last
}

// open opens a session in the slot that was granted, which it gives back where
// that fails.
func (s *Server) open(ctx context.Context, ep *endpoint, w *want) (*session, error) {
	sess := &session{ep: ep, identity: w.identity, strict: w.strict}
	err := s.establish(ctx, sess, w)
	if err == nil {
		s.succeeded(ep)
		s.mu.Lock()
		closed := s.closed
		if !closed {
			s.sessions[sess] = struct{}{}
		}
		s.mu.Unlock()
		if !closed {
			return sess, nil
		}
		err = errClosed
	}
	if sess.conn != nil {
		sess.conn.Leave()
	}
	// Where the client or we ourselves gave up, that says nothing about the host.
	if ctx.Err() == nil && !errors.Is(err, errRequireTLS) || context.Cause(ctx) == errSlow {
		s.failed(ep)
		s.observeFailure(ep, err)
		s.log.InfoContext(ctx, "upstream not reached", "host", ep.target.String(), "error", err)
	}
	s.release(ep)
	return nil, err
}

// establish connects, and does all that comes before MAIL.
func (s *Server) establish(ctx context.Context, sess *session, w *want) error {
	var err error
	if sess.conn, err = s.connect(ctx, sess.ep, w); err != nil {
		if w.strict && errors.Is(err, smtpclient.ErrNoTLS) {
			return fmt.Errorf("%w: %w", errRequireTLS, err)
		}
		return err
	}
	s.learn(sess.ep, sess.conn.Extensions())
	if err := s.rename(ctx, sess, w); err != nil {
		return err
	}
	if s.cfg.Auth != nil {
		// After XCLIENT, which undoes a login.
		if err := sess.conn.Auth(ctx, *s.cfg.Auth); err != nil {
			return err
		}
	}
	return nil
}

// connect opens a conversation, encrypted as the policy wants it. Where TLS is
// only an opportunity and fails, it goes on in clear text: on the same connection
// if that still works, else on a new one.
func (s *Server) connect(ctx context.Context, ep *endpoint, w *want) (*smtpclient.Conn, error) {
	p, err := s.plan(ctx, ep, w.strict)
	if err != nil {
		return nil, err
	}
	o := s.opening(ep, w)
	if ep.host.implicit {
		o.TLS, o.Verified = p.cfg, p.verified
		return s.dialer.Open(ctx, ep.target, o)
	}
	conn, err := s.dialer.Open(ctx, ep.target, o)
	if err != nil || p.cfg == nil || !p.mandatory && !conn.Extensions().StartTLS {
		return conn, err
	}
	if err = conn.StartTLS(ctx, p.cfg, p.verified); err == nil {
		return conn, nil
	}
	if p.mandatory || ctx.Err() != nil {
		conn.Leave()
		return nil, err
	}
	s.log.WarnContext(ctx, "TLS failed, going on in clear text", "host", ep.target.String(), "error", err)
	if conn.Usable() {
		return conn, nil
	}
	conn.Close()
	return s.dialer.Open(ctx, ep.target, o)
}

// policy makes the TLS plans of a Server.
type policy struct {
	mode    TLSMode
	name    string
	roots   *x509.CertPool
	tickets tls.ClientSessionCache
}

// plan is what is asked of the encryption.
type plan struct {
	cfg                 *tls.Config // nil: not even tried
	mandatory, verified bool
}

// sessionTickets is how many TLS sessions are remembered.
const sessionTickets = 64

func newPolicy(cfg Config) policy {
	return policy{mode: cfg.TLS, name: cfg.TLSName, roots: cfg.Roots,
		tickets: tls.NewLRUClientSessionCache(sessionTickets)}
}

// plan decides about TLS to ep by its TLSA records, where they are asked for and there
// are any, and else as the policy does.
func (s *Server) plan(ctx context.Context, ep *endpoint, strict bool) (plan, error) {
	p := s.policy.plan(ep.host, strict)
	s.mu.Lock()
	secure := ep.secure
	s.mu.Unlock()
	if s.cfg.TLS != TLSDANE || !secure {
		return p, nil
	}
	records, err := dane.Lookup(ctx, s.deps.Resolver, ep.host.name, ep.host.port)
	if err != nil {
		return p, &smtpclient.Error{Stage: "starttls", Key: mail.ReplyNextHopBadTLS, Err: fmt.Errorf("TLSA records of %s: %w", ep.host.name, err)}
	}
	if len(records) == 0 {
		return p, nil
	}
	p.mandatory = true
	if usable := dane.Usable(records); len(usable) > 0 {
		dane.Require(p.cfg, usable, ep.host.name)
		p.verified = true
	}
	return p, nil
}

// plan decides about TLS to h. strict is for mail under REQUIRETLS, which asks for
// a verified certificate whatever the mode (RFC 8689 §4.2.1).
func (p *policy) plan(h *host, strict bool) plan {
	if p.mode == TLSOff && !strict && !h.implicit {
		return plan{}
	}
	verified := p.mode == TLSVerify || strict
	name := p.name
	if name == "" {
		name = h.tlsName()
	}
	return plan{
		cfg: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: p.roots,
			ClientSessionCache: p.tickets, InsecureSkipVerify: !verified},
		mandatory: verified || h.implicit || p.mode == TLSRequire,
		verified:  verified,
	}
}

package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// Server is a group of upstreams. It may be used by any number of goroutines.
type Server struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	dialer *smtpclient.Dialer
	policy policy
	hosts  []*host

	// ctx ends with Close; running holds the goroutines.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	turn      int
	endpoints map[string]*endpoint
	sessions  map[*session]struct{} // all that are open
	waiting   []*waiter             // the first one waits longest
	tick      *time.Timer           // runs while there are waiters and a slow start
	known     map[string]Learned    // by address
	logins    map[mail.ID]*login    // by session of a client
}

var (
	errClosed     = errors.New("upstream is closed")
	errBusy       = errors.New("no session is free")
	errNobody     = errors.New("all hosts are resting after failures")
	errRequireTLS = errors.New("the upstream does not support REQUIRETLS")
)

// New makes a Server and opens nothing yet. The error names everything that is
// wrong with cfg.
func New(cfg Config, deps Deps) (*Server, error) {
	cfg = cfg.withDefaults()
	errs := []error{cfg.check()}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, deps: deps, log: deps.Log.With("transport", cfg.Name), policy: newPolicy(cfg),
		endpoints: make(map[string]*endpoint), sessions: make(map[*session]struct{}), known: make(map[string]Learned), logins: make(map[mail.ID]*login)}
	for _, h := range cfg.Hosts {
		parsed, err := parseHost(h, cfg.Port)
		if err == nil && !parsed.fixed.IsValid() && deps.Resolver == nil {
			err = fmt.Errorf("host %q: no resolver for names", h.Address)
		}
		if err == nil {
			parsed.implicit = cfg.ImplicitTLS || parsed.port == submissions && cfg.TLS != TLSOff
		}
		errs = append(errs, err)
		s.hosts = append(s.hosts, parsed)
	}
	if (len(cfg.Hosts) == 0) != cfg.Original {
		errs = append(errs, errors.New("no hosts"))
	}
	if cfg.Spoof && (!cfg.Original || deps.DialFrom == nil) {
		errs = append(errs, errors.New("nothing connects from clients' addresses"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("make upstream %q: %w", cfg.Name, err)
	}
	s.dialer = smtpclient.NewDialer(smtpclient.Config{Hostname: cfg.Hostname, Source: cfg.Source,
		Timeouts: cfg.Timeouts, ChunkFrom: cfg.ChunkFrom, Dial: deps.Dial})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close ends all sessions, those of running transactions too: their next step is a
// Broken Result, or Lost where the end of the data was under way. It waits for the
// goroutines of the Server.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.running.Wait()
		return nil
	}
	s.closed = true
	var idle, busy []*session
	for _, ep := range s.endpoints {
		idle = append(idle, ep.idle...)
		ep.idle = nil
	}
	for _, sess := range idle {
		sess.timer.Stop()
		delete(s.sessions, sess)
	}
	for sess := range s.sessions {
		busy = append(busy, sess)
	}
	if s.tick != nil {
		s.tick.Stop()
	}
	s.mu.Unlock()
	s.cancel()
	for _, sess := range busy {
		sess.conn.Close()
	}
	for _, sess := range idle {
		s.running.Go(func() {
			sess.conn.Quit()
			s.release(sess.ep)
		})
	}
	s.running.Wait()
	return nil
}

// spawn runs f in a goroutine that Close waits for; false where it is too late.
func (s *Server) spawn(f func()) bool {
	if !s.enter() {
		return false
	}
	go func() {
		defer s.running.Done()
		f()
	}()
	return true
}

// enter makes Close wait until running.Done; false where it is too late.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// HostHealth is how one address stands.
type HostHealth struct {
	Host    string `json:"host"`    // as configured
	Address string `json:"address"` // "192.0.2.1:25"
	Open    int    `json:"open"`    // sessions
	Idle    int    `json:"idle"`    // of these, those without a transaction
	// Limit is how many sessions there may be now: less than Config.Sessions during
	// a slow start.
	Limit int `json:"limit"`
	// Failures counts the failures in a row, 0 for a healthy address; Rests is
	// until when it is left alone.
	Failures int       `json:"failures,omitempty"`
	Rests    time.Time `json:"rests,omitzero"`
}

// Health is how a Server stands.
type Health struct {
	Hosts   []HostHealth `json:"hosts"`
	Waiting int          `json:"waiting"` // transactions in the queue
}

// Health returns how the addresses that were used so far stand, in the order of the
// configuration.
func (s *Server) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Health{Waiting: len(s.waiting)}
	if s.cfg.Original {
		h.Hosts = s.originalHealthLocked()
		return h
	}
	now := time.Now()
	for _, host := range s.hosts {
		for _, ep := range s.endpoints {
			if ep.host == host {
				h.Hosts = append(h.Hosts, HostHealth{Host: host.configured, Address: ep.target.Address, Open: ep.open,
					Idle: len(ep.idle), Limit: s.limit(ep, now), Failures: ep.failures, Rests: ep.rests})
			}
		}
	}
	return h
}

// Begin opens a session, or takes one from the pool, and sends MAIL. The Tx is nil
// unless the upstream accepted it. Of the envelope it uses Session, ID, Sender,
// Body, SMTPUTF8, RequireTLS, Ret, EnvID, and as Size what the client has declared
// (0 for nothing).
func (s *Server) Begin(ctx context.Context, env *mail.Envelope) (*Tx, Result) {
	tx := newTx(s, env)
	res := tx.start(ctx)
	if !res.OK() {
		return nil, res
	}
	tx.keepAlive()
	return tx, res
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
)

// Config is what a Server needs. Queue and Health are required; without Metrics
// or Reload their paths answer 404.
type Config struct {
	Queue  Queue
	Health Health
	// Quarantine, where set, is served under /api/v1/quarantine.
	Quarantine Quarantine
	// Greylist, where set, is served under /api/v1/greylist.
	Greylist Greylist
	// Senders, where set, is served under /api/v1/senders.
	Senders SenderLists
	// Flows explains flows; nil: its paths answer 404.
	Flows Flows
	// DigestLinks, where set, answers the links in digests, on TCP.
	DigestLinks DigestLinks
	// Digests, where set, is served under /api/v1/digests, and by a link in digests.
	Digests Digests
	// Routing tells where mail goes; nil: its paths answer 404.
	Routing Routing
	// Content looks at single messages; nil: its paths answer 404.
	Content Content
	// Again looks at messages once more; nil: nobody does.
	Again Again
	// Configuration is the configuration file; nil: its paths answer 404.
	Configuration Configuration
	// Accounts are what the local administrator makes and changes at the unix socket;
	// nil: the paths answer 404.
	Accounts *accounts.Accounts
	// History is what happened, LogFiles the log; nil: their paths answer 404.
	History  History
	LogFiles LogFiles
	// Historian is told what is done here; nil: nobody.
	Historian mail.Historian
	// Gate knows who sends a request on TCP; nil: neither API nor pages are served
	// there.
	Gate *Gate
	// Pages are for browsers; nil: none.
	Pages Pages
	// Metrics answers a scrape.
	Metrics http.Handler
	// MetricsTokenFile holds the bearer token for /metrics on TCP; "" lets
	// clients on this host in, and nobody else.
	MetricsTokenFile string
	// Reload loads the configuration again, all or nothing. Its error is for the
	// administrator and may have several lines.
	Reload func(context.Context) error
	// Status tells about the process; ready and checks are added.
	Status func() Status
	Log    *slog.Logger // default: discard
	// MaxConns bounds the connections of each listener; default 100.
	MaxConns int
	// Timeout bounds a request on TCP, reading and writing; default 30 s.
	Timeout time.Duration
	// ChangeTimeout bounds an operation on the queue, which may have to look at
	// a million items; default 10 minutes.
	ChangeTimeout time.Duration
}

// Limits that nobody needs to change.
const (
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 1 << 20
	idleTimeout    = 2 * time.Minute
	headerTimeout  = 10 * time.Second
)

// Server serves the API on one kind of listener and the public paths on another.
type Server struct {
	cfg Config

	mu      sync.Mutex // guards servers and closed
	servers []*http.Server
	closed  bool
}

// New checks the configuration. It reads the token file once, so that a missing
// one is known at the start.
func New(cfg Config) (*Server, error) {
	if cfg.Queue == nil || cfg.Health == nil {
		return nil, errors.New("admin: queue and health are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Status == nil {
		cfg.Status = func() Status { return Status{} }
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = 100
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.ChangeTimeout <= 0 {
		cfg.ChangeTimeout = 10 * time.Minute
	}
	if cfg.MetricsTokenFile != "" {
		if _, err := readToken(cfg.MetricsTokenFile); err != nil {
			return nil, err
		}
	}
	return &Server{cfg: cfg}, nil
}

// API is the handler for the unix socket: the whole API. Whoever can open the
// socket is an administrator.
func (s *Server) API() http.Handler {
	r := newRouter()
	s.routeAPI(r)
	r.add(Route{Method: "GET", Path: "/healthz", Public: true, Do: plain(s.health(everything))})
	if s.cfg.Metrics != nil {
		r.add(Route{Method: "GET", Path: "/metrics", Public: true, Do: plain(s.cfg.Metrics.ServeHTTP)})
	}
	return r.handler(s.serveLocal, s.refuseJSON)
}

// routeAPI adds the routes of the API, the same ones for the socket and TCP.
func (s *Server) routeAPI(r *router) {
	s.routeQueue(r)
	s.routeChanges(r)
	s.routePauses(r)
	s.routeProcess(r)
	if s.cfg.Quarantine != nil {
		s.routeQuarantine(r)
	}
	if s.cfg.Digests != nil {
		s.routeDigests(r)
	}
	s.routeFlows(r)
	if s.cfg.Greylist != nil {
		s.routeGreylist(r)
	}
	if s.cfg.Senders != nil {
		s.routeSenders(r)
	}
	s.routeContent(r)
	s.routeAgain(r)
	s.routeRouting(r)
	s.routeConfig(r)
	if s.cfg.History != nil {
		s.routeHistory(r)
	}
	if s.cfg.LogFiles != nil {
		s.routeLog(r)
	}
	if s.cfg.Accounts != nil {
		s.routeAccounts(r)
	}
}

// Public is the handler for TCP: /healthz, /metrics where it is allowed, the pages
// behind the links of digests, and with a Gate the API and the pages.
func (s *Server) Public() http.Handler {
	r := s.publicRoutes()
	if s.cfg.Gate == nil {
		return r.handler(s.serveLocal, s.refuseJSON)
	}
	return r.handler(s.serveWeb, s.refuse)
}

func (s *Server) publicRoutes() *router {
	r := newRouter()
	r.add(Route{Method: "GET", Path: "/healthz", Public: true, Do: plain(s.health(s.mayReadMetrics))})
	if s.cfg.Metrics != nil {
		r.add(Route{Method: "GET", Path: "/metrics", Public: true, Do: plain(s.metrics)})
	}
	if s.cfg.DigestLinks != nil {
		s.routeDigestLinks(r)
	}
	if s.cfg.Gate == nil {
		return r
	}
	s.routeAPI(r)
	if s.cfg.Pages != nil {
		r.add(s.cfg.Pages.Routes()...)
	}
	return r
}

// Routes is the table of everything that is served on TCP.
func (s *Server) Routes() []*Route { return s.publicRoutes().routes }

// ServeAPI serves the API on l, a listener of ListenSocket, until Shutdown.
func (s *Server) ServeAPI(l net.Listener) error {
	return s.serve(l, &http.Server{
		Handler:     s.API(),
		ReadTimeout: s.cfg.Timeout,
		// Operations on the queue take their time; the context of the request
		// ends with the connection, or with ChangeTimeout.
		WriteTimeout: s.cfg.ChangeTimeout + s.cfg.Timeout,
	})
}

// ServePublic serves the public paths on l, which may be a TLS listener, until
// Shutdown.
func (s *Server) ServePublic(l net.Listener) error {
	return s.serve(l, &http.Server{
		Handler:      s.Public(),
		ReadTimeout:  s.cfg.Timeout,
		WriteTimeout: s.cfg.Timeout,
	})
}

func (s *Server) serve(l net.Listener, server *http.Server) error {
	server.ReadHeaderTimeout = headerTimeout
	server.IdleTimeout = idleTimeout
	server.MaxHeaderBytes = maxHeaderBytes
	server.ErrorLog = slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errors.Join(http.ErrServerClosed, l.Close())
	}
	s.servers = append(s.servers, server)
	s.mu.Unlock()
	if err := server.Serve(netutil.LimitListener(l, s.cfg.MaxConns)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown closes the listeners and waits for requests that are under way until
// ctx ends; then it closes their connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	servers := s.servers
	s.mu.Unlock()
	var errs []error
	for _, server := range servers {
		if err := server.Shutdown(ctx); err != nil {
			errs = append(errs, err, server.Close())
		}
	}
	return errors.Join(errs...)
}

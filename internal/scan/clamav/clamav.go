package clamav

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// use is the name of the block.
const use = "clamav"

// Config says where clamd is and how much may be asked of it. A zero field takes
// its default.
type Config struct {
	// Address is "unix:/path" or "tcp:host:port".
	Address string
	// Timeout bounds one stream, from connecting to the answer; 30 s.
	Timeout time.Duration
	// ConnectTimeout bounds connecting alone; 5 s.
	ConnectTimeout time.Duration
	// MaxSize is how many bytes clamd takes in one stream, its StreamMaxLength;
	// 100 MiB. What is larger is unknown.
	MaxSize int64
	// Sessions is how many messages are scanned at the same time; 8, which leaves
	// some of the ten threads that clamd has by default. Others wait.
	Sessions int
	// Streams is how many streams one message may take; 200. The rest of it is
	// unknown.
	Streams int
	// Failures is after how many failures in a row clamd counts as down; 3.
	Failures int
	// Canary is how often the test file is sent while all is well; 1 m. Retry is
	// how often while it is not; 5 s.
	Canary, Retry time.Duration
	// Observer is told what happens; nil is nobody. Log gets changes of state; nil
	// is nowhere.
	Observer Observer
	Log      *slog.Logger

	// dial connects in tests.
	dial func(ctx context.Context) (net.Conn, error)
}

// Observer counts. Its methods are called by many goroutines.
type Observer interface {
	// Streamed is called for every stream but the canary's: what came of it, how
	// many bytes clamd was given, and how long it took.
	Streamed(result mail.Result, bytes int64, took time.Duration)
	// StateChanged is called when clamd's status, version or database changes.
	StateChanged(State)
}

// Scanner is a client of one clamd.
type Scanner struct {
	cfg    Config
	client *client
	slots  chan struct{}
	health health

	mu     sync.Mutex // guards what Start and Close share
	cancel context.CancelFunc
	done   chan struct{}
}

// New returns a Scanner, which knows nothing of clamd before Start.
func New(cfg Config) (*Scanner, error) {
	network, address, ok := strings.Cut(cfg.Address, ":")
	if !ok || network != "unix" && network != "tcp" || address == "" {
		return nil, fmt.Errorf("clamd address %q: want unix:/path or tcp:host:port", cfg.Address)
	}
	if network == "tcp" {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("clamd address %q: %w", cfg.Address, err)
		}
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 5*time.Second)
	cfg.MaxSize = cmp.Or(cfg.MaxSize, 100<<20)
	cfg.Sessions = cmp.Or(cfg.Sessions, 8)
	cfg.Streams = cmp.Or(cfg.Streams, 200)
	cfg.Failures = cmp.Or(cfg.Failures, 3)
	cfg.Canary = cmp.Or(cfg.Canary, time.Minute)
	cfg.Retry = cmp.Or(cfg.Retry, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.dial == nil {
		dialer := &net.Dialer{Timeout: cfg.ConnectTimeout}
		cfg.dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, address) }
	}
	s := &Scanner{cfg: cfg, client: newClient(cfg), slots: make(chan struct{}, cfg.Sessions)}
	s.health.begin()
	return s, nil
}

// Start begins to watch clamd, until Close or the end of ctx. It does not wait
// for clamd: a Scan that comes before the first check is done does.
func (s *Scanner) Start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.mu.Lock()
	s.cancel, s.done = cancel, done
	s.mu.Unlock()
	go func() {
		defer close(done)
		s.watch(ctx)
	}()
}

// Close stops watching and returns when that has ended. Scans that are under way
// are ended by their own contexts.
func (s *Scanner) Close() error {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
	return nil
}

// errBusy says that all sessions are taken for longer than the message can wait.
var errBusy = fmt.Errorf("all sessions with clamd are taken: %w", scan.ErrBusy)

// Scan implements scan.Module. The symbol of a virus is the name of its
// signature, with "_" for ":"; the classes before a colon are "heuristic",
// "limit" and "encrypted".
func (s *Scanner) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	if size := in.Message.Body.Size(); size > s.cfg.MaxSize {
		return []mail.Finding{tooLarge(target{what: "the message"}, s.cfg.MaxSize)}, nil
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errBusy, context.Cause(ctx))
	}
	defer func() { <-s.slots }()
	r := run{s: s, in: in}
	err := r.all(ctx)
	return r.findings, err
}

package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"gatepost/internal/message"
)

// EngineConfig says how a program elsewhere is treated. A zero field takes its
// default.
type EngineConfig struct {
	// Name is what it is called in errors: "the milter".
	Name string
	// Timeout bounds one conversation; 30 s.
	Timeout time.Duration
	// Sessions is how many conversations may be under way; 8. Others wait.
	Sessions int
	// Failures is after how many failures in a row it counts as down; 3. Retry is
	// how long it is left alone then; 5 s.
	Failures int
	Retry    time.Duration
}

// Engine stands between a module and the program elsewhere that it asks. It
// bounds how much is asked at once and for how long, and leaves a program alone
// that is known to be down: after Retry one message tries it, and when that went
// well the others follow. Its methods may be called by many goroutines.
type Engine struct {
	cfg   EngineConfig
	slots chan struct{}

	mu       sync.Mutex // guards what follows; not held while waiting
	failures int
	down     bool
	trying   bool // one conversation finds out whether it is back
	since    time.Time
	until    time.Time
	why      string
}

// SourceError is an error of what is to be scanned and not of the engine.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read what is to be scanned: " + e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// errBusy says that all sessions are taken for longer than the message can wait.
var errBusy = fmt.Errorf("all sessions are taken: %w", ErrBusy)

// NewEngine returns an Engine that counts as well.
func NewEngine(cfg EngineConfig) *Engine {
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.Sessions = cmp.Or(cfg.Sessions, 8)
	cfg.Failures = cmp.Or(cfg.Failures, 3)
	cfg.Retry = cmp.Or(cfg.Retry, 5*time.Second)
	return &Engine{cfg: cfg, slots: make(chan struct{}, cfg.Sessions)}
}

// Health is nil while the engine counts as well, and otherwise says why it does
// not. It answers at once.
func (e *Engine) Health() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.down {
		return nil
	}
	return e.refusal()
}

func (e *Engine) refusal() error {
	return fmt.Errorf("%s is down since %s: %s", e.cfg.Name, e.since.Format(time.RFC3339), e.why)
}

// Do calls f in one of the sessions, with a context that ends after the timeout.
// An error of f counts as a failure of the engine unless it is a SourceError or
// ctx was cancelled.
func (e *Engine) Do(ctx context.Context, f func(context.Context) error) error {
	trial, err := e.begin()
	if err != nil {
		return err
	}
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		err = fmt.Errorf("ask %s: %w: %w", e.cfg.Name, errBusy, context.Cause(ctx))
		e.end(trial, err, true)
		return err
	}
	defer func() { <-e.slots }()
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()
	err = f(limited)
	if err == nil {
		e.end(trial, nil, false)
		return nil
	}
	var source *SourceError
	innocent := errors.As(err, &source) || errors.Is(ctx.Err(), context.Canceled) ||
		// A message that came here with hardly any time left says nothing either.
		ctx.Err() != nil && time.Since(begun) < e.cfg.Timeout/2
	e.end(trial, err, innocent)
	return fmt.Errorf("ask %s: %w", e.cfg.Name, err)
}

// begin reports whether the engine may be asked, and whether that is a trial.
func (e *Engine) begin() (trial bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !e.down:
		return false, nil
	case e.trying || time.Now().Before(e.until):
		return false, e.refusal()
	}
	e.trying = true
	return true, nil
}

// end takes note of how a conversation went.
func (e *Engine) end(trial bool, err error, innocent bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if trial {
		e.trying = false
	}
	switch {
	case err == nil:
		e.failures, e.down = 0, false
	case innocent:
	default:
		e.failures++
		if !e.down && e.failures < e.cfg.Failures {
			return
		}
		if !e.down {
			e.since = time.Now()
		}
		e.down, e.until = true, time.Now().Add(e.cfg.Retry)
		e.why = message.SafeText(err.Error(), 200)
	}
}

// Dial connects to an engine.
type Dial func(ctx context.Context) (net.Conn, error)

// connectTimeout bounds connecting alone.
const connectTimeout = 5 * time.Second

// Dialer returns what connects to "unix:/path" or "tcp:host:port".
func Dialer(address string) (Dial, error) {
	network, at, ok := strings.Cut(address, ":")
	if !ok || network != "unix" && network != "tcp" || at == "" {
		return nil, fmt.Errorf("address %q: want unix:/path or tcp:host:port", address)
	}
	if network == "tcp" {
		if _, _, err := net.SplitHostPort(at); err != nil {
			return nil, fmt.Errorf("address %q: %w", address, err)
		}
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	return func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, at) }, nil
}

// Converse is Do with a connection of its own for f, which is closed behind it and
// wakes f when the context ends.
func (e *Engine) Converse(ctx context.Context, dial Dial, f func(net.Conn) error) error {
	return e.Do(ctx, func(ctx context.Context) error {
		c, err := dial(ctx)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("connect: %w", err)
		}
		defer func() { _ = c.Close() }() // what it said was read; there is nothing to lose
		// A deadline in the past wakes reads and writes, those to come included.
		stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		err = f(c)
		if err != nil && ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return context.Cause(ctx)
		}
		return err
	})
}

package pop3proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatepost/internal/mail"
)

// Options are what several servers share. Each may be nil.
type Options struct {
	Limiter  Limiter
	Log      *slog.Logger
	Observer Observer
}

// Server runs the sessions of one listener, which may have several sockets.
type Server struct {
	opts    Options
	current atomic.Pointer[settings]
	buffers sync.Pool // *[dataBuffer]byte
	// ctx is the hooks' context; it ends when sessions must stop now.
	ctx      context.Context
	cancel   context.CancelFunc
	draining chan struct{} // closed when no new work is to be begun

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	wg        sync.WaitGroup // of sessions
}

// settings are what a session keeps until its end, whatever Reload brings.
type settings struct {
	Config
	hooks Hooks
}

// New returns a server. It fails when the configuration lacks something.
func New(c Config, h Hooks, o Options) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o, draining: make(chan struct{}), listeners: make(map[net.Listener]struct{}), sessions: make(map[*session]struct{})}
	s.buffers.New = func() any { return new([dataBuffer]byte) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.current.Store(&settings{c.withDefaults(), h})
	return s, nil
}

// Reload makes new sessions use another configuration; running ones keep theirs.
func (s *Server) Reload(c Config, h Hooks) error {
	if err := c.check(); err != nil {
		return err
	}
	s.current.Store(&settings{c.withDefaults(), h})
	return nil
}

// Serve accepts connections until ctx ends or the server is shut down, which is no
// error, and closes ln. The sessions go on: Shutdown ends them.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if !s.track(ln) {
		ln.Close()
		return nil
	}
	defer s.untrack(ln)
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var pause time.Duration
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case !isShortage(err):
			return fmt.Errorf("accept connection: %w", err)
		default:
			// Connections wait in the kernel meanwhile; without a pause this would spin.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.opts.Log.Warn("cannot accept connections", "listener", s.current.Load().Listener, "error", err, "retry", pause)
			sleep(ctx, s.draining, pause)
		}
	}
}

// isShortage reports whether Accept may work again later.
func isShortage(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR,
		syscall.EAGAIN, syscall.EPERM, syscall.EPROTO, syscall.ENETDOWN, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) track(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.listeners[ln] = struct{}{}
	}
	return !s.closing
}

func (s *Server) untrack(ln net.Listener) {
	ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

// start begins a session, or sends the client away.
func (s *Server) start(conn net.Conn) {
	set := s.current.Load()
	if l := s.opts.Limiter; l != nil && !l.Enter() {
		s.turnAway(conn, set, replyTooMany)
		return
	}
	sess := newSession(s, set, conn)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		s.leave()
		s.turnAway(conn, set, replyStopping)
		return
	}
	s.sessions[sess] = struct{}{}
	s.wg.Go(func() {
		defer s.finished(sess)
		sess.run()
	})
	s.mu.Unlock()
}

func (s *Server) leave() {
	if s.opts.Limiter != nil {
		s.opts.Limiter.Leave()
	}
}

func (s *Server) finished(sess *session) {
	s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess)
}

// turnAway answers without a session. The send buffer of a new connection is empty, so
// the write does not wait; a TLS client learns nothing but the close.
func (s *Server) turnAway(conn net.Conn, set *settings, reply string) {
	if set.TLS != TLSImplicit {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write([]byte(reply + "\r\n")); err == nil {
			s.replied(set, "CONNECT", false)
		}
	}
	conn.Close()
}

func (s *Server) replied(set *settings, verb string, ok bool) {
	if s.opts.Observer != nil {
		s.opts.Observer.POPReplied(set.Listener, verb, ok)
	}
}

// Shutdown takes no new connections, ends sessions that wait for a command, and waits
// for those that fetch a message. When ctx ends first, these are cut off, and Shutdown
// returns its error. Nothing is deleted at any server by this.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		close(s.draining)
	}
	for ln := range s.listeners {
		ln.Close()
	}
	for sess := range s.sessions {
		sess.stop()
	}
	s.mu.Unlock()
	defer s.cancel()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for sess := range s.sessions {
		sess.kill()
	}
	s.mu.Unlock()
	timer := time.NewTimer(killGrace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
	return fmt.Errorf("shut down proxy: %w", ctx.Err())
}

// killGrace is how long sessions may take to end that must stop now.
const killGrace = 2 * time.Second

// sleep waits for d, or less if the server stops. It reports whether it was d.
func sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

// tlsState describes a finished handshake.
func tlsState(cs tls.ConnectionState) mail.TLS {
	return mail.TLS{
		Version:  strings.Replace(tls.VersionName(cs.Version), "TLS ", "TLSv", 1),
		Cipher:   tls.CipherSuiteName(cs.CipherSuite),
		Verified: len(cs.VerifiedChains) > 0,
	}
}

// addrPort returns the address of an IP connection, the zero value for others.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// within reports whether the address is in one of the networks.
func within(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

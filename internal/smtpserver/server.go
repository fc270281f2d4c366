package smtpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// Options are what several servers share. Each may be nil.
type Options struct {
	Limiter  *Limiter
	Log      *slog.Logger
	Observer Observer
}

// Server runs the sessions of one listener, which may have several sockets.
type Server struct {
	opts     Options
	current  atomic.Pointer[settings]
	replies  []mail.Reply // the table, made once so that replies don't allocate
	outBufs  sync.Pool    // *[]byte for replies
	dataBufs sync.Pool    // *[dataBuffer]byte for mail data
	// ctx is the hooks' context; it ends when sessions must stop now. Commits have
	// a little longer, in commitCtx: better to finish one than to try it again.
	ctx, commitCtx       context.Context
	cancel, cancelCommit context.CancelFunc
	// draining is closed when no new work is to be begun.
	draining chan struct{}

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	wg        sync.WaitGroup // of sessions
}

// settings are what a session keeps until its end, whatever Reload brings.
type settings struct {
	Config
	hooks      Hooks
	extensions smtp.Extensions
	authLine   string // EHLO's "AUTH …"
}

func newSettings(c Config, h Hooks) (*settings, error) {
	if err := c.check(h); err != nil {
		return nil, err
	}
	s := &settings{Config: c.withDefaults(), hooks: h}
	s.Auth = slices.Clone(s.Auth)
	for i, m := range s.Auth {
		s.Auth[i] = strings.ToUpper(m)
	}
	s.extensions = s.Config.extensions(h)
	s.authLine = "AUTH " + strings.Join(s.Auth, " ")
	return s, nil
}

// offer is what a client is promised now.
func (s *settings) offer(to *mail.Session) Offer {
	all := Offer{s.extensions, s.MaxMessageSize, s.MaxRecipients}
	if s.Offer == nil {
		return all
	}
	o := s.Offer(to, s.extensions)
	o.Extensions &= s.extensions
	if o.MessageSize <= 0 || o.MessageSize > s.MaxMessageSize {
		o.MessageSize = s.MaxMessageSize
	}
	if o.Recipients <= 0 || o.Recipients > s.MaxRecipients {
		o.Recipients = s.MaxRecipients
	}
	return o
}

// New returns a server. It fails when the configuration lacks something.
func New(c Config, h Hooks, o Options) (*Server, error) {
	set, err := newSettings(c, h)
	if err != nil {
		return nil, err
	}
	if o.Limiter == nil {
		o.Limiter = NewLimiter(Limits{})
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		opts:      o,
		draining:  make(chan struct{}),
		listeners: make(map[net.Listener]struct{}),
		sessions:  make(map[*session]struct{}),
	}
	for _, k := range mail.ReplyKeys() {
		s.replies = append(s.replies, k.Reply())
	}
	s.outBufs.New = func() any { b := make([]byte, 0, outBuffer); return &b }
	s.dataBufs.New = func() any { return new([dataBuffer]byte) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.commitCtx, s.cancelCommit = context.WithCancel(context.Background())
	s.current.Store(set)
	return s, nil
}

// Reload makes new sessions use another configuration; running ones keep theirs.
func (s *Server) Reload(c Config, h Hooks) error {
	set, err := newSettings(c, h)
	if err != nil {
		return err
	}
	s.current.Store(set)
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
			// Connections wait in the kernel meanwhile. Without a pause this
			// would spin until somebody frees a descriptor.
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
	if !s.opts.Limiter.enter() {
		s.turnAway(conn, set, mail.ReplyTooManySessions)
		return
	}
	sess := newSession(s, set, conn)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		s.opts.Limiter.leave()
		s.turnAway(conn, set, mail.ReplyShuttingDown)
		return
	}
	s.sessions[sess] = struct{}{}
	s.wg.Go(func() {
		defer s.finished(sess)
		sess.run()
	})
	s.mu.Unlock()
}

func (s *Server) finished(sess *session) {
	s.opts.Limiter.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, sess)
}

// turnAway answers without a session. The send buffer of a new connection is
// empty, so the write does not wait; a TLS client learns nothing but the close.
func (s *Server) turnAway(conn net.Conn, set *settings, key mail.ReplyKey) {
	s.noteAway(conn, set, key)
	if set.TLS != TLSImplicit {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		r := s.replies[key]
		if _, err := conn.Write(r.Append(nil)); err == nil {
			s.replied(set, "CONNECT", r.Code)
		}
	}
	conn.Close()
}

func (s *Server) replied(set *settings, verb string, code int) {
	if s.opts.Observer != nil {
		s.opts.Observer.Replied(set.Listener, verb, code)
	}
}

// Shutdown takes no new connections, ends sessions that wait for a command with
// 421, and waits for those that receive a message. When ctx ends first, these get
// 421 too, and Shutdown returns its error.
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
	defer s.cancelCommit()
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
	s.killAll(done)
	return fmt.Errorf("shut down server: %w", ctx.Err())
}

// killGrace is how long sessions may take to say 421 when they must stop now.
const killGrace = 2 * time.Second

// killAll makes every session stop now, and closes the connections of those that
// do not.
func (s *Server) killAll(done <-chan struct{}) {
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
		return
	case <-timer.C:
	}
	s.cancelCommit()
	s.mu.Lock()
	for sess := range s.sessions {
		sess.raw.Close()
	}
	s.mu.Unlock()
	timer.Reset(killGrace)
	select {
	case <-done:
	case <-timer.C:
	}
}

// sleep waits for d, or less if the server stops.
func sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-stop:
	}
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

package pop3proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"gatepost/internal/intercept"
	"gatepost/internal/mail"
	"gatepost/internal/pop3"
)

// What clients hear of us. The codes are those of RFC 2449 §8 and RFC 3206 §4, which
// say whose fault it is and whether it will pass.
const (
	replyTooMany     = "-ERR [SYS/TEMP] too many sessions, try again later"
	replyTooManyHere = "-ERR [SYS/TEMP] too many sessions from your network"
	replyStopping    = "-ERR [SYS/TEMP] shutting down, try again"
	replyNotThrough  = "-ERR [SYS/PERM] this connection leads nowhere"
	replyProxyHeader = "-ERR [SYS/PERM] PROXY header expected"
	replyNoServer    = "-ERR [SYS/TEMP] the server does not answer"
	replyUnknown     = "-ERR unknown command"
	replyBadLine     = "-ERR bad command line"
	replyTooLong     = "-ERR line too long"
	replyTooManyErrs = "-ERR too many errors"
	replyInternal    = "-ERR [SYS/TEMP] internal error"
	replyLoginFirst  = "-ERR log in first"
	replyLoggedIn    = "-ERR you are logged in"
	replyArguments   = "-ERR wrong arguments"
)

// session is one connection, from accept to close. Only its own goroutine uses it, but
// for wire.stop and wire.kill.
type session struct {
	wire
	set     *settings
	sess    mail.Session
	network netip.Prefix // to leave in the limiter; invalid if not counted

	up *upstream // nil: nobody is behind yet
	// named is the user that USER gave, since STLS; authorized says that the login is done.
	named      string
	authorized bool

	uidls map[int]string
	// noUIDL counts how often the server did not know one.
	noUIDL   int
	replaced map[int]bool
	deleted  int // since RSET
	kept     *kept

	faults int
	sum    Summary
	// over is set when no more commands are to be read; linger tells close how.
	over, linger bool
}

func newSession(srv *Server, set *settings, conn net.Conn) *session {
	s := &session{set: set}
	s.wire = wire{srv: srv, raw: conn, conn: conn, writeTimeout: set.WriteTimeout}
	s.in = pop3.NewReader(&s.wire, lineBuffer)
	s.sess = mail.Session{
		ID: mail.NewID(), Listener: set.Listener, Protocol: mail.POP3,
		Client: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr()), Started: time.Now(),
	}
	if c, ok := conn.(*intercept.Conn); ok {
		s.sess.Original = c.Original()
	}
	return s
}

// run is the session's goroutine.
func (s *session) run() {
	if o := s.srv.opts.Observer; o != nil {
		o.POPSessionStarted(s.set.Listener)
	}
	defer s.finish()
	defer func() {
		if p := recover(); p != nil {
			s.log(slog.LevelError, "session panicked", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			s.endBecause("panic")
			s.out = nil // it may hold a part of an answer
		}
	}()
	if s.open() {
		for !s.over {
			s.step()
		}
	}
	if s.flush() != nil {
		s.endBecause("write failed")
	}
}

// step reads and answers one command.
func (s *session) step() {
	line, ok := s.readLine(s.set.MaxCommandLine, s.set.IdleTimeout)
	if !ok {
		return
	}
	c, err := pop3.ParseCommand(line)
	if err != nil {
		s.refuse("LINE", replyBadLine)
		return
	}
	// What an AUTH goes on with would overwrite the line.
	c.Arg = append([]byte(nil), c.Arg...)
	s.execute(c)
}

// execute runs a command and answers it.
func (s *session) execute(c pop3.Command) {
	switch c.Verb {
	case pop3.VerbCAPA:
		s.capa()
	case pop3.VerbSTLS:
		s.stls(c)
	case pop3.VerbUSER, pop3.VerbPASS, pop3.VerbAPOP, pop3.VerbAUTH:
		s.login(c)
	case pop3.VerbUTF8, pop3.VerbLANG:
		s.international(c)
	case pop3.VerbQUIT:
		s.quit()
	case pop3.VerbNOOP:
		s.noop(c)
	case pop3.VerbUnknown:
		// Nobody knows what a server would make of it: it might show a message.
		s.refuse("UNKNOWN", replyUnknown)
	default:
		if !s.authorized {
			s.refuse(c.Verb.String(), replyLoginFirst)
			return
		}
		s.mailbox(c)
	}
}

// readLine returns the client's next line. It reports false when the session is over.
func (s *session) readLine(limit int, timeout time.Duration) ([]byte, bool) {
	if !s.in.HasLine() {
		// RFC 2449 §6.6: a client may have sent several commands; the answers to them go
		// out together, but are never held back.
		if s.flush() != nil {
			s.endBecause("write failed")
			return nil, false
		}
		if s.stopping() {
			s.endBecause("shutting down")
			return nil, false
		}
		// One deadline for the whole line: a byte now and then is no activity.
		s.readBy(time.Now().Add(timeout), true)
	}
	line, _, err := s.in.ReadLine(limit)
	switch {
	case err == nil:
		return line, true
	case errors.Is(err, pop3.ErrLineTooLong):
		s.say("LINE", replyTooLong)
		s.linger = true
		s.endBecause("line too long")
	case errors.Is(err, os.ErrDeadlineExceeded) && s.stopping():
		s.endBecause("shutting down")
	case errors.Is(err, os.ErrDeadlineExceeded):
		// RFC 1939 §3: the connection is closed without a word, and nothing is deleted.
		s.endBecause("idle")
	case errors.Is(err, io.EOF):
		s.endBecause("closed by client")
	default:
		s.endBecause("connection lost")
	}
	return nil, false
}

// say answers with a line of our own.
func (s *session) say(verb, line string) {
	s.relay(verb, []byte(line))
}

// relay answers with a line, the server's or ours.
func (s *session) relay(verb string, line []byte) {
	ok := pop3.ParseStatus(line) != pop3.StatusErr
	s.srv.replied(s.set, verb, ok)
	if s.srv.opts.Log.Enabled(s.srv.ctx, slog.LevelDebug) {
		s.log(slog.LevelDebug, "command", slog.String("verb", verb), slog.Bool("ok", ok), slog.String("code", pop3.Code(line)))
	}
	s.put(pop3.SafeLine(line), []byte("\r\n"))
}

// put buffers parts of an answer.
func (s *session) put(parts ...[]byte) {
	for _, p := range parts {
		if _, err := s.Write(p); err != nil {
			s.out = nil
			s.endBecause("write failed")
			return
		}
	}
}

// refuse answers a command that is not passed on. A client that goes on like that is
// slowed down, then sent away.
func (s *session) refuse(verb, line string) {
	s.faults++
	s.sum.Errors++
	switch {
	case s.faults > s.set.MaxErrors:
		s.say(verb, replyTooManyErrs)
		s.linger = true
		s.endBecause("too many errors")
		return
	case s.faults > s.set.MaxErrors/2:
		s.pause(s.set.ErrorDelay)
	}
	s.say(verb, line)
}

// pause holds an answer back. What was answered before is sent first.
func (s *session) pause(d time.Duration) {
	if d <= 0 || s.over {
		return
	}
	if s.flush() != nil {
		s.endBecause("write failed")
		return
	}
	sleep(s.srv.ctx, s.srv.draining, d)
}

// lost ends a session whose server is gone, without a word: what the client has marked
// is not deleted, and it must not believe otherwise.
func (s *session) lost(err error) {
	s.log(slog.LevelInfo, "server lost", slog.String("client", s.sess.Client.String()), slog.String("server", s.sess.Server), slog.String("error", err.Error()))
	if errors.Is(err, io.EOF) {
		s.endBecause("closed by server")
		return
	}
	s.endBecause("server lost: " + err.Error())
}

// ask sends a command to the server and returns the first line of its reply. It reports
// false when the server is gone, and with it the session.
func (s *session) ask(line string) (reply []byte, bare, ok bool) {
	reply, bare, err := s.up.ask(line)
	if err != nil {
		s.lost(err)
		return nil, false, false
	}
	return reply, bare, true
}

// endBecause makes this the last command. The first reason counts.
func (s *session) endBecause(reason string) {
	s.over = true
	if s.sum.Reason == "" {
		s.sum.Reason = reason
	}
}

// snapshot is the session as it stands in an envelope.
func (s *session) snapshot() mail.Session { return s.sess }

// finish releases what the session holds and gives the account of it.
func (s *session) finish() {
	s.forget()
	s.leaveServer()
	s.close(s.linger)
	if l := s.srv.opts.Limiter; l != nil && s.network.IsValid() {
		l.LeaveFrom(s.network)
	}
	s.sum.Duration = time.Since(s.sess.Started)
	s.sum.BytesOut = s.sent
	if o := s.srv.opts.Observer; o != nil {
		o.POPSessionEnded(s.set.Listener, s.sum.Duration)
	}
	t := s.set.hooks.Traffic
	if t == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			s.log(slog.LevelError, "end hook panicked", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
		}
	}()
	t.Ended(&s.sess, s.sum)
}

// leaveServer closes the connection to the server. It never says QUIT.
func (s *session) leaveServer() {
	if s.up == nil {
		return
	}
	s.sum.UpstreamTLS = s.up.tls
	s.up.conn.Close()
	s.behind(nil)
	s.up = nil
}

// safeUser is a user's name as it may stand in logs and addresses.
func safeUser(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(name, "?"))
	return name[:min(len(name), 255)]
}

// log writes a line with the session's ID.
func (s *session) log(level slog.Level, msg string, attrs ...slog.Attr) {
	l := s.srv.opts.Log
	if !l.Enabled(context.Background(), level) {
		return
	}
	l.LogAttrs(context.Background(), level, msg, append(attrs, slog.String("session", s.sess.ID.String()), slog.String("listener", s.set.Listener))...)
}

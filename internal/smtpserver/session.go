package smtpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"time"

	"gatepost/internal/intercept"
	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// maxFindings bounds what hooks and the engine note about one session.
const maxFindings = 256

// session is one connection, from accept to close. Only its own goroutine uses
// it, but for wire.stop and wire.kill.
type session struct {
	wire
	set     *settings
	sess    mail.Session
	network netip.Prefix // to leave in the limiter; invalid if not counted
	xclient bool         // may send XCLIENT, now and after an XCLIENT

	helo    bool       // HELO or EHLO was accepted
	offer   Offer      // what the last of them promised
	refused mail.Reply // service is refused: every command gets this
	// refusedLast says that the first one to get it is the last.
	refusedLast bool
	tx          transaction
	rx          receiver
	// asked is the address that the present command names, for the log.
	asked string

	faults, junk int // since the last accepted message
	events       int // that the history was told
	sum          Summary
	// over is set when no more commands are to be read; linger tells close how.
	over, linger, greeted bool
}

// transaction is what MAIL began; env is nil outside of one.
type transaction struct {
	env      *mail.Envelope
	tries    int // RCPT commands
	accepted int // of these, how many were
	refused  int // and how many were not
	// findings are what hooks saw of this transaction. Only at its end are they in
	// env.Session: what one recipient counted is not the next one's.
	findings []mail.Finding
	// committed says that the message was handed over: the reset hook has no part in it.
	committed bool
}

func newSession(srv *Server, set *settings, conn net.Conn) *session {
	s := &session{set: set}
	s.wire = wire{srv: srv, raw: conn, conn: conn, writeTimeout: set.WriteTimeout}
	s.in = smtp.NewLineReader(&s.wire, lineBuffer, set.MaxCommandLine)
	s.sess = mail.Session{
		ID:       mail.NewID(),
		Listener: set.Listener,
		Client:   addrPort(conn.RemoteAddr()),
		Local:    addrPort(conn.LocalAddr()),
		Started:  time.Now(),
	}
	if c, ok := conn.(*intercept.Conn); ok {
		s.sess.Original = c.Original()
	}
	s.offer = set.offer(&s.sess)
	return s
}

// run is the session's goroutine.
func (s *session) run() {
	if o := s.srv.opts.Observer; o != nil {
		o.SessionStarted(s.set.Listener)
	}
	defer s.finish()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p)
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
	line, failed := s.readLine()
	if line == nil {
		if !s.over {
			s.respond("LINE", failed)
		}
		return
	}
	c, err := smtp.ParseCommand(line)
	switch {
	case err != nil:
		s.refuseLine(c.Verb, mail.ReplyBadCommand)
	case len(line)+2 > s.set.MaxCommandLine && c.Verb != smtp.VerbAUTH:
		s.refuseLine(c.Verb, mail.ReplyLineTooLong)
	case c.Verb != smtp.VerbUnknown && !smtp.IsASCII(c.Arg) && !takesUTF8(c.Verb):
		s.refuseLine(c.Verb, mail.ReplySyntax)
	default:
		s.execute(c)
	}
}

// refuseLine answers a command that is not looked at. Behind a BDAT there is a
// chunk, of a size that nobody will know.
func (s *session) refuseLine(v smtp.Verb, key mail.ReplyKey) {
	d := s.say(key)
	switch {
	case v == smtp.VerbBDAT:
		d = s.sayAndLinger(key)
	case s.refused.Code != 0:
		d = s.unwanted()
	}
	s.respond(v.String(), d)
}

// unwanted is the answer to everything where service is refused.
func (s *session) unwanted() mail.Decision {
	return mail.Decision{Act: actOf(s.refused), Reply: s.refused, Close: s.refusedLast}
}

// readLine returns the next line, or nil and what to answer to its failure. When
// the client is gone it sets over.
func (s *session) readLine() ([]byte, mail.Decision) {
	if !s.in.HasLine() {
		// RFC 2920 §3.2: replies are sent together, but never held back when
		// there is nothing left to answer.
		if s.flush() != nil {
			s.endBecause("write failed")
			return nil, mail.Decision{}
		}
		s.release()
	}
	timeout, reason := s.set.CommandTimeout, mail.ReplyIdle
	if s.rx.active {
		timeout, reason = s.rx.patience(s)
	} else if s.stopping() {
		return nil, s.sayLast(mail.ReplyShuttingDown)
	}
	if !s.in.HasLine() {
		// One deadline for the whole line: a client that sends a byte now and
		// then is not active.
		s.readBy(time.Now().Add(timeout), !s.rx.active)
	}
	line, err := s.in.ReadLine()
	switch {
	case err == nil:
		return line, mail.Decision{}
	case errors.Is(err, smtp.ErrLineTooLong):
		return nil, s.say(mail.ReplyLineTooLong)
	case errors.Is(err, smtp.ErrLineFlood):
		return nil, s.sayAndLinger(mail.ReplyLineTooLong)
	case errors.Is(err, smtp.ErrStrayLineEnd):
		return nil, s.sayAndLinger(mail.ReplyLineEnd)
	case errors.Is(err, os.ErrDeadlineExceeded) && s.stopping():
		return nil, s.sayLast(mail.ReplyShuttingDown)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, s.sayLast(reason)
	}
	s.lost(err)
	return nil, mail.Decision{}
}

// lost ends a session whose client is gone.
func (s *session) lost(err error) {
	s.discardOut()
	if errors.Is(err, io.EOF) {
		s.endBecause("closed by client")
		return
	}
	s.endBecause("connection lost")
}

// execute runs a command and answers it.
func (s *session) execute(c smtp.Command) {
	verb := c.Verb.String()
	if d, ok := s.admits(c.Verb); !ok {
		if c.Verb == smtp.VerbBDAT {
			s.refuseChunk(c.Arg, d)
			return
		}
		s.respond(verb, d)
		return
	}
	switch c.Verb {
	case smtp.VerbHELO, smtp.VerbEHLO:
		s.respond(verb, s.hello(c))
	case smtp.VerbMAIL:
		s.respond(verb, s.mail(c.Arg))
	case smtp.VerbRCPT:
		s.respond(verb, s.rcpt(c.Arg))
	case smtp.VerbDATA:
		s.data(c.Arg)
	case smtp.VerbBDAT:
		s.bdat(c.Arg)
	case smtp.VerbSTARTTLS:
		s.startTLS(c.Arg)
	case smtp.VerbAUTH:
		s.respond(verb, s.auth(c.Arg))
	case smtp.VerbXCLIENT:
		s.xclientCommand(c.Arg)
	default:
		s.respond(verb, s.minor(c))
	}
}

// admits reports whether the session is in a state in which the verb is looked at,
// and what to answer where it is not.
func (s *session) admits(v smtp.Verb) (mail.Decision, bool) {
	if s.refused.Code != 0 && v != smtp.VerbQUIT {
		return s.unwanted(), false
	}
	if isJunk(v) {
		if s.junk++; s.junk > s.set.MaxJunk {
			return s.sayAndLinger(mail.ReplyTooManyErrors), false
		}
	}
	if s.rx.active && !mayInterruptChunks(v) {
		return s.say(mail.ReplyBdatPending), false
	}
	// RFC 3207 §4: where TLS is required, only these come before it.
	if s.set.TLS == TLSRequired && !s.sess.TLS.Active() && !mayPrecedeTLS(v) {
		return s.say(mail.ReplyNeedTLS), false
	}
	return mail.Decision{}, true
}

// takesUTF8 reports whether the verb's argument may hold UTF-8 (RFC 6531 §3.3);
// these verbs refuse it themselves where it may not.
func takesUTF8(v smtp.Verb) bool {
	switch v {
	case smtp.VerbMAIL, smtp.VerbRCPT, smtp.VerbVRFY, smtp.VerbEXPN:
		return true
	}
	return false
}

// isJunk reports whether the verb brings no mail forward.
func isJunk(v smtp.Verb) bool {
	switch v {
	case smtp.VerbMAIL, smtp.VerbRCPT, smtp.VerbDATA, smtp.VerbBDAT, smtp.VerbSTARTTLS, smtp.VerbQUIT:
		return false
	}
	return true
}

// mayInterruptChunks reports whether the verb may stand between two BDAT.
func mayInterruptChunks(v smtp.Verb) bool {
	switch v {
	case smtp.VerbMAIL, smtp.VerbRCPT, smtp.VerbDATA, smtp.VerbSTARTTLS, smtp.VerbAUTH, smtp.VerbXCLIENT:
		return false
	}
	return true
}

// mayPrecedeTLS reports whether the verb is answered before a required STARTTLS.
// HELO and RSET are harmless, XCLIENT is for the proxy in front of us.
func mayPrecedeTLS(v smtp.Verb) bool {
	switch v {
	case smtp.VerbEHLO, smtp.VerbHELO, smtp.VerbSTARTTLS, smtp.VerbNOOP, smtp.VerbRSET, smtp.VerbQUIT,
		smtp.VerbXCLIENT, smtp.VerbHTTP, smtp.VerbUnknown:
		return true
	}
	return false
}

// endBecause makes this the last command. The first reason counts.
func (s *session) endBecause(reason string) {
	s.over = true
	if s.sum.Reason == "" {
		s.sum.Reason = reason
	}
}

// resetTransaction forgets the envelope, and the message if there is one.
func (s *session) resetTransaction() {
	s.rx.abort()
	env, hook := s.tx.env, s.set.hooks.Reset
	if env != nil && !s.tx.committed && hook != nil {
		defer hook.Reset(env)
	}
	s.rx = receiver{}
	s.tx = transaction{}
}

// snapshot is the session as it stands in an envelope. The findings are clipped,
// so that neither can write into the other's.
func (s *session) snapshot() mail.Session {
	c := s.sess
	c.Findings = slices.Clip(c.Findings)
	return c
}

// withFindings is the snapshot with what was seen of the transaction.
func (s *session) withFindings() mail.Session {
	c := s.snapshot()
	c.Findings = addFindings(c.Findings, s.tx.findings)
	return c
}

// note adds findings to the session, each once.
func (s *session) note(f ...mail.Finding) { s.sess.Findings = addFindings(s.sess.Findings, f) }

// addFindings adds those that are new, up to the bound.
func addFindings(all, more []mail.Finding) []mail.Finding {
	for i := range more {
		if len(all) >= maxFindings {
			break
		}
		if !slices.ContainsFunc(all, func(f mail.Finding) bool { return sameFinding(&f, &more[i]) }) {
			all = append(all, more[i])
		}
	}
	return all
}

// sameFinding looks first at what most findings differ in: the rest is costly, and a
// message may have a thousand recipients.
func sameFinding(a, b *mail.Finding) bool {
	return a.Module == b.Module && a.Symbol == b.Symbol && a.Reason == b.Reason &&
		slices.Equal(a.Recipients, b.Recipients) && reflect.DeepEqual(a, b)
}

// outOfTurn notes once that the client did not wait for its turn.
func (s *session) outOfTurn(symbol, reason string) {
	for _, f := range s.sess.Findings {
		if f.Module == "protocol" && f.Symbol == symbol {
			return
		}
	}
	s.note(mail.Finding{Module: "protocol", Symbol: symbol, Result: mail.Match, Reason: reason})
}

// panicked ends a session after a bug, ours or a hook's. What was to be answered
// before is sent; a panic in here is not caught again.
func (s *session) panicked(p any) {
	s.log(slog.LevelError, "session panicked", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	s.endBecause("panic")
	s.resetTransaction()
	s.write("PANIC", s.srv.replies[mail.ReplyInternal])
	if err := s.flush(); err != nil {
		s.discardOut()
	}
}

// finish releases what the session holds and gives the account of it.
func (s *session) finish() {
	s.resetTransaction()
	s.close(s.linger)
	s.srv.opts.Limiter.leaveFrom(s.network)
	s.sum.Duration = time.Since(s.sess.Started)
	if o := s.srv.opts.Observer; o != nil {
		o.SessionEnded(s.set.Listener, s.sum.Duration)
	}
	s.log(slog.LevelInfo, "session ended", slog.String("client", s.sess.Client.String()), slog.String("helo", s.sess.Helo),
		slog.String("reason", s.sum.Reason), slog.Int("messages", s.sum.Messages), slog.Int("errors", s.sum.Errors),
		slog.Int64("bytes", s.sum.BytesIn), slog.Duration("duration", s.sum.Duration))
	s.noteEnd()
	if h := s.set.hooks.End; h != nil && s.greeted {
		defer func() {
			if p := recover(); p != nil {
				s.log(slog.LevelError, "end hook panicked", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			}
		}()
		h.End(&s.sess, s.sum)
	}
}

// log writes a line with the session's ID.
func (s *session) log(level slog.Level, msg string, attrs ...slog.Attr) {
	l := s.srv.opts.Log
	if !l.Enabled(context.Background(), level) {
		return
	}
	if s.sess.Original.IsValid() {
		attrs = append(attrs, slog.String("original", s.sess.Original.String()))
	}
	l.LogAttrs(context.Background(), level, msg, append(attrs, slog.String("session", s.sess.ID.String()), slog.String("listener", s.set.Listener))...)
}

package upstream

import (
	"context"
	"errors"
	"slices"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// login is the session in which a client has logged in at an upstream. It is the
// client's until Logout: nobody else's mail goes through it, and the client's goes
// through no other one.
type login struct {
	// free has the session while no transaction has it; gone is closed when it has ended.
	free chan *session
	gone chan struct{}
	ping *time.Timer
	// over says that the client is gone, ended that gone is closed. Both are under
	// Server.mu.
	over, ended bool
}

// LoginRequest is an AUTH of a client.
type LoginRequest struct {
	Mechanism string
	// Initial is the initial response as the client wrote it, "" for none.
	Initial string
	// Answer returns what the client says to a challenge, both in base64 as they stand on
	// the wire; "*" where it gives up (RFC 4954 §4).
	Answer func(challenge string) string
}

var errLoginLost = errors.New("the session that the client had logged in to has ended")

// Login passes a client's login to an upstream, in a session of its own. The Result is
// the upstream's answer: 235, or why not.
func (s *Server) Login(ctx context.Context, client *mail.Session, l LoginRequest) Result {
	s.Logout(client.ID)
	w := &want{client: client, identity: s.identityOf(client), fresh: true}
	sess, err := s.session(ctx, w)
	if err != nil {
		return unreached(err)
	}
	res := Result{Stage: "auth", Host: sess.conn.Host(), TLS: sess.conn.TLS()}
	if !slices.Contains(sess.conn.Extensions().Auth, l.Mechanism) {
		// It was offered when this address was spoken to the last time.
		s.quit(sess)
		res.Reply, res.Fault = mail.ReplyAuthTempFail.Reply(), Unable
		return res
	}
	reply, err := sess.conn.PassAuth(ctx, l.Mechanism, l.Initial, l.Answer)
	switch {
	case err != nil:
		s.drop(sess)
		s.log.InfoContext(ctx, "login broken off", "host", res.Host, "error", err)
		res.Reply, res.Fault, res.Err = mail.ReplyAuthTempFail.Reply(), Broken, err
		return res
	case reply.Code != 235:
		s.quit(sess)
	default:
		s.lend(client.ID, sess)
	}
	res.Reply = reply
	return res
}

// lend makes a session the client's own.
func (s *Server) lend(client mail.ID, sess *session) {
	l := &login{free: make(chan *session, 1), gone: make(chan struct{})}
	sess.login = l
	s.mu.Lock()
	s.logins[client] = l
	s.mu.Unlock()
	s.comeBack(sess)
}

// Logout ends the session in which a client has logged in, if there is one: when the
// client is gone, or logs in anew.
func (s *Server) Logout(client mail.ID) {
	s.mu.Lock()
	l := s.logins[client]
	delete(s.logins, client)
	if l != nil {
		l.over = true
	}
	s.mu.Unlock()
	if l == nil {
		return
	}
	select {
	case sess := <-l.free:
		s.quit(sess)
	default: // a transaction has it and gives it back
	}
}

// ownSession returns the session in which the client has logged in, and waits for it
// where its last transaction is just being ended. ok is false for a client without one.
func (s *Server) ownSession(ctx context.Context, w *want) (sess *session, ok bool, err error) {
	if w.client == nil {
		return nil, false, nil
	}
	s.mu.Lock()
	l := s.logins[w.client.ID]
	s.mu.Unlock()
	if l == nil {
		return nil, false, nil
	}
	select {
	case sess = <-l.free:
		return sess, true, nil
	case <-l.gone:
		return nil, true, errLoginLost
	case <-ctx.Done():
		return nil, true, context.Cause(ctx)
	}
}

// comeBack takes a client's session back after a transaction.
func (s *Server) comeBack(sess *session) {
	l := sess.login
	s.mu.Lock()
	over := l.over || s.closed
	if !over {
		l.free <- sess // nobody else has it
		if s.cfg.KeepAlive > 0 {
			l.ping = time.AfterFunc(s.cfg.KeepAlive, func() { s.stayAwake(l) })
		}
	}
	s.mu.Unlock()
	if over {
		s.quit(sess)
	}
}

// stayAwake says NOOP in a session that its client has not used for a while: its end is
// the client's to choose.
func (s *Server) stayAwake(l *login) {
	select {
	case sess := <-l.free:
		if !s.enter() {
			s.drop(sess)
			return
		}
		defer s.running.Done()
		if err := sess.conn.Noop(s.ctx); err != nil {
			s.drop(sess)
			return
		}
		s.comeBack(sess)
	default: // a transaction has it
	}
}

// ended notes that a client's session is over: the client must log in again.
func (s *Server) ended(sess *session) {
	l := sess.login
	if l == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.gone)
	}
}

// Mechanisms are those by which clients may log in at the upstreams, as far as is known:
// such as all of them offer, and a proxy can pass on.
func (s *Server) Mechanisms() []string {
	all, _ := s.Capabilities()
	return slices.DeleteFunc(slices.Clone(all.Auth), func(m string) bool { return !smtpclient.Passable(m) })
}

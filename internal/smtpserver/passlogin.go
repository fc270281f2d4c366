package smtpserver

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// LoginPasser is an Authenticator that has another server decide, in an exchange that
// passes through: what client and server say to each other is not understood here, never
// parsed as commands and never logged.
type LoginPasser interface {
	Authenticator
	// Mechanisms are those that the server offers now, in upper case.
	Mechanisms(s *mail.Session) []string
	// PassLogin passes a login on. initial is the client's initial response, "" for none;
	// answer returns what the client says to a challenge, both in base64 as they stand on
	// the wire, "*" where it gives up, and ok false where it is gone. The Decision's reply
	// is the server's; on Accept its User is who has logged in.
	PassLogin(ctx context.Context, s *mail.Session, mechanism, initial string, answer func(challenge string) (response string, ok bool)) mail.Decision
}

// passer is the server that clients of this listener log in at, if it is another one.
func (s *settings) passer() (LoginPasser, bool) {
	p, ok := s.hooks.Auth.(LoginPasser)
	return p, ok
}

// mechanisms are those that the client may log in by.
func (s *session) mechanisms() []string {
	if p, ok := s.set.passer(); ok {
		return p.Mechanisms(&s.sess)
	}
	return s.set.Auth
}

// passLogin is AUTH where another server decides.
func (s *session) passLogin(p LoginPasser, arg []byte) mail.Decision {
	word, rest, _ := bytes.Cut(arg, []byte(" "))
	mechanism := strings.ToUpper(string(word))
	if !slices.Contains(p.Mechanisms(&s.sess), mechanism) {
		return s.say(mail.ReplyAuthMechanism)
	}
	initial := string(rest)
	if strings.ContainsAny(initial, " \t") {
		return s.say(mail.ReplySyntax)
	}
	var failed mail.Decision
	answer := func(challenge string) (string, bool) {
		s.write("AUTH", mail.Reply{Code: 334, Lines: []string{challenge}})
		line, refused := s.readLine()
		if line == nil {
			failed = refused
			return "*", false
		}
		return string(line), true
	}
	d := p.PassLogin(s.srv.ctx, &s.sess, mechanism, initial, answer)
	switch {
	case s.over:
		// The client is gone: there is nothing to answer.
		return mail.Decision{Act: mail.Drop}
	case !failed.Reply.IsZero():
		return failed
	}
	return s.loggedIn(d)
}

// loggedIn is the answer to a login that another server has decided about.
func (s *session) loggedIn(d mail.Decision) mail.Decision {
	if d.Act == mail.Accept && !validUser(d.User) {
		d = mail.Decision{Act: mail.Defer, Reason: "nobody knows who has logged in"}
	}
	if d.Act == mail.Reject {
		s.noteLogin(d.User, false)
		if h := s.set.hooks.LoginFailed; h != nil {
			h.LoginFailed(&s.sess)
		}
	}
	d = s.decide(mail.StageAuth, d, defaults{mail.ReplyAuthOK, mail.ReplyAuthTempFail, mail.ReplyAuthFailed})
	if d.Act == mail.Accept {
		if d.Reply.Code != 235 {
			d.Reply = s.srv.replies[mail.ReplyAuthOK]
		}
		s.sess.User, s.sess.Senders = cmp.Or(d.User, s.sess.User), d.Senders
		s.limitLines()
		s.noteLogin("", true)
	}
	return d
}

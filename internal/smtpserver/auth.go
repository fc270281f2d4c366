package smtpserver

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// mayAuth reports whether AUTH is possible in the present state.
func (s *session) mayAuth() bool {
	return s.sess.User == "" && (s.sess.TLS.Active() || s.set.AuthWithoutTLS)
}

// auth is AUTH (RFC 4954).
func (s *session) auth(arg []byte) mail.Decision {
	switch {
	case !s.helo:
		return s.say(mail.ReplyNeedHelo)
	case !s.set.extensions.Has(smtp.ExtAuth):
		return s.say(mail.ReplyAuthUnavailable)
	case s.sess.User != "":
		return s.say(mail.ReplyAuthTwice)
	case s.tx.env != nil:
		return s.say(mail.ReplyBadSequence)
	case !s.mayAuth():
		return s.say(mail.ReplyAuthNeedsTLS)
	}
	if p, ok := s.set.passer(); ok {
		return s.passLogin(p, arg)
	}
	word, rest, hasInitial := bytes.Cut(arg, []byte(" "))
	mechanism := strings.ToUpper(string(word))
	if !slices.Contains(s.set.Auth, mechanism) {
		return s.say(mail.ReplyAuthMechanism)
	}
	// The line's memory is used again for the next line: copy.
	x := exchange{s: s, initial: bytes.Clone(rest), hasInitial: hasInitial}
	var user, password string
	var failed mail.Decision
	var ok bool
	if mechanism == "PLAIN" {
		user, password, failed, ok = x.plain()
	} else {
		user, password, failed, ok = x.login()
	}
	if !ok {
		return failed
	}
	return s.authenticate(user, password)
}

// authenticate asks the hook.
func (s *session) authenticate(user, password string) mail.Decision {
	if !validUser(user) {
		return s.loginFailed("")
	}
	d := s.set.hooks.Auth.Authenticate(s.srv.ctx, &s.sess, user, password)
	d.User = cmp.Or(d.User, user)
	return s.loggedIn(d)
}

// loginFailed tells of a login that was refused, and is the usual answer.
func (s *session) loginFailed(user string) mail.Decision {
	s.noteLogin(user, false)
	if h := s.set.hooks.LoginFailed; h != nil {
		h.LoginFailed(&s.sess)
	}
	return s.say(mail.ReplyAuthFailed)
}

// validUser reports whether a name can stand in logs and lists.
func validUser(user string) bool {
	return user != "" && len(user) <= 255 && utf8.ValidString(user) && !strings.ContainsFunc(user, unicode.IsControl)
}

// exchange is one SASL exchange. Its lines are never parsed as commands and never
// logged.
type exchange struct {
	s          *session
	initial    []byte
	hasInitial bool
}

// plain is RFC 4616: authorization identity, name and password with NUL between.
func (x *exchange) plain() (user, password string, failed mail.Decision, ok bool) {
	response, failed, ok := x.response("")
	if !ok {
		return "", "", failed, false
	}
	parts := strings.Split(string(response), "\x00")
	if len(parts) != 3 {
		return "", "", x.s.say(mail.ReplySyntax), false
	}
	if parts[0] != "" && parts[0] != parts[1] {
		// Nobody may act for somebody else.
		return "", "", x.s.loginFailed(""), false
	}
	return parts[1], parts[2], mail.Decision{}, true
}

// login is the mechanism of draft-murchison-sasl-login-00.
func (x *exchange) login() (user, password string, failed mail.Decision, ok bool) {
	name, failed, ok := x.response("Username:")
	if !ok {
		return "", "", failed, false
	}
	secret, failed, ok := x.response("Password:")
	if !ok {
		return "", "", failed, false
	}
	return string(name), string(secret), mail.Decision{}, true
}

// response returns the client's next response: the initial one if it gave that,
// else its answer to a challenge.
func (x *exchange) response(challenge string) ([]byte, mail.Decision, bool) {
	line, s := x.initial, x.s
	if x.hasInitial {
		x.hasInitial = false
		if string(line) == "=" {
			return nil, mail.Decision{}, true // RFC 4954 §4: an empty response
		}
	} else {
		text := base64.StdEncoding.EncodeToString([]byte(challenge))
		s.write("AUTH", mail.Reply{Code: 334, Lines: []string{text}})
		var failed mail.Decision
		if line, failed = s.readLine(); line == nil {
			if s.over {
				// The client is gone: there is nothing to answer.
				return nil, mail.Decision{Act: mail.Drop}, false
			}
			return nil, failed, false
		}
	}
	if string(line) == "*" {
		return nil, s.say(mail.ReplyAuthCancelled), false
	}
	response, err := base64.StdEncoding.Strict().AppendDecode(nil, line)
	if err != nil {
		return nil, s.say(mail.ReplySyntax), false
	}
	return response, mail.Decision{}, true
}

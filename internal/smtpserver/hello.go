package smtpserver

import (
	"fmt"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// maxHelo is the longest name that is kept, RFC 5321 §4.5.3.1.2.
const maxHelo = 255

// hello is HELO and EHLO (RFC 5321 §4.1.1.1).
func (s *session) hello(c smtp.Command) mail.Decision {
	name := safeName(c.Arg)
	if name == "" {
		return s.say(mail.ReplySyntax)
	}
	s.resetTransaction()
	first := !s.helo
	s.sess.Helo, s.sess.ESMTP = name, c.Verb == smtp.VerbEHLO
	var d mail.Decision
	if h := s.set.hooks.Helo; h != nil {
		d = h.Helo(s.srv.ctx, &s.sess)
	}
	d = s.decide(mail.StageHelo, d, defaults{mail.ReplyOK, mail.ReplyTryLater, mail.ReplyAccessDenied})
	s.helo = d.Act == mail.Accept
	if !s.helo {
		return d
	}
	s.offer = s.set.offer(&s.sess)
	// The lines of EHLO are a protocol; a hook's own text has no place in them.
	d.Reply = mail.Reply{Code: 250, Lines: []string{s.set.Hostname}}
	if !s.sess.ESMTP {
		return d
	}
	if first && len(s.in.Buffered()) > 0 {
		// RFC 2920 §3.1: EHLO must be the last of a group.
		s.outOfTurn("pipelining-ehlo", "commands before the reply to EHLO")
	}
	d.Reply.Lines = s.extensionLines()
	s.limitLines()
	return d
}

// extensionLines are the lines of the reply to EHLO in the present state.
func (s *session) extensionLines() []string {
	lines := make([]string, 1, 14)
	lines[0] = s.set.Hostname
	add := func(e smtp.Extensions, line string) {
		if s.offers(e) {
			lines = append(lines, line)
		}
	}
	add(smtp.ExtPipelining, "PIPELINING")
	add(smtp.ExtSize, fmt.Sprintf("SIZE %d", s.offer.MessageSize))
	add(smtp.Ext8BitMIME, "8BITMIME")
	add(smtp.ExtSMTPUTF8, "SMTPUTF8")
	add(smtp.ExtChunking, "CHUNKING")
	add(smtp.ExtBinaryMIME, "BINARYMIME")
	add(smtp.ExtDSN, "DSN")
	add(smtp.ExtEnhancedCodes, "ENHANCEDSTATUSCODES")
	add(smtp.ExtStartTLS, "STARTTLS")
	add(smtp.ExtAuth, s.authLine())
	add(smtp.ExtRequireTLS, "REQUIRETLS")
	add(smtp.ExtPRDR, "PRDR")
	add(smtp.ExtLimits, fmt.Sprintf("LIMITS RCPTMAX=%d", s.offer.Recipients))
	add(smtp.ExtXClient, "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")
	return lines
}

// offers reports whether an extension is in force now.
func (s *session) offers(e smtp.Extensions) bool {
	switch e {
	case smtp.ExtXClient:
		return s.xclient
	case smtp.ExtStartTLS:
		return s.offer.Extensions.Has(e) && !s.sess.TLS.Active()
	case smtp.ExtAuth:
		return s.offer.Extensions.Has(e) && s.mayAuth() && len(s.mechanisms()) > 0
	case smtp.ExtRequireTLS:
		// RFC 8689 §2: only within TLS.
		return s.offer.Extensions.Has(e) && s.sess.TLS.Active()
	case smtp.ExtBinaryMIME:
		// RFC 3030 §3: not without CHUNKING.
		return s.offer.Extensions.Has(e | smtp.ExtChunking)
	}
	return s.offer.Extensions.Has(e)
}

// authLine is EHLO's "AUTH …".
func (s *session) authLine() string {
	if _, ok := s.set.passer(); ok {
		return "AUTH " + strings.Join(s.mechanisms(), " ")
	}
	return s.set.authLine
}

// limitLines allows the longer lines of AUTH for as long as AUTH is possible.
func (s *session) limitLines() {
	limit := s.set.MaxCommandLine
	if s.offers(smtp.ExtAuth) {
		limit = max(limit, maxAuthLine)
	}
	s.in.SetLimit(limit)
}

// safeName returns the first word of a HELO argument in a form that can stand in a
// header line: what neither a domain nor an address literal may hold becomes "?".
func safeName(arg []byte) string {
	word := string(arg)
	if i := strings.IndexAny(word, " \t"); i >= 0 {
		word = word[:i]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-._:[]", r):
			return r
		}
		return '?'
	}, word[:min(len(word), maxHelo)])
}

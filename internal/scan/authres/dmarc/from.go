package dmarc

import (
	"errors"
	"slices"
	"strings"

	"gatepost/internal/message"
	"gatepost/internal/smtp"
)

// maxAuthors bounds the domains that are looked at for one message.
const maxAuthors = 8

// Errors of Authors.
var (
	ErrNoAuthor       = errors.New("there is no From field with an address")
	ErrUnclearAuthor  = errors.New("an address in From cannot be read")
	ErrTooManyAuthors = errors.New("the From field has too many domains")
)

// Authors returns the domains of all authors in all From fields, in canonical
// form and without repetition. With an error it returns those that could be read.
func Authors(header *message.Header) ([]string, error) {
	var domains []string
	var unclear error
	for _, f := range header.Fields() {
		if !f.Is("From") {
			continue
		}
		for _, mailbox := range mailboxes(f.Value()) {
			domain, err := domainOf(mailbox)
			switch {
			case err != nil:
				unclear = ErrUnclearAuthor
			case slices.Contains(domains, domain):
			case len(domains) == maxAuthors:
				return domains, ErrTooManyAuthors
			default:
				domains = append(domains, domain)
			}
		}
	}
	if len(domains) == 0 && unclear == nil {
		unclear = ErrNoAuthor
	}
	return domains, unclear
}

// Mailboxes returns the addresses of all authors in all From fields, as any reader may
// take them: without names and comments, else as they stand. What is no address at all
// is among them.
func Mailboxes(header *message.Header) []string {
	var all []string
	for _, f := range header.Fields() {
		if !f.Is("From") {
			continue
		}
		for _, mailbox := range read(f.Value(), true) {
			all = append(all, strings.TrimSpace(mailbox))
		}
	}
	return all
}

// domainOf returns the domain of an addr-spec, whose local part may be missing:
// quoted strings are taken out before.
func domainOf(spec string) (string, error) {
	at := strings.LastIndexByte(spec, '@')
	if at < 0 {
		return "", ErrUnclearAuthor
	}
	// RFC 5322 §4.4: white space may stand around the dots.
	domain := strings.Map(func(r rune) rune {
		if r == ' ' || r == '\t' || r == '\r' || r == '\n' {
			return -1
		}
		return r
	}, spec[at+1:])
	return smtp.CanonicalDomain(domain)
}

// mailboxes returns the addresses of a From field (RFC 5322 §3.4), less quoted
// strings and comments. Where one of these does not end, readers disagree on what
// is in it, so that it is also read as if it were ordinary text.
func mailboxes(value string) []string { return read(value, false) }

// read is mailboxes; with words the quoted strings of addresses stay in them.
func read(value string, words bool) []string {
	s := splitter{words: words}
	if !s.split(value, true) {
		s.finish()
		s.split(value, false)
	}
	s.finish()
	return s.list
}

// splitter collects addresses: what stands in angle brackets and, in a mailbox
// without them, all of it.
type splitter struct {
	list    []string
	text    []byte // of the mailbox, outside of angle brackets
	spec    []byte // in angle brackets
	angle   bool
	angled  bool // the mailbox had angle brackets
	literal bool // in a domain literal
	words   bool // quoted strings are kept
}

// split reads a field; it returns false where a quoted string or comment does not
// end. Without syntax these are ordinary characters.
func (s *splitter) split(value string, syntax bool) bool {
	quoted, depth := false, 0
	for i := 0; i < len(value); i++ {
		c := value[i]
		switch {
		case c == '\\' && (quoted || depth > 0):
			s.keep(quoted, value[i:min(i+2, len(value))])
			i++
		case c == '"' && depth == 0 && syntax:
			quoted = !quoted
			s.add('"')
		case quoted:
			s.keep(quoted, value[i:i+1])
		case c == '(' && syntax:
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			s.next(c)
		}
	}
	return !quoted && depth == 0
}

// next handles a character that is neither quoted nor comment.
func (s *splitter) next(c byte) {
	switch {
	case c == '<':
		if s.angle {
			s.close()
		}
		s.angle, s.angled, s.literal = true, true, false
	case c == '>' && s.angle:
		s.close()
	case s.angle:
		s.spec = append(s.spec, c)
	case c == '[' || c == ']':
		s.literal = c == '['
		s.add(c)
	case c == ',' || c == ';':
		s.finish()
	case c == ':' && !s.literal: // the name of a group ends
		s.text = s.text[:0]
	default:
		s.add(c)
	}
}

// keep adds a part of a quoted string.
func (s *splitter) keep(quoted bool, part string) {
	if !quoted || !s.words {
		return
	}
	for i := range len(part) {
		s.add(part[i])
	}
}

func (s *splitter) add(c byte) {
	if s.angle {
		s.spec = append(s.spec, c)
	} else {
		s.text = append(s.text, c)
	}
}

// close ends an address in angle brackets.
func (s *splitter) close() {
	s.list = append(s.list, string(s.spec))
	s.spec, s.angle = s.spec[:0], false
}

// finish ends a mailbox.
func (s *splitter) finish() {
	if s.angle {
		s.close()
	}
	if text := strings.TrimSpace(string(s.text)); text != "" && !s.angled {
		s.list = append(s.list, text)
	}
	s.text, s.angled, s.literal = s.text[:0], false, false
}

package history

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// A term is the hash of a field and a value by which events are found. 64 bits are
// enough for a collision not to be met by chance.
type term uint64

// The fields of terms.
const (
	fieldID        = 'i' // of message, session, related message, queue item
	fieldSender    = 's' // the address, and its local part with "@" behind it
	fieldRecipient = 'r'
	fieldFrom      = 'S' // domain of the sender
	fieldTo        = 'R' // domain of a recipient
	fieldDomain    = 'D' // both, and the domains above them
	fieldClient    = 'c'
	fieldNetwork   = 'n'
	fieldSubject   = 't' // a word of it
	fieldVerdict   = 'v'
	fieldThreat    = 'h'
	fieldResult    = 'e'
	fieldKind      = 'k'
	fieldSymbol    = 'y' // module, symbol, block and rule
	fieldUser      = 'u'
	fieldServer    = 'p'
	fieldListener  = 'l'
	fieldTransport = 'T'
	fieldHost      = 'H'
	fieldMessageID = 'm'
	fieldHelo      = 'o'
	fieldActor     = 'a'
	fieldAsker     = 'A' // a domain whose administrators may see it
)

// hash is FNV-1a of field and value, the value in lower case.
func hash[T string | []byte](field byte, value T) term {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(field)) * prime
	for i := range len(value) {
		c := value[i]
		if c >= utf8.RuneSelf {
			return hashFolded(field, string(value))
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint64(c)) * prime
	}
	return term(h)
}

func hashFolded(field byte, value string) term {
	const offset, prime = 14695981039346656037, 1099511628211
	h := (uint64(offset) ^ uint64(field)) * prime
	for _, c := range []byte(strings.ToLower(value)) {
		h = (h ^ uint64(c)) * prime
	}
	return term(h)
}

// Bounds of what is found of one event: a message to thousands is found by the first
// of them, and by its ID.
const (
	maxTerms        = 2000
	maxSubjectWords = 40
)

// termList collects the terms of one event.
type termList []term

func (l *termList) add(field byte, value string) {
	if value != "" && len(*l) < maxTerms {
		*l = append(*l, hash(field, value))
	}
}

func (l *termList) addBytes(field byte, value []byte) {
	if len(*l) < maxTerms {
		*l = append(*l, hash(field, value))
	}
}

// termsOf are those of an event, each once, in ascending order.
func termsOf(e *mail.Event) []term {
	terms := appendTerms(nil, e)
	slices.Sort(terms)
	return slices.Compact(terms)
}

// appendTerms appends those of an event, some more than once.
func appendTerms(terms []term, e *mail.Event) []term {
	l := termList(terms)
	var text [64]byte
	for _, id := range [...]mail.ID{e.Message, e.Session, e.Related} {
		if !id.IsZero() {
			l.addBytes(fieldID, id.Append(text[:0]))
		}
	}
	l.add(fieldKind, string(e.Kind))
	l.add(fieldResult, string(e.Result))
	l.add(fieldVerdict, string(e.Action))
	l.add(fieldThreat, string(e.Threat))
	l.client(e)
	l.address(fieldSender, fieldFrom, e.Sender)
	l.recipients(e)
	l.words(e.Subject)
	l.add(fieldMessageID, strings.Trim(e.MessageID, "<> "))
	l.add(fieldTransport, e.Transport)
	l.host(e.Host)
	l.add(fieldActor, e.Actor)
	for i := range e.Findings {
		if f := &e.Findings[i]; f.Result != mail.Clean {
			l.add(fieldSymbol, f.Module)
			l.add(fieldSymbol, f.Symbol)
		}
	}
	l.askers(e)
	return l
}

func (l *termList) client(e *mail.Event) {
	l.add(fieldListener, e.Listener)
	l.add(fieldUser, e.User)
	l.add(fieldServer, e.Server)
	l.add(fieldHelo, e.Helo)
	if !e.Client.IsValid() {
		return
	}
	var text [64]byte
	l.addBytes(fieldClient, e.Client.AppendTo(text[:0]))
	for _, bits := range networkBits(e.Client) {
		if p, err := e.Client.Prefix(bits); err == nil {
			l.addBytes(fieldNetwork, p.AppendTo(text[:0]))
		}
	}
}

// networkBits are the lengths of the networks by which an address is found.
func networkBits(a netip.Addr) [3]int {
	if a.Is4() {
		return [...]int{24, 16, 8}
	}
	return [...]int{64, 48, 32}
}

func (l *termList) recipients(e *mail.Event) {
	for i := range e.Recipients {
		r := &e.Recipients[i]
		l.address(fieldRecipient, fieldTo, r.Address)
		if r.Original != "" {
			l.address(fieldRecipient, fieldTo, r.Original)
		}
		if r.Domain != "*" {
			l.add(fieldTo, r.Domain)
		}
		if r.Transport != e.Transport {
			l.add(fieldTransport, r.Transport)
		}
		l.add(fieldVerdict, string(r.Action))
		l.add(fieldThreat, string(r.Threat))
		l.add(fieldSymbol, r.Block)
		l.add(fieldSymbol, r.Rule)
		l.host(r.Host)
	}
}

// address adds an address, its local part, its domain and those above it.
func (l *termList) address(field, domainField byte, address string) {
	l.add(field, address)
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return
	}
	l.add(field, address[:at+1])
	domain := address[at+1:]
	l.add(domainField, domain)
	for strings.Contains(domain, ".") {
		l.add(fieldDomain, domain)
		_, domain, _ = strings.Cut(domain, ".")
	}
}

// host adds name and address of "mx1.example.org [192.0.2.1]:25".
func (l *termList) host(host string) {
	for len(host) > 0 {
		n := strings.IndexAny(host, " []")
		if n < 0 {
			n = len(host)
		}
		if part := host[:n]; part != "" && part[0] != ':' {
			l.add(fieldHost, part)
		}
		host = host[min(n+1, len(host)):]
	}
}

// words adds those of a subject.
func (l *termList) words(subject string) {
	n := 0
	for word := range wordsOf(subject) {
		if n++; n > maxSubjectWords {
			return
		}
		l.add(fieldSubject, word)
	}
}

// wordsOf are the words of a text: letters and digits, as they stand.
func wordsOf(text string) func(yield func(string) bool) {
	return strings.FieldsFuncSeq(text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
}

// askers adds the domains whose administrators may see the event.
func (l *termList) askers(e *mail.Event) {
	eachAsker(e, func(domain string) bool {
		l.add(fieldAsker, domain)
		return true
	})
}

package access

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/gaissmai/bart"

	"gatepost/internal/smtp"
)

// Limits of a list.
const (
	maxLine    = 1000 // bytes
	maxReason  = 200  // bytes
	maxReasons = 1 << 16
	maxErrors  = 5 // lines that one error names
)

// list is one list of clients. It is not changed once it is in use.
type list struct {
	nets  bart.Table[uint32]
	names map[string]uint32 // ".example.com", "mail.example.com"
	// reasons are the texts of entries, each once; that of an entry is its number.
	// Number 0 is no reason.
	reasons []string
	known   map[string]uint32 // while it is built
}

func newList() *list {
	return &list{names: map[string]uint32{}, reasons: []string{""}, known: map[string]uint32{"": 0}}
}

// size is how many entries there are.
func (l *list) size() int { return l.nets.Size() + len(l.names) }

func (l *list) reason(n uint32) string { return l.reasons[n] }

// add adds an entry as the configuration writes it.
func (l *list) add(s, reason string) error {
	e, err := parseEntry(s)
	if err != nil {
		return err
	}
	n := l.intern(reason)
	if e.name != "" {
		l.names[e.name] = n
	} else {
		l.nets.Insert(e.net, n)
	}
	return nil
}

// intern keeps a reason once. Lists have a handful of different ones; where
// somebody writes one for every line, the rest goes without.
func (l *list) intern(reason string) uint32 {
	reason = reason[:min(len(reason), maxReason)]
	if n, ok := l.known[reason]; ok {
		return n
	}
	if len(l.reasons) >= maxReasons {
		return 0
	}
	reason = strings.Clone(reason)
	n := uint32(len(l.reasons))
	l.reasons = append(l.reasons, reason)
	l.known[reason] = n
	return n
}

// entry is a network or a name.
type entry struct {
	net  netip.Prefix
	name string // in lower case, a dot in front for the hosts below
}

// parseEntry reads "192.0.2.0/24", "192.0.2.1", "2001:db8::/32", ".example.com" or
// "mail.example.com".
func parseEntry(s string) (entry, error) {
	if strings.ContainsRune(s, '/') {
		return parseNetwork(s)
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return entry{}, fmt.Errorf("%q: an address with a zone is known on one machine only", short(s))
		}
		addr = addr.Unmap()
		return entry{net: netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	host, below := strings.CutPrefix(s, ".")
	domain, err := smtp.CanonicalDomain(host)
	// A name that ends in a number would be an address that somebody mistyped.
	if err != nil || strings.HasPrefix(domain, "[") || !strings.ContainsFunc(domain[strings.LastIndexByte(domain, '.')+1:], unicode.IsLetter) {
		return entry{}, fmt.Errorf("%q is no network, address or host name", short(s))
	}
	if below {
		domain = "." + domain
	} else if !strings.Contains(domain, ".") {
		return entry{}, fmt.Errorf("%q is no network, address or host name; write %q for the hosts of a domain", short(s), "."+short(s))
	}
	return entry{name: domain}, nil
}

func parseNetwork(s string) (entry, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return entry{}, fmt.Errorf("%q is no network", short(s))
	}
	if p.Addr().Is4In6() {
		// Clients in IPv6 dress are looked up as the IPv4 that they are.
		if p.Bits() < 96 {
			return entry{}, fmt.Errorf("%q mixes IPv4 and IPv6", short(s))
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return entry{}, fmt.Errorf("%q has bits behind its length: write %s for the network, or the address alone", short(s), p.Masked())
	}
	return entry{net: p}, nil
}

// readList reads a file: an entry a line, perhaps a reason behind it, and comments
// that start with # at the start of a line or behind a blank.
func readList(b []byte, maxEntries int) (*list, error) {
	l := newList()
	var bad []error
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	for number := 1; len(b) > 0; number++ {
		line := b
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		err := l.addLine(line)
		if err == nil && l.size() > maxEntries {
			return nil, fmt.Errorf("line %d: more than %d entries", number, maxEntries)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", number, err))
		}
		if len(bad) == maxErrors {
			bad = append(bad, errors.New("and perhaps more"))
			break
		}
	}
	if len(bad) > 0 {
		return nil, errors.Join(bad...)
	}
	l.known = nil
	return l, nil
}

func (l *list) addLine(line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("longer than %d bytes", maxLine)
	}
	text := strings.TrimSpace(string(line))
	if i := strings.IndexByte(text, '#'); i == 0 {
		return nil
	} else if i > 0 && (text[i-1] == ' ' || text[i-1] == '\t') {
		text = strings.TrimSpace(text[:i])
	}
	if text == "" {
		return nil
	}
	what, reason := text, ""
	if i := strings.IndexAny(text, " \t"); i > 0 {
		what, reason = text[:i], strings.TrimSpace(text[i:])
	}
	return l.add(what, reason)
}

// short cuts what an error repeats.
func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

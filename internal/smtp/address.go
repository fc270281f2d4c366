package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"gatepost/internal/mail"
)

// Limits of RFC 5321 §4.5.3.1, in octets.
const (
	maxLocalPart = 64
	maxDomain    = 255
	maxPath      = 256 // with < and >
)

// Errors of the address parsers.
var (
	ErrAddress   = errors.New("malformed address")
	ErrNeedsUTF8 = errors.New("address needs SMTPUTF8")
)

// ParseAddress reads an address as people and files write it: "user@domain",
// without < and >. A domain is required.
func ParseAddress(s string) (mail.Address, error) {
	a, rest, err := parseMailbox(s, true)
	if err != nil {
		return mail.Address{}, err
	}
	if rest != "" || a.Domain == "" {
		return mail.Address{}, ErrAddress
	}
	return a, nil
}

// ParsePath reads the path at the start of s, "<user@domain>" with an optional
// source route, and returns what follows it. The null path "<>" gives the zero
// Address. utf8OK says that SMTPUTF8 is in force: without it an address that
// is not ASCII is ErrNeedsUTF8. "<postmaster>" alone may lack a domain (RFC 5321 §4.1.1.3).
func ParsePath(s string, utf8OK bool) (a mail.Address, rest string, err error) {
	if s == "" || s[0] != '<' {
		return a, "", ErrAddress
	}
	if strings.HasPrefix(s, "<>") {
		return a, s[2:], nil
	}
	inner := s[1:]
	if inner != "" && inner[0] == '@' {
		// RFC 5321 §4.1.2: a source route must be accepted and should be ignored.
		if inner, err = skipSourceRoute(inner); err != nil {
			return a, "", err
		}
	}
	a, rest, err = parseMailbox(inner, utf8OK)
	if err != nil {
		return mail.Address{}, "", err
	}
	if rest == "" || rest[0] != '>' {
		return mail.Address{}, "", ErrAddress
	}
	if a.Domain == "" && !strings.EqualFold(a.Local, "postmaster") {
		return mail.Address{}, "", ErrAddress
	}
	if len(a.Raw)+2 > maxPath {
		return mail.Address{}, "", ErrAddress
	}
	return a, rest[1:], nil
}

// skipSourceRoute returns what follows "@a.example,@b.example:".
func skipSourceRoute(s string) (string, error) {
	for {
		if s == "" || s[0] != '@' {
			return "", ErrAddress
		}
		n := strings.IndexAny(s, ",:")
		if n < 0 {
			return "", ErrAddress
		}
		if _, err := CanonicalDomain(s[1:n]); err != nil {
			return "", err
		}
		end := s[n]
		s = s[n+1:]
		if end == ':' {
			return s, nil
		}
	}
}

// parseMailbox reads local[@domain] up to '>' or the end.
func parseMailbox(s string, utf8OK bool) (a mail.Address, rest string, err error) {
	local, n, err := parseLocal(s)
	if err != nil {
		return a, "", err
	}
	if n == len(s) || s[n] == '>' {
		a = mail.Address{Local: local, Raw: s[:n]}
	} else {
		if s[n] != '@' {
			return a, "", ErrAddress
		}
		end := n + 1
		for end < len(s) && s[end] != '>' && s[end] != ' ' {
			end++
		}
		domain, err := CanonicalDomain(s[n+1 : end])
		if err != nil {
			return a, "", err
		}
		a = mail.Address{Local: local, Domain: domain, Raw: s[:end]}
		// A final dot names the same domain; it is not legal on the wire.
		a.Raw = strings.TrimSuffix(a.Raw, ".")
		n = end
	}
	if n := len(local); n > maxLocalPart {
		return mail.Address{}, "", ErrAddress
	}
	if a.NeedsUTF8() {
		if !utf8.ValidString(a.Raw) {
			return mail.Address{}, "", ErrAddress
		}
		if !utf8OK {
			return mail.Address{}, "", ErrNeedsUTF8
		}
	}
	return a, s[n:], nil
}

// parseLocal reads a dot-string or quoted string and returns its meaning and
// how many bytes it took.
func parseLocal(s string) (local string, n int, err error) {
	if s == "" {
		return "", 0, ErrAddress
	}
	if s[0] == '"' {
		return parseQuoted(s)
	}
	for n < len(s) && (isAtext(s[n]) || s[n] == '.') {
		n++
	}
	local = s[:n]
	if local == "" || local[0] == '.' || local[n-1] == '.' || strings.Contains(local, "..") {
		return "", 0, ErrAddress
	}
	return local, n, nil
}

// parseQuoted reads a quoted string, RFC 5321 §4.1.2.
func parseQuoted(s string) (local string, n int, err error) {
	var b strings.Builder
	for n = 1; n < len(s); n++ {
		switch c := s[n]; {
		case c == '"':
			if b.Len() == 0 {
				return "", 0, ErrAddress
			}
			return b.String(), n + 1, nil
		case c == '\\':
			n++
			if n == len(s) || s[n] < ' ' || s[n] >= 0x7f {
				return "", 0, ErrAddress
			}
			b.WriteByte(s[n])
		case c < ' ' || c == 0x7f:
			return "", 0, ErrAddress
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, ErrAddress
}

// isAtext reports whether c may stand in a dot-string (RFC 5321 §4.1.2; bytes
// above 0x7f by RFC 6531 §3.3).
func isAtext(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c >= 0x80:
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

// CanonicalDomain returns the form of a domain that is compared and looked up:
// lower case, A-labels, no final dot; an address literal keeps its brackets.
func CanonicalDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return canonicalLiteral(s)
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxDomain {
		return "", ErrAddress
	}
	if !mail.IsASCII(s) {
		// UTS #46 with transitional processing off, as browsers and MTAs do.
		a, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", ErrAddress
		}
		s = a
	}
	for label := range strings.SplitSeq(s, ".") {
		if !validLabel(label) {
			return "", ErrAddress
		}
	}
	if len(s) > maxDomain {
		return "", ErrAddress
	}
	return strings.ToLower(s), nil
}

// validLabel is RFC 1035 §2.3.1 with a digit in front (RFC 1123 §2.1) and the
// underscore, which real domains use although no host may.
func validLabel(l string) bool {
	if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := range len(l) {
		c := l[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			continue
		}
		return false
	}
	return true
}

func canonicalLiteral(s string) (string, error) {
	if len(s) < 3 || s[len(s)-1] != ']' {
		return "", ErrAddress
	}
	inner := s[1 : len(s)-1]
	if len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:") {
		ip, err := netip.ParseAddr(inner[5:])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", ErrAddress
		}
		return "[IPv6:" + ip.String() + "]", nil
	}
	ip, err := netip.ParseAddr(inner)
	if err != nil || !ip.Is4() {
		return "", ErrAddress
	}
	return "[" + ip.String() + "]", nil
}

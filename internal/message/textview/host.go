package textview

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/unicode/norm"
)

// host is the host of an address.
type host struct {
	name   string // lower case, A-labels; IPv6 without brackets; "" for none
	domain string // what was registered
	tricks Tricks
}

// parseHost reads a host as browsers do.
func parseHost(s string) host {
	var h host
	if strings.HasPrefix(s, "[") {
		ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
		if err != nil || ip.Zone() != "" {
			return h
		}
		h.name = ip.String()
		return h
	}
	if strings.IndexByte(s, '%') >= 0 {
		s = strings.ToValidUTF8(string(unescape(s, '%')), "\ufffd")
		h.tricks |= TrickEscaped
	}
	if len(s) > 1024 {
		return h
	}
	if !plainHost(s) {
		if lower := strings.ToLower(s); strings.IndexFunc(s, isOdd) >= 0 || norm.NFKC.String(lower) != norm.NFC.String(lower) {
			h.tricks |= TrickWide
		}
		s = foldHost(s)
	}
	s = strings.Trim(strings.ToLower(s), ".")
	if s == "" || len(s) > 255 || !hostChars(s) {
		return h
	}
	if endsInNumber(s) {
		// What ends so is an address or nothing.
		ip, written, ok := parseNumbers(s)
		if !ok {
			return h
		}
		h.name = ip.String()
		if !written {
			h.tricks |= TrickNumber
		}
		return h
	}
	h.name = s
	if strings.Contains(s, "xn--") && lookAlike(s) {
		h.tricks |= TrickMixed
	}
	h.domain = Registered(s)
	return h
}

// Registered returns the part of a host name that somebody registered, by the
// public suffix list: "example.co.uk" for "www.example.co.uk"; "" for a name
// that is a suffix itself, has no dot, or no known top-level domain.
func Registered(name string) string {
	suffix, icann := publicsuffix.PublicSuffix(name)
	// A rule of the private part has a dot; a name without a known end is its
	// own suffix by the rule "*".
	if !icann && strings.IndexByte(suffix, '.') < 0 || len(suffix) >= len(name) {
		return ""
	}
	rest := name[:len(name)-len(suffix)-1]
	return name[strings.LastIndexByte(rest, '.')+1:]
}

// plainHost reports that a host needs no conversion.
func plainHost(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// hostChars reports that an ASCII name has only characters that browsers look up.
func hostChars(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"#%/:<>?@[\\]^`{|}!$&'()*+,;=~", c) >= 0 {
			return false
		}
	}
	return !strings.Contains(s, "..")
}

// foldHost converts a name to A-labels, UTS #46 without its strict rules.
func foldHost(s string) string {
	profile := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false), idna.CheckJoiners(false), idna.ValidateLabels(false))
	if a, err := profile.ToASCII(s); err == nil {
		return a
	}
	a, err := idna.Punycode.ToASCII(strings.ToLower(norm.NFKC.String(strings.Map(dropInvisible, s))))
	if err != nil {
		return ""
	}
	return a
}

// isOdd reports characters that a name loses when it is converted.
func isOdd(r rune) bool { return isInvisible(r) || r == '。' || r == '．' || r == '｡' }

func dropInvisible(r rune) rune {
	if isInvisible(r) {
		return -1
	}
	return r
}

// Unicode returns a host name as a reader would see it.
func Unicode(name string) string {
	if !strings.Contains(name, "xn--") {
		return name
	}
	u, err := idna.Punycode.ToUnicode(name)
	if err != nil || !utf8.ValidString(u) {
		return name
	}
	return u
}

// endsInNumber reports that the last label of a name is a number.
func endsInNumber(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	if strings.HasPrefix(last, "0x") {
		return strings.Trim(last[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// parseNumbers reads an IPv4 address in all the ways of inet_aton, which browsers
// keep: one to four numbers, decimal, octal with 0 or hexadecimal with 0x.
// written says that it has the usual form.
func parseNumbers(s string) (ip netip.Addr, written, ok bool) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is4() {
		return ip, true, true
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return ip, false, false
	}
	var v uint64
	for i, p := range parts {
		n, ok := parseNumber(p)
		room := uint64(1) << 8
		if i == len(parts)-1 {
			room = 1 << (8 * (5 - len(parts)))
		}
		if !ok || n >= room {
			return ip, false, false
		}
		if i == len(parts)-1 {
			v = v<<(8*(5-len(parts))) | n
		} else {
			v = v<<8 | n
		}
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), false, true
}

func parseNumber(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"):
		s, base = s[2:], 16
		if s == "" {
			return 0, true
		}
	case len(s) > 1 && s[0] == '0':
		s, base = s[1:], 8
	}
	n, err := strconv.ParseUint(s, base, 64)
	return n, err == nil && s[0] != '+'
}

// lookAlike reports that a label mixes scripts whose letters look alike, or looks
// like Latin letters and has none although the top-level domain is Latin.
func lookAlike(name string) bool {
	name = Unicode(name)
	labels := strings.Split(name, ".")
	latinTop := plainHost(labels[len(labels)-1])
	for _, label := range labels {
		if plainHost(label) {
			continue
		}
		var s scripts
		imitates := true
		for _, r := range label {
			s |= scriptOf(r)
			imitates = imitates && (r < 0x80 || lookAlikes[r] != "")
		}
		if s.mixed() || imitates && s != 0 && s != latin && latinTop {
			return true
		}
	}
	return false
}

// lookAlikes are letters that a reader takes for Latin ones.
var lookAlikes = map[rune]string{
	'а': "a", 'в': "b", 'с': "c", 'ԁ': "d", 'е': "e", 'һ': "h", 'і': "i", 'ј': "j", 'к': "k", 'ӏ': "l", 'м': "m", 'о': "o", 'р': "p",
	'ԛ': "q", 'ѕ': "s", 'т': "t", 'у': "y", 'х': "x", 'ԝ': "w", 'ѵ': "v", 'г': "r", 'п': "n", 'н': "h", 'ё': "e", 'ї': "i", 'ү': "y", 'ɡ': "g",
	'α': "a", 'β': "b", 'ε': "e", 'η': "n", 'ι': "i", 'κ': "k", 'ν': "v", 'ο': "o", 'ρ': "p", 'τ': "t", 'υ': "u", 'χ': "x", 'γ': "y", 'ω': "w",
	'ա': "w", 'զ': "q", 'հ': "h", 'օ': "o", 'ո': "n", 'ս': "u", 'ց': "g", 'յ': "j",
	'ı': "i", 'ł': "l", 'ø': "o", 'đ': "d", 'ħ': "h", 'ŧ': "t", 'ƅ': "b", 'ß': "ss", 'æ': "ae", 'œ': "oe", 'ɑ': "a", 'ɩ': "i",
}

// Skeleton returns what a name looks like: letters of other alphabets and digits
// as the Latin letters that a quick eye takes them for, accents dropped. Names
// with the same skeleton can be mistaken for each other. The result is for
// comparing only.
func Skeleton(name string) string {
	name = strings.ToLower(Unicode(name))
	var out strings.Builder
	out.Grow(len(name))
	if !plainHost(name) {
		name = norm.NFKD.String(name)
	}
	for _, r := range name {
		switch {
		case r == '0':
			out.WriteByte('o')
		case r == '1', r == '|':
			out.WriteByte('l')
		case r == '5':
			out.WriteByte('s')
		case r < 0x80:
			out.WriteRune(r)
		case unicode.Is(unicode.Mn, r), isInvisible(r):
		case lookAlikes[r] != "":
			out.WriteString(lookAlikes[r])
		default:
			out.WriteRune(r)
		}
	}
	return strings.NewReplacer("rn", "m", "vv", "w", "cl", "d").Replace(out.String())
}

package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// maxName is RFC 1035 §2.3.4 in presentation form without the final dot.
const maxName = 253

func trimDot(name string) string { return strings.TrimSuffix(name, ".") }

// fqdn returns the name in lower case with a final dot.
func fqdn(name string) string { return strings.ToLower(trimDot(name)) + "." }

// inZone returns the fully qualified name to ask for, with the zone of WithLookup.
func (r *Resolver) inZone(name string) string {
	if r.zone == "" || r.hasZone(name) {
		return fqdn(name)
	}
	return fqdn(trimDot(name) + "." + r.zone)
}

func (r *Resolver) hasZone(name string) bool {
	return dns.IsSubDomain(fqdn(r.zone), fqdn(name))
}

// isDomainName is stricter than the wire: letters, digits, hyphen and underscore
// are what names in mail have (RFC 1123 §2.1, and _tcp). Everything else could
// only be an escape, and those never get past here.
func isDomainName(name string) bool {
	name = trimDot(name)
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if !isNameByte(label[i]) {
				return false
			}
		}
	}
	return true
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// hostName makes a name of an answer usable: false for a name that no host can
// have. An address in place of a name is not one (RFC 5321 §5.1).
func hostName(name string) (string, bool) {
	if !isDomainName(name) {
		return "", false
	}
	host := strings.ToLower(trimDot(name))
	if _, err := netip.ParseAddr(host); err == nil {
		return "", false
	}
	return host, true
}

// parseLiteral reads an address with or without the brackets of RFC 5321 §4.1.3.
func parseLiteral(s string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}, false
		}
		s = inner
		if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
			s = s[5:]
		}
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err == nil
}

// unescapeText turns the library's presentation form of a TXT back into bytes:
// \DDD and \X.
func unescapeText(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			b = append(b, (s[i]-'0')*100+(s[i+1]-'0')*10+s[i+2]-'0')
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

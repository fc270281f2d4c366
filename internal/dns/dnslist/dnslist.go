// Package dnslist is the grammar of block and allow lists in the DNS: how the
// configuration writes one, under which name an address is asked for, and what an
// answer means. Who asks, and what follows, is up to others.
//
//	z, err := dnslist.ParseZone("zen.example.org=127.0.0.2-11*3")
//	addrs, err := resolver.IPv4(ctx, z.Query(client))
//	if z.Meaning(addrs[0]) == dnslist.Listed { score += z.Weight() }
//
// Invariants:
//   - The answers by which lists say that they refuse to answer, and answers that
//     no list gives, are never a listing.
//   - An IPv4 address in IPv6 dress is asked for as the IPv4 address that it is.
package dnslist

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/smtp"
)

// Zone is a list in the DNS.
type Zone struct {
	// Name is the zone: "zen.example.org", in lower case without final dot.
	Name string
	// Low and High are the answers that are listings, both included. Where they
	// are not valid, every answer in 127.0.0.0/8 is one, but for 127.0.0.1 and
	// 127.255.255.0/24, which lists use to say that they refuse to answer.
	Low, High netip.Addr
	// Score is what a listing counts, below 0 for lists of the good; 0:
	// DefaultScore.
	Score float64
}

// DefaultScore is what a listing counts where nothing is said.
const DefaultScore = 3

// ParseZone reads "zone", "zone=127.0.1.2" or "zone=127.0.1.2-99", each perhaps
// with "*score" behind it, as the configuration writes it.
func ParseZone(s string) (Zone, error) {
	var z Zone
	rest, score, scored := strings.Cut(s, "*")
	if scored {
		n, err := strconv.ParseFloat(score, 64)
		// The negation also refuses what is no number at all.
		if err != nil || n == 0 || !(n >= -1000 && n <= 1000) {
			return z, fmt.Errorf("parse zone %q: %q is no score", s, score)
		}
		z.Score = n
	}
	name, answers, ranged := strings.Cut(rest, "=")
	domain, err := smtp.CanonicalDomain(name)
	if err != nil || strings.HasPrefix(domain, "[") || !strings.Contains(domain, ".") {
		return z, fmt.Errorf("parse zone %q: %q is no domain", s, name)
	}
	z.Name = domain
	if !ranged {
		return z, nil
	}
	if z.Low, z.High, err = parseAnswers(answers); err != nil {
		return Zone{}, fmt.Errorf("parse zone %q: %w", s, err)
	}
	return z, nil
}

// parseAnswers reads "127.0.1.2" or "127.0.1.2-99".
func parseAnswers(s string) (low, high netip.Addr, err error) {
	first, last, ranged := strings.Cut(s, "-")
	low, err = netip.ParseAddr(first)
	if err != nil || !low.Is4() || low.As4()[0] != 127 {
		return low, high, fmt.Errorf("%q is no answer of a list", first)
	}
	if !ranged {
		return low, low, nil
	}
	n, err := strconv.ParseUint(last, 10, 8)
	b := low.As4()
	if err != nil || byte(n) < b[3] {
		return low, high, fmt.Errorf("%q is no last number behind %s", last, first)
	}
	b[3] = byte(n)
	return low, netip.AddrFrom4(b), nil
}

// String is the zone as the configuration writes it.
func (z Zone) String() string {
	s := z.Name
	if z.Low.IsValid() {
		s += "=" + z.Low.String()
		if z.High != z.Low {
			s += "-" + strconv.Itoa(int(z.High.As4()[3]))
		}
	}
	if z.Score != 0 {
		s += "*" + strconv.FormatFloat(z.Score, 'f', -1, 64)
	}
	return s
}

// Weight is what a listing counts.
func (z Zone) Weight() float64 {
	if z.Score == 0 {
		return DefaultScore
	}
	return z.Score
}

// Answer is what one address in the answer of a list means.
type Answer uint8

// The meanings of an answer.
const (
	Other   Answer = iota // something that this zone is not asked for
	Listed                // a listing
	Refused               // an error, or no list at all
)

// Meaning says what an answer means.
func (z Zone) Meaning(addr netip.Addr) Answer {
	addr = addr.Unmap()
	if !addr.Is4() {
		return Refused
	}
	b := addr.As4()
	switch {
	case b[0] != 127, b[1] == 255 && b[2] == 255, b == [4]byte{127, 0, 0, 1}:
		// RFC 5782 §2.1: listings are in 127.0.0.0/8. Anything outside comes from a
		// resolver that invents answers, or a zone that was given up and sold.
		return Refused
	case !z.Low.IsValid(), addr.Compare(z.Low) >= 0 && addr.Compare(z.High) <= 0:
		return Listed
	}
	return Other
}

// Query is the name to ask for an address: "2.0.0.127.zen.example.org".
func (z Zone) Query(addr netip.Addr) string { return Reverse(addr) + "." + z.Name }

// Reverse is the address as lists have it: the bytes of IPv4 backwards (RFC 5782
// §2.1), the 32 nibbles of IPv6 backwards (RFC 5782 §2.4). An IPv4 address that is
// mapped into IPv6 is that IPv4 address.
func Reverse(addr netip.Addr) string {
	addr = addr.Unmap()
	if addr.Is4() {
		a := addr.As4()
		return fmt.Sprintf("%d.%d.%d.%d", a[3], a[2], a[1], a[0])
	}
	return nibbles(addr.As16())
}

func nibbles(a [16]byte) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 64)
	for i := len(a) - 1; i >= 0; i-- {
		b = append(b, digits[a[i]&0xf], '.', digits[a[i]>>4], '.')
	}
	return string(b[:len(b)-1])
}

// The test points of RFC 5782 §5: every list must have the one and must not have
// the other, in each family that it lists.
func (z Zone) TestListed4() string   { return "2.0.0.127." + z.Name }
func (z Zone) TestUnlisted4() string { return "1.0.0.127." + z.Name }

// TestListed6 and TestUnlisted6 are ::FFFF:7F00:2 and ::FFFF:7F00:1, by nibbles.
func (z Zone) TestListed6() string   { return nibbles(mapped(2)) + "." + z.Name }
func (z Zone) TestUnlisted6() string { return nibbles(mapped(1)) + "." + z.Name }

func mapped(last byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: last}
}

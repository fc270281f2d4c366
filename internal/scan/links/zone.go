package links

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/smtp"
)

// Zone is a list of domains in the DNS.
type Zone struct {
	// Name is the zone: "dbl.example.org".
	Name string
	// Low and High are the answers that are listings, both included. Where they
	// are not valid, every answer in 127.0.0.0/8 is one, but for 127.0.0.1 and
	// 127.255.255.0/24, which lists use to say that they refuse to answer.
	Low, High netip.Addr
	// Score is what a listing counts; 0: 3.
	Score float64
}

const defaultScore = 3

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

// answer is what one address in the answer of a list means.
type answer uint8

const (
	other   answer = iota // something that this zone is not asked for
	listed                // a listing
	refused               // an error, or no list at all
)

// meaning says what an answer means.
func (z Zone) meaning(addr netip.Addr) answer {
	b := addr.As4()
	switch {
	case b[0] != 127, b[1] == 255 && b[2] == 255, b == [4]byte{127, 0, 0, 1}:
		// RFC 5782 §2.1: listings are in 127.0.0.0/8. Anything outside comes from a
		// resolver that invents answers, or a zone that was given up and sold.
		return refused
	case !z.Low.IsValid(), addr.Compare(z.Low) >= 0 && addr.Compare(z.High) <= 0:
		return listed
	}
	return other
}

// score is what a listing counts.
func (z Zone) score() float64 {
	if z.Score == 0 {
		return defaultScore
	}
	return z.Score
}

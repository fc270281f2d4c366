package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// record is a parsed record.
type record struct {
	directives []directive
	redirect   macros // nil: none
}

// directive is a mechanism with its qualifier.
type directive struct {
	text      string // as it stands in the record
	qualifier Status
	mechanism string // in lower case
	domain    macros // nil: the domain that is checked
	// network is that of ip4 and ip6.
	network netip.Prefix
	// bits4 and bits6 are the prefix lengths of a and mx.
	bits4, bits6 int
}

// isRecord reports whether a text is an SPF record of any kind, RFC 7208 §4.5.
func isRecord(text string) bool {
	const version = "v=spf1"
	return len(text) >= len(version) && strings.EqualFold(text[:len(version)], version) &&
		(len(text) == len(version) || text[len(version)] == ' ')
}

var qualifiers = map[byte]Status{'+': Pass, '-': Fail, '~': SoftFail, '?': Neutral}

// modifier matches the beginning of one, RFC 7208 §4.6.1.
var modifier = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]*)=`)

// parseRecord parses a text that is one (isRecord). Only spaces stand between
// terms, and nothing but printable ASCII in them (RFC 7208 §3.1, §4.6.1).
func parseRecord(text string) (*record, error) {
	r := &record{}
	seen := map[string]bool{}
	for term := range strings.SplitSeq(text[len("v=spf1"):], " ") {
		if term == "" {
			continue
		}
		for i := range len(term) {
			if term[i] <= ' ' || term[i] >= 0x7f {
				return nil, fmt.Errorf("byte %#x in a term", term[i])
			}
		}
		var err error
		if m := modifier.FindStringSubmatch(term); m != nil {
			err = r.addModifier(seen, strings.ToLower(m[1]), term[len(m[0]):])
		} else {
			err = r.addDirective(term)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", term, err)
		}
	}
	return r, nil
}

// addModifier: redirect and exp stand at most once (RFC 7208 §6), unknown ones
// are ignored if they are well-formed.
func (r *record) addModifier(seen map[string]bool, name, value string) error {
	if name != "redirect" && name != "exp" {
		_, err := parseMacros(value)
		return err
	}
	if seen[name] {
		return errors.New("stands there twice")
	}
	seen[name] = true
	domain, err := parseDomainSpec(value)
	if name == "redirect" {
		r.redirect = domain
	}
	return err
}

func (r *record) addDirective(term string) error {
	d := directive{text: term, qualifier: Pass, bits4: 32, bits6: 128}
	if q, ok := qualifiers[term[0]]; ok {
		d.qualifier, term = q, term[1:]
	}
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	d.mechanism = strings.ToLower(term[:end])
	if err := d.parseArgument(term[end:]); err != nil {
		return err
	}
	r.directives = append(r.directives, d)
	return nil
}

// parseArgument parses what follows the name of a mechanism, with its ":".
func (d *directive) parseArgument(arg string) (err error) {
	value, given := strings.CutPrefix(arg, ":")
	switch d.mechanism {
	case "all":
		if arg != "" {
			return errors.New("all takes no argument")
		}
		return nil
	case "include", "exists":
		if !given {
			return errors.New("a domain is missing")
		}
		d.domain, err = parseDomainSpec(value)
		return err
	case "ptr":
		if arg == "" {
			return nil
		}
		if !given {
			return errors.New("no domain")
		}
		d.domain, err = parseDomainSpec(value)
		return err
	case "a", "mx":
		return d.parseHost(arg)
	case "ip4", "ip6":
		if !given {
			return errors.New("an address is missing")
		}
		d.network, err = parseNetwork(value, d.mechanism == "ip4")
		return err
	}
	return errors.New("unknown mechanism")
}

// dualCIDR is what may end the argument of a and mx: "/24//64". A slash is also
// a character of a domain-spec, so only the end counts.
var dualCIDR = regexp.MustCompile(`^(.*?)(?:/(\d+))?(?://(\d+))?$`)

// parseHost parses [":" domain-spec] [dual-cidr-length], RFC 7208 §5.3, §5.4.
func (d *directive) parseHost(arg string) (err error) {
	m := dualCIDR.FindStringSubmatch(arg)
	if d.bits4, err = parseBits(m[2], 32); err != nil {
		return err
	}
	if d.bits6, err = parseBits(m[3], 128); err != nil {
		return err
	}
	if m[1] == "" {
		return nil
	}
	value, given := strings.CutPrefix(m[1], ":")
	if !given {
		return errors.New("malformed prefix length")
	}
	d.domain, err = parseDomainSpec(value)
	return err
}

// parseBits parses a prefix length without leading zeros; "" is the whole address.
func parseBits(s string, most int) (int, error) {
	if s == "" {
		return most, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n > most || s != strconv.Itoa(n) {
		return 0, errors.New("malformed prefix length")
	}
	return n, nil
}

// parseNetwork parses the argument of ip4 and ip6, RFC 7208 §5.6.
func parseNetwork(s string, four bool) (netip.Prefix, error) {
	host, length, sliced := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Is4() != four || addr.Zone() != "" {
		return netip.Prefix{}, errors.New("malformed address")
	}
	bits := addr.BitLen()
	if sliced {
		if length == "" {
			return netip.Prefix{}, errors.New("malformed prefix length")
		}
		if bits, err = parseBits(length, bits); err != nil {
			return netip.Prefix{}, err
		}
	}
	return netip.PrefixFrom(addr, bits).Masked(), nil
}

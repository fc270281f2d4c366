package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseSocket reads unix:/path or tcp:host:port.
func parseSocket(s, dir string) (HostPort, *fault) {
	if s == "" {
		return HostPort{}, nil
	}
	bad := &fault{ruleBadAddress, fmt.Sprintf("%q is no socket", s), `write "unix:/path" or "tcp:host:port"`}
	if address, ok := strings.CutPrefix(s, "tcp:"); ok {
		h, f := parseHostPort(address, 0, dir)
		switch {
		case f != nil || h.Unix != "":
			return HostPort{}, bad
		case h.Port == 0:
			return HostPort{}, &fault{ruleBadAddress, fmt.Sprintf("%q has no port", s), bad.hint}
		}
		return h, nil
	}
	if strings.HasPrefix(s, "unix:") {
		return parseHostPort(s, 0, dir)
	}
	if strings.HasPrefix(s, "/") {
		bad.hint = fmt.Sprintf("did you mean %q?", "unix:"+s)
	} else if h, f := parseHostPort(s, 0, dir); f == nil && h.Port != 0 {
		bad.hint = fmt.Sprintf("did you mean %q?", "tcp:"+s)
	}
	return HostPort{}, bad
}

// parseURL reads the URL of a service. What may hold a password is not repeated.
func parseURL(s, schemes, example string) (URL, *fault) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	hint := fmt.Sprintf("such as %q", example)
	switch {
	case err == nil && u.User != nil || strings.Contains(s, "@"):
		return "", &fault{ruleBadURL, "has a user name or password in it", "take it out: this file is no place for secrets"}
	case err != nil || u.Hostname() == "" || u.Fragment != "" || !goodPort(u.Port()):
		return "", &fault{ruleBadURL, fmt.Sprintf("%q is no URL", s), hint}
	case !slices.Contains(strings.Split(schemes, ","), u.Scheme):
		return "", &fault{ruleBadURL, fmt.Sprintf("%q does not begin with %s", s, quotedList(withSlashes(schemes))), hint}
	}
	return URL(s), nil
}

func withSlashes(schemes string) []string {
	list := strings.Split(schemes, ",")
	for i := range list {
		list[i] += "://"
	}
	return list
}

func goodPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

// parseBaseURL reads the URL that links are made from.
func parseBaseURL(s string) (BaseURL, *fault) {
	example := "https://gw.example.com"
	text, f := parseURL(s, "https,http", example)
	if f != nil || text == "" {
		return "", f
	}
	u, err := url.Parse(s)
	if err != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery {
		return "", &fault{ruleBadURL, fmt.Sprintf("%q has more than scheme, host and port", s), fmt.Sprintf("such as %q", example)}
	}
	return BaseURL(u.Scheme + "://" + u.Host), nil
}

// parseTimeOfDay reads "07:00".
func parseTimeOfDay(s string) (TimeOfDay, *fault) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, &fault{ruleBadTime, fmt.Sprintf("%q is no time of day", s), `write hours and minutes, such as "07:00" or "18:30"`}
	}
	return TimeOfDay(time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute), nil
}

// parseZone reads "zone", "zone=127.0.0.2", "zone=127.0.0.2-11", each perhaps with
// "*score" behind it.
func parseZone(s string) (Zone, *fault) {
	bad := &fault{ruleBadZone, fmt.Sprintf("%q is no DNS list", s), `such as "dbl.example.org" or "dbl.example.org=127.0.1.2-99*4"`}
	var z Zone
	rest, score, hasScore := strings.Cut(s, "*")
	if hasScore {
		n, f := parseNumber(score)
		if f != nil || n == 0 || n < -1000 || n > 1000 {
			bad.hint = fmt.Sprintf("%q is no score", score)
			return z, bad
		}
		z.Score = n
	}
	name, answers, hasAnswers := strings.Cut(rest, "=")
	domain, f := parseDomain(name)
	if f != nil || domain == "" || domain == "*" {
		return z, bad
	}
	z.Domain = domain
	if hasAnswers {
		if z.Low, z.High, f = parseAnswers(answers); f != nil {
			f.message = bad.message + ": " + f.message
			return z, f
		}
	}
	return z, nil
}

// parseAnswers reads the addresses that count as a listing.
func parseAnswers(s string) (low, high netip.Addr, f *fault) {
	first, last, isRange := strings.Cut(s, "-")
	hint := `such as "127.0.0.2" or "127.0.0.2-11"`
	low, err := netip.ParseAddr(first)
	if err != nil || !low.Is4() || low.As4()[0] != 127 {
		return low, high, &fault{ruleBadZone, fmt.Sprintf("%q is no answer of a list", s), hint}
	}
	high = low
	if isRange {
		n, err := strconv.ParseUint(last, 10, 8)
		octets := low.As4()
		if err != nil || byte(n) < octets[3] {
			return low, high, &fault{ruleBadZone, fmt.Sprintf("%q is no answer of a list", s), hint}
		}
		octets[3] = byte(n)
		high = netip.AddrFrom4(octets)
	}
	// RFC 5782 §5: 127.0.0.1 must not be listed; lists answer in 127.255.255.0/24
	// to those whom they do not serve.
	a := low.As4()
	if low.Compare(netip.AddrFrom4([4]byte{127, 0, 0, 1})) <= 0 || a[1] == 255 && a[2] == 255 {
		return low, high, &fault{ruleBadZone, fmt.Sprintf("%s is not what a list answers for a listing", low), hint}
	}
	return low, high, nil
}

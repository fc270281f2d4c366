// Package mtasts finds out how domains want mail to come to them: MTA-STS (RFC 8461).
//
//	cache, err := mtasts.New(mtasts.Config{Dir: dir, Resolver: resolver})
//	found := cache.Policy(ctx, "example.org")
//	if found.Policy.Enforced() && !found.Policy.Matches("mx1.example.org") { … }
//
// Invariants:
//   - A policy that was seen holds until its max_age is over, whatever the name
//     service says meanwhile: who can suppress answers must not be able to switch it off.
//   - It is on disk before it is first used, and still holds after a restart.
//   - A policy comes from the policy host of the domain, over a verified TLS session,
//     without redirects, and what is read of it is bounded in bytes and time.
//   - One domain is asked by one goroutine at a time, and after a failure left alone for
//     some minutes.
package mtasts

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is what a domain wants to happen to mail whose way to it does not fit its policy.
type Mode string

// The modes, RFC 8461 §5.
const (
	Enforce Mode = "enforce" // it is not delivered there
	Testing Mode = "testing" // it is delivered, and reported
	None    Mode = "none"    // there is no policy any more
)

// Policy is the policy of a domain.
type Policy struct {
	Mode Mode `json:"mode"`
	// MX are the patterns of mail exchangers: names, or "*.example.org" for any name
	// that is one label longer. Lower case.
	MX []string `json:"mx,omitempty"`
	// MaxAge is how long the policy holds from when it was fetched.
	MaxAge time.Duration `json:"max_age"`
	// Lines are those of the policy as it was fetched, for reports.
	Lines []string `json:"lines,omitempty"`
}

// Enforced reports whether mail must not take another way. A nil Policy asks for
// nothing.
func (p *Policy) Enforced() bool { return p != nil && p.Mode == Enforce }

// Active reports whether there is something to compare with.
func (p *Policy) Active() bool { return p != nil && (p.Mode == Enforce || p.Mode == Testing) }

// Matches reports whether host is one of the policy's mail exchangers (RFC 8461 §4.1).
func (p *Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(p.MX, func(pattern string) bool {
		above, ok := strings.CutPrefix(pattern, "*.")
		if !ok {
			return host == pattern
		}
		label, rest, ok := strings.Cut(host, ".")
		return ok && label != "" && rest == above
	})
}

// Limits of a policy.
const (
	maxPolicy = 64 << 10 // bytes, RFC 8461 §3.3
	maxMX     = 100
	// maxAge is RFC 8461 §3.2: about a year.
	maxAge = 31557600 * time.Second
)

// errPolicy says that a text is no policy.
var errPolicy = errors.New("not a valid policy")

// Parse reads the text of a policy, RFC 8461 §3.2. Keys that it does not know are
// passed over, and of a key that stands there twice the first counts, but for mx.
func Parse(text []byte) (*Policy, error) {
	p := &Policy{}
	seen := map[string]bool{}
	for line := range bytes.Lines(text) {
		s := strings.TrimRight(string(line), "\r\n")
		key, value, ok := strings.Cut(s, ":")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if strings.TrimSpace(s) == "" {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%w: a line without a colon", errPolicy)
		}
		p.Lines = append(p.Lines, s)
		if key != "mx" && seen[key] {
			continue
		}
		seen[key] = true
		if err := p.set(key, value); err != nil {
			return nil, err
		}
	}
	switch {
	case !seen["version"], !seen["mode"], !seen["max_age"]:
		return nil, fmt.Errorf("%w: version, mode or max_age is missing", errPolicy)
	case p.Mode != None && len(p.MX) == 0:
		return nil, fmt.Errorf("%w: it names no mx", errPolicy)
	}
	return p, nil
}

func (p *Policy) set(key, value string) error {
	switch key {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("%w: version %.20q", errPolicy, value)
		}
	case "mode":
		switch p.Mode = Mode(value); p.Mode {
		case Enforce, Testing, None:
		default:
			return fmt.Errorf("%w: mode %.20q", errPolicy, value)
		}
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || len(value) > 10 {
			return fmt.Errorf("%w: max_age %.20q", errPolicy, value)
		}
		p.MaxAge = min(time.Duration(n)*time.Second, maxAge)
	case "mx":
		name := strings.ToLower(strings.TrimSuffix(value, "."))
		if !isName(strings.TrimPrefix(name, "*.")) || len(p.MX) == maxMX {
			return fmt.Errorf("%w: mx %.60q", errPolicy, value)
		}
		p.MX = append(p.MX, name)
	}
	return nil
}

// isName reports a domain name of letters, digits, hyphens and underscores, in lower
// case: it may stand in a file name, too.
func isName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// parseRecord reads the record _mta-sts of a domain (RFC 8461 §3.1): exactly one of the
// texts is of this version, and has an id.
func parseRecord(texts []string) (id string, ok bool) {
	for _, text := range texts {
		fields := strings.Split(text, ";")
		if strings.TrimRight(fields[0], " \t") != "v=STSv1" {
			continue
		}
		if ok {
			return "", false
		}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
			if key = strings.TrimSpace(key); key == "id" && id == "" {
				id = strings.TrimSpace(value)
			}
		}
		ok = true
	}
	return id, ok && isID(id)
}

func isID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

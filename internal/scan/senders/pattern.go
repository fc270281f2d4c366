package senders

import (
	"errors"
	"strings"

	"gatepost/internal/smtp"
)

// What cannot be on a list, or have one.
var (
	ErrPattern = errors.New("a sender is an address, user@example.org, or a domain, @example.org")
	ErrOwner   = errors.New("a list is that of an address, user@example.com, of a domain, @example.com, or that of everybody")
)

// ParsePattern returns the form in which a sender is kept: "user@example.org", or
// "@example.org" for the addresses of a domain and of those below it, which may be given
// as "example.org" as well.
func ParsePattern(s string) (string, error) { return parse(s, ErrPattern) }

// ParseOwner returns the form in which the owner of a list is kept: an address, "@domain",
// or "" for everybody.
func ParseOwner(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", nil
	}
	return parse(s, ErrOwner)
}

func parse(s string, bad error) (string, error) {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		a, err := smtp.ParseAddress(s)
		if err != nil {
			return "", bad
		}
		return a.Key(), nil
	}
	domain, err := smtp.CanonicalDomain(strings.TrimPrefix(s, "@"))
	if err != nil || strings.HasPrefix(domain, "[") || !strings.Contains(domain, ".") {
		return "", bad
	}
	return "@" + domain, nil
}

// patternsOf are the patterns that an address fits, the most specific first.
func patternsOf(key string) []string {
	patterns := []string{key}
	_, domain, _ := strings.Cut(key, "@")
	for n := 0; domain != "" && n < maxLabels; n++ {
		patterns = append(patterns, "@"+domain)
		_, domain, _ = strings.Cut(domain, ".")
	}
	return patterns
}

// maxLabels bounds how many domains above one are looked for.
const maxLabels = 10

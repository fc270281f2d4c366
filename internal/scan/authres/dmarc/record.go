package dmarc

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// Policy is what a domain asks for mail that fails.
type Policy string

// The policies.
const (
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// Record is a policy record, RFC 7489 §6.3.
type Record struct {
	// Policy is p=; Subdomain sp=, which defaults to it; Missing np= for domains
	// that do not exist (RFC 9091), which defaults to Subdomain.
	Policy, Subdomain, Missing Policy
	// StrictDKIM and StrictSPF are adkim=s and aspf=s.
	StrictDKIM, StrictSPF bool
	// Percent is pct=, 0 to 100.
	Percent int
}

// errPolicy says that a record has no policy and asks for no reports either.
var errPolicy = errors.New("no valid policy in the record")

// IsRecord reports whether a text is a policy record: its first tag is the
// version (RFC 7489 §6.6.3).
func IsRecord(text string) bool {
	first, _, _ := strings.Cut(text, ";")
	name, value, ok := strings.Cut(first, "=")
	return ok && strings.TrimRight(name, " \t") == "v" && strings.Trim(value, " \t") == "DMARC1"
}

// Parse reads a policy record. A record without a valid policy counts as p=none
// if it asks for reports, and is an error otherwise (RFC 7489 §6.6.3).
func Parse(text string) (*Record, error) {
	if !IsRecord(text) {
		return nil, errors.New("not a policy record")
	}
	tags := parseTags(text)
	r := &Record{Percent: 100, StrictDKIM: strings.EqualFold(tags["adkim"], "s"), StrictSPF: strings.EqualFold(tags["aspf"], "s")}
	if n, err := strconv.ParseUint(tags["pct"], 10, 8); err == nil && n <= 100 {
		r.Percent = int(n)
	}
	var ok, subOK, npOK bool
	r.Policy, ok = parsePolicy(tags["p"])
	if r.Subdomain, subOK = parsePolicy(tags["sp"]); tags["sp"] == "" {
		r.Subdomain, subOK = r.Policy, true
	}
	if r.Missing, npOK = parsePolicy(tags["np"]); !npOK {
		r.Missing = r.Subdomain
	}
	if ok && subOK {
		return r, nil
	}
	if !hasURI(tags["rua"]) {
		return nil, errPolicy
	}
	r.Policy, r.Subdomain, r.Missing = PolicyNone, PolicyNone, PolicyNone
	return r, nil
}

// parseTags returns the tags by their names in lower case; of equal ones the
// first, as what stands behind it may be an accident.
func parseTags(text string) map[string]string {
	tags := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(part, "=")
		name = strings.ToLower(strings.Trim(name, " \t\r\n"))
		if _, again := tags[name]; ok && !again {
			tags[name] = strings.Trim(value, " \t\r\n")
		}
	}
	return tags
}

func parsePolicy(s string) (Policy, bool) {
	switch p := Policy(strings.ToLower(s)); p {
	case PolicyNone, PolicyQuarantine, PolicyReject:
		return p, true
	}
	return "", false
}

// hasURI reports whether a list of addresses for reports has one that could be.
func hasURI(list string) bool {
	for s := range strings.SplitSeq(list, ",") {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil && u.Scheme != "" && (u.Opaque != "" || u.Host != "") {
			return true
		}
	}
	return false
}

// rank orders policies by how strict they are.
func (p Policy) rank() int {
	switch p {
	case PolicyReject:
		return 2
	case PolicyQuarantine:
		return 1
	}
	return 0
}

// milder is the next policy below, for mail that pct= leaves out (RFC 7489
// §6.6.4).
func (p Policy) milder() Policy {
	if p == PolicyReject {
		return PolicyQuarantine
	}
	return PolicyNone
}

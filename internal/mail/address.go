package mail

import "strings"

// Address is one mailbox as it stands in an envelope. Package smtp makes them
// (smtp.ParseAddress, smtp.ParsePath); build one by hand only in tests.
//
// The zero Address is the null sender <>.
type Address struct {
	// Local is the local part with quotes and backslashes resolved.
	Local string `json:"local,omitempty"`
	// Domain is the domain in its canonical form: lower case, A-labels, no final
	// dot; "[192.0.2.1]" or "[IPv6:…]" for a literal; "" only for the null sender
	// and for <postmaster> without a domain.
	Domain string `json:"domain,omitempty"`
	// Raw is what stood between < and >, less a source route. It is what goes
	// on to the next hop, so that a quoted local part keeps its exact form.
	Raw string `json:"raw,omitempty"`
}

// IsNull reports whether the address is the null sender <>.
func (a Address) IsNull() bool { return a.Raw == "" }

// String returns the form for the wire and for people, without < and >.
func (a Address) String() string { return a.Raw }

// Key is the form under which addresses are compared, listed and cached: the
// local part in lower case (every server that Gatepost fronts treats it so,
// though RFC 5321 §2.4 lets it matter) and the canonical domain.
func (a Address) Key() string {
	if a.Domain == "" {
		return strings.ToLower(a.Local)
	}
	return strings.ToLower(a.Local) + "@" + a.Domain
}

// NeedsUTF8 reports whether the address can only be sent under SMTPUTF8 as it
// stands (RFC 6531 §3.3).
func (a Address) NeedsUTF8() bool { return !IsASCII(a.Raw) }

// IsASCII reports whether s holds no byte above 0x7f.
func IsASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

package pop3

import (
	"slices"
	"strings"
)

// Capabilities are the lines of a reply to CAPA (RFC 2449 §5), each a tag with its
// parameters.
type Capabilities []string

// Bounds of what is taken of a list of capabilities.
const (
	maxCapabilities = 64
	maxCapability   = 512
)

// Add takes a line of a reply. What has control characters or is out of bounds is left
// out.
func (c *Capabilities) Add(line string) {
	if len(*c) >= maxCapabilities || len(line) > maxCapability || strings.TrimSpace(line) == "" ||
		strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return
	}
	*c = append(*c, line)
}

// Find returns the parameters of a tag, and whether it is there.
func (c Capabilities) Find(tag string) ([]string, bool) {
	for _, line := range c {
		words := strings.Fields(line)
		if strings.EqualFold(words[0], tag) {
			return words[1:], true
		}
	}
	return nil, false
}

// Has reports whether the tag is there.
func (c Capabilities) Has(tag string) bool {
	_, ok := c.Find(tag)
	return ok
}

// passed are the tags that mean the same through a proxy that knows all commands of
// their RFCs.
var passed = []string{
	"TOP", "USER", "SASL", "RESP-CODES", "LOGIN-DELAY", "PIPELINING", "EXPIRE", "UIDL", "IMPLEMENTATION", // RFC 2449 §6
	"AUTH-RESP-CODE", // RFC 3206 §6
	"UTF8", "LANG",   // RFC 6856 §2, §3
}

// Through returns what a proxy can promise of what the server does: the tags that
// both know. STLS is never one of them, for it is about one connection.
func (c Capabilities) Through() Capabilities {
	var out Capabilities
	for _, line := range c {
		words := strings.Fields(line)
		if !slices.ContainsFunc(passed, func(p string) bool { return strings.EqualFold(p, words[0]) }) {
			continue
		}
		if strings.EqualFold(words[0], "SASL") {
			mechanisms := slices.DeleteFunc(words[1:], BoundToConnection)
			if len(mechanisms) == 0 {
				continue
			}
			line = "SASL " + strings.Join(mechanisms, " ")
		}
		out = append(out, line)
	}
	return out
}

// BoundToConnection reports whether a mechanism is about the connection between client
// and server, of which there are two: those with channel binding, and EXTERNAL, which
// would be about our certificate.
func BoundToConnection(mechanism string) bool {
	m := strings.ToUpper(mechanism)
	return strings.HasSuffix(m, "-PLUS") || m == "EXTERNAL"
}

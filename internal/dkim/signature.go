package dkim

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"gatepost/internal/message"
)

// signature is one signature field: a DKIM-Signature, an ARC-Message-Signature or
// an ARC-Seal, which has neither names nor body.
type signature struct {
	raw       string // the field as it stands in the message
	at        int    // its place among the fields of the header section
	algorithm string
	domain    string // ASCII, lower case
	selector  string
	identity  string // of a DKIM-Signature
	header    Canon
	body      Canon
	names     []string // h=, lower case
	bodyHash  []byte
	value     []byte
	prefix    string
	limit     int64     // l=; wholeBody where it is not given
	signed    time.Time // t=; zero where it is not given
	expires   time.Time // x=; zero where it is not given
}

// wholeBody is the l= of signatures that have none.
const wholeBody = -1

// prefixLength is how much of b= tells signatures apart (RFC 6008 §4).
const prefixLength = 8

// startSignature reads who signed in a DKIM-Signature field (RFC 6376 §3.5). Where
// it returns a fault, the signature has what could be read before.
func startSignature(f message.Field, at int) (*signature, tagList, *fault) {
	s := &signature{raw: f.Raw(), at: at, limit: wholeBody}
	tags, wrong := parseTags(f.Value())
	if wrong != nil {
		return s, nil, wrong
	}
	if wrong := s.readCommon(tags); wrong != nil {
		return s, tags, wrong
	}
	return s, tags, s.readIdentity(tags)
}

// finish reads what a DKIM-Signature field covers (RFC 6376 §6.1.1).
func (s *signature) finish(tags tagList) *fault {
	if version, ok := tags["v"]; !ok {
		return bad("v= is missing")
	} else if version != "1" {
		return &fault{Neutral, "unknown version"}
	}
	if wrong := s.readCovered(tags, Simple); wrong != nil {
		return wrong
	}
	if !slices.Contains(s.names, "from") {
		// RFC 6376 §5.4: a signature that leaves From open says nothing.
		return bad("From is not signed")
	}
	return nil
}

// readCommon reads the tags that every signature field has: d=, s=, a=, b=, t=.
func (s *signature) readCommon(tags tagList) *fault {
	var ok bool
	if s.domain, ok = asciiDomain(tags["d"]); !ok || !strings.Contains(s.domain, ".") {
		s.domain = ""
		return bad("d= is no domain")
	}
	if s.selector, ok = asciiDomain(tags["s"]); !ok {
		s.selector = ""
		return bad("s= is no selector")
	}
	if len(s.keyName()) > 253 {
		return bad("d= and s= are too long")
	}
	if s.value, ok = decodeBase64(tags["b"]); !ok {
		return bad("b= is no base64")
	}
	b := withoutSpace(tags["b"])
	s.prefix = b[:min(len(b), prefixLength)]
	if signed, ok := tags["t"]; ok {
		seconds, ok := parseNumber(signed, 12)
		if !ok {
			return bad("t= is no time")
		}
		s.signed = time.Unix(seconds, 0)
	}
	algorithm, ok := tags["a"]
	switch {
	case !ok:
		return bad("a= is missing")
	case algorithm == "rsa-sha256" || algorithm == "ed25519-sha256":
		s.algorithm = algorithm
		return nil
	case algorithm == "rsa-sha1":
		s.algorithm = algorithm
		// RFC 8301 §3.1: must not be verified.
		return &fault{Fail, "rsa-sha1 is not accepted"}
	}
	return &fault{Neutral, "unknown algorithm"}
}

// readIdentity reads i=, which lies within d=.
func (s *signature) readIdentity(tags tagList) *fault {
	s.identity = "@" + s.domain
	given, ok := tags["i"]
	if !ok {
		return nil
	}
	given = withoutSpace(given)
	i := strings.LastIndexByte(given, '@')
	if i < 0 {
		return bad("i= has no @")
	}
	domain, ok := asciiDomain(given[i+1:])
	if !ok || domain != s.domain && !strings.HasSuffix(domain, "."+s.domain) {
		return bad("i= is not within d=")
	}
	if local := given[:i]; isPrintable(local) {
		s.identity = local + "@" + domain
	} else {
		s.identity = "@" + domain
	}
	return nil
}

// identityDomain is the domain of i=.
func (s *signature) identityDomain() string {
	return s.identity[strings.LastIndexByte(s.identity, '@')+1:]
}

// readCovered reads what the signature covers: bh=, c= (unsaid where it is not
// given), h=, l=, and with them q= and x=. They are the same in an ARC-Message-Signature (RFC 8617 §4.1.2).
func (s *signature) readCovered(tags tagList, unsaid Canon) *fault {
	var ok bool
	if s.bodyHash, ok = decodeBase64(tags["bh"]); !ok {
		return bad("bh= is no base64")
	}
	if s.header, s.body, ok = parseCanons(tags, unsaid); !ok {
		return bad("c= is unknown")
	}
	names, ok := tags["h"]
	if !ok {
		return bad("h= is missing")
	}
	s.names = listItems(strings.ToLower(names))
	if length, ok := tags["l"]; ok {
		// RFC 6376 §3.5: up to 76 digits.
		if s.limit, ok = parseNumber(length, 76); !ok {
			return bad("l= is no number")
		}
	}
	if query, ok := tags["q"]; ok && !slices.ContainsFunc(listItems(query), isDNSQuery) {
		return bad("q= has no way to get the key")
	}
	return s.readExpiry(tags)
}

func isDNSQuery(method string) bool { return strings.EqualFold(method, "dns/txt") }

func (s *signature) readExpiry(tags tagList) *fault {
	expires, ok := tags["x"]
	if !ok {
		return nil
	}
	seconds, ok := parseNumber(expires, 76)
	if !ok {
		return bad("x= is no time")
	}
	if len(expires) > 12 {
		return nil // RFC 6376 §3.5: as good as never
	}
	s.expires = time.Unix(seconds, 0)
	if !s.signed.IsZero() && !s.expires.After(s.signed) {
		return bad("x= is not after t=")
	}
	return nil
}

// parseCanons reads c=; without it both halves are unsaid, and the second one is
// simple where only the first is given (RFC 6376 §3.5).
func parseCanons(tags tagList, unsaid Canon) (header, body Canon, ok bool) {
	value, given := tags["c"]
	if !given {
		return unsaid, unsaid, true
	}
	first, second, both := strings.Cut(value, "/")
	if !both {
		second = "simple"
	}
	header, ok = parseCanon(first)
	if !ok {
		return 0, 0, false
	}
	body, ok = parseCanon(second)
	return header, body, ok
}

func parseCanon(name string) (Canon, bool) {
	switch name {
	case "relaxed":
		return Relaxed, true
	case "simple":
		return Simple, true
	}
	return 0, false
}

// keyName is where the key is published (RFC 6376 §3.6.2.1).
func (s *signature) keyName() string { return s.selector + "._domainkey." + s.domain }

// checkTimes compares t= and x= with the time when the message came.
func (s *signature) checkTimes(received time.Time, skew time.Duration) *fault {
	switch {
	case s.isExpired(received, skew):
		return &fault{Fail, "signature expired"}
	case !s.signed.IsZero() && received.Add(skew).Before(s.signed):
		return &fault{Fail, "signature of the future"}
	}
	return nil
}

func (s *signature) isExpired(received time.Time, skew time.Duration) bool {
	return !s.expires.IsZero() && received.After(s.expires.Add(skew))
}

// unsignedField returns the field with an empty b=, as it was when it was signed:
// all between the equals sign and the semicolon goes, white space included (RFC
// 6376 §3.5). raw is a field that parseTags has taken.
func unsignedField(raw string) string {
	at := strings.IndexByte(raw, ':') + 1
	for at < len(raw) {
		end := len(raw)
		if i := strings.IndexByte(raw[at:], ';'); i >= 0 {
			end = at + i
		}
		name, _, ok := strings.Cut(raw[at:end], "=")
		if ok && strings.Trim(name, " \t\r\n") == "b" {
			return raw[:at+len(name)+1] + raw[end:]
		}
		at = end + 1
	}
	return raw
}

// asciiDomain returns a domain or selector in the form that is looked up (RFC
// 8616 §5).
func asciiDomain(s string) (string, bool) {
	for i := range len(s) {
		if s[i] >= 0x80 {
			ascii, err := idna.Lookup.ToASCII(s)
			return ascii, err == nil && isDNSName(ascii)
		}
	}
	return strings.ToLower(s), isDNSName(s)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

package dkim

import (
	"strings"

	"gatepost/internal/message"
)

// hasAuthorIn reports whether the only From field names an address in domain or
// below it. Two From fields are no basis for a signature (RFC 5322 §3.6 allows
// one), and so is a field without an address or one that does not parse: what
// readers may read otherwise is not vouched for.
func hasAuthorIn(header *message.Header, domain string) bool {
	if header.Count("From") != 1 {
		return false
	}
	bare, ok := withoutText(header.Get("From"))
	if !ok {
		return false
	}
	found := false
	for mailbox := range strings.SplitSeq(bare, ",") {
		at, ok := domainOf(mailbox)
		if !ok {
			return false
		}
		found = found || at == domain || strings.HasSuffix(at, "."+domain)
	}
	return found
}

// withoutText removes quoted strings and comments (RFC 5322 §3.2.2, §3.2.4), in
// which an address is only text. A quoted local part leaves "@domain" behind. It
// returns false where one of them does not end.
func withoutText(s string) (string, bool) {
	var b strings.Builder
	quoted, depth := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && (quoted || depth > 0):
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String(), !quoted && depth == 0
}

// domainOf returns the domain of one mailbox, "name <local@domain>" or
// "local@domain". With angle brackets, what stands before them is a name.
func domainOf(mailbox string) (string, bool) {
	if _, inner, ok := strings.Cut(mailbox, "<"); ok {
		rest := ""
		if inner, rest, ok = strings.Cut(inner, ">"); !ok || strings.TrimSpace(rest) != "" {
			return "", false
		}
		mailbox = inner
	}
	_, at, ok := strings.Cut(mailbox, "@")
	at = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(at), "."))
	return at, ok && isDNSName(at)
}

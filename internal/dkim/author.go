package dkim

import (
	"strings"

	"gatepost/internal/message"
)

// hasAuthorIn reports whether the only From field names an address in domain or
// below it. Two From fields are no basis for a signature (RFC 5322 §3.6 allows
// one), and so is a field without an address.
func hasAuthorIn(header *message.Header, domain string) bool {
	if header.Count("From") != 1 {
		return false
	}
	for author := range strings.SplitSeq(header.Get("From"), ",") {
		_, at, ok := cutLast(author, "@")
		if !ok {
			continue
		}
		end := strings.IndexFunc(at, func(r rune) bool { return r == '>' || r == ' ' || r == '\t' || r == '(' || r == ';' })
		if end >= 0 {
			at = at[:end]
		}
		at = strings.ToLower(strings.TrimSuffix(at, "."))
		if at == domain || strings.HasSuffix(at, "."+domain) {
			return true
		}
	}
	return false
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

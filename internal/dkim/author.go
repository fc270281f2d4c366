package dkim

import (
	"strings"

	"gatepost/internal/message"
)

// authorDomains are the domains of the addresses in the only From field. Two From
// fields are no basis for a signature (RFC 5322 §3.6 allows one), and so is a field
// without an address or one that does not parse: what readers may read otherwise is
// not vouched for. There are none then.
func authorDomains(header *message.Header) []string {
	if header.Count("From") != 1 {
		return nil
	}
	bare, ok := withoutText(header.Get("From"))
	if !ok {
		return nil
	}
	var all []string
	for mailbox := range strings.SplitSeq(bare, ",") {
		at, ok := domainOf(mailbox)
		if !ok {
			return nil
		}
		all = append(all, at)
	}
	return all
}

// isBelow reports whether name is domain or below it.
func isBelow(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// forAuthors are the signers whose signature is made: all that do not look at the
// author, and of those that do, for each author the ones whose domain is nearest to
// his. With keys for example.com and lab.example.com, the lab's mail is signed by the
// lab's: RFC 6376 §3.1 leaves it to each of them to withdraw a key.
func (g Group) forAuthors(header *message.Header) Group {
	nearest := make(map[string]bool)
	for _, author := range authorDomains(header) {
		best := ""
		for _, s := range g {
			if s.opts.OnlyAuthor && isBelow(author, s.domain) && len(s.domain) > len(best) {
				best = s.domain
			}
		}
		nearest[best] = true
	}
	var chosen Group
	for _, s := range g {
		if !s.opts.OnlyAuthor || nearest[s.domain] {
			chosen = append(chosen, s)
		}
	}
	return chosen
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

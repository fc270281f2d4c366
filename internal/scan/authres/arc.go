package authres

import (
	"fmt"
	"strings"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
	"gatepost/internal/scan/authres/dmarc"
)

// overrule looks for a trusted forwarder that saw DMARC pass before its list or
// forwarding changed what it passed on (RFC 8617 §7.2.1). A message with several
// authors is nobody's to vouch for.
func (m *Module) overrule(f *facts) {
	if len(m.trusted) == 0 || len(f.published) != 1 || f.published[0].Record == nil {
		return
	}
	chain := &f.found.ARC
	if n := len(chain.Sets); n > 0 && chain.Status == dkim.Fail && chain.Temporary && m.trusted[chain.Sets[n-1].Sealer] {
		f.dmarc.Status, f.dmarc.Policy = dmarc.TempError, ""
		f.dmarc.Reason = "the ARC seal of " + chain.Sets[n-1].Sealer + " cannot be checked now"
		return
	}
	set := chain.Trusted(func(domain string) bool { return m.trusted[domain] })
	if set == nil || !vouches(set.Results, &f.published[0]) {
		return
	}
	f.vouched = true
	f.dmarc.Reason = fmt.Sprintf("%s, but %s saw it pass before it changed the message (ARC set %d)", f.dmarc.Reason, set.Sealer, set.Instance)
}

// vouches reports whether the results of another host say that a message was
// authentic for its author: that DMARC passed or, where it did not look at DMARC,
// that SPF or DKIM did for an aligned domain.
func vouches(results string, author *dmarc.Published) bool {
	aligned := false
	for _, r := range parseResults(results) {
		switch r.method {
		case "dmarc":
			from := r.property("header.from")
			return r.result == "pass" && (from == "" || from == author.Domain)
		case "dkim":
			domain := r.property("header.d")
			if domain == "" {
				domain = r.property("header.i")
			}
			aligned = aligned || r.result == "pass" && dmarc.Aligned(author.Record, author.Domain, dmarc.Identity{Domain: afterAt(domain)})
		case "spf":
			domain := r.property("smtp.mailfrom")
			if domain == "" {
				domain = r.property("smtp.helo")
			}
			aligned = aligned || r.result == "pass" && dmarc.Aligned(author.Record, author.Domain, dmarc.Identity{Domain: afterAt(domain), SPF: true})
		}
	}
	return aligned
}

func afterAt(s string) string { return s[strings.LastIndexByte(s, '@')+1:] }

// result is one of an Authentication-Results field, in lower case.
type result struct {
	method, result string
	properties     []mail.Property
}

func (r *result) property(name string) string {
	for _, p := range r.properties {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// parseResults reads the value of such a field, RFC 8601 §2.2. What it does not
// understand it leaves out.
func parseResults(s string) []result {
	var list []result
	parts := words(s)
	if len(parts) > 0 {
		parts = parts[1:] // the host's name and the version
	}
	for _, part := range parts {
		var r result
		for i, word := range part {
			name, value, ok := strings.Cut(word, "=")
			name, value = strings.ToLower(name), strings.ToLower(value)
			switch {
			case !ok && i == 0:
			case i == 0:
				r.method, _, _ = strings.Cut(name, "/")
				r.result = value
			case ok && name != "reason":
				r.properties = append(r.properties, mail.Property{Name: name, Value: value})
			}
		}
		if r.method != "" {
			list = append(list, r)
		}
	}
	return list
}

// words splits a field at semicolons and white space, without comments and
// quotes. White space around "=" and "." is none.
func words(s string) [][]string {
	var parts [][]string
	var part []string
	var word []byte
	depth, quoted, gap := 0, false, false
	end := func() {
		if len(word) > 0 {
			part, word = append(part, string(word)), nil
		}
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(s):
			if i++; quoted {
				word = append(word, s[i])
			}
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
			word = append(word, c)
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case c == ';':
			end()
			parts, part = append(parts, part), nil
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			gap = len(word) > 0 && word[len(word)-1] != '='
		default:
			if gap && c != '=' {
				end()
			}
			gap = false
			word = append(word, c)
		}
		if c == ';' && depth == 0 && !quoted {
			gap = false
		}
	}
	end()
	return append(parts, part)
}

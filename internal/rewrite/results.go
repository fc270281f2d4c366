package rewrite

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// errResult says that an entry makes something that is no address.
var errResult = errors.New("the result is no address")

// maxText bounds the text of a relocated entry.
const maxText = 200

// fields splits results at commas and white space outside of quotes.
func fields(text string) []string {
	var all []string
	quoted, start := false, -1
	for i := 0; i <= len(text); i++ {
		if i == len(text) || !quoted && strings.IndexByte(", \t", text[i]) >= 0 {
			if start >= 0 {
				all = append(all, text[start:min(i, len(text))])
			}
			start = -1
			continue
		}
		if start < 0 {
			start = i
		}
		switch {
		case text[i] == '\\' && quoted && i+1 < len(text):
			i++
		case text[i] == '"':
			quoted = !quoted
		}
	}
	return all
}

// checkResult says what is wrong with the result of an entry without expression.
func (r *rules) checkResult(result string) string {
	if message := r.checkCount(result); message != "" {
		return message
	}
	switch r.stage {
	case Relocated:
		return ""
	case TransportMap:
		return r.checkHop(result)
	}
	for _, f := range fields(result) {
		if _, err := parseResult(f, "x.example"); err != nil && !strings.HasPrefix(f, "@") {
			return fmt.Sprintf("%q is no address", f)
		}
		if domain, ok := strings.CutPrefix(f, "@"); ok {
			if _, err := smtp.CanonicalDomain(domain); err != nil {
				return fmt.Sprintf("%q is no domain", domain)
			}
		}
	}
	return ""
}

// checkCount says whether a result has as many members as its stage takes.
func (r *rules) checkCount(result string) string {
	switch r.stage {
	case Relocated:
		if len(result) > maxText || !printable(result) {
			return fmt.Sprintf("the text must be printable ASCII, at most %d characters", maxText)
		}
		return ""
	case BCC, Virtual:
		if len(fields(result)) == 0 {
			return "there is no result"
		}
		return ""
	}
	if len(fields(result)) != 1 {
		return fmt.Sprintf("%q is not one result", result)
	}
	return ""
}

func (r *rules) checkHop(result string) string {
	name, domain, found := strings.Cut(result, ":")
	if name == "" || r.hasTransport != nil && !r.hasTransport(name) {
		return fmt.Sprintf("there is no transport %q", name)
	}
	if found && domain != "" {
		if _, err := smtp.CanonicalDomain(domain); err != nil {
			return fmt.Sprintf("%q is no domain", domain)
		}
	}
	return ""
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// parseResult reads "user@domain" or "user", which gets the origin as its domain.
func parseResult(text, origin string) (mail.Address, error) {
	a, err := smtp.ParseAddress(text)
	if err != nil {
		if a, err = smtp.ParseAddress(text + "@" + origin); err != nil {
			return mail.Address{}, fmt.Errorf("%w: %q", errResult, text)
		}
	}
	return makeAddress(a.Local, a.Domain)
}

// makeAddress returns the address with the local part in quotes where it needs
// them.
func makeAddress(local, domain string) (mail.Address, error) {
	a, err := smtp.ParseAddress(quoteLocal(local) + "@" + domain)
	if err != nil {
		return a, fmt.Errorf("%w: %q", errResult, local+"@"+domain)
	}
	return a, nil
}

// quoteLocal writes a local part as it stands in an address (RFC 5321 §4.1.2).
func quoteLocal(local string) string {
	if _, err := smtp.ParseAddress(local + "@x.example"); err == nil && local[0] != '"' {
		return local
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
}

// checkTemplate says what is wrong with the references of a result to groups; an
// expression that holds where it does not match (groups below 0) has none.
func checkTemplate(template string, groups int) string {
	message := ""
	expandTemplate(template, func(n int) string {
		if n > groups {
			message = fmt.Sprintf("the expression has no group $%d", n)
		}
		return ""
	})
	return message
}

// expandTemplate replaces $1, ${1} and $(1) by what group returns, and $$ by $.
func expandTemplate(template string, group func(int) string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if strings.HasPrefix(rest, "$") {
			b.WriteByte('$')
			template = rest[1:]
			continue
		}
		digits, after := cutGroup(rest)
		n, err := strconv.Atoi(digits)
		if err != nil || n < 1 {
			b.WriteByte('$') // an ordinary character of local parts
			template = rest
			continue
		}
		b.WriteString(group(n))
		template = after
	}
}

// cutGroup returns the number behind a dollar sign and what follows it.
func cutGroup(s string) (digits, rest string) {
	for _, pair := range []string{"{}", "()"} {
		if strings.HasPrefix(s, pair[:1]) {
			if end := strings.IndexByte(s, pair[1]); end > 0 {
				return s[1:end], s[end+1:]
			}
			return "", s
		}
	}
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n], s[n:]
}

// Address makes an address of a local part and a domain, with quotes where the
// local part needs them.
func Address(local, domain string) (mail.Address, error) { return makeAddress(local, domain) }

package authres

import (
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// maxLine is the length of a line that should not be exceeded (RFC 5322 §2.1.1).
// A single name or address may be longer than that, but by far not 998.
const maxLine = 78

// maxResults bounds the results of a field.
const maxResults = 100

// Field returns the field Authentication-Results (RFC 8601) that tells what the
// findings of this module say, with its line ends; nil where there are none.
// authservID is the name of the gateway. Findings of other modules are passed
// over, and so is what another block of this module has said already.
func Field(authservID string, findings []mail.Finding) []byte {
	w := &folder{}
	w.word("Authentication-Results:")
	w.word(token(authservID))
	said := map[string]bool{}
	for i := range findings {
		f := &findings[i]
		method, result, ok := strings.Cut(f.Symbol, ":")
		if f.Module != Name || !ok || len(said) == maxResults {
			continue
		}
		about := method + " " + strings.Join(propspecs(f.Properties), " ")
		if method == "dmarc" {
			about = method
		}
		if said[about] {
			continue
		}
		said[about] = true
		w.result(method, result, f)
	}
	if len(said) == 0 {
		return nil
	}
	w.b = append(w.b, "\r\n"...)
	return w.b
}

// overridden is the symbol of a failure that a trusted forwarder explains; the
// word is ours, and the standard has only fail.
const overridden = "overridden"

func (w *folder) result(method, result string, f *mail.Finding) {
	w.b = append(w.b, ';')
	w.line()
	if result == overridden {
		result = "fail"
	}
	w.word(token(method) + "=" + token(result))
	if result != "pass" && f.Reason != "" {
		w.quoted("reason=", f.Reason)
	}
	for _, spec := range propspecs(f.Properties) {
		w.word(spec)
	}
}

// propspecs are the properties in the form of RFC 8601 §2.2.
func propspecs(list []mail.Property) []string {
	var specs []string
	for _, p := range list {
		ptype, property, ok := strings.Cut(p.Name, ".")
		if value := pvalue(p.Value); ok && value != "" && isToken(ptype) && isToken(property) {
			specs = append(specs, ptype+"."+property+"="+value)
		}
	}
	return specs
}

// pvalue is a value in the form of RFC 8601 §2.2: a token, an address, or a
// quoted string. Of an address whose local part needs quotes or is not ASCII the
// domain is enough: readers get the rest wrong.
func pvalue(value string) string {
	at := strings.LastIndexByte(value, '@')
	if at < 0 || !isToken(value[at+1:]) {
		return token(value)
	}
	if isDotAtom(value[:at]) {
		return value
	}
	return value[at+1:]
}

// token returns s as a token if it is one and else as a quoted string.
func token(s string) string {
	if isToken(s) {
		return s
	}
	return `"` + quotable(s) + `"`
}

// isToken is RFC 2045 §5.1.
func isToken(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, s[i]) >= 0 {
			return false
		}
	}
	return s != ""
}

// isDotAtom reports whether s can be a local part without quotes, or "" (RFC
// 5322 §3.2.3).
func isDotAtom(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`()<>@,;:\"[]`, s[i]) >= 0 {
			return false
		}
	}
	return true
}

// quotable is s without what cannot stand in a quoted string of ASCII.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r >= 0x7f:
			return '?'
		}
		return r
	}, message.SafeText(s, 320))
}

// folder writes a field in lines.
type folder struct {
	b    []byte
	used int // bytes in the line
}

// line begins a new line.
func (w *folder) line() {
	w.b = append(w.b, "\r\n\t"...)
	w.used = 1
}

// word writes a word that is not to be torn apart, behind a space or, where the
// line is full, on a new line. One byte is left for the semicolon.
func (w *folder) word(s string) {
	switch {
	case w.used == 0 || w.used == 1:
	case w.used+1+len(s)+1 > maxLine:
		w.line()
	default:
		w.b = append(w.b, ' ')
		w.used++
	}
	w.b = append(w.b, s...)
	w.used += len(s)
}

// quoted writes a text as a quoted string, folded at its spaces: folding in it is
// not part of it (RFC 5322 §3.2.4).
func (w *folder) quoted(name, text string) {
	words := strings.Fields(quotable(text))
	for i, s := range words {
		for len(s) > maxLine/2 {
			// A word as long as this is nobody's text.
			s = s[:maxLine/2-3] + "..."
		}
		if i == 0 {
			s = name + `"` + s
		}
		if i == len(words)-1 {
			s += `"`
		}
		w.word(s)
	}
}

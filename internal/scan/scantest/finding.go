package scantest

import (
	"math"
	"unicode"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// The sizes that a finding may have, in bytes.
const (
	maxSymbol = 300
	maxReason = 1 << 10
	maxName   = 8 << 10
)

// Malformed returns what is wrong with a finding of the block, or "".
func Malformed(use string, f *mail.Finding) string {
	switch {
	case f.Module != use:
		return "module is not " + use
	case f.Symbol == "" || len(f.Symbol) > maxSymbol || !safe(f.Symbol):
		return "symbol is empty, too long or not printable"
	case f.Result != mail.Clean && f.Result != mail.Match && f.Result != mail.Unknown:
		return "result is none of the three"
	case math.IsNaN(f.Score) || math.IsInf(f.Score, 0):
		return "score is no number"
	case len(f.Reason) > maxReason || !safe(f.Reason):
		return "reason is too long or not one printable line"
	case f.Reason == "" && f.Result != mail.Clean:
		return "no reason"
	case len(f.Part) > maxSymbol || !safe(f.Part):
		return "part is too long or not printable"
	case len(f.Name) > maxName || !safe(f.Name):
		return "name is too long or not printable"
	}
	for _, p := range f.Properties {
		if len(p.Name)+len(p.Value) > maxName || !safe(p.Name) || !safe(p.Value) {
			return "property is too long or not printable"
		}
	}
	return ""
}

// safe reports that a text is one line that reads as it is.
func safe(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r != ' ' && !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) {
			return false
		}
	}
	return true
}

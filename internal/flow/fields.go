package flow

import (
	"strings"

	"gatepost/internal/mail"
)

// Limits of what header fields tell.
const (
	// topSymbols is how many findings X-Gatepost-Report names.
	topSymbols = 6
	maxSymbol  = 48
	// lineWidth is how long a line of a header field should be at most (RFC 5322 §2.1.1).
	lineWidth = 78
)

// The fields that Gatepost adds to what it scanned.
const (
	fieldID      = "X-Gatepost-ID: "
	fieldVerdict = "X-Gatepost-Verdict: "
	fieldScore   = "X-Gatepost-Score: "
	fieldReport  = "X-Gatepost-Report: "
)

// Fields returns the header fields that a message with this verdict is delivered
// with: X-Gatepost-ID and -Verdict, and the verdict's own (the score and its
// report among them, and those that filters add). They are folded, printable
// ASCII, and have no line end.
func Fields(v mail.Verdict, id mail.ID) []string {
	fields := make([]string, 0, 2+len(v.Fields))
	what := string(v.Action)
	if v.Block != "" {
		what += " (" + word(v.Block)
		if v.Rule != "" {
			what += ", " + word(v.Rule)
		}
		what += ")"
	}
	fields = append(fields, fieldID+id.String(), fold(fieldVerdict+what))
	for _, f := range v.Fields {
		fields = append(fields, fold(f))
	}
	return fields
}

// symbol is a finding that counts.
type symbol struct {
	module, name string
	points       int64
}

// count adds the score of a finding.
func (d *decider) count(f *mail.Finding) {
	if isDMARC(f) && d.block.Use == useAuthres && orElse(d.block.DMARC, d.defaults.DMARC) == DMARCOff {
		return
	}
	if p := thousandths(f.Score); p != 0 {
		d.add(symbol{module: f.Module, name: f.Symbol, points: p})
	}
}

// add counts a symbol and keeps it if it is one of those that count most.
func (d *decider) add(s symbol) {
	d.points += s.points
	for i := range d.top {
		if size(s.points) > size(d.top[i].points) {
			s, d.top[i] = d.top[i], s
		}
	}
}

func size(n int64) int64 { return max(n, -n) }

// scoreFields tells the score with the thresholds, and what made it.
func (d *decider) scoreFields() []string {
	score := fieldScore + points(d.points)
	var at []string
	for _, t := range []struct {
		name string
		at   *float64
	}{{"mark", d.scored.Mark}, {"quarantine", d.scored.Quarantine}, {"reject", d.scored.Reject}} {
		if t.at != nil {
			at = append(at, t.name+" "+points(thousandths(*t.at)))
		}
	}
	if len(at) > 0 {
		score += " (" + strings.Join(at, ", ") + ")"
	}
	var made []string
	for _, s := range d.top {
		if s.points != 0 {
			made = append(made, word(s.module)+":"+word(s.name)+" "+points(s.points))
		}
	}
	if len(made) == 0 {
		return []string{score}
	}
	return []string{score, fieldReport + strings.Join(made, ", ")}
}

// word makes a name of others safe as a word of a header field: what is not a
// letter, a digit or one of some harmless signs becomes "_".
func word(s string) string {
	if len(s) > maxSymbol {
		s = s[:maxSymbol]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x7f && (r|0x20 >= 'a' && r|0x20 <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(".:-_/+@", r)) {
			return r
		}
		return '_'
	}, s)
}

// fold breaks a header field at blanks into lines of at most lineWidth bytes
// where it can (RFC 5322 §2.2.3).
func fold(field string) string {
	if len(field) <= lineWidth {
		return field
	}
	var b strings.Builder
	b.Grow(len(field) + 8)
	line := field
	// The blank behind the name is no place: the first line must not be empty.
	from := strings.IndexByte(line, ':') + 2
	for len(line) > lineWidth {
		cut := strings.LastIndexByte(line[:lineWidth+1], ' ')
		if cut < from {
			next := strings.IndexByte(line[lineWidth:], ' ')
			if next < 0 {
				break
			}
			cut = lineWidth + next
		}
		b.WriteString(line[:cut])
		b.WriteString("\r\n")
		line, from = line[cut:], 1
	}
	b.WriteString(line)
	return b.String()
}

package flow

import (
	"strconv"
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

// scoreFields adds fields that tell the score with the thresholds, and what made
// it.
func (d *decider) scoreFields(fields []string) []string {
	b := append(make([]byte, 0, 160), fieldScore...)
	b = appendPoints(b, d.points)
	sep := " ("
	for _, t := range [...]struct {
		name string
		at   *float64
	}{{"mark ", d.scored.Mark}, {"quarantine ", d.scored.Quarantine}, {"reject ", d.scored.Reject}} {
		if t.at != nil {
			b = appendPoints(append(append(b, sep...), t.name...), thousandths(*t.at))
			sep = ", "
		}
	}
	if sep == ", " {
		b = append(b, ')')
	}
	fields = append(fields, string(b))
	b = append(b[:0], fieldReport...)
	for i, s := range d.top {
		if s.points == 0 {
			break
		}
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendWord(append(appendWord(b, s.module), ':'), s.name)
		b = appendPoints(append(b, ' '), s.points)
	}
	if d.top[0].points != 0 {
		fields = append(fields, string(b))
	}
	return fields
}

// appendWord adds a name of others as a word of a header field: what is not a
// letter, a digit or one of some harmless signs becomes "_".
func appendWord(b []byte, s string) []byte {
	for i, r := range s {
		switch {
		case i >= maxSymbol:
			return b
		case r < 0x7f && (r|0x20 >= 'a' && r|0x20 <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(".:-_/+@", r)):
			b = append(b, byte(r))
		default:
			b = append(b, '_')
		}
	}
	return b
}

func word(s string) string { return string(appendWord(nil, s)) }

// appendPoints shows a score, given in thousandths, with as few decimals as it
// needs, but one.
func appendPoints(b []byte, n int64) []byte {
	whole := n%1000 == 0
	b = strconv.AppendFloat(b, float64(n)/1000, 'f', -1, 64)
	if whole {
		b = append(b, ".0"...)
	}
	return b
}

func points(n int64) string { return string(appendPoints(nil, n)) }

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

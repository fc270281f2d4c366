package flow

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// sessionScore is what was counted before content.
type sessionScore struct {
	points int64
	names  []string
}

// maxSessionNames is how many findings of the session a reason names.
const maxSessionNames = 4

// countSession adds the scores of what was seen before content: a verdict about the
// client that was too weak to refuse it is one reason among others. A module that
// scores in both places counts here only, with what it says about the message;
// scripts say something else each time.
func (d *decider) countSession(findings []mail.Finding) {
	for i := range findings {
		f := &findings[i]
		p := thousandths(f.Score)
		if p == 0 || !d.concerns(f) || d.countsItself(f.Module) {
			continue
		}
		d.add(symbol{module: f.Module, name: f.Symbol, points: p})
		d.before.points += p
		if name := f.Module + ":" + f.Symbol; len(d.before.names) < maxSessionNames && !slices.Contains(d.before.names, name) {
			d.before.names = append(d.before.names, name)
		}
	}
}

// countsItself reports whether a block of this flow scores by itself what a module saw
// before content.
func (d *decider) countsItself(module string) bool {
	if module == useScript {
		return false
	}
	for i := range d.flow.Blocks {
		b := &d.flow.Blocks[i]
		if b.Use != module || b.Observe {
			continue
		}
		for j := range d.reports {
			if r := &d.reports[j]; r.Key == b.Key && slices.ContainsFunc(r.Findings, func(f mail.Finding) bool {
				return thousandths(f.Score) != 0 && d.concerns(&f)
			}) {
				return true
			}
		}
	}
	return false
}

// text says how much of a score was there before content.
func (s *sessionScore) text() string {
	if s.points == 0 {
		return ""
	}
	return ", " + points(s.points) + " of it from the session: " + message.SafeText(strings.Join(s.names, ", "), maxReason/2)
}

package filter

import (
	"context"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// cost orders conditions: the cheap ones are asked first.
type cost uint8

const (
	costEnvelope cost = iota
	costHeader
	costTree
	costFiles
	costText
)

// condition is one compiled condition.
type condition struct {
	cost cost
	test func(ctx context.Context, m *material) (answer, error)
	// parts says that its answers name the parts that they are about.
	parts bool
}

// group is conditions that must hold all, in the order of their cost.
type group []condition

// answer is what a condition says.
type answer struct {
	who who // the recipients for whom it holds
	// why are the reasons, word for word, parts those that are about one part.
	why   []string
	parts []partMatch
}

// partMatch is a part that a condition is about, and for whom.
type partMatch struct {
	part, name string
	why        string
	who        who
}

// yes is the answer that a condition holds for everybody; the zero answer is no.
func yes(why string) answer { return answer{who: who{all: true}, why: []string{why}} }

// who is a set of the recipients of a message.
type who struct {
	all bool
	in  []bool // by number of the recipient; without meaning where all is set
}

func (w who) nobody() bool { return !w.all && !slices.Contains(w.in, true) }

func (w who) and(o who) who {
	switch {
	case w.all:
		return o
	case o.all:
		return w
	}
	return combine(w, o, func(a, b bool) bool { return a && b })
}

func (w who) or(o who) who {
	if w.all || o.all {
		return who{all: true}
	}
	return combine(w, o, func(a, b bool) bool { return a || b })
}

func (w who) not() who {
	if w.nobody() {
		return who{all: true}
	}
	if w.all {
		return who{}
	}
	out := who{in: make([]bool, len(w.in))}
	for i := range w.in {
		out.in[i] = !w.in[i]
	}
	return out
}

func combine(a, b who, f func(bool, bool) bool) who {
	out := who{in: make([]bool, max(len(a.in), len(b.in)))}
	for i := range out.in {
		out.in[i] = f(i < len(a.in) && a.in[i], i < len(b.in) && b.in[i])
	}
	return out
}

// eval returns for whom all conditions hold.
func (g group) eval(ctx context.Context, m *material) (answer, error) {
	all := answer{who: who{all: true}}
	for _, c := range g {
		a, err := c.test(ctx, m)
		if err != nil {
			return answer{}, err
		}
		if all.who = all.who.and(a.who); all.who.nobody() {
			return answer{}, nil
		}
		all.why = append(all.why, a.why...)
		all.parts = append(all.parts, a.parts...)
	}
	for i := range all.parts {
		all.parts[i].who = all.parts[i].who.and(all.who)
	}
	return all, nil
}

// cost is that of the most expensive condition.
func (g group) cost() cost {
	worst := costEnvelope
	for _, c := range g {
		worst = max(worst, c.cost)
	}
	return worst
}

// namesParts reports whether every match of the group says which parts it is about.
func (g group) namesParts() bool {
	return slices.ContainsFunc(g, func(c condition) bool { return c.parts })
}

// either holds where one of the groups does. An alternative that cannot be
// evaluated matters only where no other holds.
func either(groups []group) condition {
	slices.SortStableFunc(groups, func(a, b group) int { return int(a.cost()) - int(b.cost()) })
	c := condition{parts: len(groups) > 0}
	for _, g := range groups {
		c.cost = max(c.cost, g.cost())
		c.parts = c.parts && g.namesParts()
	}
	namesParts := c.parts
	c.test = func(ctx context.Context, m *material) (answer, error) {
		var some answer
		var failed error
		for _, g := range groups {
			a, err := g.eval(ctx, m)
			if err != nil {
				failed = err
				continue
			}
			some.who = some.who.or(a.who)
			some.why = append(some.why, a.why...)
			some.parts = append(some.parts, a.parts...)
			// Parts are wanted all, for they may be taken out.
			if some.who.all && !namesParts {
				break
			}
		}
		if !some.who.all && failed != nil {
			return answer{}, failed
		}
		return some, nil
	}
	return c
}

// negate holds where none of the groups does.
func negate(groups []group) condition {
	c := either(groups)
	inner := c.test
	return condition{cost: c.cost, test: func(ctx context.Context, m *material) (answer, error) {
		a, err := inner(ctx, m)
		return answer{who: a.who.not()}, err
	}}
}

// truth is the condition, or its opposite where want is false.
func truth(c condition, want bool) condition {
	if want {
		return c
	}
	return negate([]group{{c}})
}

// Module evaluates filters; it implements scan.Module. Its block is called
// "filters" and runs behind others (scan.Block.After), as conditions may be about
// what these found.
type Module struct {
	filters []*Filter
}

// New returns the module for these filters, in this order.
func New(filters []*Filter) *Module { return &Module{filters: filters} }

// moduleName is the module of the findings.
const moduleName = "filters"

// Scan implements scan.Module. It stops where the context ends; what a filter
// that is left out would say is then unknown.
func (mod *Module) Scan(ctx context.Context, in *scan.Input) ([]mail.Finding, error) {
	var findings []mail.Finding
	m := &material{in: in}
	for _, f := range mod.filters {
		if f.direction != "" && f.direction != in.Direction {
			continue
		}
		if err := ctx.Err(); err != nil {
			return findings, err
		}
		a, err := f.all.eval(ctx, m)
		switch {
		case err != nil && ctx.Err() != nil:
			return findings, err
		case err != nil:
			findings = append(findings, mail.Finding{
				Module: moduleName, Symbol: f.name, Result: mail.Unknown, Reason: message.SafeText("cannot evaluate the filter: "+err.Error(), maxReason),
			})
		case !a.who.nobody():
			findings = f.report(findings, m, a)
		}
	}
	return findings, nil
}

// Limits of findings.
const (
	// maxReason is in bytes.
	maxReason = 400
	// maxNamed is how many parts are named where nothing depends on it.
	maxNamed = 10
)

// report makes the findings of a match.
func (f *Filter) report(findings []mail.Finding, m *material, a answer) []mail.Finding {
	finding := mail.Finding{Module: moduleName, Symbol: f.name, Result: mail.Match}
	parts := distinct(a.parts)
	if len(parts) == 0 {
		finding.Reason, finding.Recipients = reason(a.why), m.recipientKeys(a.who)
		return append(findings, finding)
	}
	if !f.strip {
		parts = parts[:min(len(parts), maxNamed)]
	}
	for _, p := range parts {
		finding.Part, finding.Name = p.part, message.SafeText(p.name, maxShown)
		finding.Reason = reason(append(slices.Clip(a.why), p.why))
		finding.Recipients = m.recipientKeys(p.who)
		findings = append(findings, finding)
	}
	return findings
}

// distinct names each part once, for all whom it concerns.
func distinct(parts []partMatch) []partMatch {
	at := map[string]int{}
	var list []partMatch
	for _, p := range parts {
		if i, ok := at[p.part]; ok {
			list[i].who = list[i].who.or(p.who)
			continue
		}
		at[p.part] = len(list)
		list = append(list, p)
	}
	return list
}

// reason joins what held; a filter of nothing but "not" has nothing to show.
func reason(why []string) string {
	if len(why) == 0 {
		return "none of the excluded conditions holds"
	}
	return message.SafeText(strings.Join(why, " and "), maxReason)
}

// material is a message as conditions look at it. It lives for one Scan.
type material struct {
	in     *scan.Input
	fields map[string][]string // by lower-case name, every reading
}

func (m *material) envelope() *mail.Envelope { return m.in.Message.Envelope }

// recipientKeys names the recipients of a set; nil is all of them.
func (m *material) recipientKeys(w who) []string {
	if w.all {
		return nil
	}
	var keys []string
	for i, in := range w.in {
		if in {
			keys = append(keys, m.envelope().Recipients[i].Address.Key())
		}
	}
	return keys
}

// maxShown is how much of a value a reason shows, in bytes.
const maxShown = 100

// quote shows a value of the message.
func quote(s string) string { return `"` + message.SafeText(s, maxShown) + `"` }

package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan/filter"
)

func (v *validator) checkFilters() {
	filters := v.cfg.Filters
	first := map[string]*string{}
	for i := range filters {
		f := &filters[i]
		if have := first[f.Name]; have != nil && f.Name != "" {
			v.report(ruleDuplicateName, &f.Name, fmt.Sprintf("the name %q is taken", f.Name), fmt.Sprintf("the first stands in line %d", v.places[have].line))
		} else {
			first[f.Name] = &f.Name
		}
		if f.Name != "" && !v.appliesFilter(f.Name) {
			v.warn(ruleWarnNoFilters, f, "no flow applies this filter", `add { use = "filters" } to the blocks of a [[flow]]`)
		}
		v.checkThen(f)
		v.checkWhen(f)
	}
}

// checkThen reads the actions of a filter.
func (v *validator) checkThen(f *Filter) {
	if !v.ok(&f.Then) {
		return
	}
	good := true
	for i := range f.Then {
		a, err := flow.ParseThen(f.Then[i])
		if err != nil {
			good = false
			message, hint, _ := strings.Cut(err.Error(), "; ")
			verb, _, _ := strings.Cut(f.Then[i], ":")
			if meant := closest(verb, filterVerbs); meant != "" && meant != verb {
				hint = fmt.Sprintf("did you mean %s?", meant)
			}
			v.report(ruleBadAction, &f.Then[i], message, hint)
		}
		v.checkDisclaimerOf(&f.Then[i], a)
		f.Actions = append(f.Actions, a)
	}
	if !good {
		return
	}
	if err := flow.CheckThen(f.Actions); err != nil {
		v.report(ruleBadAction, &f.Then, err.Error(), "")
	}
	unique(v, ruleDuplicateElement, f.Then)
	if f.Reply == "" {
		return
	}
	if err := flow.CheckReply(f.Reply); err != nil {
		v.report(ruleBadAction, &f.Reply, err.Error(), "")
	}
	if !slices.ContainsFunc(f.Actions, func(a flow.FilterAction) bool {
		return a.Verb == string(mail.ActionReject) || a.Verb == string(mail.ActionDefer)
	}) {
		v.report(ruleUnusedKey, &f.Reply, "is set, but the filter neither rejects nor defers", "take it out")
	}
}

// filterVerbs are the actions of filters.
var filterVerbs = []string{
	string(mail.ActionDeliver), string(mail.ActionMark), string(mail.ActionQuarantine), string(mail.ActionDiscard),
	string(mail.ActionReject), string(mail.ActionDefer),
	flow.VerbRedirect, flow.VerbCopy, flow.VerbStrip, flow.VerbScore, flow.VerbHeader, flow.VerbSubject,
	flow.VerbDisclaimer,
}

// checkWhen compiles the conditions of a filter, and reads the files that they
// name.
func (v *validator) checkWhen(f *Filter) {
	if !v.ok(&f.When) || len(f.When) == 0 {
		return
	}
	strips := slices.ContainsFunc(f.Actions, func(a flow.FilterAction) bool { return a.Verb == flow.VerbStrip })
	compiled, err := filter.Compile(filter.Spec{Name: f.Name, Direction: f.Direction, When: f.When, Strip: strips, Dir: v.dir})
	f.Compiled = compiled
	var list filter.Errors
	if err != nil && !errors.As(err, &list) {
		v.report(ruleBadCondition, &f.When, message.SafeText(err.Error(), maxMessage), "")
	}
	for _, e := range list {
		v.checkCondition(f, e)
	}
}

// checkCondition reports what is wrong with one condition, at its place.
func (v *validator) checkCondition(f *Filter, e *filter.Error) {
	var field any = condition{&f.When, e.Key}
	switch {
	case e.Key == "then":
		field = &f.Then
	case e.Key == "name" || e.Key == "direction":
		return // reported where they were read
	case v.places[field] == nil:
		field = &f.When
	}
	text, hint, _ := strings.Cut(e.Err.Error(), "; ")
	name := e.Key[strings.LastIndexByte(e.Key, '.')+1:]
	if meant := closest(name, filter.Conditions()); meant != "" && strings.HasPrefix(text, "unknown condition") {
		hint = fmt.Sprintf("did you mean %s?", meant)
	}
	v.report(ruleBadCondition, field, message.SafeText(text, maxMessage), message.SafeText(hint, maxMessage))
}

// maxMessage bounds what others say about a condition, in bytes.
const maxMessage = 400

// condition is the place of one condition among those of a filter; key is
// "when.not.sender".
type condition struct {
	of  *Conditions
	key string
}

// textKey is a key of which nothing is known but that its value is text.
var textKey = key{}

// conditions binds the table `when`, whose keys package filter knows.
func (b *binder) conditions(c *Conditions, n *node, s scope, p *place) {
	if n.kind != kindTable {
		p.bad = true
		b.problem(n.pos, s.path, &fault{ruleWrongType, "is " + n.kind.String() + ", not a table", "write { sender = 'spam.example' } or the like"})
		return
	}
	if len(n.names) == 0 {
		p.bad = true
		b.problem(n.pos, s.path, &fault{ruleRequired, "is empty: the filter would match every message", "write which, such as { sender = 'spam.example' }"})
		return
	}
	*c = b.conditionTable(c, n, s, "when")
}

func (b *binder) conditionTable(c *Conditions, n *node, s scope, key string) map[string]any {
	table := make(map[string]any, len(n.names))
	for _, name := range n.names {
		path := s.path + "." + quoteKey(name)
		table[name] = b.conditionValue(c, n.kids[name], scope{path: path}, key+"."+name)
	}
	return table
}

// conditionValue makes of a node what a decoder would, and remembers its place.
func (b *binder) conditionValue(c *Conditions, n *node, s scope, key string) any {
	at := condition{c, key}
	if b.places[at] == nil {
		b.places[at] = &place{pos: n.pos, path: s.path, set: true}
	}
	switch n.kind {
	case kindTable:
		return b.conditionTable(c, n, s, key)
	case kindArray:
		list := make([]any, 0, len(n.elems))
		for i, e := range n.elems {
			list = append(list, b.conditionValue(c, e, s, fmt.Sprintf("%s[%d]", key, i)))
		}
		return list
	case kindBool:
		return n.text == "true"
	case kindInteger:
		if i, err := strconv.ParseInt(n.text, 0, 64); err == nil {
			return i
		}
	case kindString:
		f := checkText(n, textKey)
		if f == nil && strings.HasSuffix(key, ".size_over") {
			var size Size
			if size, f = parseSize(n.text); f == nil {
				return int64(size)
			}
		}
		if f != nil {
			b.places[at].bad = true
			b.problem(n.pos, s.path, f)
		}
	}
	return n.text
}

// appliesFilter reports whether a block of some flow has the filter.
func (v *validator) appliesFilter(name string) bool {
	for i := range v.cfg.Flows {
		for j := range v.cfg.Flows[i].Blocks {
			p, ok := v.cfg.Flows[i].Blocks[j].Params.(*FiltersBlock)
			if ok && p.applies(name) {
				return true
			}
		}
	}
	return false
}

// applies reports whether the filter is one of the block's.
func (p *FiltersBlock) applies(name string) bool {
	return len(p.Names) == 0 || slices.Contains(p.Names, name)
}

// checkFilterNames wants that the filters are there.
func (v *validator) checkFilterNames(p *FiltersBlock) {
	unique(v, ruleDuplicateElement, p.Names)
	names := make([]string, 0, len(v.cfg.Filters))
	for i := range v.cfg.Filters {
		names = append(names, v.cfg.Filters[i].Name)
	}
	for i := range p.Names {
		name := p.Names[i]
		if name == "" || slices.Contains(names, name) || slices.Contains(names, "") {
			continue
		}
		hint := "there is no [[filter]] at all"
		if meant := closest(name, names); meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		} else if len(names) > 0 {
			hint = "there are " + shorten(quotedList(names))
		}
		v.report(ruleDanglingFilter, &p.Names[i], fmt.Sprintf("no [[filter]] has the name %q", name), hint)
	}
}

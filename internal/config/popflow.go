package config

import (
	"fmt"
	"slices"

	"gatepost/internal/flow"
)

// checkPOPFlows finds filters that would send mail somewhere which a client only fetches:
// it lies in a mailbox, and a copy for each fetch is not what anybody wants.
func (v *validator) checkPOPFlows() {
	told := make(map[any]bool)
	for i := range v.cfg.Listeners {
		l := &v.cfg.Listeners[i]
		if !l.POP3() {
			continue
		}
		for j := range v.cfg.Flows {
			f := &v.cfg.Flows[j]
			if f.Stage != stageContent || f.Name != l.Flows.Content {
				continue
			}
			for k := range f.Blocks {
				if p, ok := f.Blocks[k].Params.(*FiltersBlock); ok {
					v.checkPOPFilters(l, p, told)
				}
			}
		}
	}
}

// checkPOPFilters reports each action once.
func (v *validator) checkPOPFilters(l *Listener, p *FiltersBlock, told map[any]bool) {
	for i := range v.cfg.Filters {
		f := &v.cfg.Filters[i]
		if f.Direction != "any" && f.Direction != "pop3" || len(p.Names) > 0 && !slices.Contains(p.Names, f.Name) || len(f.Actions) != len(f.Then) {
			continue
		}
		for k := range f.Actions {
			verb := f.Actions[k].Verb
			if verb != flow.VerbCopy && verb != flow.VerbRedirect || told[&f.Then[k]] {
				continue
			}
			told[&f.Then[k]] = true
			v.report(ruleBadAction, &f.Then[k], fmt.Sprintf("%s sends mail, but what comes by the POP3 listener %q lies in a mailbox and is only read", verb, l.Name),
				`write direction = "inbound", or give the listener a flow without this filter`)
		}
	}
}

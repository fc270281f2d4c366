package config

import (
	"fmt"
	"slices"
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
	}
}

// appliesFilter reports whether a block of some flow has the filter.
func (v *validator) appliesFilter(name string) bool {
	for i := range v.cfg.Flows {
		for j := range v.cfg.Flows[i].Blocks {
			p, ok := v.cfg.Flows[i].Blocks[j].Params.(*FiltersBlock)
			if ok && (len(p.Names) == 0 || slices.Contains(p.Names, name)) {
				return true
			}
		}
	}
	return false
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

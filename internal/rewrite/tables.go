package rewrite

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"gatepost/internal/lookup"
	"gatepost/internal/mail"
)

// key is what a table is asked for.
type key struct {
	text string
	// whole is the address where the key is all of it: only then do expressions and
	// networks count, as in Postfix.
	whole *mail.Address
}

// entry is what a table has under a key.
type entry struct {
	results []string
	table   string // "file:/etc/gatepost/virtual:12"
	pattern string // what matched
}

// table is one table of a stage.
type table interface {
	find(ctx context.Context, k key) (entry, bool, error)
}

func (e *Engine) open(stage Stage, t Table) (table, error) {
	switch {
	case t.Lookup != nil:
		return &askedTable{name: t.Name, from: t.Lookup, stage: stage, cache: lookup.NewCache(t.Keep, func(v []string) bool { return len(v) == 0 })}, nil
	case t.File != "":
		f, err := lookup.OpenFile(lookup.FileConfig[*rules]{
			Path: t.File, What: "table", Interval: e.cfg.CheckInterval, Log: e.cfg.Log,
			Entries: func(r *rules) int { return r.entries },
			Read: func(path string) (*rules, error) {
				r, bad, err := readFile(stage, path, e.cfg.HasTransport)
				if err == nil && len(bad) > 0 {
					err = fmt.Errorf("%s:%d: %s", path, bad[0].Number, bad[0].Message)
				}
				return r, err
			},
		})
		if err != nil {
			return nil, err
		}
		return &fileTable{f}, nil
	case len(t.Lines) > 0:
		r, bad := readLines(stage, strings.Join(t.Lines, "\n"), e.cfg.HasTransport)
		if len(bad) > 0 {
			return nil, fmt.Errorf("%q: %s", t.Lines[min(bad[0].Number, len(t.Lines))-1], bad[0].Message)
		}
		return &ruleTable{"inline", r}, nil
	}
	return nil, errors.New("a table without file, lines or look-up")
}

// fileTable is a table in a file.
type fileTable struct{ file *lookup.File[*rules] }

func (t *fileTable) find(_ context.Context, k key) (entry, bool, error) {
	return t.file.Current().find("file:"+t.file.Path(), k)
}

// ruleTable is a table in the configuration itself.
type ruleTable struct {
	name  string
	rules *rules
}

func (t *ruleTable) find(_ context.Context, k key) (entry, bool, error) {
	return t.rules.find(t.name, k)
}

// find looks for a plain entry, then for the first expression or network.
func (r *rules) find(name string, k key) (entry, bool, error) {
	if found, ok := r.plain[k.text]; ok {
		return entry{r.split(found.result), place(name, found.line), k.text}, true, nil
	}
	if k.whole == nil {
		return entry{}, false, nil
	}
	if len(r.nets) > 0 {
		if i := r.network(k.whole.Domain); i >= 0 {
			return entry{r.split(r.nets[i].result), place(name, r.nets[i].line), k.whole.Domain}, true, nil
		}
	}
	if len(r.patterns) == 0 {
		return entry{}, false, nil
	}
	text := quoteLocal(k.whole.Local) + "@" + k.whole.Domain
	for i := range r.patterns {
		p := &r.patterns[i]
		groups := p.expr.FindStringSubmatch(text)
		if (groups == nil) != p.unless {
			continue
		}
		// The result is split before it is filled in: what a stranger writes in an
		// address must not become one more recipient.
		results := r.split(p.result)
		for j := range results {
			results[j] = expandTemplate(results[j], func(n int) string { return groups[n] })
		}
		return entry{results, place(name, p.line), p.text}, true, nil
	}
	return entry{}, false, nil
}

func place(name string, line int) string { return name + ":" + strconv.Itoa(line) }

// split returns the members of a result.
func (r *rules) split(result string) []string {
	if r.stage == Relocated {
		return []string{result}
	}
	return fields(result)
}

// network finds the first entry that holds the address of a literal, or -1.
func (r *rules) network(domain string) int {
	literal, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return -1
	}
	ip, err := netip.ParseAddr(strings.TrimPrefix(strings.TrimSuffix(literal, "]"), "IPv6:"))
	if err != nil {
		return -1
	}
	ip = ip.Unmap()
	first := -1
	for _, i := range r.networks.Supernets(netip.PrefixFrom(ip, ip.BitLen())) {
		if first < 0 || i < first {
			first = i
		}
	}
	return first
}

// askedTable is a table elsewhere.
type askedTable struct {
	name  string
	stage Stage
	from  Lookup
	cache *lookup.Cache[[]string]
}

func (t *askedTable) find(ctx context.Context, k key) (entry, bool, error) {
	values, err := t.cache.Get(ctx, k.text, func(ctx context.Context) ([]string, error) { return t.from.Lookup(ctx, k.text) })
	if err != nil {
		return entry{}, false, fmt.Errorf("look up %s in %s: %w", k.text, t.name, err)
	}
	var results []string
	for _, v := range values {
		if t.stage == Relocated {
			results = append(results, v)
			continue
		}
		results = append(results, fields(v)...)
	}
	return entry{results, t.name, k.text}, len(results) > 0, nil
}

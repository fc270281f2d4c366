package config

import (
	"fmt"
	"slices"
	"strings"
)

// later is something that the configuration has a place for and this version
// does not do. It is refused with its name, because an administrator who
// writes it must not believe that it works. A later version takes its row out
// of the table and adds a field in types.go.
type later struct {
	// schema is the key: "listener.flows". A table stands for all of its keys
	// unless they have rows of their own.
	schema string
	// value is the one value of a known key that is refused, "" for an unknown key.
	value string
	// harmless are the literals that ask for nothing and are accepted.
	harmless string
	// what is missing: "this version does not have … yet".
	what string
}

// notYet is the table of what later versions will have.
var notYet = []later{
	{schema: "history.keep", harmless: `"90d"`, what: "a history"},
	{schema: "history", what: "a history"},
}

func (l *later) fault() *fault {
	f := &fault{rule: ruleNotYet, message: "this version does not have " + l.what + " yet", hint: "take it out"}
	if l.harmless != "" {
		f.hint = fmt.Sprintf("take it out, or leave it at %s", l.harmless)
	}
	return f
}

// notYetRow finds the row of a key that no field has.
func notYetRow(schema string) *later {
	i := slices.IndexFunc(notYet, func(l later) bool { return l.value == "" && l.schema == schema })
	if i < 0 {
		return nil
	}
	return &notYet[i]
}

// notYetValue finds the row of a known key's value.
func notYetValue(schema, text string) *later {
	for i := range notYet {
		l := &notYet[i]
		if l.schema == schema && l.value != "" && l.value == text {
			return l
		}
	}
	return nil
}

// notYetNames lists the keys of a section that later versions have.
func notYetNames(section string) []string {
	var names []string
	for _, l := range notYet {
		name := l.schema
		if section != "" {
			var ok bool
			if name, ok = strings.CutPrefix(l.schema, section+"."); !ok {
				continue
			}
		}
		if l.value == "" && !strings.Contains(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// notYetKey answers a key of a later version. A section whose keys have rows of
// their own is answered key by key, so that one with defaults only is fine.
func (b *binder) notYetKey(n *node, row *later, schema, path string) {
	rows := notYetNames(schema)
	if n.kind == kindTable && len(rows) > 0 {
		for _, name := range n.names {
			kidRow := notYetRow(schema + "." + name)
			if kidRow == nil {
				kidRow = row
			}
			b.notYetKey(n.kids[name], kidRow, schema+"."+name, path+"."+quoteKey(name))
		}
		return
	}
	if row.schema == schema && row.harmless != "" && n.literal() == row.harmless {
		return
	}
	b.problem(n.key, path, row.fault())
}

// shorten keeps a value from filling the screen.
func shorten(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

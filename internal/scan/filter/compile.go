package filter

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatepost/internal/scan"
)

// Limits of what a filter may be made of.
const (
	maxNesting = 4
	maxExprs   = 1000
)

// Conditions returns the names of all conditions; that of a header field stands
// as "header.NAME".
func Conditions() []string {
	return []string{
		"attachment_name", "attachment_type", "encrypted", "macro", "ambiguous", "attachments_over",
		"header.NAME", "subject", "body", "url", "sender", "recipient", "recipients_over", "client", "helo",
		"user", "listener", "size_over", "finding", "time", "not", "any",
	}
}

// Compile reads a filter, with the lists that it names. Its error is of type
// Errors: everything that is wrong, each with the key where it stands.
func Compile(spec Spec) (*Filter, error) {
	c := &compiler{dir: spec.Dir}
	f := &Filter{name: spec.Name, strip: spec.Strip}
	if strings.TrimSpace(spec.Name) == "" {
		c.fail("name", errors.New("a filter needs a name: verdicts and logs refer to it"))
	}
	switch d := scan.Direction(spec.Direction); d {
	case scan.Inbound, scan.Outbound, scan.POP3:
		f.direction = d
	case "", "any":
	default:
		c.fail("direction", fmt.Errorf("%q is none of inbound, outbound, pop3, any", spec.Direction))
	}
	if len(spec.When) == 0 {
		c.fail("when", errors.New("no conditions; when = { size_over = 0 } matches every message"))
	}
	f.all = c.table("when", spec.When, 0)
	if len(c.errs) == 0 && spec.Strip && !f.all.namesParts() {
		c.fail("then", errors.New("strip needs a condition that says which attachments: attachment_name, attachment_type, encrypted or macro"))
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	return f, nil
}

// compiler collects the mistakes of one filter.
type compiler struct {
	dir   string
	exprs int
	errs  Errors
}

func (c *compiler) fail(key string, err error) {
	c.errs = append(c.errs, &Error{Key: key, Err: err})
}

// table compiles a table of conditions, all of which must hold.
func (c *compiler) table(path string, when map[string]any, depth int) group {
	var g group
	if depth > maxNesting {
		c.fail(path, fmt.Errorf("nested deeper than %d tables", maxNesting))
		return g
	}
	var files fileTest
	for _, key := range slices.Sorted(maps.Keys(when)) {
		at, v := path+"."+key, when[key]
		switch {
		case key == "not":
			g = append(g, negate(c.alternatives(at, v, depth)))
		case key == "any":
			g = append(g, either(c.alternatives(at, v, depth)))
		case key == "header":
			g = append(g, c.headers(at, v)...)
		case strings.HasPrefix(key, "header."):
			g = append(g, c.header(at, strings.TrimPrefix(key, "header."), v))
		case c.file(&files, at, key, v):
		default:
			g = append(g, c.condition(at, key, v))
		}
	}
	if files.set() {
		g = append(g, files.condition())
	}
	slices.SortStableFunc(g, func(a, b condition) int { return int(a.cost) - int(b.cost) })
	return g
}

// alternatives compiles what stands behind not and any: a table, whose conditions
// are alternatives, or a list of tables, each of which is one.
func (c *compiler) alternatives(path string, v any, depth int) []group {
	var groups []group
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if nested, ok := v[key].(map[string]any); ok && key == "header" {
				for _, name := range slices.Sorted(maps.Keys(nested)) {
					groups = append(groups, c.table(path, map[string]any{key: map[string]any{name: nested[name]}}, depth+1))
				}
				continue
			}
			groups = append(groups, c.table(path, map[string]any{key: v[key]}, depth+1))
		}
	case []map[string]any:
		for i := range v {
			groups = append(groups, c.table(fmt.Sprintf("%s[%d]", path, i), v[i], depth+1))
		}
	case []any:
		for i := range v {
			t, ok := v[i].(map[string]any)
			if !ok {
				c.fail(path, errors.New("must be a table of conditions, or a list of such tables"))
				return nil
			}
			groups = append(groups, c.table(fmt.Sprintf("%s[%d]", path, i), t, depth+1))
		}
	default:
		c.fail(path, errors.New("must be a table of conditions, or a list of such tables"))
		return nil
	}
	if len(groups) == 0 || slices.ContainsFunc(groups, func(g group) bool { return len(g) == 0 }) && len(c.errs) == 0 {
		c.fail(path, errors.New("no conditions"))
	}
	return groups
}

// condition compiles a condition on anything but files and header fields.
func (c *compiler) condition(path, key string, v any) condition {
	switch key {
	case "sender":
		return senderCondition(c.addresses(path, v))
	case "recipient":
		return recipientCondition(c.addresses(path, v))
	case "client":
		return clientCondition(c.clients(path, v))
	case "helo":
		return heloCondition(c.hosts(path, v))
	case "user":
		return userCondition(c.words(path, v))
	case "listener":
		return listenerCondition(c.words(path, v))
	case "size_over":
		return sizeOver(c.size(path, v))
	case "recipients_over":
		return recipientsOver(c.count(path, v))
	case "attachments_over":
		return attachmentsOver(c.count(path, v))
	case "time":
		return timeCondition(c.times(path, v))
	case "finding":
		return findingCondition(c.words(path, v))
	case "subject":
		return c.header(path, "Subject", v)
	case "encrypted", "macro":
		return absent(key)
	case "ambiguous":
		return truth(ambiguousCondition(), c.bool(path, v))
	case "body":
		return bodyCondition(c.expressions(path, v))
	case "url":
		return c.url(path, v)
	}
	c.fail(path, fmt.Errorf("unknown condition; there are %s", strings.Join(Conditions(), ", ")))
	return condition{}
}

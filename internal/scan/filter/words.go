package filter

import (
	"context"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// wordList is patterns of words: exact ones, those with "*" for any text, and
// /expression/. Case does not matter.
type wordList struct {
	exact map[string]struct{}
	globs []string // lower case
	exprs []*expr
}

func (c *compiler) words(path string, v any) *wordList {
	l := &wordList{}
	for _, v := range c.values(path, v) {
		s := strings.ToLower(strings.TrimSpace(v.text))
		if source, ok := inSlashes(strings.TrimSpace(v.text)); ok {
			if e := c.expr(path, v, source, true); e != nil {
				l.exprs = append(l.exprs, e)
			}
			continue
		}
		if strings.Contains(s, "*") {
			l.globs = append(l.globs, s)
		} else {
			put(&l.exact, s)
		}
	}
	return l
}

func (l *wordList) match(ctx context.Context, word string) (bool, error) {
	word = strings.ToLower(word)
	if has(l.exact, word) {
		return true, nil
	}
	for _, g := range l.globs {
		if globMatch(g, word) {
			return true, nil
		}
	}
	_, ok, err := findAny(ctx, l.exprs, word)
	return ok, err
}

// globMatch matches a pattern in which "*" stands for any text, in time linear
// in the product of both lengths at worst.
func globMatch(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// userCondition holds for authenticated users; "*" is any of them, "" none.
func userCondition(l *wordList) condition {
	return condition{cost: costEnvelope, test: func(ctx context.Context, m *material) (answer, error) {
		user := m.envelope().Session.User
		switch ok, err := l.match(ctx, user); {
		case err != nil:
			return answer{}, err
		case user == "" && has(l.exact, ""):
			return yes("no user"), nil
		case user == "" || !ok:
			return answer{}, nil
		}
		return yes("user matched " + quote(user)), nil
	}}
}

func listenerCondition(l *wordList) condition {
	return condition{cost: costEnvelope, test: func(ctx context.Context, m *material) (answer, error) {
		name := m.envelope().Session.Listener
		if ok, err := l.match(ctx, name); !ok || err != nil {
			return answer{}, err
		}
		return yes("listener is " + quote(name)), nil
	}}
}

// over compares a figure of the message with a limit.
func over(n, limit int64, what string) answer {
	if n <= limit {
		return answer{}
	}
	return yes(strconv.FormatInt(n, 10) + " " + what + ", over " + strconv.FormatInt(limit, 10))
}

func sizeOver(limit int64) condition {
	return condition{cost: costEnvelope, test: func(_ context.Context, m *material) (answer, error) {
		return over(m.in.Message.Body.Size(), limit, "bytes"), nil
	}}
}

func recipientsOver(limit int64) condition {
	return condition{cost: costEnvelope, test: func(_ context.Context, m *material) (answer, error) {
		return over(int64(len(m.envelope().Recipients)), limit, "recipients"), nil
	}}
}

// findingCondition holds where a block before this one, or a check before the
// content, found something of that name, whatever its result: "dmarc:fail",
// "authres:spf:fail", "clamav:*". A finding may concern some recipients only.
func findingCondition(l *wordList) condition {
	return condition{cost: costHeader, test: func(ctx context.Context, m *material) (answer, error) {
		var all answer
		err := m.eachFinding(func(f *mail.Finding) error {
			ok, err := l.match(ctx, f.Symbol)
			if !ok && err == nil {
				ok, err = l.match(ctx, f.Module+":"+f.Symbol)
			}
			if !ok || err != nil {
				return err
			}
			if len(all.why) == 0 {
				all.why = []string{"finding matched " + quote(f.Module+":"+f.Symbol)}
			}
			all.who = all.who.or(m.recipients(f.Recipients))
			return nil
		})
		return all, err
	}}
}

func (m *material) eachFinding(fn func(*mail.Finding) error) error {
	for i := range m.in.Reports {
		for j := range m.in.Reports[i].Findings {
			if err := fn(&m.in.Reports[i].Findings[j]); err != nil {
				return err
			}
		}
	}
	session := m.envelope().Session.Findings
	for i := range session {
		if err := fn(&session[i]); err != nil {
			return err
		}
	}
	return nil
}

// recipients returns the set of those that have one of the keys; no keys: all.
func (m *material) recipients(keys []string) who {
	if len(keys) == 0 {
		return who{all: true}
	}
	list := m.envelope().Recipients
	w := who{in: make([]bool, len(list))}
	for i := range list {
		for _, key := range keys {
			w.in[i] = w.in[i] || key == list[i].Address.Key() || !list[i].Original.IsNull() && key == list[i].Original.Key()
		}
	}
	return w
}

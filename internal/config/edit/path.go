package edit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Path leads to a value: `listener[inbound].flows.content`. In brackets stands the
// name of an element of a list, what its key `name` holds, or its number from 0. What
// is not made of letters, digits, "-" and "_" is quoted: `filter["no programs"].then`.
type Path []Step

// Step is one key of a path, and where Elem is true the element of the list that is
// there: the one called Name, or where that is empty the one at Index.
type Step struct {
	Key   string
	Elem  bool
	Name  string
	Index int
}

var errPath = errors.New("not a path of keys")

// ParsePath reads a path as String writes it.
func ParsePath(text string) (Path, error) {
	var p Path
	s := &scanner{text: text}
	for {
		key, err := s.word()
		if err != nil {
			return nil, fmt.Errorf("%w: %q", errPath, text)
		}
		step := Step{Key: key}
		if s.peek() == '[' {
			if err := s.index(&step); err != nil {
				return nil, fmt.Errorf("%w: %q", errPath, text)
			}
		}
		p = append(p, step)
		if s.at == len(text) {
			return p, nil
		}
		if s.peek() != '.' || len(p) > maxDepth {
			return nil, fmt.Errorf("%w: %q", errPath, text)
		}
		s.at++
	}
}

// MustPath is ParsePath for paths that stand in the program; a mistake in one gives
// the empty path, which no operation takes.
func MustPath(text string) Path {
	p, err := ParsePath(text)
	if err != nil {
		return nil
	}
	return p
}

// word reads a key or a name.
func (s *scanner) word() (string, error) {
	begin := s.at
	if c := s.peek(); c == '"' || c == '\'' {
		return s.quoted()
	}
	for s.at < len(s.text) && isBare(s.text[s.at]) {
		s.at++
	}
	if s.at == begin {
		return "", errPath
	}
	return s.text[begin:s.at], nil
}

// index reads what stands in brackets. Domains and addresses need no quotes there.
func (s *scanner) index(step *Step) error {
	s.at++
	step.Elem = true
	if c := s.peek(); c == '"' || c == '\'' {
		name, err := s.quoted()
		if err != nil || s.peek() != ']' || name == "" {
			return errPath
		}
		s.at++
		step.Name = name
		return nil
	}
	inner, _, ok := strings.Cut(s.text[s.at:], "]")
	if !ok || inner == "" || strings.ContainsAny(inner, "[\"'") {
		return errPath
	}
	s.at += len(inner) + 1
	if n, err := strconv.Atoi(inner); err == nil && n >= 0 {
		step.Index = n
	} else {
		step.Name = inner
	}
	return nil
}

// String writes the path as ParsePath reads it.
func (p Path) String() string {
	var b strings.Builder
	for i, s := range p {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(quoteKey(s.Key))
		switch {
		case s.Elem && s.Name != "":
			fmt.Fprintf(&b, "[%s]", quote(s.Name))
		case s.Elem:
			fmt.Fprintf(&b, "[%d]", s.Index)
		}
	}
	return b.String()
}

// With is the path to a key of what p leads to.
func (p Path) With(key string) Path { return append(p[:len(p):len(p)], Step{Key: key}) }

// At is the path to an element of the list that p leads to.
func (p Path) At(index int) Path {
	q := append(Path(nil), p...)
	if len(q) > 0 {
		q[len(q)-1].Elem, q[len(q)-1].Index, q[len(q)-1].Name = true, index, ""
	}
	return q
}

// Named is the path to the element of the list that p leads to with this name.
func (p Path) Named(name string) Path {
	q := p.At(0)
	if len(q) > 0 {
		q[len(q)-1].Name = name
	}
	return q
}

// find returns the index of the element that a step names, or -1.
func (s Step) find(list *node) int {
	if s.Name == "" {
		if s.Index >= 0 && s.Index < len(list.elems) {
			return s.Index
		}
		return -1
	}
	for i, e := range list.elems {
		if name := e.kids["name"]; name != nil && name.kind == stringValue && name.val.text == s.Name {
			return i
		}
	}
	return -1
}

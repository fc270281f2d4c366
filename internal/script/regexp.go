package script

import (
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"
	"unicode/utf8"

	"go.starlark.net/starlark"
)

// Limits of expressions.
const (
	maxExpr = 4096 // bytes
	// maxStates bounds an expression: matching costs at most the number of its states
	// times the length of the text.
	maxStates   = 5000
	maxPatterns = 100 // that are kept beside those in the source
	maxMatches  = 1000
	// atOnce is what may be matched without looking at the clock: states times bytes.
	atOnce = 2 << 20
)

// pattern is an expression of bounded cost.
type pattern struct {
	re     *regexp.Regexp
	states int
	// next finds the expression behind the first character of a text, so that ^ and
	// \b see what stands before. Its first group is the match.
	next *regexp.Regexp
}

// patterns are the compiled expressions of a program.
type patterns struct {
	mu    sync.Mutex // guards what follows; not held while an expression is compiled
	known map[string]*pattern
	extra int
}

func newPatterns() *patterns { return &patterns{known: map[string]*pattern{}} }

// fixed compiles an expression that stands in the source; it is kept.
func (p *patterns) fixed(source string) (*pattern, error) {
	e, err := compilePattern(source)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[source] = e
	return e, nil
}

// get returns the compiled expression. Of those that a script puts together as it
// runs only some are kept.
func (p *patterns) get(c *call, source string) (*pattern, error) {
	p.mu.Lock()
	e := p.known[source]
	p.mu.Unlock()
	if e != nil {
		return e, nil
	}
	if err := c.charge(64 * int64(len(source))); err != nil {
		return nil, err
	}
	e, err := compilePattern(source)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.extra < maxPatterns {
		p.extra++
		p.known[source] = e
	}
	return e, nil
}

func compilePattern(source string) (*pattern, error) {
	if len(source) > maxExpr {
		return nil, fmt.Errorf("the expression is longer than %d bytes", maxExpr)
	}
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w (RE2 syntax: no look-around and no back references)", short(source), err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", short(source), err)
	}
	if len(program.Inst) > maxStates {
		return nil, fmt.Errorf("expression %q has %d states, at most %d", short(source), len(program.Inst), maxStates)
	}
	e := &pattern{states: len(program.Inst)}
	if e.re, err = regexp.Compile(source); err == nil {
		e.next, err = regexp.Compile(`\A(?s:.)(?s:.*?)((?:` + source + `))`)
	}
	if err != nil {
		return nil, fmt.Errorf("expression %q: %w", short(source), err)
	}
	return e, nil
}

// fits reports that a text is short enough for n matches without a look at the
// clock.
func (e *pattern) fits(text string, n int) bool { return len(text)*e.states <= atOnce/n }

// find returns the places of the first match and of its groups, nil for none.
func (e *pattern) find(c *call, text string) ([]int, error) {
	if e.fits(text, 1) {
		return e.re.FindStringSubmatchIndex(text), c.work(int64(len(text)))
	}
	return c.findReader(e.re, text)
}

// findReader matches as it reads, and stops when the call has to.
func (c *call) findReader(re *regexp.Regexp, text string) ([]int, error) {
	r := &runes{c: c, text: text}
	at := re.FindReaderSubmatchIndex(r)
	if r.err != nil {
		return nil, r.err
	}
	return at, nil
}

// runes reads a text and counts it as work.
type runes struct {
	c    *call
	text string
	pos  int
	next int // where to count again
	err  error
}

func (r *runes) ReadRune() (rune, int, error) {
	if r.pos >= r.next {
		// A long text is bounded by time rather than by steps; the first characters
		// are cheap, for there may be many matches.
		if r.err = r.c.work(int64(256 + min(r.pos, 3840))); r.err == nil {
			r.c.look()
			r.err = r.c.cause
		}
		if r.err != nil {
			return 0, 0, io.EOF
		}
		r.next = r.pos + 4096
	}
	if r.pos >= len(r.text) {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRuneInString(r.text[r.pos:])
	r.pos += n
	return c, n, nil
}

// patternAndText unpacks what match and findall take.
func patternAndText(c *call, name string, args starlark.Tuple, kwargs []starlark.Tuple) (*pattern, string, error) {
	var source, text string
	if err := starlark.UnpackArgs(name, args, kwargs, "pattern", &source, "text", &text); err != nil {
		return nil, "", err
	}
	e, err := c.prog.patterns.get(c, source)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	return e, text, nil
}

// matchText is match(pattern, text): the match and its groups, or None.
func matchText(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	e, text, err := patternAndText(c, "match", args, kwargs)
	if err != nil {
		return nil, err
	}
	at, err := e.find(c, text)
	if err != nil || at == nil {
		return starlark.None, err
	}
	groups := make([]starlark.Value, len(at)/2)
	for i := range groups {
		groups[i] = starlark.String("")
		if at[2*i] >= 0 {
			groups[i] = starlark.String(text[at[2*i]:at[2*i+1]])
		}
	}
	return starlark.NewList(groups), c.charge(int64(len(groups)) * 3 * sizeValue)
}

// findAll is findall(pattern, text): the matches, or of an expression with one
// group what that holds.
func findAll(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	e, text, err := patternAndText(c, "findall", args, kwargs)
	if err != nil {
		return nil, err
	}
	group := 0
	if e.re.NumSubexp() == 1 {
		group = 1
	}
	var list []starlark.Value
	err = e.each(c, text, func(at []int) {
		s := ""
		if at[2*group] >= 0 {
			s = strings.Clone(text[at[2*group]:at[2*group+1]])
		}
		list = append(list, starlark.String(s))
	})
	if err != nil {
		return nil, err
	}
	return starlark.NewList(list), c.charge(int64(len(list))*3*sizeValue + int64(len(text)))
}

// each calls fn with every match, at most maxMatches. Finding all can take the
// square of the length of a text, so a long one is searched a match at a time.
func (e *pattern) each(c *call, text string, fn func(at []int)) error {
	if e.fits(text, len(text)+1) {
		for _, at := range e.re.FindAllStringSubmatchIndex(text, maxMatches) {
			fn(at)
		}
		return c.work(int64(len(text)))
	}
	at, err := c.findReader(e.re, text)
	end := -1 // of the match before
	for n := 0; n < maxMatches && err == nil && at != nil; {
		// As the library has it: no empty match right behind another.
		if at[0] != at[1] || at[0] != end {
			fn(at)
			n++
		}
		end = at[1]
		from := at[1]
		if at[0] == at[1] {
			if from >= len(text) {
				break
			}
			_, size := utf8.DecodeRuneInString(text[from:])
			from += size
		}
		at, err = e.after(c, text, from)
	}
	return err
}

// after finds the first match that begins at from or behind.
func (e *pattern) after(c *call, text string, from int) ([]int, error) {
	if from == 0 {
		return c.findReader(e.re, text)
	}
	_, size := utf8.DecodeLastRuneInString(text[:from])
	before := from - size
	at, err := c.findReader(e.next, text[before:])
	if err != nil || at == nil {
		return nil, err
	}
	// The first pair is the match with what stands before it.
	at = at[2:]
	for i := range at {
		if at[i] >= 0 {
			at[i] += before
		}
	}
	return at, nil
}

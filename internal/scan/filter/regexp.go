package filter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"
)

// Limits of expressions.
const (
	maxExprSource = 4096
	// maxExprProgram bounds the states of an expression: matching costs at most
	// their number times the length of the text.
	maxExprProgram = 5000
	// longText is from where on, in bytes, matching looks at its context.
	longText = 16 << 10
)

// expr is an expression of bounded cost.
type expr struct {
	re *regexp.Regexp
	// prefix stands at the beginning of every match, "" if unknown.
	prefix string
}

// expressions compiles the values of a condition on text, as they are written.
func (c *compiler) expressions(path string, v any) []*expr {
	return c.compileAll(path, c.values(path, v), false)
}

func (c *compiler) compileAll(path string, values []value, ignoreCase bool) []*expr {
	var list []*expr
	for _, v := range values {
		if e := c.expr(path, v, v.text, ignoreCase); e != nil {
			list = append(list, e)
		}
	}
	return list
}

// expr compiles the source of one expression, which is v or a part of it.
func (c *compiler) expr(path string, v value, source string, ignoreCase bool) *expr {
	if c.exprs++; c.exprs > maxExprs {
		if c.exprs == maxExprs+1 {
			c.failValue(path, v, fmt.Errorf("more than %d expressions in one filter", maxExprs))
		}
		return nil
	}
	e, err := compileExpr(source, ignoreCase)
	if err != nil {
		c.failValue(path, v, err)
		return nil
	}
	return e
}

func compileExpr(source string, ignoreCase bool) (*expr, error) {
	if len(source) > maxExprSource {
		return nil, fmt.Errorf("expression is longer than %d bytes", maxExprSource)
	}
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, explain(source, err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, explain(source, err)
	}
	if len(program.Inst) > maxExprProgram {
		return nil, fmt.Errorf("expression %q is too large: it has %d states, at most %d", cut(source), len(program.Inst), maxExprProgram)
	}
	if ignoreCase {
		source = "(?i)" + source
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, explain(source, err)
	}
	e := &expr{re: re}
	e.prefix, _ = re.LiteralPrefix()
	return e, nil
}

// explain says what people who know other dialects need to hear.
func explain(source string, err error) error {
	var e *syntax.Error
	if !errors.As(err, &e) {
		return err
	}
	text := fmt.Sprintf("expression %q: %s", cut(source), e.Code)
	if e.Expr != "" {
		text += ": " + cut(e.Expr)
	}
	if e.Code == syntax.ErrInvalidPerlOp || e.Code == syntax.ErrInvalidEscape || strings.HasPrefix(e.Expr, "(?<") {
		text += " (RE2 syntax: no look-around and no back references)"
	}
	return errors.New(text)
}

func cut(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}

// find returns the leftmost match in s. In a long text the end of the context
// ends the search, with its error.
func (e *expr) find(ctx context.Context, s string) (match string, ok bool, err error) {
	if e.prefix != "" && !strings.Contains(s, e.prefix) {
		return "", false, nil
	}
	var at []int
	if len(s) <= longText {
		at = e.re.FindStringIndex(s)
	} else {
		r := &runes{ctx: ctx, text: s}
		at = e.re.FindReaderIndex(r)
		if r.err != nil {
			return "", false, r.err
		}
	}
	if at == nil {
		return "", false, nil
	}
	return s[at[0]:at[1]], true, nil
}

// runes reads a text until the context ends.
type runes struct {
	ctx  context.Context
	text string
	pos  int
	next int // where to look at the context again
	err  error
}

func (r *runes) ReadRune() (rune, int, error) {
	if r.pos >= r.next {
		if r.err = r.ctx.Err(); r.err != nil {
			return 0, 0, io.EOF
		}
		r.next = r.pos + longText/4
	}
	if r.pos >= len(r.text) {
		return 0, 0, io.EOF
	}
	if c := r.text[r.pos]; c < utf8.RuneSelf {
		r.pos++
		return rune(c), 1, nil
	}
	c, n := utf8.DecodeRuneInString(r.text[r.pos:])
	r.pos += n
	return c, n, nil
}

// findAny returns the first of the expressions that matches one of the texts.
func findAny(ctx context.Context, list []*expr, s string) (match string, ok bool, err error) {
	for _, e := range list {
		if match, ok, err = e.find(ctx, s); ok || err != nil {
			return match, ok, err
		}
	}
	return "", false, nil
}

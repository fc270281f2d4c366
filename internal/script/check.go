package script

import (
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/syntax"
)

// testPrefix begins the names of a script's own tests.
const testPrefix = "test_"

// check looks for mistakes that would show only when a script runs: a stage
// function with other parameters, an action where it is not possible, an
// expression that is none. It also takes note of the absolute paths in the source
// and compiles the expressions that stand in it.
func (p *Program) check(file *syntax.File) Errors {
	k := &checker{p: p, own: map[string]bool{}}
	stages := 0
	for _, s := range file.Stmts {
		if d, ok := s.(*syntax.DefStmt); ok {
			k.own[d.Name.Name] = true
		}
	}
	for _, s := range file.Stmts {
		switch s := s.(type) {
		case *syntax.DefStmt:
			stage := Stage(s.Name.Name)
			if slices.Contains(Stages(), stage) {
				stages++
				if len(s.Params) != 1 || !isIdent(s.Params[0]) {
					k.fail(s.Name.NamePos, "%s takes one parameter: def %s(s):", stage, stage)
				}
				k.stage = stage
			}
			if strings.HasPrefix(s.Name.Name, testPrefix) && len(s.Params) > 0 {
				k.fail(s.Name.NamePos, "a test takes no parameters: def %s():", s.Name.Name)
			}
		case *syntax.LoadStmt:
			k.fail(s.Load, "load is not available: a script is one file")
			continue
		}
		syntax.Walk(s, k.visit)
		k.stage = ""
	}
	if stages == 0 && len(k.errs) == 0 {
		k.errs = append(k.errs, &Error{File: p.name, Text: "the script has nothing to run: define connect(s), auth(s), recipient(s) or content(s)"})
	}
	return k.errs
}

type checker struct {
	p     *Program
	own   map[string]bool // functions of the script
	stage Stage           // whose function is looked at, "" for others
	errs  Errors
}

func (k *checker) fail(pos syntax.Position, format string, args ...any) {
	k.errs = append(k.errs, k.p.mistake(pos, fmt.Sprintf(format, args...)))
}

func isIdent(e syntax.Expr) bool {
	_, ok := e.(*syntax.Ident)
	return ok
}

func (k *checker) visit(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.Literal:
		if s, ok := n.Value.(string); ok && strings.HasPrefix(s, "/") {
			k.p.absolute[s] = true
		}
	case *syntax.AssignStmt:
		k.bound(n.LHS)
	case *syntax.CallExpr:
		if name, ok := n.Fn.(*syntax.Ident); ok && !k.own[name.Name] {
			k.call(name, n)
		}
	}
	return true
}

// bound refuses new meanings for the words that stand for values.
func (k *checker) bound(e syntax.Expr) {
	if name, ok := unparen(e).(*syntax.Ident); ok && slices.Contains([]string{"None", "True", "False"}, name.Name) {
		k.fail(name.NamePos, "%s cannot be assigned to", name.Name)
	}
}

// call checks the call of a function that is not the script's.
func (k *checker) call(name *syntax.Ident, e *syntax.CallExpr) {
	if name.Name == "deliver" {
		k.transport(e)
	}
	for _, a := range allActions() {
		if a.name == name.Name && a.at != nil && k.stage != "" && !slices.Contains(a.at, k.stage) {
			k.fail(name.NamePos, "%v", wrongStage(a, k.stage))
		}
	}
	text, ok := literalArg(e)
	if !ok {
		return
	}
	var err error
	switch name.Name {
	case "match", "findall":
		_, err = k.p.patterns.fixed(text)
	case "reject", "defer":
		err = checkReply(text)
	case "add_header", "header":
		err = checkField(text)
	case "remove_header":
		err = checkRemove(text)
	case "http":
		_, err = parseTemplate(text)
	}
	if err != nil {
		k.fail(syntax.Start(e.Args[0]), "%v", err)
	}
}

// transport wants the transport that a script delivers by to exist, where it is written
// out.
func (k *checker) transport(e *syntax.CallExpr) {
	if k.p.transports == nil || len(e.Args) == 0 {
		return
	}
	arg := e.Args[0]
	if b, ok := arg.(*syntax.BinaryExpr); ok && b.Op == syntax.EQ {
		arg = b.Y
	}
	l, ok := unparen(arg).(*syntax.Literal)
	if !ok {
		return
	}
	if s, ok := l.Value.(string); ok && !slices.Contains(k.p.transports, s) {
		k.fail(l.TokenPos, "no transport is called %q", short(s))
	}
}

// literalArg is the first argument of a call if it is written out.
func literalArg(e *syntax.CallExpr) (string, bool) {
	if len(e.Args) == 0 {
		return "", false
	}
	l, ok := unparen(e.Args[0]).(*syntax.Literal)
	if !ok {
		return "", false
	}
	s, ok := l.Value.(string)
	return s, ok
}

// checkReply reports what would not reach a client as it stands.
func checkReply(s string) error {
	switch {
	case len(s) > maxReply:
		return fmt.Errorf("the text has %d bytes, at most %d", len(s), maxReply)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }):
		return fmt.Errorf("the text must be one line of printable ASCII")
	case hasCode(s):
		return fmt.Errorf("the text is what stands behind the code only; the code follows from the action")
	}
	return nil
}

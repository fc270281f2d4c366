package script

import "go.starlark.net/syntax"

// The names of what operations are compiled into. No script can write them: they
// have a blank in front.
const (
	opAttr   = " attr"   // x.name
	opMethod = " method" // x.name(…)
	opSlice  = " slice"  // x[a:b:c]
	opSpread = " spread" // f(*x), f(**x)
	opTuple  = " tuple"  // (a, b)
	opCheck  = " check"  // of *args in a function
	opAugIdx = " augidx" // x[i] += y
	opNone   = " none"   // what is left out in x[a:b:c]
)

// binaryOps are the operators that are counted, with the function for each.
var binaryOps = map[syntax.Token]string{
	syntax.PLUS: " +", syntax.STAR: " *", syntax.PERCENT: " %", syntax.PIPE: " |", syntax.LTLT: " <<", syntax.MINUS: " -",
	syntax.SLASHSLASH: " //",
	syntax.EQL:        " ==", syntax.NEQ: " !=", syntax.LT: " <", syntax.LE: " <=", syntax.GT: " >", syntax.GE: " >=",
	syntax.IN: " in", syntax.NOT_IN: " not in",
}

// inPlaceMark stands behind the name of an operator for its x += y. A plain "="
// would make < and <= one name.
const inPlaceMark = " in place"

// cheapMethods are never counted: what they do is done in a step or nearly so.
var cheapMethods = map[string]bool{
	"append": true, "get": true, "setdefault": true, "startswith": true, "endswith": true,
	"removeprefix": true, "removesuffix": true, "clear": true,
}

// rewriter exchanges operations that can be large for calls that count first.
type rewriter struct{}

func rewrite(f *syntax.File) {
	var r rewriter
	f.Stmts = r.stmts(f.Stmts)
}

func invoke(name string, pos syntax.Position, args ...syntax.Expr) *syntax.CallExpr {
	return &syntax.CallExpr{Fn: &syntax.Ident{NamePos: pos, Name: name}, Lparen: pos, Args: args, Rparen: pos}
}

func stringLit(pos syntax.Position, s string) syntax.Expr {
	return &syntax.Literal{Token: syntax.STRING, TokenPos: pos, Raw: `"` + s + `"`, Value: s}
}

func (r rewriter) stmts(list []syntax.Stmt) []syntax.Stmt {
	for i, s := range list {
		list[i] = r.stmt(s)
	}
	return list
}

func (r rewriter) stmt(s syntax.Stmt) syntax.Stmt {
	switch s := s.(type) {
	case *syntax.AssignStmt:
		return r.assign(s)
	case *syntax.DefStmt:
		s.Params = r.params(s.Params)
		s.Body = r.stmts(s.Body)
		if name := rest(s.Params); name != nil {
			check := &syntax.ExprStmt{X: invoke(opCheck, name.NamePos, &syntax.Ident{NamePos: name.NamePos, Name: name.Name})}
			s.Body = append([]syntax.Stmt{check}, s.Body...)
		}
	case *syntax.ExprStmt:
		s.X = r.expr(s.X)
	case *syntax.ForStmt:
		r.target(s.Vars)
		s.X = r.expr(s.X)
		s.Body = r.stmts(s.Body)
	case *syntax.IfStmt:
		s.Cond = r.expr(s.Cond)
		s.True, s.False = r.stmts(s.True), r.stmts(s.False)
	case *syntax.ReturnStmt:
		s.Result = r.expr(s.Result)
	}
	return s
}

// assign rewrites x = y and x += y. The second keeps what the language says: a
// list grows in place, and x[i] is looked up once.
func (r rewriter) assign(s *syntax.AssignStmt) syntax.Stmt {
	s.RHS = r.expr(s.RHS)
	if s.Op == syntax.EQ {
		r.target(s.LHS)
		return s
	}
	op := s.Op - syntax.PLUS_EQ + syntax.PLUS
	name, counted := binaryOps[op]
	switch lhs := unparen(s.LHS).(type) {
	case *syntax.Ident:
		if !counted || isNumber(s.RHS) && (op == syntax.PLUS || op == syntax.MINUS) {
			return s
		}
		s.Op = syntax.EQ
		x := &syntax.Ident{NamePos: lhs.NamePos, Name: lhs.Name}
		s.RHS = invoke(name+inPlaceMark, s.OpPos, x, s.RHS)
		return s
	case *syntax.IndexExpr:
		lhs.X, lhs.Y = r.expr(lhs.X), r.expr(lhs.Y)
		if !counted {
			return s
		}
		return &syntax.ExprStmt{X: invoke(opAugIdx, s.OpPos, lhs.X, lhs.Y, stringLit(s.OpPos, name+inPlaceMark), s.RHS)}
	case *syntax.DotExpr:
		lhs.X = r.expr(lhs.X)
	}
	return s
}

// target rewrites what stands in the places that are assigned to.
func (r rewriter) target(e syntax.Expr) {
	switch e := e.(type) {
	case *syntax.ParenExpr:
		r.target(e.X)
	case *syntax.TupleExpr:
		for _, x := range e.List {
			r.target(x)
		}
	case *syntax.ListExpr:
		for _, x := range e.List {
			r.target(x)
		}
	case *syntax.IndexExpr:
		e.X, e.Y = r.expr(e.X), r.expr(e.Y)
	case *syntax.DotExpr:
		e.X = r.expr(e.X)
	}
}

// params rewrites the defaults of parameters.
func (r rewriter) params(list []syntax.Expr) []syntax.Expr {
	for _, p := range list {
		if b, ok := p.(*syntax.BinaryExpr); ok && b.Op == syntax.EQ {
			b.Y = r.expr(b.Y)
		}
	}
	return list
}

// rest is the name of *args among parameters, nil for none.
func rest(params []syntax.Expr) *syntax.Ident {
	for _, p := range params {
		if u, ok := p.(*syntax.UnaryExpr); ok && u.Op == syntax.STAR && u.X != nil {
			return u.X.(*syntax.Ident)
		}
	}
	return nil
}

func (r rewriter) exprs(list []syntax.Expr) {
	for i := range list {
		list[i] = r.expr(list[i])
	}
}

func (r rewriter) expr(e syntax.Expr) syntax.Expr {
	switch e := e.(type) {
	case *syntax.BinaryExpr:
		return r.binary(e)
	case *syntax.CallExpr:
		return r.call(e)
	case *syntax.Comprehension:
		r.comprehension(e)
	case *syntax.CondExpr:
		e.Cond, e.True, e.False = r.expr(e.Cond), r.expr(e.True), r.expr(e.False)
	case *syntax.DictExpr:
		r.exprs(e.List)
	case *syntax.DictEntry:
		e.Key, e.Value = r.expr(e.Key), r.expr(e.Value)
	case *syntax.DotExpr:
		e.X = r.expr(e.X)
		if methodNames[e.Name.Name] {
			return invoke(opAttr, e.Dot, e.X, stringLit(e.NamePos, e.Name.Name))
		}
	case *syntax.IndexExpr:
		e.X, e.Y = r.expr(e.X), r.expr(e.Y)
	case *syntax.LambdaExpr:
		e.Params = r.params(e.Params)
		e.Body = r.expr(e.Body)
		if name := rest(e.Params); name != nil {
			e.Body = invoke(opCheck, e.Lambda, &syntax.Ident{NamePos: name.NamePos, Name: name.Name}, e.Body)
		}
	case *syntax.ListExpr:
		r.exprs(e.List)
	case *syntax.ParenExpr:
		e.X = r.expr(e.X)
	case *syntax.SliceExpr:
		return r.slice(e)
	case *syntax.TupleExpr:
		constant := isConstant(e)
		r.exprs(e.List)
		if !constant && len(e.List) > 0 {
			return invoke(opTuple, firstPos(e), e.List...)
		}
	case *syntax.UnaryExpr:
		e.X = r.expr(e.X)
	}
	return e
}

func firstPos(e *syntax.TupleExpr) syntax.Position {
	start, _ := e.Span()
	return start
}

func (r rewriter) binary(e *syntax.BinaryExpr) syntax.Expr {
	simple := isSimple(e)
	e.X, e.Y = r.expr(e.X), r.expr(e.Y)
	if name, counted := binaryOps[e.Op]; counted && !simple {
		return invoke(name, e.OpPos, e.X, e.Y)
	}
	return e
}

// isSimple reports an operation that cannot be large, whatever its other side is.
func isSimple(e *syntax.BinaryExpr) bool {
	x, y := unparen(e.X), unparen(e.Y)
	switch e.Op {
	case syntax.PLUS:
		return isNumber(x) || isNumber(y) || isLiteral(x) && isLiteral(y)
	case syntax.MINUS, syntax.SLASHSLASH:
		return isNumber(x) || isNumber(y)
	case syntax.PERCENT:
		return isNumber(x)
	case syntax.EQL, syntax.NEQ, syntax.LT, syntax.LE, syntax.GT, syntax.GE:
		return isLiteral(x) || isLiteral(y)
	case syntax.IN, syntax.NOT_IN:
		return isConstant(y)
	}
	return false
}

func (r rewriter) call(e *syntax.CallExpr) syntax.Expr {
	for i, a := range e.Args {
		switch a := a.(type) {
		case *syntax.BinaryExpr:
			if a.Op == syntax.EQ {
				a.Y = r.expr(a.Y)
				continue
			}
		case *syntax.UnaryExpr:
			if a.Op == syntax.STAR || a.Op == syntax.STARSTAR {
				a.X = invoke(opSpread, a.OpPos, r.expr(a.X))
				continue
			}
		}
		e.Args[i] = r.expr(a)
	}
	dot, ok := e.Fn.(*syntax.DotExpr)
	if !ok || !methodNames[dot.Name.Name] || cheapMethods[dot.Name.Name] {
		if ok {
			dot.X = r.expr(dot.X)
			return e
		}
		e.Fn = r.expr(e.Fn)
		return e
	}
	args := append([]syntax.Expr{r.expr(dot.X), stringLit(dot.NamePos, dot.Name.Name)}, e.Args...)
	return invoke(opMethod, e.Lparen, args...)
}

func (r rewriter) comprehension(e *syntax.Comprehension) {
	e.Body = r.expr(e.Body)
	for _, c := range e.Clauses {
		switch c := c.(type) {
		case *syntax.ForClause:
			r.target(c.Vars)
			c.X = r.expr(c.X)
		case *syntax.IfClause:
			c.Cond = r.expr(c.Cond)
		}
	}
}

func (r rewriter) slice(e *syntax.SliceExpr) syntax.Expr {
	args := []syntax.Expr{r.expr(e.X)}
	for _, x := range []syntax.Expr{e.Lo, e.Hi, e.Step} {
		if x == nil {
			x = &syntax.Ident{NamePos: e.Lbrack, Name: opNone}
		}
		args = append(args, r.expr(x))
	}
	return invoke(opSlice, e.Lbrack, args...)
}

func unparen(e syntax.Expr) syntax.Expr {
	for {
		p, ok := e.(*syntax.ParenExpr)
		if !ok {
			return e
		}
		e = p.X
	}
}

func isLiteral(e syntax.Expr) bool {
	switch e := e.(type) {
	case *syntax.Literal:
		return true
	case *syntax.Ident:
		return e.Name == "None" || e.Name == "True" || e.Name == "False"
	case *syntax.UnaryExpr:
		return isNumber(e)
	}
	return false
}

func isNumber(e syntax.Expr) bool {
	if u, ok := e.(*syntax.UnaryExpr); ok && (u.Op == syntax.MINUS || u.Op == syntax.PLUS) {
		e = unparen(u.X)
	}
	l, ok := e.(*syntax.Literal)
	return ok && (l.Token == syntax.INT || l.Token == syntax.FLOAT) && len(l.Raw) < 20
}

// isConstant reports a literal, or a list or tuple of literals.
func isConstant(e syntax.Expr) bool {
	var list []syntax.Expr
	switch e := unparen(e).(type) {
	case *syntax.ListExpr:
		list = e.List
	case *syntax.TupleExpr:
		list = e.List
	default:
		return isLiteral(e)
	}
	for _, x := range list {
		if !isLiteral(unparen(x)) {
			return false
		}
	}
	return true
}

package lint

import (
	"go/ast"
	"strings"
)

// The budgets for files that are not tests.
const (
	maxFunctionLines = 70
	maxFileLines     = 550
	maxParameters    = 5
)

// Length holds functions and files to their budgets.
func Length(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		if !f.Test && f.Lines > maxFileLines {
			problems = append(problems, t.problem(f.Syntax.Name, "length", "file has %d lines, at most %d", f.Lines, maxFileLines))
		}
	})
	t.functions(func(f *File, fd *ast.FuncDecl) {
		if f.Test {
			return
		}
		if n := t.line(fd.End()) - t.line(fd.Pos()) + 1; n > maxFunctionLines {
			problems = append(problems, t.problem(fd, "length", "%s has %d lines, at most %d", fd.Name.Name, n, maxFunctionLines))
		}
	})
	return problems
}

// Parameters limits how many a function takes.
func Parameters(t *Tree) []Problem {
	var problems []Problem
	t.functions(func(f *File, fd *ast.FuncDecl) {
		if n := fd.Type.Params.NumFields(); !f.Test && n > maxParameters {
			problems = append(problems, t.problem(fd, "parameters", "%s takes %d, at most %d", fd.Name.Name, n, maxParameters))
		}
	})
	return problems
}

// PackageComments wants a comment of at least two lines on every package, in
// exactly one file.
func PackageComments(t *Tree) []Problem {
	var problems []Problem
	for _, p := range t.Packages {
		var with []string
		code := false
		for _, f := range p.Files {
			if f.Test {
				continue
			}
			code = true
			if f.Syntax.Doc == nil {
				continue
			}
			with = append(with, f.Path)
			if text := strings.TrimSpace(f.Syntax.Doc.Text()); strings.Count(text, "\n") < 1 {
				problems = append(problems, t.problem(f.Syntax, "package-comment", "one line is not enough: say what it is for and what always holds"))
			}
		}
		switch {
		case code && len(with) == 0:
			problems = append(problems, Problem{Pos: p.Dir, Rule: "package-comment", Text: "no package comment"})
		case len(with) > 1:
			problems = append(problems, Problem{Pos: p.Dir, Rule: "package-comment", Text: "more than one package comment: " + strings.Join(with, ", ")})
		}
	}
	return problems
}

// ExportedComments wants a comment on every exported type and function, and on
// exported methods of exported types but for those whose meaning is fixed by
// the standard library's interfaces, and of one-line functions right below the
// one whose comment speaks for the group.
func ExportedComments(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		if f.Test || f.Syntax.Name.Name == "main" {
			return
		}
		for i, d := range f.Syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				inGroup := i > 0 && t.line(d.End()) == t.line(d.Pos()) && t.line(f.Syntax.Decls[i-1].End())+1 == t.line(d.Pos())
				if d.Doc == nil && !inGroup && d.Name.IsExported() && receiverExported(d) && !fixedMethod(d) {
					problems = append(problems, t.problem(d, "exported-comment", "%s has no comment", d.Name.Name))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					ts, ok := spec.(*ast.TypeSpec)
					if ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil && ts.Comment == nil {
						problems = append(problems, t.problem(ts, "exported-comment", "type %s has no comment", ts.Name.Name))
					}
				}
			}
		}
	})
	return problems
}

// fixedMethods are methods whose contract stands in the standard library.
var fixedMethods = map[string]bool{
	"String": true, "Error": true, "Unwrap": true, "Is": true, "As": true,
	"Read": true, "ReadAt": true, "ReadByte": true, "ReadFrom": true, "Write": true, "WriteTo": true, "WriteString": true, "Close": true, "Seek": true,
	"Len": true, "Less": true, "Swap": true, "Push": true, "Pop": true,
	"MarshalText": true, "UnmarshalText": true, "MarshalJSON": true, "UnmarshalJSON": true, "MarshalBinary": true, "UnmarshalBinary": true,
	"ServeHTTP": true, "Handle": true, "Enabled": true, "WithAttrs": true, "WithGroup": true, "LogValue": true,
	"Accept": true, "Addr": true, "LocalAddr": true, "RemoteAddr": true, "SetDeadline": true, "SetReadDeadline": true, "SetWriteDeadline": true,
	"Temporary": true, "Timeout": true, "Network": true, "Describe": true, "Collect": true,
}

func fixedMethod(d *ast.FuncDecl) bool { return d.Recv != nil && fixedMethods[d.Name.Name] }

// receiverExported is true for functions and for methods of exported types.
func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return true
		}
	}
}

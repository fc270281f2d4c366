package lint

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path"
	"slices"
	"strings"
)

// NoInit refuses init functions.
func NoInit(t *Tree) []Problem {
	var problems []Problem
	t.functions(func(_ *File, fd *ast.FuncDecl) {
		if fd.Recv == nil && fd.Name.Name == "init" {
			problems = append(problems, t.problem(fd, "no-init", "init function"))
		}
	})
	return problems
}

// BlankImports refuses blank imports but for the one that go:embed needs.
func BlankImports(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		for _, spec := range f.Syntax.Imports {
			if spec.Name != nil && spec.Name.Name == "_" && importPath(spec) != "embed" {
				problems = append(problems, t.problem(spec, "blank-import", "%s", importPath(spec)))
			}
		}
	})
	return problems
}

// pureCalls make values that never change after they were made.
var pureCalls = map[string]bool{
	"errors.New": true, "fmt.Errorf": true, "fmt.Sprintf": true, "regexp.MustCompile": true, "template.Must": true,
	"netip.MustParsePrefix": true, "netip.MustParseAddr": true, "netip.AddrFrom4": true, "netip.IPv6LinkLocalAllNodes": true, "netip.PrefixFrom": true,
	"strings.NewReplacer": true, "strings.Repeat": true, "strings.Fields": true, "time.Date": true, "time.Unix": true, "reflect.TypeFor": true, "reflect.TypeOf": true,
	"crc32.MakeTable": true, "base32.NewEncoding": true, "base64.NewEncoding": true, "idna.New": true, "big.NewInt": true,
}

// PackageState refuses package variables that can change: ones without a value,
// ones made by a call that is not known to be pure, and ones that some function
// of the package writes to. Allowed are sentinel errors, compiled patterns,
// embedded files, interface guards, tables, and sync.Pool, on whose content
// nothing may depend anyway.
func PackageState(t *Tree) []Problem {
	var problems []Problem
	for _, p := range t.Packages {
		byName := map[string][]*ast.File{}
		for _, f := range p.Files {
			problems = append(problems, t.packageVars(f)...)
			name := f.Syntax.Name.Name
			byName[name] = append(byName[name], f.Syntax)
		}
		for _, name := range slices.Sorted(maps.Keys(byName)) {
			problems = append(problems, t.writes(byName[name])...)
		}
	}
	return problems
}

// packageVars checks the declarations of package variables in one file.
func (t *Tree) packageVars(f *File) []Problem {
	var problems []Problem
	for _, d := range f.Syntax.Decls {
		gd, ok := d.(*ast.GenDecl)
		if !ok || gd.Tok != token.VAR {
			continue
		}
		for _, spec := range gd.Specs {
			vs := spec.(*ast.ValueSpec)
			if embedded(gd, vs) || vs.Names[0].Name == "_" {
				continue
			}
			// A flag of a test binary is set once, by the flag package.
			if f.Test && isFlag(vs) {
				continue
			}
			if why := mutable(vs); why != "" {
				problems = append(problems, t.problem(vs, "package-state", "%s %s", vs.Names[0].Name, why))
			}
		}
	}
	return problems
}

func embedded(gd *ast.GenDecl, vs *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{gd.Doc, vs.Doc} {
		if doc == nil {
			continue
		}
		for _, c := range doc.List {
			if strings.HasPrefix(c.Text, "//go:embed ") {
				return true
			}
		}
	}
	return false
}

func isFlag(vs *ast.ValueSpec) bool {
	for _, v := range vs.Values {
		if call, ok := v.(*ast.CallExpr); !ok || !strings.HasPrefix(callName(call), "flag.") {
			return false
		}
	}
	return len(vs.Values) > 0
}

// mutable returns why the declared variables can change, or "".
func mutable(vs *ast.ValueSpec) string {
	if len(vs.Values) == 0 {
		return "has no value, so somebody must set it"
	}
	for _, v := range vs.Values {
		switch v := v.(type) {
		case *ast.CallExpr:
			name := callName(v)
			switch {
			case name == "make" || name == "new":
				return "is made empty, so somebody must fill it"
			case strings.Contains(name, ".") && !pureCalls[name]:
				return "comes from " + name + ", which is not known to make something immutable (see pureCalls)"
			}
		case *ast.UnaryExpr:
			if v.Op == token.AND {
				return "is a pointer, so everybody can change what it points to"
			}
		case *ast.CompositeLit:
			if name := exprName(v.Type); strings.HasPrefix(name, "sync.") && name != "sync.Pool" || strings.HasPrefix(name, "atomic.") {
				return "is a " + name
			}
		}
	}
	return ""
}

// writes reports assignments to package variables in the files of one package.
// The types are resolved without the imported packages: which variable a name
// means is all that is asked.
func (t *Tree) writes(files []*ast.File) []Problem {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: emptyImporter{}, Error: func(error) {}, FakeImportC: true}
	// The error says that imports are empty, which we know.
	pkg, _ := conf.Check("p", t.fset, files, info)

	var problems []Problem
	report := func(e ast.Expr) {
		id := rootIdent(e)
		if id == nil {
			return
		}
		if v, ok := info.Uses[id].(*types.Var); ok && pkg != nil && v.Parent() == pkg.Scope() {
			problems = append(problems, t.problem(e, "package-state", "%s is written to", id.Name))
		}
	}
	inspect := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, lhs := range n.Lhs {
				report(lhs)
			}
		case *ast.IncDecStmt:
			report(n.X)
		case *ast.CallExpr:
			if name := callName(n); (name == "delete" || name == "clear") && len(n.Args) > 0 {
				report(n.Args[0])
			}
		}
		return true
	}
	for _, f := range files {
		ast.Inspect(f, inspect)
	}
	return problems
}

// emptyImporter gives a package without content for every path.
type emptyImporter struct{}

func (emptyImporter) Import(p string) (*types.Package, error) {
	pkg := types.NewPackage(p, path.Base(p))
	pkg.MarkComplete()
	return pkg, nil
}

// rootIdent is the x of x, x.y, x[i], *x and (x).
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

func callName(call *ast.CallExpr) string { return exprName(call.Fun) }

// exprName is "name" or "pkg.Name" of a simple expression, else "".
func exprName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		if id, ok := x.X.(*ast.Ident); ok {
			return id.Name + "." + x.Sel.Name
		}
	case *ast.IndexExpr:
		return exprName(x.X)
	}
	return ""
}

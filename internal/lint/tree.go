package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of the module that the rules are written for.
const Module = "gatepost"

// Tree is the parsed source of one module.
type Tree struct {
	Packages []*Package
	fset     *token.FileSet
	fsys     fs.FS
}

// Package is the files of one directory; an external test package (name_test)
// is counted to the package that it tests.
type Package struct {
	// Dir is the directory below the root, with slashes: "internal/mail".
	Dir   string
	Files []*File
}

// File is one Go file.
type File struct {
	Path    string // below the root, with slashes
	Package *Package
	Test    bool // its name ends in _test.go
	Syntax  *ast.File
	Lines   int
}

// Problem is one breach of a rule.
type Problem struct {
	Pos  string // file:line, or a directory
	Rule string
	Text string
}

// String is the problem on one line.
func (p Problem) String() string { return p.Pos + ": " + p.Rule + ": " + p.Text }

// Load parses every Go file below the root of fsys, but for testdata and for
// directories whose name starts with a dot.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{fset: token.NewFileSet(), fsys: fsys}
	packages := map[string]*Package{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := path.Base(name); base == "testdata" || name != "." && base[0] == '.' {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return t.add(packages, name)
	})
	if err != nil {
		return nil, fmt.Errorf("load tree: %w", err)
	}
	for _, p := range packages {
		t.Packages = append(t.Packages, p)
	}
	slices.SortFunc(t.Packages, func(a, b *Package) int { return cmp.Compare(a.Dir, b.Dir) })
	return t, nil
}

func (t *Tree) add(packages map[string]*Package, name string) error {
	src, err := fs.ReadFile(t.fsys, name)
	if err != nil {
		return fmt.Errorf("read source: %w", err)
	}
	syntax, err := parser.ParseFile(t.fset, name, src, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse source: %w", err)
	}
	dir := path.Dir(name)
	p := packages[dir]
	if p == nil {
		p = &Package{Dir: dir}
		packages[dir] = p
	}
	p.Files = append(p.Files, &File{
		Path:    name,
		Package: p,
		Test:    strings.HasSuffix(name, "_test.go"),
		Syntax:  syntax,
		Lines:   strings.Count(string(src), "\n"),
	})
	return nil
}

// files calls fn for every file of the tree.
func (t *Tree) files(fn func(*File)) {
	for _, p := range t.Packages {
		for _, f := range p.Files {
			fn(f)
		}
	}
}

// functions calls fn for every function and method that has a body.
func (t *Tree) functions(fn func(*File, *ast.FuncDecl)) {
	t.files(func(f *File) {
		for _, d := range f.Syntax.Decls {
			if fd, ok := d.(*ast.FuncDecl); ok && fd.Body != nil {
				fn(f, fd)
			}
		}
	})
}

func (t *Tree) line(p token.Pos) int { return t.fset.Position(p).Line }

func (t *Tree) problem(n ast.Node, rule, format string, args ...any) Problem {
	pos := t.fset.Position(n.Pos())
	return Problem{
		Pos:  pos.Filename + ":" + strconv.Itoa(pos.Line),
		Rule: rule,
		Text: fmt.Sprintf(format, args...),
	}
}

// importPath is the path of an import without its quotes.
func importPath(spec *ast.ImportSpec) string { return strings.Trim(spec.Path.Value, `"`) }

// importName is the name under which the file knows the package of that path,
// or "" if it does not import it. Without types the last element of the path
// stands for the package's own name.
func (f *File) importName(importedPath string) string {
	for _, spec := range f.Syntax.Imports {
		if importPath(spec) != importedPath {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(importedPath)
	}
	return ""
}

// isCall reports whether the call is pkg.name(…) in this file, for the package
// of that import path.
func (f *File) isCall(call *ast.CallExpr, importedPath, name string) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && id.Name == f.importName(importedPath)
}

// matches reports whether a path is the pattern, or below it where the pattern
// ends in "/...".
func matches(pattern, p string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return p == root || strings.HasPrefix(p, root+"/")
	}
	return p == pattern
}

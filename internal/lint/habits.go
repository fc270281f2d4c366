package lint

import (
	"go/ast"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// NoSleep refuses time.Sleep everywhere but in files that use testing/synctest,
// where sleeping is how fake time passes.
func NoSleep(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		if f.Test && f.importName("testing/synctest") != "" {
			return
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && f.isCall(call, "time", "Sleep") {
				problems = append(problems, t.problem(call, "no-sleep", "time.Sleep: wait for a condition, a channel or a timer next to ctx.Done()"))
			}
			return true
		})
	})
	return problems
}

// FuzzSeeds wants a seed for every fuzz target: a call of Add, a helper that is
// given the *testing.F, or files under testdata/fuzz.
func FuzzSeeds(t *Tree) []Problem {
	var problems []Problem
	t.functions(func(f *File, fd *ast.FuncDecl) {
		if !f.Test || !strings.HasPrefix(fd.Name.Name, "Fuzz") || fd.Recv != nil || fd.Type.Params.NumFields() != 1 {
			return
		}
		param := fd.Type.Params.List[0].Names
		if len(param) == 0 || addsSeeds(fd.Body, param[0].Name) {
			return
		}
		dir := path.Join(f.Package.Dir, "testdata", "fuzz", fd.Name.Name)
		if seeds, err := fs.ReadDir(t.fsys, dir); err == nil && len(seeds) > 0 {
			return
		}
		problems = append(problems, t.problem(fd, "fuzz-seeds", "%s has no seeds", fd.Name.Name))
	})
	return problems
}

func addsSeeds(body *ast.BlockStmt, param string) bool {
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if callName(call) == param+".Add" {
			found = true
		}
		for _, arg := range call.Args {
			if id, ok := arg.(*ast.Ident); ok && id.Name == param {
				found = true
			}
		}
		return true
	})
	return found
}

// unfinished matches notes about work left over; written so that it does not
// match itself.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

// Unfinished refuses comments that put work off.
func Unfinished(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		for _, group := range f.Syntax.Comments {
			for _, c := range group.List {
				if m := unfinished.FindString(c.Text); m != "" {
					problems = append(problems, t.problem(c, "unfinished", "%s: do it, or leave it out cleanly", m))
				}
			}
		}
	})
	return problems
}

// bannedCall is a function that must not be called outside the named packages.
type bannedCall struct {
	pkg, name string
	except    []string
	tests     bool
	why       string
}

var bannedCalls = []bannedCall{
	{pkg: "context", name: "WithValue", tests: true, why: "a context carries cancellation and deadlines; pass what you need as an argument"},
	{pkg: "os", name: "Exit", except: []string{"cmd/...", "bench/...", "test/...", "internal/lint/standards"}, why: "only main ends the process; return an error"},
	{pkg: "http", name: "Handle", why: "the default mux is shared by the whole process; make your own"},
	{pkg: "http", name: "HandleFunc", why: "the default mux is shared by the whole process; make your own"},
	{pkg: "http", name: "ListenAndServe", why: "it has no timeouts; make an http.Server"},
	{pkg: "prometheus", name: "MustRegister", why: "the default registry is shared by the whole process; make your own"},
	{pkg: "slog", name: "SetDefault", why: "take a *slog.Logger"},
	{pkg: "slog", name: "Info", why: "take a *slog.Logger"},
	{pkg: "slog", name: "Warn", why: "take a *slog.Logger"},
	{pkg: "slog", name: "Error", why: "take a *slog.Logger"},
	{pkg: "net", name: "Dial", why: "use a net.Dialer with a context and a timeout"},
	{pkg: "net", name: "LookupHost", why: "use internal/dns"},
	{pkg: "net", name: "LookupMX", why: "use internal/dns"},
}

// importsOf maps the short names in bannedCalls to import paths.
var importsOf = map[string]string{
	"context": "context", "os": "os", "http": "net/http", "slog": "log/slog", "net": "net",
	"prometheus": "github.com/prometheus/client_golang/prometheus",
}

// BannedCalls refuses functions for which this repository has something better.
func BannedCalls(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			for _, b := range bannedCalls {
				if (!f.Test || b.tests) && f.isCall(call, importsOf[b.pkg], b.name) && !matchesAny(b.except, f.Package.Dir) {
					problems = append(problems, t.problem(call, "calls", "%s.%s: %s", b.pkg, b.name, b.why))
				}
			}
			return true
		})
	})
	return problems
}

// ErrorText checks the texts of errors: lower case at the start, no full stop
// at the end, no "failed to", which says nothing that an error does not say.
func ErrorText(t *Tree) []Problem {
	var problems []Problem
	t.files(func(f *File) {
		if f.Test {
			return
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 || !f.isCall(call, "errors", "New") && !f.isCall(call, "fmt", "Errorf") {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, err := strconv.Unquote(lit.Value)
				if why := badErrorText(text); err == nil && why != "" {
					problems = append(problems, t.problem(lit, "error-text", "%q %s", text, why))
				}
			}
			return true
		})
	})
	return problems
}

func badErrorText(text string) string {
	runes := []rune(text)
	switch {
	case len(runes) == 0:
		return "is empty"
	case strings.Contains(text, "failed to") || strings.Contains(text, "unable to"):
		return "says that it is an error; say what was being done"
	case strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "\n"):
		return "ends a sentence, but more may follow"
	}
	// Abbreviations keep their capitals: TLS, BDAT.
	if unicode.IsUpper(runes[0]) && len(runes) > 1 && unicode.IsLower(runes[1]) {
		return "starts with a capital"
	}
	return ""
}

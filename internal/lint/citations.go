package lint

import (
	"cmp"
	"fmt"
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Citation is a section of an RFC and where the tree cites it.
type Citation struct {
	RFC     int
	Section string // "4.5.3.2.6", "A.2"; "" for the RFC as a whole
	Code    []string
	Tests   []string
}

// String is the citation as it stands in a comment.
func (c Citation) String() string {
	if c.Section == "" {
		return fmt.Sprintf("RFC %d", c.RFC)
	}
	return fmt.Sprintf("RFC %d §%s", c.RFC, c.Section)
}

// citation matches "RFC 5321 §4.2" and "RFC 3461–3464"; a list of sections may
// follow: "§4.1, §4.2 and §5".
var (
	citation = regexp.MustCompile(`\bRFC[  -]?(\d{3,5})(?:(?:'s)?,?\s+(§+\s?[0-9A-Z](?:[0-9a-zA-Z.]*[0-9a-zA-Z])?(?:(?:,\s?|\sand\s|\sor\s|\s?–\s?)§\s?[0-9A-Z](?:[0-9a-zA-Z.]*[0-9a-zA-Z])?)*))?`)
	section  = regexp.MustCompile(`§+\s?([0-9A-Z](?:[0-9a-zA-Z.]*[0-9a-zA-Z])?)`)
	sloppy   = regexp.MustCompile(`(?i)\bRFC\s?\d{3,5},?\s+(sections?|sec\.)\s*\d`)
)

// Cited collects the citations of the tree, in the order of number and section.
func (t *Tree) Cited() []Citation {
	type key struct {
		rfc     int
		section string
	}
	code, tests := map[key]map[string]bool{}, map[key]map[string]bool{}
	t.comments(func(f *File, text string, _ *ast.CommentGroup) {
		into := code
		if f.Test {
			into = tests
		}
		for _, m := range citation.FindAllStringSubmatch(text, -1) {
			number, err := strconv.Atoi(m[1])
			if err != nil {
				continue
			}
			for _, s := range sections(m[2]) {
				k := key{number, s}
				if into[k] == nil {
					into[k] = map[string]bool{}
				}
				into[k][f.Path] = true
			}
		}
	})
	all := map[key]bool{}
	for _, m := range []map[key]map[string]bool{code, tests} {
		for k := range m {
			all[k] = true
		}
	}
	var cited []Citation
	for k := range all {
		cited = append(cited, Citation{k.rfc, k.section, slices.Sorted(maps.Keys(code[k])), slices.Sorted(maps.Keys(tests[k]))})
	}
	slices.SortFunc(cited, func(a, b Citation) int {
		return cmp.Or(cmp.Compare(a.RFC, b.RFC), compareSections(a.Section, b.Section))
	})
	return cited
}

// comments calls fn with the text of every comment group, line breaks turned
// into spaces, so that a citation may stand across two lines.
func (t *Tree) comments(fn func(*File, string, *ast.CommentGroup)) {
	t.files(func(f *File) {
		if matches("internal/lint/...", f.Package.Dir) {
			return // its comments show what citations look like
		}
		for _, group := range f.Syntax.Comments {
			fn(f, strings.Join(strings.Fields(group.Text()), " "), group)
		}
	})
}

func sections(s string) []string {
	var list []string
	for _, m := range section.FindAllStringSubmatch(s, -1) {
		list = append(list, m[1])
	}
	if list == nil {
		return []string{""}
	}
	return list
}

// compareSections orders 4.2 before 4.10 and numbers before appendices.
func compareSections(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(as), len(bs)) {
		x, errX := strconv.Atoi(as[i])
		y, errY := strconv.Atoi(bs[i])
		c := cmp.Compare(as[i], bs[i])
		if errX == nil && errY == nil {
			c = cmp.Compare(x, y)
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

// Citations wants citations in the one form that can be collected, and a title
// for every RFC that is cited.
func Citations(t *Tree) []Problem {
	var problems []Problem
	known := map[int]bool{}
	for _, s := range standards {
		known[s.number] = true
	}
	t.comments(func(_ *File, text string, group *ast.CommentGroup) {
		if m := sloppy.FindString(text); m != "" {
			problems = append(problems, t.problem(group, "rfc", "write %q as \"RFC nnnn §x.y\", so that it can be collected", m))
		}
		for _, m := range citation.FindAllStringSubmatch(text, -1) {
			if number, err := strconv.Atoi(m[1]); err == nil && !known[number] {
				problems = append(problems, t.problem(group, "rfc", "RFC %d has no row in internal/lint/rfcs.go", number))
			}
		}
	})
	return problems
}

// Standards returns the text of docs/standards.md for the tree.
func (t *Tree) Standards() string {
	var b strings.Builder
	b.WriteString(standardsHead)
	cited := t.Cited()
	for _, s := range standards {
		var rows []Citation
		for _, c := range cited {
			if c.RFC == s.number {
				rows = append(rows, c)
			}
		}
		if len(rows) == 0 && s.note == "" {
			continue
		}
		fmt.Fprintf(&b, "\n## [RFC %d](https://www.rfc-editor.org/rfc/rfc%d): %s\n", s.number, s.number, s.title)
		if s.note != "" {
			fmt.Fprintf(&b, "\n%s\n", s.note)
		}
		if len(rows) == 0 {
			continue
		}
		b.WriteString("\n| section | code | tests |\n|---|---|---|\n")
		for _, c := range rows {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cmp.Or(sectionLink(c), "as a whole"), fileList(c.Code), fileList(c.Tests))
		}
	}
	return b.String()
}

func sectionLink(c Citation) string {
	switch {
	case c.Section == "":
		return ""
	case c.Section[0] >= 'A':
		return "§" + c.Section
	}
	return fmt.Sprintf("[§%s](https://www.rfc-editor.org/rfc/rfc%d#section-%s)", c.Section, c.RFC, c.Section)
}

// fileList names the files without directories that repeat.
func fileList(paths []string) string {
	var out []string
	last := ""
	for _, p := range paths {
		dir, base := "", p
		if i := strings.LastIndexByte(p, '/'); i >= 0 {
			dir, base = p[:i], p[i+1:]
		}
		if dir == last {
			out[len(out)-1] += " " + base
			continue
		}
		last = dir
		out = append(out, strings.TrimPrefix(dir, "internal/")+": "+base)
	}
	return strings.Join(out, "; ")
}

const standardsHead = `# Standards

Which section of which standard the code obeys, and where. This page is generated from the citations in the code ("RFC nnnn
§x" in a comment at the line that obeys it) by ` + "`go generate`" + `; a test fails when it is out of date. What is refused or left out on
purpose is said in words.
`

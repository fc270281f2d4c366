package filter

import (
	"context"
	"slices"
	"strings"

	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
)

// fileTest is the conditions on files in one table. Name and type must fit the
// same file; encrypted and macro the part that carries it.
type fileTest struct {
	names            []*expr
	types            *wordList
	hasNames         bool
	encrypted, macro bool
}

func (t *fileTest) set() bool { return t.hasNames || t.types != nil || t.encrypted || t.macro }

// file compiles a condition on files; it returns false for other conditions.
func (c *compiler) file(t *fileTest, path, key string, v any) bool {
	switch key {
	case "attachment_name":
		// Names are lower case (scan.File.Keys), and no program minds their case.
		t.names, t.hasNames = c.compileAll(path, c.values(path, v), true), true
	case "attachment_type":
		t.types = c.words(path, v)
	case "encrypted", "macro":
		if b, isBool := v.(bool); isBool && !b {
			return false
		}
		c.bool(path, v)
		t.encrypted = t.encrypted || key == "encrypted"
		t.macro = t.macro || key == "macro"
	default:
		return false
	}
	return true
}

// absent is encrypted = false and macro = false: no file of the message is.
func absent(key string) condition {
	t := fileTest{encrypted: key == "encrypted", macro: key == "macro"}
	return negate([]group{{t.condition()}})
}

func (t fileTest) condition() condition {
	return condition{cost: costFiles, parts: true, test: func(ctx context.Context, m *material) (answer, error) {
		files, err := m.in.Files(ctx)
		if err != nil {
			return answer{}, err
		}
		matches, err := t.match(ctx, files)
		if err != nil || len(matches) == 0 {
			return answer{}, err
		}
		for i := range matches {
			matches[i].who = who{all: true}
		}
		return answer{who: who{all: true}, parts: matches}, nil
	}}
}

// match returns the parts that carry a file for which everything holds.
func (t *fileTest) match(ctx context.Context, files *scan.Files) ([]partMatch, error) {
	var matches []partMatch
	if t.hasNames || t.types != nil {
		for i := range files.List {
			f := &files.List[i]
			if n := len(matches); n > 0 && matches[n-1].part == f.Part {
				continue // the part is known
			}
			why, err := t.fits(ctx, f)
			if err != nil {
				return nil, err
			}
			if why != "" {
				matches = append(matches, partMatch{part: f.Part, name: fileName(f), why: why})
			}
		}
	}
	for _, flag := range [...]struct {
		set  bool
		kind func(*scan.Files) []partMatch
	}{{t.encrypted, encryptedParts}, {t.macro, macroParts}} {
		if !flag.set {
			continue
		}
		parts := flag.kind(files)
		if !t.hasNames && t.types == nil && matches == nil {
			matches = parts
			continue
		}
		matches = intersect(matches, parts)
		if len(matches) == 0 {
			return nil, nil
		}
	}
	return matches, nil
}

// fits returns why name and type of a file match, "" where they do not.
func (t *fileTest) fits(ctx context.Context, f *scan.File) (why string, err error) {
	if f.Derived {
		return "", nil
	}
	where := ""
	if name := fileName(f); name != "" {
		where = " in " + quote(name)
	}
	if t.hasNames {
		match, ok, err := t.matchName(ctx, f)
		if !ok || err != nil {
			return "", err
		}
		why = "attachment_name matched " + quote(match) + where
	}
	if t.types != nil {
		match, ok, err := t.matchType(ctx, f)
		if !ok || err != nil {
			return "", err
		}
		if why != "" {
			why += " and "
		}
		why += "attachment_type matched " + quote(match) + where
	}
	return why, nil
}

// matchName matches all forms of all names.
func (t *fileTest) matchName(ctx context.Context, f *scan.File) (name string, ok bool, err error) {
	for _, key := range f.Keys {
		if _, ok, err = findAny(ctx, t.names, key); ok || err != nil {
			return key, ok, err
		}
	}
	return "", false, nil
}

func (t *fileTest) matchType(ctx context.Context, f *scan.File) (name string, ok bool, err error) {
	for _, list := range [...][]string{f.Types, f.Declared} {
		for _, name := range list {
			if ok, err = t.types.match(ctx, name); ok || err != nil {
				return name, ok, err
			}
		}
	}
	return "", false, nil
}

// fileName shows where a file is: "a.zip > invoice.pdf.exe".
func fileName(f *scan.File) string {
	if len(f.Path) > 1 {
		return strings.Join(f.Path, " > ")
	}
	return f.Name
}

// intersect keeps the matches whose part is among the others, with both reasons.
func intersect(matches, others []partMatch) []partMatch {
	var both []partMatch
	for _, m := range matches {
		i := slices.IndexFunc(others, func(o partMatch) bool { return o.part == m.part })
		if i >= 0 {
			m.why += " and " + others[i].why
			both = append(both, m)
		}
	}
	return both
}

func encryptedParts(files *scan.Files) []partMatch {
	matches := findingParts(files, "encrypted", "encrypted")
	for i := range files.List {
		f := &files.List[i]
		if f.Encrypted && !slices.ContainsFunc(matches, func(m partMatch) bool { return m.part == f.Part }) {
			matches = append(matches, partMatch{part: f.Part, name: fileName(f), why: "encrypted: " + quote(fileName(f))})
		}
	}
	return matches
}

func macroParts(files *scan.Files) []partMatch {
	return findingParts(files, "macro", "macro", "autorun", "xlm")
}

// findingParts returns the parts about which archives and documents say one of
// the symbols.
func findingParts(files *scan.Files, what string, symbols ...string) []partMatch {
	var matches []partMatch
	for _, f := range files.Findings {
		if slices.Contains(symbols, f.Symbol) && !slices.ContainsFunc(matches, func(m partMatch) bool { return m.part == f.Part }) {
			matches = append(matches, partMatch{part: f.Part, name: f.Name, why: what + ": " + quote(f.Name)})
		}
	}
	return matches
}

// attachmentsOver counts the parts with a name that most programs show.
func attachmentsOver(limit int64) condition {
	return condition{cost: costTree, test: func(_ context.Context, m *material) (answer, error) {
		var n int64
		for _, p := range m.in.Tree.Parts {
			if (p.Reading == mimetree.Main || p.Reading == mimetree.Embedded) && (len(p.Names) > 0 || p.Disposition == "attachment") {
				n++
			}
		}
		return over(n, limit, "attachments"), nil
	}}
}

// ambiguousCondition holds where programs would disagree about the structure of
// the message, or of an archive in it.
func ambiguousCondition() condition {
	return condition{cost: costFiles, test: func(ctx context.Context, m *material) (answer, error) {
		if f, ok := m.in.Tree.Ambiguous(); ok {
			return yes("ambiguous: " + shown(f.Reason)), nil
		}
		files, err := m.in.Files(ctx)
		if err != nil {
			return answer{}, err
		}
		parts := findingParts(files, "ambiguous", "mismatch", "hidden", "overlap", "ambiguous")
		if len(parts) == 0 {
			return answer{}, nil
		}
		return yes(parts[0].why), nil
	}}
}

package dialogue

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compare fails the test where got does not match want, line by line.
func compare(t *testing.T, what, want, got string) {
	t.Helper()
	if sameLines(want, got) {
		return
	}
	w, g := strings.Split(strings.Trim(want, "\n"), "\n"), strings.Split(strings.Trim(got, "\n"), "\n")
	for i := range min(len(w), len(g)) {
		if w[i] == "**" {
			break
		}
		if matches(w[i], g[i]) {
			w[i] = g[i]
		}
	}
	t.Errorf("%s (-want +got; * stands for anything):\n%s", what, cmp.Diff(strings.Join(w, "\n"), strings.Join(g, "\n")))
}

// sameLines compares line by line; a line ** stands for any number of lines.
func sameLines(want, got string) bool {
	return sameList(strings.Split(strings.Trim(want, "\n"), "\n"), strings.Split(strings.Trim(got, "\n"), "\n"))
}

func sameList(want, got []string) bool {
	for i, pattern := range want {
		if pattern == "**" {
			for j := i; j <= len(got); j++ {
				if sameList(want[i+1:], got[j:]) {
					return true
				}
			}
			return false
		}
		if i >= len(got) || !matches(pattern, got[i]) {
			return false
		}
	}
	return len(want) == len(got)
}

// matches compares a line with a pattern in which * stands for anything and \*
// for itself.
func matches(pattern, line string) bool {
	const star = "\x00"
	parts := strings.Split(strings.ReplaceAll(pattern, `\*`, star), "*")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], star, "*")
	}
	if len(parts) == 1 {
		return line == parts[0]
	}
	line, ok := strings.CutPrefix(line, parts[0])
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(line, part)
		if !ok || i < 0 {
			return false
		}
		line = line[i+len(part):]
	}
	return ok && strings.HasSuffix(line, parts[len(parts)-1])
}

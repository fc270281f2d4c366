package config

import (
	"reflect"
	"slices"
	"strings"
)

// closest returns the candidate that was probably meant, "" for none: at most a
// third of the letters may be wrong, and there must be one best guess.
func closest(word string, candidates []string) string {
	word = normalized(word)
	if whole := containing(word, candidates); whole != "" {
		return whole
	}
	if len(word) < 4 {
		return exactly(word, candidates)
	}
	best, bestDistance, ties := "", 1+max(1, min(len(word), 24)/3), 0
	for _, c := range candidates {
		d := distance(word, normalized(c), bestDistance)
		switch {
		case d < bestDistance:
			best, bestDistance, ties = c, d, 0
		case d == bestDistance:
			ties++
		}
	}
	if ties > 0 && bestDistance > 1 {
		return ""
	}
	return best
}

// containing returns the only candidate that begins or ends with the word, as
// "username" does with "user".
func containing(word string, candidates []string) string {
	found := ""
	for _, c := range candidates {
		if n := normalized(c); len(word) < 3 || n == word || !strings.HasPrefix(n, word) && !strings.HasSuffix(n, word) {
			continue
		}
		if found != "" {
			return ""
		}
		found = c
	}
	return found
}

// exactly returns the candidate that is the word but for its case: with so few
// letters, other words are too much alike.
func exactly(word string, candidates []string) string {
	for _, c := range candidates {
		if normalized(c) == word {
			return c
		}
	}
	return ""
}

// normalized makes "maxMessageSize" and "max-message-size" alike.
func normalized(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// distance counts the letters to insert, delete, replace or swap with their
// neighbour to make a from b, up to limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}

// sectionOf names the section that has a key of this name, "" when none or several have.
func sectionOf(name string) string {
	var homes []string
	var visit func(t reflect.Type, section string)
	visit = func(t reflect.Type, section string) {
		for _, k := range keysOf(t) {
			ft := t.Field(k.index).Type
			for ft.Kind() == reflect.Slice || ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if k.name == name {
				homes = append(homes, section)
			}
			if isTable(ft) {
				visit(ft, sectionName(t.Field(k.index).Type, section, k.name))
			}
		}
	}
	visit(reflect.TypeFor[Config](), "the top of the file, before the first [section]")
	homes = slices.Compact(homes)
	if len(homes) != 1 {
		return ""
	}
	return homes[0]
}

// sectionName writes a section as it is opened in a file.
func sectionName(t reflect.Type, parent, name string) string {
	if inner, ok := strings.CutPrefix(parent, "[["); ok {
		return "`" + name + "` of [[" + strings.TrimSuffix(inner, "]]") + "]]"
	}
	if t.Kind() == reflect.Slice {
		return "[[" + name + "]]"
	}
	return "[" + name + "]"
}

package edit

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is a table whose keys have an order.
type Table []Entry

// Entry is one key of a Table. Value is a string, bool, int, int64, float64, []any,
// []string, Table or map[string]any.
type Entry struct {
	Key   string
	Value any
}

// ErrControl says that a string holds what would end its line.
var ErrControl = errors.New("a value must not hold line ends or other control characters")

// encode writes a value on one line.
func encode(v any) (string, error) {
	switch v := v.(type) {
	case string:
		if err := CheckText(v); err != nil {
			return "", err
		}
		return quote(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return encodeFloat(v)
	case []string:
		return encodeList(anyOf(v))
	case []any:
		return encodeList(v)
	case Table:
		return encodeTable(v)
	case map[string]any:
		return encodeTable(ordered(v))
	}
	return "", fmt.Errorf("a value of the type %T cannot be written", v)
}

// CheckText reports a string that no value of the file may be.
func CheckText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("the text is not UTF-8")
	}
	if strings.IndexFunc(s, unicode.IsControl) >= 0 {
		return ErrControl
	}
	return nil
}

func encodeFloat(v float64) (string, error) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "", errors.New("this is no number to count with")
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s, nil
}

func encodeList(list []any) (string, error) {
	parts := make([]string, len(list))
	for i, v := range list {
		s, err := encode(v)
		if err != nil {
			return "", err
		}
		parts[i] = s
	}
	return "[" + strings.Join(parts, ", ") + "]", nil
}

func encodeTable(t Table) (string, error) {
	if len(t) == 0 {
		return "{}", nil
	}
	parts := make([]string, len(t))
	for i, e := range t {
		s, err := encodePair(e)
		if err != nil {
			return "", err
		}
		parts[i] = s
	}
	return "{ " + strings.Join(parts, ", ") + " }", nil
}

func encodePair(e Entry) (string, error) {
	if err := CheckText(e.Key); err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	s, err := encode(e.Value)
	if err != nil {
		return "", fmt.Errorf("%s: %w", e.Key, err)
	}
	return quoteKey(e.Key) + " = " + s, nil
}

// encodeLine is key = value for a line of its own; a list of tables gets a line for
// each.
func encodeLine(e Entry, newline string) (string, error) {
	list, ok := e.Value.([]any)
	if !ok || len(list) == 0 || !slices.ContainsFunc(list, isTable) {
		return encodePair(e)
	}
	if err := CheckText(e.Key); err != nil {
		return "", err
	}
	s := quoteKey(e.Key) + " = [" + newline
	for _, v := range list {
		text, err := encode(v)
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.Key, err)
		}
		s += "  " + text + "," + newline
	}
	return s + "]", nil
}

func isTable(v any) bool {
	switch v.(type) {
	case Table, map[string]any:
		return true
	}
	return false
}

// ordered is a table whose keys have no order of their own: what tells it from others
// comes first.
func ordered(m map[string]any) Table {
	keys := slices.Sorted(maps.Keys(m))
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
	t := make(Table, len(keys))
	for i, k := range keys {
		t[i] = Entry{k, m[k]}
	}
	return t
}

func rank(key string) int {
	if key == "name" || key == "use" {
		return 0
	}
	return 1
}

func anyOf(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

// quote writes a string without control characters. Expressions are full of
// backslashes: those are read best in single quotes.
func quote(s string) string {
	if strings.ContainsAny(s, `\"`) && !strings.ContainsRune(s, '\'') && CheckText(s) == nil {
		return "'" + s + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteKey(s string) string {
	if s == "" {
		return `""`
	}
	for i := range len(s) {
		if !isBare(s[i]) {
			return quote(s)
		}
	}
	return s
}

// plain is a value as package toml would read it, for comparisons.
func plain(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case []string:
		return plain(anyOf(v))
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = plain(v[i])
		}
		return all
	case Table:
		m := make(map[string]any, len(v))
		for _, e := range v {
			m[e.Key] = plain(e.Value)
		}
		return m
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, x := range v {
			m[k] = plain(x)
		}
		return m
	}
	return v
}

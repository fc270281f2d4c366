package edit_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"gatepost/internal/config/edit"
)

// samples are files as people write them, and odd ones.
func samples(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{"before": before, "empty": "", "odd": odd}
	for _, name := range []string{"../../../docs/gatepost.example.toml", "../../../packaging/gatepost.toml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = string(text)
	}
	for _, name := range slices.Collect(maps.Keys(all)) {
		all[name+", CRLF"] = strings.ReplaceAll(all[name], "\n", "\r\n")
	}
	return all
}

const odd = "\xef\xbb\xbf" + `
a.b.c = 1
a.b.d = """
x [y]
# no comment
""" # comment
"key.with dots" = 'it is'
list = [ [1, 2], # one
 [3], ] # end
mixed = [ 1, 2, # two
  3
  # three
]
t = { x.y = 1, "z" = [ { q = 1 }, { q = 2 } ], w = {} }
times = [1979-05-27 07:32:00, 07:32:00]
[x.y.z]
k = 0x10
[x]
j = 1.5
[[many]]
name = "one"
[many.sub]
v = 1
[[many.deep]]
name = "d1"
[[many.deep]]
name = "d2"
[other]
[[many]]
[many.sub]
v = 2`

// model is a document as plain values, on which the same operations are done.
type model map[string]any

func parse(t *testing.T, text string) model {
	t.Helper()
	var m model
	if err := toml.Unmarshal([]byte(strings.TrimPrefix(text, "\xef\xbb\xbf")), &m); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return m
}

// place is a value of a document with the path to it.
type place struct {
	path edit.Path
	v    any
}

// places lists all values of a document.
func places(v any, at edit.Path) []place {
	var all []place
	if len(at) > 0 {
		all = append(all, place{at, v})
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, places(v[key], at.With(key))...)
		}
	case []any:
		for i, e := range v {
			if at[len(at)-1].Elem {
				continue // a list in a list has no path
			}
			all = append(all, places(e, at.At(i))...)
		}
	}
	return all
}

// change replaces the value at a path by what f makes of it; f gets nil for none.
func change(v any, p edit.Path, f func(any) (any, bool)) any {
	if len(p) == 0 {
		next, keep := f(v)
		if !keep {
			return nil
		}
		return next
	}
	m := maps.Clone(v.(map[string]any))
	s := p[0]
	if !s.Elem {
		if next := change(m[s.Key], p[1:], f); next == nil {
			delete(m, s.Key)
		} else {
			m[s.Key] = next
		}
		return m
	}
	list := slices.Clone(m[s.Key].([]any))
	if next := change(list[s.Index], p[1:], f); next == nil {
		list = slices.Delete(list, s.Index, s.Index+1)
	} else {
		list[s.Index] = next
	}
	m[s.Key] = list
	return m
}

// values are what is set and inserted.
var values = []any{"plain", `a\b "c"`, "it's", "é", int64(7), -0.5, true, []any{"a", "b"}, []any{}, map[string]any{"k": "v", "l": []any{int64(1)}}}

// TestRandomEditsHoldTheirValue does random operations on every sample, one after the
// other, and compares the values and the comments with those that must come out.
func TestRandomEditsHoldTheirValue(t *testing.T) {
	for name, text := range samples(t) {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				r := rand.New(rand.NewPCG(seed, 7))
				d, err := edit.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				for range 8 {
					oneEdit(t, r, d)
				}
			}
		})
	}
}

// oneEdit does one operation on the document and on its model.
func oneEdit(t *testing.T, r *rand.Rand, d *edit.Document) {
	t.Helper()
	was := d.Text()
	m := parse(t, was)
	var want any
	var err error
	var what string
	all := places(map[string]any(m), nil)
	pick := place{path: edit.MustPath("fresh")}
	if len(all) > 0 {
		pick = all[r.IntN(len(all))]
	}
	v := values[r.IntN(len(values))]
	comments := true
	switch r.IntN(5) {
	case 0:
		what = fmt.Sprintf("set %s to %v", pick.path, v)
		want = change(map[string]any(m), pick.path, func(any) (any, bool) { return v, true })
		comments = isScalar(pick.v) && !strings.Contains(fmt.Sprint(pick.v), "#") // a list or table may lose some with its elements
		err = d.Set(pick.path, v)
	case 1:
		if _, ok := pick.v.(map[string]any); !ok {
			return
		}
		p := pick.path.With(fmt.Sprintf("new %d", r.IntN(1000)))
		what = fmt.Sprintf("add %s = %v", p, v)
		want = change(map[string]any(m), p, func(any) (any, bool) { return v, true })
		err = d.Set(p, v)
	case 2:
		if len(all) == 0 {
			return
		}
		what, comments = "remove "+pick.path.String(), false
		want = change(map[string]any(m), pick.path, func(any) (any, bool) { return nil, false })
		err = d.Remove(pick.path)
	case 3:
		list, ok := pick.v.([]any)
		if !ok || pick.path[len(pick.path)-1].Elem {
			return
		}
		i := r.IntN(len(list) + 1)
		what = fmt.Sprintf("insert %v at %d of %s", v, i, pick.path)
		want = change(map[string]any(m), pick.path, func(any) (any, bool) { return slices.Insert(slices.Clone(list), i, v), true })
		err = d.Insert(pick.path, i, v)
	case 4:
		list, ok := pick.v.([]any)
		if !ok || len(list) == 0 || pick.path[len(pick.path)-1].Elem {
			return
		}
		from, to := r.IntN(len(list)), r.IntN(len(list))
		what = fmt.Sprintf("move %s[%d] to %d", pick.path, from, to)
		moved := slices.Delete(slices.Clone(list), from, from+1)
		moved = slices.Insert(moved, to, list[from])
		want = change(map[string]any(m), pick.path, func(any) (any, bool) { return moved, true })
		err = d.Move(pick.path.At(from), to)
	}
	if err != nil {
		if d.Text() != was {
			t.Fatalf("%s: refused (%v), but the text has changed", what, err)
		}
		if !mayRefuse(err, pick.v) {
			t.Fatalf("%s: %v in\n%s", what, err, was)
		}
		return
	}
	got := parse(t, d.Text())
	if !reflect.DeepEqual(prune(map[string]any(got)), prune(want)) {
		t.Fatalf("%s: got %v\nwant %v\nfrom\n%s\nto\n%s", what, got, want, was, d.Text())
	}
	if comments && count(was, "#") > count(d.Text(), "#") {
		t.Fatalf("%s lost a comment\nfrom\n%s\nto\n%s", what, was, d.Text())
	}
}

func count(text, what string) int { return strings.Count(text, what) }

// mayRefuse says which operations have no meaning: a value for what is made of
// sections, what is no table among [[tables]].
func mayRefuse(err error, v any) bool {
	return !isScalar(v) && (strings.Contains(err.Error(), "made of sections") || strings.Contains(err.Error(), "is a list of tables"))
}

func isScalar(v any) bool {
	switch v.(type) {
	case []any, map[string]any:
		return false
	}
	return true
}

// prune leaves out what holds nothing: the last element of [[x]] leaves no x behind, and
// a dotted key that goes takes its table along.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := map[string]any{}
		for k, e := range v {
			if p := prune(e); p != nil {
				m[k] = p
			}
		}
		if len(m) == 0 {
			return nil
		}
		return m
	case []any:
		if len(v) == 0 {
			return nil
		}
		all := make([]any, len(v))
		for i, e := range v {
			all[i] = prune(e)
		}
		return all
	}
	return v
}

func FuzzEdit(f *testing.F) {
	for _, text := range samples(f) {
		f.Add(text, "limits.max_errors", "x")
		f.Add(text, "listener[0].address", "y")
	}
	f.Add("a=[\"\"\"\n\"\"\"\",{b=1}]", "a", "'")
	f.Fuzz(func(t *testing.T, text, path, v string) {
		d, err := edit.Parse(text)
		if err != nil {
			return
		}
		if d.Text() != text {
			t.Fatal("reading has changed the text")
		}
		p, err := edit.ParsePath(path)
		if err != nil {
			return
		}
		if d.Set(p, v) == nil {
			if got, _ := d.Get(p); got != v {
				t.Fatalf("%q at %s is %v in\n%s", v, p, got, d.Text())
			}
			if _, err := edit.Parse(d.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if d.Remove(p) == nil {
			if _, found := d.Get(p); found && !p[len(p)-1].Elem {
				t.Fatalf("%s is still there in\n%s", p, d.Text())
			}
		}
	})
}

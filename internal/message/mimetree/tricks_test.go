package mimetree

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// trick is one crafted message.
type trick struct {
	name string
	want []string
	msg  string
}

func tricks(t testing.TB) []trick {
	t.Helper()
	b, err := os.ReadFile("testdata/tricks.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var pairs []string
	for k, v := range encoders() {
		pairs = append(pairs, "{{"+k+"}}", v)
	}
	fill := strings.NewReplacer(pairs...)
	var list []trick
	for _, f := range txtar.Parse(b).Files {
		name, want, ok := strings.Cut(strings.TrimSuffix(f.Name, "]"), " [")
		if !ok {
			t.Fatalf("nothing is expected of %q", f.Name)
		}
		tr := trick{name: name, want: strings.Fields(want)}
		msg := strings.ReplaceAll(string(f.Data), "\n", "\r\n")
		if tr.want[0] == "alone" {
			tr.want = tr.want[1:]
		} else {
			msg = "From: a@b.example\r\nTo: c@d.example\r\nSubject: x\r\nMIME-Version: 1.0\r\n" + msg
		}
		tr.msg = fill.Replace(msg)
		if i := strings.Index(tr.msg, "{{"); i >= 0 {
			t.Fatalf("%s: nothing to fill in for %.30s", name, tr.msg[i:])
		}
		list = append(list, tr)
	}
	if len(list) < 50 {
		t.Fatalf("only %d tricks", len(list))
	}
	return list
}

// holds reports whether some content of the tree has the bytes.
func holds(t testing.TB, tree *Tree, want []byte) bool {
	t.Helper()
	for _, p := range tree.Parts {
		for _, c := range p.Contents {
			b, err := io.ReadAll(c.Open())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, want) {
				return true
			}
		}
	}
	return false
}

func hasSymbol(tree *Tree, symbol string) bool {
	for _, f := range tree.Findings {
		if f.Symbol == symbol {
			return true
		}
	}
	return false
}

func hasKey(tree *Tree, want string) bool {
	found := false
	for _, p := range tree.Parts {
		p.EachName(func(key string) bool {
			found = found || key == want
			return !found
		})
	}
	return found
}

func TestTricksHideNothing(t *testing.T) {
	for _, tr := range tricks(t) {
		t.Run(tr.name, func(t *testing.T) {
			tree := read(t, tr.msg)
			why, ambiguous := tree.Ambiguous()
			for _, want := range tr.want {
				kind, value, _ := strings.Cut(want, "=")
				ok := false
				switch kind {
				case "found":
					ok = holds(t, tree, payload())
				case "ambiguous":
					ok = ambiguous
				case "certain":
					ok = !ambiguous
				case "sym":
					ok = hasSymbol(tree, value)
				case "name":
					ok = hasKey(tree, value)
				}
				if !ok {
					t.Errorf("not %s (%v)", want, why)
				}
			}
			if t.Failed() {
				logTree(t, tree)
			}
		})
	}
}

func logTree(t *testing.T, tree *Tree) {
	for _, f := range tree.Findings {
		t.Logf("finding %s %s: %s", f.Symbol, f.Result, f.Reason)
	}
	for _, p := range tree.Parts {
		t.Logf("part %s %s %v header %v body %v", p.Path, p.Reading, p.Types, p.Header, p.Body)
		for _, n := range p.Names {
			t.Logf("  name %q from %s: %q", n.Text, n.From, n.Keys)
		}
		for _, c := range p.Contents {
			b, _ := io.ReadAll(c.Open())
			t.Logf("  %s %s %v %v: %.60q", c.Encoding, c.Variant, c.Types, c.Raw, b)
		}
	}
}

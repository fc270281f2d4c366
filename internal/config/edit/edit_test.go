package edit_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"gatepost/internal/config/edit"
)

const before = `# Our gateway
hostname = "gw.example.com" # its name

[limits]
max_errors = 20

# ---------------- listeners
# For the Internet.
[[listener]]
name = "inbound"
address = ["0.0.0.0:25"]   # both
# tls = "off"

[[listener]]
name = "submission"
address = [
  "0.0.0.0:587",  # old
  # The new one.
  "[::]:587"
]
flows.content = "inbound"

# ---------------- flows
[[flow]]
name = "inbound"
blocks = [
  { use = "authres" }, # first
  # Our own rules.
  { use = "filters", names = ["a", "b"] },
  { use = "score", mark = 5 }
]
`

// step is one operation on a document.
type step func(*edit.Document) error

func set(path string, v any) step {
	return func(d *edit.Document) error { return d.Set(edit.MustPath(path), v) }
}
func remove(path string) step {
	return func(d *edit.Document) error { return d.Remove(edit.MustPath(path)) }
}
func move(path string, to int) step {
	return func(d *edit.Document) error { return d.Move(edit.MustPath(path), to) }
}
func insert(path string, i int, v any) step {
	return func(d *edit.Document) error { return d.Insert(edit.MustPath(path), i, v) }
}

// replaced is the document with the one occurrence of old replaced.
func replaced(t *testing.T, pairs ...string) string {
	t.Helper()
	text := before
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			t.Fatalf("%q occurs %d times", pairs[i], strings.Count(text, pairs[i]))
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

func TestEditsTouchNothingElse(t *testing.T) {
	for _, c := range []struct {
		name string
		do   step
		want []string
	}{
		{"a value is replaced and its comment stays", set("hostname", "mx.example.com"), []string{`"gw.example.com"`, `"mx.example.com"`}},
		{"the same value changes nothing", set("limits.max_errors", 20), nil},
		{"a key at the top of the file goes behind the others there", set("data_dir", "/srv"), []string{"# its name\n", "# its name\ndata_dir = \"/srv\"\n"}},
		{"a key goes behind the others of its section", set("limits.max_hops", 30), []string{"max_errors = 20\n", "max_errors = 20\nmax_hops = 30\n"}},
		{"a section that is missing is made", set("dns.timeout", "3s"), []string{"mark = 5 }\n]\n", "mark = 5 }\n]\n\n[dns]\ntimeout = \"3s\"\n"}},
		{"a key of a named table", set("listener[inbound].tls", "required"), []string{"# both\n", "# both\ntls = \"required\"\n"}},
		{"a table in braces is made inside of a section", set("listener[inbound].flows.connect", "ip"), []string{"# both\n", "# both\nflows = { connect = \"ip\" }\n"}},
		{"a dotted key gets a neighbour", set("listener[submission].flows.auth", "users"), []string{"flows.content = \"inbound\"\n", "flows.content = \"inbound\"\nflows.auth = \"users\"\n"}},
		{"an element is added to a list on one line", insert("listener[0].address", -1, "[::]:25"), []string{`["0.0.0.0:25"]`, `["0.0.0.0:25", "[::]:25"]`}},
		{"an element is added to a list of lines, with the comma that was missing", insert("listener[1].address", 9, "10.0.0.1:587"), []string{"\"[::]:587\"\n", "\"[::]:587\",\n  \"10.0.0.1:587\",\n"}},
		{"an element goes with its comments", remove("listener[1].address[1]"), []string{"  # The new one.\n  \"[::]:587\"\n", ""}},
		{"a list is changed where it differs", set("listener[1].address", []string{"[::]:587"}), []string{"  \"0.0.0.0:587\",  # old\n", ""}},
		{"a block gets a parameter", set("flow[inbound].blocks[2].reject", 15), []string{"mark = 5 }", "mark = 5, reject = 15 }"}},
		{"a block loses a parameter", remove("flow[inbound].blocks[1].names"), []string{`"filters", names = ["a", "b"] }`, `"filters" }`}},
		{"a block is added in front", insert("flow[inbound].blocks", 0, edit.Table{{Key: "use", Value: "clamav"}, {Key: "on_match", Value: "reject"}}),
			[]string{"blocks = [\n", "blocks = [\n  { use = \"clamav\", on_match = \"reject\" },\n"}},
		{"a block moves down with its comment", move("flow[inbound].blocks[1]", 2), []string{
			"  # Our own rules.\n  { use = \"filters\", names = [\"a\", \"b\"] },\n  { use = \"score\", mark = 5 }\n",
			"  { use = \"score\", mark = 5 },\n  # Our own rules.\n  { use = \"filters\", names = [\"a\", \"b\"] },\n"}},
		{"a block moves up", move("flow[inbound].blocks[2]", 0), []string{
			"  { use = \"authres\" }", "  { use = \"score\", mark = 5 },\n  { use = \"authres\" }", "},\n  { use = \"score\", mark = 5 }\n]", "},\n]"}},
		{"a table goes with its comment, the ruler above stays", remove("listener[inbound]"),
			[]string{"# For the Internet.\n[[listener]]\nname = \"inbound\"\naddress = [\"0.0.0.0:25\"]   # both\n# tls = \"off\"\n\n", ""}},
		{"a table is renamed", set("flow[inbound].name", "in"), []string{"[[flow]]\nname = \"inbound\"", "[[flow]]\nname = \"in\""}},
		{"a table is added in front of another", insert("listener", 1, edit.Table{{Key: "name", Value: "new"}}),
			[]string{"[[listener]]\nname = \"submission\"", "[[listener]]\nname = \"new\"\n\n[[listener]]\nname = \"submission\""}},
		{"a table is added behind the last", insert("listener", -1, edit.Table{{Key: "name", Value: "new"}}),
			[]string{"flows.content = \"inbound\"\n", "flows.content = \"inbound\"\n\n[[listener]]\nname = \"new\"\n"}},
		{"the first table of its kind goes to the end", insert("transport", 0, edit.Table{{Key: "name", Value: "x"}}),
			[]string{"mark = 5 }\n]\n", "mark = 5 }\n]\n\n[[transport]]\nname = \"x\"\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, newline := range []string{"\n", "\r\n"} {
				d, err := edit.Parse(strings.ReplaceAll(before, "\n", newline))
				if err == nil {
					err = c.do(d)
				}
				want := strings.ReplaceAll(replaced(t, c.want...), "\n", newline)
				if err != nil || d.Text() != want {
					t.Errorf("error %v, got\n%s\nwant\n%s", err, d.Text(), want)
				}
			}
		})
	}
}

func TestATableMovesWithItsComments(t *testing.T) {
	d, err := edit.Parse(before)
	if err == nil {
		err = d.Move(edit.MustPath("listener[submission]"), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	first := strings.Index(d.Text(), `name = "submission"`)
	second := strings.Index(d.Text(), "# For the Internet.\n[[listener]]\nname = \"inbound\"")
	ruler := strings.Index(d.Text(), "# ---------------- flows\n[[flow]]")
	if first < 0 || second < first || ruler < second {
		t.Errorf("got\n%s", d.Text())
	}
}

func TestWhatMustNotGoIntoTheFileIsRefused(t *testing.T) {
	for _, text := range []string{"a\nb", "a\rb", "a\x00b", "\x1b[2J", "a\u0085b", "\xff"} {
		for name, do := range map[string]step{
			"a value":            set("hostname", text),
			"an element":         insert("listener[0].address", 0, text),
			"a value in a table": insert("flow[0].blocks", 0, edit.Table{{Key: "use", Value: text}}),
			"a key":              set("limits", map[string]any{text: 1}),
			"a name":             insert("listener", 0, edit.Table{{Key: "name", Value: text}}),
		} {
			d, err := edit.Parse(before)
			if err != nil {
				t.Fatal(err)
			}
			if err := do(d); err == nil || d.Text() != before {
				t.Errorf("%s with %q: error %v, changed %v", name, text, err, d.Text() != before)
			}
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	for name, do := range map[string]step{
		"a table by name":     set("listener[nobody].tls", "off"),
		"an element":          set("listener[7].tls", "off"),
		"a key to remove":     remove("limits.max_hops"),
		"an element to move":  move("flow[0].blocks[3]", 0),
		"a section to remove": remove("bayes"),
	} {
		d, err := edit.Parse(before)
		if err == nil {
			err = do(d)
		}
		if !errors.Is(err, edit.ErrNotFound) || d.Text() != before {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPathsAreReadAsTheyAreWritten(t *testing.T) {
	for _, text := range []string{"hostname", `listener["inbound"].tls`, "flow[2].blocks[0].use", `filter["no \"exe\" files"].then`, `http["a"].headers."X-Y Z"`} {
		p, err := edit.ParsePath(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		again, err := edit.ParsePath(p.String())
		if err != nil || again.String() != p.String() {
			t.Errorf("%s became %s and that %s (%v)", text, p, again, err)
		}
	}
	for _, text := range []string{"", ".", "a.", "a[", "a[]", `a[""]`, "a b", "a[1]b", `a["x]`} {
		if p, err := edit.ParsePath(text); err == nil {
			t.Errorf("%q is read as %s", text, p)
		}
	}
}

func TestOperationsOfPrograms(t *testing.T) {
	d, err := edit.Parse(before)
	if err != nil {
		t.Fatal(err)
	}
	var ops []edit.Op
	err = json.Unmarshal([]byte(`[
		{"op": "set", "path": "limits.max_errors", "value": 30},
		{"op": "insert", "path": "flow[inbound].blocks", "index": 1, "value": {"use": "clamav", "timeout": "20s", "on_match": "reject"}},
		{"op": "move", "path": "flow[inbound].blocks[0]", "index": -1},
		{"op": "remove", "path": "listener[inbound]"}
	]`), &ops)
	if err == nil {
		err = d.Do(ops...)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"max_errors = 30\n", "  { use = \"clamav\", timeout = \"20s\", on_match = \"reject\" },\n", "{ use = \"score\", mark = 5 },\n  { use = \"authres\" }, # first\n]"} {
		if !strings.Contains(d.Text(), want) {
			t.Errorf("%q is not in\n%s", want, d.Text())
		}
	}
	text := d.Text()
	for _, bad := range []string{
		`[{"op": "set", "path": "limits.max_hops", "value": 30}, {"op": "set", "path": "hostname", "value": "a\nb"}]`, `[{"op": "set", "path": "hostname", "value": null}]`,
		`[{"op": "set", "path": "hostname"}]`, `[{"op": "burn", "path": "hostname"}]`, `[{"op": "set", "path": "", "value": 1}]`,
	} {
		var ops []edit.Op
		if err := json.Unmarshal([]byte(bad), &ops); err != nil {
			t.Fatal(err)
		}
		if err := d.Do(ops...); err == nil || d.Text() != text {
			t.Errorf("%s: error %v, changed %v", bad, err, d.Text() != text)
		}
	}
}

func TestATableOfDottedKeysInBracesIsRemovedWhole(t *testing.T) {
	for text, want := range map[string]string{
		"t = { x.a = 1, x.b = 2, y = 3 } # c\n": "t = { y = 3 } # c\n", "t = { y = 3, x.a = 1, x.b = 2 }\n": "t = { y = 3 }\n",
		"t = { x.a = 1, y = 3, x.b = 2 }\n": "t = { y = 3 }\n", "t = { x.a = 1, x.b = 2 }\n": "t = {  }\n",
	} {
		d, err := edit.Parse(text)
		if err == nil {
			err = d.Remove(edit.MustPath("t.x"))
		}
		if err != nil || d.Text() != want {
			t.Errorf("%q became %q (%v)", text, d.Text(), err)
		}
	}
}

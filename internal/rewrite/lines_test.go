package rewrite

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBadLinesAreNamed(t *testing.T) {
	hasTransport := func(name string) bool { return name == "exchange" }
	tests := []struct {
		stage Stage
		text  string
		want  string
	}{
		{Virtual, "# comment\n\na@x.example b@x.example\n", ""},
		{Virtual, "\xef\xbb\xbfa b,\r\n  c,\r\n# in the middle\r\n\td\r\n", ""},
		{Virtual, "a@x.example\n", `1 "a@x.example" has no result`},
		{Virtual, "a@x.example ,\n", `1 there is no result`},
		{Virtual, "a@x@y b\n", `1 "a@x@y" is no pattern`},
		{Virtual, "a b@x@y\n", `1 "b@x@y" is no address`},
		{Virtual, "a @x_!\n", `1 "x_!" is no domain`},
		{Virtual, "a b\na c\n", `2 "a" stands in line 1 already, with another result`},
		{Virtual, "a b\nA b\n", ``},
		{Virtual, "/a b\n", `1 the expression has no end`},
		{Virtual, "/a/q b\n", `1 'q' is no flag of an expression`},
		{Virtual, "/a/\n", `1 the expression has no result`},
		{Virtual, "/(a/ b\n", "1 the expression is bad: error parsing regexp: missing closing ): `(?i)(a`"},
		{Virtual, "/(a)/ $2@x.example\n", `1 the expression has no group $2`},
		{Virtual, "!/(a)/ $1@x.example\n", `1 the expression has no group $1`},
		{Virtual, "if /a/\n", `1 if is not supported: write the conditions into the expressions`},
		{Virtual, "  a@x.example b\n", ""},
		{Canonical, "a b, c\n", `1 "b, c" is not one result`},
		{Generic, "/a/ b c\n", `1 "b c" is not one result`},
		{Canonical, "a \"b c\"@x.example\n", ""},
		{TransportMap, "x.example exchange\n.x.example exchange:\n* exchange:y.example\n", ""},
		{TransportMap, "x.example smtp:[192.0.2.1]\n", `1 there is no transport "smtp"`},
		{TransportMap, "x.example exchange:a b\n", `1 "exchange:a b" is not one result`},
		{TransportMap, "x..example exchange\n", `1 "x..example" is no pattern`},
		{Relocated, "a we have moved, see example.com\n", ""},
		{Relocated, "a " + strings.Repeat("x", 201) + "\n", "1 the text must be printable ASCII, at most 200 characters"},
		{Relocated, "a gone\x07\n", "1 the text must be printable ASCII, at most 200 characters"},
	}
	for _, tt := range tests {
		_, bad := readLines(tt.stage, tt.text, hasTransport)
		var got []string
		for _, b := range bad {
			got = append(got, fmt.Sprintf("%d %s", b.Number, b.Message))
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s: %q:\ngot  %s\nwant %s", tt.stage, tt.text, strings.Join(got, "\n"), tt.want)
		}
	}
}

func TestNewReportsEverythingThatIsWrong(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "virtual")
	writeFile(t, path, "good a@x.example\nbad\n")
	_, errs := New(Config{
		Virtual: []Table{{File: path}, {File: filepath.Join(dir, "missing")}, {File: dir}}, Canonical: inline("a b", "c"), Generic: []Table{{}},
		Masquerade: []string{"example.com", "!", "[192.0.2.1]"}, Origin: "a b", HeaderClients: "some",
	})
	want := []string{
		`masquerade: "!" is no domain`, `masquerade: "[192.0.2.1]" is no domain`, `origin: "a b" is no domain`, `header_clients: "some" is not one of trusted, all, none`,
		`canonical: "c": "c" has no result`,
		"virtual: read table: " + path + `:2: "bad" has no result`, "missing: no such file", "it is not a regular file",
		"generic: a table without file, lines or look-up",
	}
	if len(errs) != len(want) {
		t.Fatalf("got %d errors: %v", len(errs), errs)
	}
	for i, w := range want {
		if !strings.Contains(errs[i].Error(), w) {
			t.Errorf("error %d is %q, want %q in it", i, errs[i], w)
		}
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path+".new", time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAChangedFileIsReadAgainAndABadOneIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "virtual")
		writeFile(t, path, "a@in.example one@x.example\n")
		var log bytes.Buffer
		e := newEngine(t, Config{Virtual: []Table{{File: path}}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		want := func(to string) {
			t.Helper()
			if got := recipients(t, e, "a@in.example"); got != to {
				t.Errorf("got %s, want %s", got, to)
			}
		}
		want("one@x.example")
		writeFile(t, path, "a@in.example two@x.example\n")
		time.Sleep(11 * time.Second)
		want("two@x.example")
		writeFile(t, path, "a@in.example three@x.example\nnonsense\n")
		for range 3 {
			time.Sleep(11 * time.Second)
			want("two@x.example")
		}
		if s := log.String(); strings.Count(s, "level=ERROR") != 1 || !strings.Contains(s, `:2: \"nonsense\" has no result`) {
			t.Errorf("the log says: %s", s)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		want("two@x.example")
	})
}

func TestCheckFileCountsEntries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "virtual")
	writeFile(t, path, "a b\n/c/ d\n192.0.2.1 e\nf\n")
	n, bad, err := CheckFile(Virtual, path, nil)
	if n != 3 || len(bad) != 1 || bad[0].Number != 4 || err != nil {
		t.Errorf("%d entries, bad %v, %v", n, bad, err)
	}
	if m := CheckLine(Virtual, "a b", nil) + CheckLine(Virtual, "a", nil); m != `"a" has no result` {
		t.Error(m)
	}
}

// FuzzTable: whatever stands in a table and whatever is looked up, each result is
// an address that can stand on the wire.
func FuzzTable(f *testing.F) {
	f.Add("a@in.example b, c\n@in.example @x.example", "a+b@in.example")
	f.Add(`/^(.*)@(.*)$/ $2@$1, "$1"@x.example`, `"a,b"@in.example`)
	f.Add("/a/ $$1${1}\n!/b/i x\n192.0.2.0/24 y", "a@[192.0.2.1]")
	f.Add("\"a b\"@x.example c\n  d\n#\n\te", `"a b"@x.example`)
	f.Fuzz(func(t *testing.T, text, to string) {
		for _, stage := range []Stage{Canonical, Virtual, TransportMap, Relocated, BCC, Generic} {
			r, bad := readLines(stage, text, nil)
			if n := strings.Count(text, "\n") + 1; r.entries+len(bad) > n {
				t.Fatalf("%d entries and %d bad lines out of %d lines", r.entries, len(bad), n)
			}
		}
		// What is looked up is bounded, so that an entry may not lead to a circle of
		// ever new addresses for long.
		e, errs := New(Config{Virtual: inline(text), BCC: inline(text), Delimiters: "+", Ours: ours, RecursionLimit: 20, ExpansionLimit: 50})
		a, ok := parse(to)
		if len(errs) > 0 || !ok {
			return
		}
		x, err := e.Recipient(t.Context(), a, nil)
		if err != nil {
			return
		}
		if len(x.To) == 0 || len(x.To) > 50 {
			t.Fatalf("%d recipients", len(x.To))
		}
		for _, r := range append(x.To, x.Copies...) {
			if again, ok := parse(r.Raw); !ok || again.Key() != r.Key() {
				t.Fatalf("%q is no address", r.Raw)
			}
		}
	})
}

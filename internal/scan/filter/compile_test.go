package filter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompileSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("senders", "# ours\n\na@b.example\nnonsense\n")
	write("latin1", "caf\xe9@b.example\n")
	write("wide", strings.Repeat("x", 5000)+"\n")
	deep := when{"sender": "a@b.example"}
	for range 6 {
		deep = when{"not": deep}
	}
	tests := []struct {
		name string
		spec Spec
		want []string
	}{
		{"no name", Spec{When: when{"size_over": int64(0)}}, []string{"name: a filter needs a name: verdicts and logs refer to it"}},
		{"no conditions", Spec{Name: "f"}, []string{"when: no conditions; when = { size_over = 0 } matches every message"}},
		{"a direction that is none", Spec{Name: "f", Direction: "in", When: when{"size_over": int64(0)}}, []string{`direction: "in" is none of inbound, outbound, pop3, any`}},
		{"a condition that is none", Spec{Name: "f", When: when{"attachement": "x"}}, []string{"when.attachement: unknown condition; there are attachment_name, attachment_type, "}},
		{"a condition that is none, deep inside", Spec{Name: "f", When: when{"not": []any{when{"sendr": "x"}}}}, []string{"when.not[0].sendr: unknown condition"}},
		{"several mistakes at once", Spec{Name: "f", Direction: "x", When: when{"size_over": "much", "sender": int64(7)}}, []string{"direction: ", "when.sender: must be a string or a list of strings", `when.size_over: must be a size: "500KiB", "10MiB"`}},
		{"a list of no strings", Spec{Name: "f", When: when{"body": []any{"x", int64(1)}}}, []string{"when.body: must be a string or a list of strings"}},
		{"an empty list", Spec{Name: "f", When: when{"body": []any{}}}, []string{"when.body: an empty list: the condition could never hold"}},
		{"a bool that is none", Spec{Name: "f", When: when{"encrypted": "yes"}}, []string{"when.encrypted: must be true or false"}},
		{"a number that is none", Spec{Name: "f", When: when{"recipients_over": int64(-1)}}, []string{"when.recipients_over: must be a number, 0 or more"}},
		{"a size that overflows", Spec{Name: "f", When: when{"size_over": "99999999999GiB"}}, []string{"when.size_over: must be a size"}},
		{"an expression that is none", Spec{Name: "f", When: when{"body": "(x"}}, []string{`when.body: expression "(x": missing closing ): (x`}},
		{"an expression that closes what it did not open", Spec{Name: "f", When: when{"attachment_name": "x)|(?:y"}}, []string{`when.attachment_name: expression "x)|(?:y": unexpected )`}},
		{"look-behind", Spec{Name: "f", When: when{"body": "(?<!x)y"}}, []string{"no look-around and no back references"}},
		{"an expression that explodes (DOS-07)", Spec{Name: "f", When: when{"body": "((x{1000}){1000})"}}, []string{"when.body: expression "}},
		{"an expression that is large", Spec{Name: "f", When: when{"body": "(?:x{900}y{900}){7}"}}, []string{"when.body: expression "}},
		{"an expression that is long", Spec{Name: "f", When: when{"body": strings.Repeat("x", 5000)}}, []string{"when.body: expression is longer than 4096 bytes"}},
		{"a sender that is none", Spec{Name: "f", When: when{"sender": "a@b c"}}, []string{`when.sender: "a@b c" is not an address`}},
		{"a wildcard", Spec{Name: "f", When: when{"sender": "*@b.example"}}, []string{"no wildcards"}},
		{"a bare word", Spec{Name: "f", When: when{"recipient": "postmaster"}}, []string{"write postmaster@ for that name in every domain"}},
		{"a client that is none", Spec{Name: "f", When: when{"client": "192.0.2.0/33"}}, []string{`when.client: "192.0.2.0/33" is neither an address, a network`}},
		{"a HELO name that is none", Spec{Name: "f", When: when{"helo": []any{"", "a b", "/(/"}}}, []string{"when.helo: empty", `when.helo: "a b" is not a domain`, `when.helo: expression "("`}},
		{"an expression on a user that is none", Spec{Name: "f", When: when{"user": "/[/"}}, []string{`when.user: expression "["`}},
		{"a time that is none", Spec{Name: "f", When: when{"time": []any{"noon", "Mon 25:00-26:00", "08:00-08:00"}}}, []string{`when.time: "noon" is no time`, `when.time: "Mon 25:00-26:00"`, `when.time: "08:00-08:00"`}},
		{"a header without name", Spec{Name: "f", When: when{"header": "x"}}, []string{"when.header: needs the name of a field"}},
		{"a header of a bad name", Spec{Name: "f", When: when{"header": when{"X Y": "x"}}}, []string{"when.header.X Y: not the name of a field"}},
		{"an exception that is no table", Spec{Name: "f", When: when{"not": "x"}}, []string{"when.not: must be a table of conditions"}},
		{"an empty exception", Spec{Name: "f", When: when{"not": when{}}}, []string{"when.not: no conditions"}},
		{"tables without end", Spec{Name: "f", When: deep}, []string{"nested deeper than 4 tables"}},
		{"strip of nothing", Spec{Name: "f", Strip: true, When: when{"subject": "x"}}, []string{"then: strip needs a condition that says which attachments"}},
		{"strip of what is not there", Spec{Name: "f", Strip: true, When: when{"subject": "x", "not": when{"attachment_name": "x"}}}, []string{"then: strip needs"}},
		{"strip of one alternative only", Spec{Name: "f", Strip: true, When: when{"any": when{"attachment_name": "x", "subject": "y"}}}, []string{"then: strip needs"}},
		{"a list that is missing", Spec{Name: "f", Dir: dir, When: when{"sender": "file:nobody"}}, []string{"when.sender: read list: "}},
		{"a list that is a directory", Spec{Name: "f", Dir: dir, When: when{"sender": "file:."}}, []string{"is no file of at most 64 MiB"}},
		{"a list with a bad line", Spec{Name: "f", Dir: dir, When: when{"sender": "file:senders"}}, []string{`when.sender: senders:4: "nonsense" is neither address nor domain`}},
		{"a list in another charset", Spec{Name: "f", Dir: dir, When: when{"sender": "file:latin1"}}, []string{"when.sender: latin1:1: not UTF-8"}},
		{"a list with an endless line", Spec{Name: "f", Dir: dir, When: when{"sender": "file:wide"}}, []string{"when.sender: read list wide: "}},
		{"a list of domains with something else", Spec{Name: "f", Dir: dir, When: when{"url": "file:senders"}}, []string{"when.url: senders:3: not a domain"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Compile(tt.spec)
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("error %v is no Errors", err)
			}
			var got []string
			for _, e := range errs {
				got = append(got, e.Error())
			}
			if len(got) < len(tt.want) {
				t.Fatalf("says %q, want %q", got, tt.want)
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("says %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestLists(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "senders.txt")
	if err := os.WriteFile(path, []byte("\ufeff# friends\r\n\r\nSender@shop.example\r\n/^news@/\r\n.bank.example\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"senders.txt", path} {
		f := compile(t, when{"sender": []any{"x@y.example", "file:" + name}}, func(s *Spec) { s.Dir = dir })
		if got := run(t, letter(t, "\nx\n"), f); len(got) != 1 {
			t.Errorf("findings %+v", got)
		}
	}
	if err := os.WriteFile(path, []byte("# nobody yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, letter(t, "\nx\n"), compile(t, when{"sender": "file:" + path})); len(got) != 0 {
		t.Errorf("an empty list matches: %+v", got)
	}
}

func TestGlobs(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"application/x-*", "application/x-arj", true},
		{"application/x-*", "application/zip", false},
		{"*", "", true},
		{"*zip*", "application/zip", true},
		{"a*b*c", "axxbxxbxxc", true},
		{"a*b*c", "axxbxxbxx", false},
		{"**a**", "a", true},
		{strings.Repeat("*a", 50), strings.Repeat("a", 5000), true},
		{strings.Repeat("*a", 50) + "b", strings.Repeat("a", 5000), false},
	}
	for _, tt := range tests {
		if got := globMatch(tt.pattern, tt.s); got != tt.want {
			t.Errorf("globMatch(%q, %q) = %v", tt.pattern, cut(tt.s), got)
		}
	}
}

// The match in a long text is that in a short one, found on another way.
func TestLongTextsAreMatchedAlike(t *testing.T) {
	filler := strings.Repeat("the quick brown fox über the lazy dog\n", 2000)
	for _, source := range []string{`\bfox\b.*dog`, `n[e]edle`, `(?i)NEEDLE in`, `needle$`, `(?m)needle$`, `\Athe`, `ü.er|needle`, `absent`, `x*`, `(?s)quick.*needle`} {
		e, err := compileExpr(source, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{filler, filler + "needle", filler + "a needle in a stack " + filler} {
			got, ok, err := e.find(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			want := e.re.FindString(text)
			if ok != e.re.MatchString(text) || got != want {
				t.Errorf("%s finds %q, want %q", source, cut(got), cut(want))
			}
		}
	}
}

// stepContext ends when it was asked for the n-th time.
type stepContext struct {
	context.Context
	left int
}

func (c *stepContext) Err() error {
	if c.left--; c.left < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// DOS-07: an expression over a long text ends with its context, and how often it
// looks depends on the length of the text only.
func TestExpressionsStopWithTheirContext(t *testing.T) {
	text := strings.Repeat("a", 1<<20) + "b"
	for _, source := range []string{`(a+)+$`, `(a|aa)+$`, `(.*a){3}c`, `(b?a+a+)+y`} {
		e, err := compileExpr(source, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.find(&stepContext{t.Context(), 10}, text); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: error %v", source, err)
		}
		all := &stepContext{t.Context(), 1 << 30}
		if _, ok, err := e.find(all, text); ok || err != nil {
			t.Errorf("%s: match %v, error %v", source, ok, err)
		}
		if asked := 1<<30 - all.left; asked > 2*len(text)/(longText/4) {
			t.Errorf("%s: read the text more than once (%d steps)", source, asked)
		}
	}
}

func TestReasonsAreSafeAndShort(t *testing.T) {
	in := letter(t, "Subject: "+strings.Repeat("<img src=x onerror=alert(1)> \u202e\x1b[31m ", 200)+"\n\nx\n")
	for _, f := range run(t, in, compile(t, when{"subject": "(?s).*"})) {
		if len(f.Reason) > maxReason || strings.ContainsAny(f.Reason, "\r\n\x1b\u202e") {
			t.Errorf("reason of %d bytes: %q", len(f.Reason), f.Reason)
		}
	}
}

func TestConditionsAreAllDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, name := range Conditions() {
		if !strings.Contains(string(page), "`"+name) {
			missing = append(missing, name)
		}
	}
	if diff := cmp.Diff([]string(nil), missing); diff != "" {
		t.Errorf("not in docs/filters.md:\n%s", diff)
	}
}

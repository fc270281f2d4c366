package flow

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

func TestParseThen(t *testing.T) {
	tests := []struct {
		in   string
		want FilterAction
	}{
		{"quarantine", FilterAction{Verb: "quarantine"}},
		{" strip ", FilterAction{Verb: "strip"}},
		{"score:2.5", FilterAction{Verb: "score", Arg: "2.5", Score: 2.5}},
		{"score: -3", FilterAction{Verb: "score", Arg: "-3", Score: -3}},
		{"redirect:Abuse@Example.COM", FilterAction{Verb: "redirect", Arg: "Abuse@Example.COM", Address: mail.Address{Local: "Abuse", Domain: "example.com", Raw: "Abuse@Example.COM"}}},
		{"copy: a@b.example", FilterAction{Verb: "copy", Arg: "a@b.example", Address: mail.Address{Local: "a", Domain: "b.example", Raw: "a@b.example"}}},
		{`header:"X-Foo: bar"`, FilterAction{Verb: "header", Arg: "X-Foo: bar", Field: "X-Foo: bar"}},
		{"header:X-Foo:bar   baz", FilterAction{Verb: "header", Arg: "X-Foo:bar   baz", Field: "X-Foo: bar baz"}},
		{"header:X-Wort: für", FilterAction{Verb: "header", Arg: "X-Wort: für", Field: "X-Wort: =?utf-8?q?f=C3=BCr?="}},
		{`subject:"[EXTERNAL] "`, FilterAction{Verb: "subject", Arg: "[EXTERNAL] ", Tag: "[EXTERNAL] "}},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseThen(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("action (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseThenRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a word that is no action", "quarentine", "unknown action"},
		{"nothing", "", "unknown action"},
		{"an argument where none belongs", "quarantine:7", "takes nothing"},
		{"redirect to nobody", "redirect", "redirect:user@example.com"},
		{"redirect to what is no address", "redirect:abuse", "not an address"},
		{"redirect to two", "redirect:a@b.example,c@d.example", "not an address"},
		{"a score that is no number", "score:much", "not a number"},
		{"a score that is not finite", "score:NaN", "not a number"},
		{"a score beyond reason", "score:1e9", "not a number"},
		{"a field without value", "header:X-Foo", "not a field"},
		{"a field with a blank in its name", "header:X Foo: bar", "not a field"},
		{"a field that ends the header", "header:\"X-Foo: bar\r\n\r\nbody\"", "printable"},
		{"a field that begins another", "header:\"X-Foo: bar\nX-Evil: 1\"", "printable"},
		{"a field with a mark that turns the text", "header:\"X-Foo: \u202ebar\"", "printable"},
		{"a second From", "header:From: x@y.example", "ambiguous"},
		{"a second Content-Type", "header:content-type: text/html", "ambiguous"},
		{"a field of ours", "header:X-Gatepost-Verdict: deliver", "mail servers only"},
		{"a forged Authentication-Results", "header:Authentication-Results: x; spf=pass", "mail servers only"},
		{"a long field", "header:X-Foo: " + strings.Repeat("x", 900), "longer"},
		{"a tag with a line end", "subject:'a\r\nb'", "printable"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ParseThen(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParseThen(%q) says %v, want %q in it", tt.in, err, tt.want)
			}
		})
	}
}

func TestCheckThen(t *testing.T) {
	tests := []struct {
		name string
		then []string
		want string
	}{
		{"one action", []string{"reject"}, ""},
		{"one that ends the flow and others", []string{"copy:a@b.example", "score:1", "quarantine"}, ""},
		{"none", nil, "at least one"},
		{"two that end the flow", []string{"quarantine", "deliver"}, "quarantine and deliver both end the flow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := CheckThen(rule("x", tt.then...).Then)
			if got := errorText(err); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("says %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckReply(t *testing.T) {
	tests := []struct{ name, reply, want string }{
		{"none", "", ""},
		{"a text", "We do not take programs; see https://example.com/mail", ""},
		{"200 bytes", strings.Repeat("x", 200), ""},
		{"201 bytes", strings.Repeat("x", 201), "201 bytes, at most 200"},
		{"a line end", "no\r\n250 yes", "printable"},
		{"what is not ASCII", "für dich nicht", "printable"},
		{"a code", "550 5.7.1 no", "the code follows from the action"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorText(CheckReply(tt.reply)); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("says %q, want %q", got, tt.want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzParseThen looks for actions that break a header section or a verdict.
func FuzzParseThen(f *testing.F) {
	for _, s := range []string{
		"quarantine", "score:2.5", "redirect:a@b.example", `header:"X-Foo: bar"`, "header:X: \xff\xfe", "subject:'[x] '",
		"header:X-Y: " + strings.Repeat("a ", 300), "header:X-Y: " + strings.Repeat("ä", 200), "copy:\"a b\"@c.example", ":::", "header:",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseThen(s)
		if err != nil {
			return
		}
		if a.Field != "" {
			checkField(t, fold(a.Field), a.Field)
		}
		if strings.ContainsAny(a.Tag, "\r\n\x00") {
			t.Errorf("tag %q", a.Tag)
		}
		if (a.Verb == VerbCopy || a.Verb == VerbRedirect) && a.Address.Domain == "" {
			t.Errorf("%s goes nowhere: %q", a.Verb, s)
		}
	})
}

// checkField reports a folded field that would be read otherwise than it was
// written.
func checkField(t *testing.T, folded, field string) {
	t.Helper()
	if strings.ReplaceAll(folded, "\r\n ", " ") != field {
		t.Errorf("folding changes %q to %q", field, folded)
	}
	for i, line := range strings.Split(folded, "\r\n") {
		if strings.TrimSpace(line) == "" || strings.ContainsAny(line, "\r\n\x00") || !mail.IsASCII(line) {
			t.Errorf("line %q in %q", line, folded)
		}
		if (i > 0) != strings.HasPrefix(line, " ") {
			t.Errorf("line %d is %q", i, line)
		}
	}
}

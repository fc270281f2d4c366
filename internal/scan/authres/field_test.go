package authres

import (
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

func finding(symbol, reason string, pairs ...string) mail.Finding {
	return mail.Finding{Module: Name, Symbol: symbol, Reason: reason, Properties: properties(pairs...)}
}

func TestField(t *testing.T) {
	got := string(Field("gw.example", []mail.Finding{
		{Module: "clamav", Symbol: "spf:pass"},
		finding("spf:fail", "-all in the record of example.org forbids 203.0.113.9", "smtp.mailfrom", "ann@example.org"),
		finding("dkim:pass", "signed", "header.d", "example.org", "header.s", "s1", "header.a", "rsa-sha256", "header.b", "Au/FE+D="),
		finding("dkim:fail", "the body was changed", "header.d", "example.net", "header.s", "s2", "header.a", "ed25519-sha256", "header.b", "xyz"),
		finding("arc:pass", "", "header.oldest-pass", "0", "smtp.remote-ip", "2001:db8::1"),
		finding("dmarc:fail", "neither passes", "header.from", "example.org", "policy.dmarc", "reject"),
		finding("dmarc:overridden", "another flow", "header.from", "example.org"),
		{Module: Name, Symbol: "timeout", Result: mail.Unknown},
	}))
	want := "Authentication-Results: gw.example;\r\n" +
		"\tspf=fail reason=\"-all in the record of example.org forbids 203.0.113.9\"\r\n" +
		"\tsmtp.mailfrom=ann@example.org;\r\n" +
		"\tdkim=pass header.d=example.org header.s=s1 header.a=rsa-sha256\r\n" +
		"\theader.b=\"Au/FE+D=\";\r\n" +
		"\tdkim=fail reason=\"the body was changed\" header.d=example.net header.s=s2\r\n" +
		"\theader.a=ed25519-sha256 header.b=xyz;\r\n" +
		"\tarc=pass header.oldest-pass=0 smtp.remote-ip=\"2001:db8::1\";\r\n" +
		"\tdmarc=fail reason=\"neither passes\" header.from=example.org\r\n" +
		"\tpolicy.dmarc=reject\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if f := Field("gw.example", []mail.Finding{{Module: Name, Symbol: "timeout"}, {Module: "bayes", Symbol: "x:y"}}); f != nil {
		t.Errorf("nothing is known: %q", f)
	}
}

func TestValuesOfStrangers(t *testing.T) {
	tests := []struct{ value, want string }{
		{"a@b.example", "a@b.example"},
		{"a.b+c=d@b.example", "a.b+c=d@b.example"},
		{"@b.example", "@b.example"},
		{"p@q@b.example", "b.example"},
		{"a b@b.example", "b.example"},
		{"bücher@b.example", "b.example"},
		{"x; dmarc=pass@b.example", "b.example"},
		{"a@[192.0.2.1]", `"a@[192.0.2.1]"`},
		{"x\r\nSubject: y", `"x??Subject: y"`},
		{`a"; dmarc=pass`, `"a'; dmarc=pass"`},
		{`a\`, `"a'"`},
		{"(open", `"(open"`},
		{"", ""},
	}
	for _, tt := range tests {
		got := ""
		for _, s := range propspecs(properties("smtp.mailfrom", tt.value)) {
			got = strings.TrimPrefix(s, "smtp.mailfrom=")
		}
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.value, got, tt.want)
		}
	}
}

func TestResultsOfOthers(t *testing.T) {
	got := parseResults(`h.example 1; SPF = Pass (x; y) smtp.mailfrom = "a b@c.example" ; dkim/1=pass reason="d; e=f" header.d=C.example;;x`)
	if len(got) != 2 || got[0].method != "spf" || got[0].result != "pass" || got[0].property("smtp.mailfrom") != "a b@c.example" ||
		got[1].method != "dkim" || got[1].property("header.d") != "c.example" || len(got[1].properties) != 1 {
		t.Errorf("%+v", got)
	}
}

// plainLine is what every line of a field must be.
var plainLine = regexp.MustCompile(`^(Authentication-Results:|\t)[ -~]+$`)

func FuzzField(f *testing.F) {
	f.Add("gw.example", "spf:fail", "a reason with \"quotes\"", "a@b.example", "header.d")
	f.Add("gw\r\nX: y", "dkim:\x00", strings.Repeat("long ", 100), "(\\\"", "x.y;z=1")
	f.Add("", "dmarc:overridden", "=?utf-8?q?=0d=0a?=", "é@é", "a.b")
	f.Fuzz(func(t *testing.T, id, symbol, reason, value, name string) {
		list := []mail.Finding{
			finding(symbol, reason, name, value),
			finding("dmarc:pass", "", "header.from", "own.example"),
		}
		b := Field(id, list)
		header := message.ParseHeader(append(b, "\r\n"...))
		if len(header.Fields()) != 1 || !header.Fields()[0].Is("Authentication-Results") {
			t.Fatalf("%q", b)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(b), "\r\n"), "\r\n") {
			if !plainLine.MatchString(line) || len(line) > 998 || len(line) > maxLine && strings.Count(strings.TrimRight(line, " "), " ") > 1 && !strings.Contains(line, `"`) {
				t.Errorf("line %q", line)
			}
		}
		// Whatever they said, the last result is ours, and there are no more than two.
		got := parseResults(header.Fields()[0].Value())
		method, _, _ := strings.Cut(symbol, ":")
		if n := len(got); n == 0 || n > 2 {
			t.Errorf("%q: %+v", b, got)
		} else if last := got[n-1]; method != "dmarc" && (last.method != "dmarc" || last.result != "pass" || last.property("header.from") != "own.example") {
			t.Errorf("%q: %+v", b, got)
		}
	})
}

func FuzzResults(f *testing.F) {
	f.Add("h.example 1; spf=pass (x) smtp.mailfrom=a@b; dkim = fail reason=\"y\\\"\"")
	f.Add("(((;;\"=\\")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range parseResults(s) {
			if r.method == "" {
				t.Errorf("%+v", r)
			}
		}
	})
}

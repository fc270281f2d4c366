package dmarc

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/idna"

	"gatepost/internal/message"
)

// answer is an error of a test zone.
type answer struct {
	error
	notFound bool
}

func (a answer) NotFound() bool { return a.notFound }

// zone has texts by name; those of a name with nil cannot be looked up. hosts are
// the names that exist otherwise.
type zone struct {
	texts map[string][]string
	hosts []string
}

func (z zone) TXT(_ context.Context, name string) ([]string, error) {
	list, ok := z.texts[name]
	switch {
	case !ok:
		return nil, answer{errors.New("no such name"), true}
	case list == nil:
		return nil, answer{errors.New("no answer"), false}
	}
	return list, nil
}

func (z zone) Addrs(_ context.Context, name string) ([]netip.Addr, error) {
	if slices.Contains(z.hosts, name) {
		return []netip.Addr{netip.IPv6Loopback()}, nil
	}
	return nil, answer{errors.New("no such name"), true}
}

func (z zone) Exchangers(context.Context, string) ([]string, error) {
	return nil, answer{errors.New("no such name"), true}
}

func TestRecordsAreReadAsTheyWereMeant(t *testing.T) {
	tests := []struct {
		name, text string
		want       *Record // nil: an error
	}{
		{"the least", "v=DMARC1; p=none", &Record{"none", "none", "none", false, false, 100}},
		{"all of it", "v=DMARC1;p=reject;sp=quarantine;np=none;adkim=s;aspf=s;pct=50;ri=0;rf=afrf,iodef;fo=1:d", &Record{"reject", "quarantine", "none", true, true, 50}},
		{"in any case", "v=DMARC1; P=Reject; ADKIM=S", &Record{"reject", "reject", "reject", true, false, 100}},
		{"white space everywhere", "v = DMARC1 ; p = reject ; pct = 5 ; ", &Record{"reject", "reject", "reject", false, false, 5}},
		{"what is not a tag", "v=DMARC1; p=reject; bogus; =; x=y", &Record{"reject", "reject", "reject", false, false, 100}},
		{"p not in second place", "v=DMARC1; rua=mailto:a@b.example; p=reject", &Record{"reject", "reject", "reject", false, false, 100}},
		{"a percentage that is none", "v=DMARC1; p=reject; pct=101", &Record{"reject", "reject", "reject", false, false, 100}},
		{"a negative percentage", "v=DMARC1; p=reject; pct=-1", &Record{"reject", "reject", "reject", false, false, 100}},
		{"zero percent", "v=DMARC1; p=reject; pct=0", &Record{"reject", "reject", "reject", false, false, 0}},
		{"a policy twice", "v=DMARC1; p=none; p=reject", &Record{"none", "none", "none", false, false, 100}},
		{"an unknown policy, with reports", "v=DMARC1; p=blok; rua=mailto:a@b.example", &Record{"none", "none", "none", false, false, 100}},
		{"an unknown policy for subdomains, with reports", "v=DMARC1; p=reject; sp=x; rua=mailto:a@b.example", &Record{"none", "none", "none", false, false, 100}},
		{"an unknown policy", "v=DMARC1; p=blok", nil},
		{"no policy", "v=DMARC1; rua=nothing", nil},
		{"another version", "v=DMARC2; p=none", nil},
		{"the version in lower case", "v=dmarc1; p=none", nil},
		{"the version behind", "p=none; v=DMARC1", nil},
		{"a version that goes on", "v=DMARC1x; p=none", nil},
	}
	for _, tt := range tests {
		got, err := Parse(tt.text)
		switch {
		case tt.want == nil:
			if err == nil {
				t.Errorf("%s: got %+v", tt.name, got)
			}
		case err != nil || *got != *tt.want:
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func header(fields ...string) *message.Header {
	return message.ParseHeader([]byte(strings.Join(fields, "\r\n") + "\r\n\r\n"))
}

func TestAuthors(t *testing.T) {
	tests := []struct {
		from string
		want string
		err  error
	}{
		{"a@b.example", "b.example", nil},
		{"A B <a@B.Example.>", "b.example", nil},
		{`"x@evil.example" <a@b.example>`, "b.example", nil},
		{"x@evil.example <a@b.example>", "b.example", nil},
		{"(x@evil.example) a@b.example (y, z@evil.example)", "b.example", nil},
		{`"a@x.example, b"@b.example`, "b.example", nil},
		{`"a\"@x.example"@b.example`, "b.example", nil},
		{"a@b.example, C <c@d.example>", "b.example d.example", nil},
		{"<a@b.example> <c@d.example>", "b.example d.example", nil},
		{"<@r.example,@s.example:a@b.example>", "b.example", nil},
		{"a @ b . example", "b.example", nil},
		{"Group: a@b.example, c@d.example;", "b.example d.example", nil},
		{"a@b@c.example", "c.example", nil},
		{"a@bücher.example", "xn--bcher-kva.example", nil},
		{"a@[192.0.2.1]", "[192.0.2.1]", nil},
		{"a@[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", nil},
		{`"open <a@b.example>`, "b.example", ErrUnclearAuthor},
		{"(open <a@b.example>", "b.example", nil},
		{"a@b.example, \"open", "b.example", ErrUnclearAuthor},
		{"<a@b.example", "b.example", nil},
		{"a@b.example, nobody", "b.example", ErrUnclearAuthor},
		{"undisclosed:;", "", ErrNoAuthor},
		{"", "", ErrNoAuthor},
		{"MAILER-DAEMON", "", ErrUnclearAuthor},
		{"a@", "", ErrUnclearAuthor},
		{"a@b..example", "", ErrUnclearAuthor},
		{"a@b.example\x00.d.example", "", ErrUnclearAuthor},
	}
	for _, tt := range tests {
		got, err := Authors(header("From: " + tt.from))
		if strings.Join(got, " ") != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: got %q, %v", tt.from, got, err)
		}
	}
	got, err := Authors(header("From: a@b.example", "from : c@d.example", "Sender: e@f.example"))
	if strings.Join(got, " ") != "b.example d.example" || err != nil {
		t.Errorf("two fields: got %q, %v", got, err)
	}
	many := strings.Repeat("a@b.example, ", 100) + strings.Join([]string{"a@1.b", "a@2.b", "a@3.b", "a@4.b", "a@5.b", "a@6.b", "a@7.b", "a@8.b"}, ",")
	if got, err := Authors(header("From: " + many)); len(got) != maxAuthors || !errors.Is(err, ErrTooManyAuthors) {
		t.Errorf("many: got %q, %v", got, err)
	}
	if _, err := Authors(header("To: a@b.example")); !errors.Is(err, ErrNoAuthor) {
		t.Errorf("no field: %v", err)
	}
}

// AUT-09.
func TestJudgement(t *testing.T) {
	z := zone{hosts: []string{"real.example.org"}, texts: map[string][]string{
		"_dmarc.example.org":       {"v=DMARC1; p=reject; sp=quarantine; np=none", "unrelated"},
		"_dmarc.strict.example":    {"v=DMARC1; p=reject; adkim=s; aspf=s"},
		"_dmarc.two.example.org":   {"v=DMARC1; p=reject", "v=DMARC1; p=none"},
		"_dmarc.b.co.uk":           {"v=DMARC1; p=reject"},
		"_dmarc.co.uk":             {"v=DMARC1; p=reject"},
		"_dmarc.x.ck":              {"v=DMARC1; p=reject"},
		"_dmarc.half.example":      {"v=DMARC1; p=reject; pct=50"},
		"_dmarc.watching.example":  {"v=DMARC1; p=none"},
		"_dmarc.broken.example":    {"v=DMARC1; p=blok"},
		"_dmarc.down.example":      nil,
		"_dmarc.someone.github.io": {"v=DMARC1; p=reject"},
	}}
	spf := func(d string) Identity { return Identity{Domain: d, SPF: true} }
	key := func(d string) Identity { return Identity{Domain: d} }
	tests := []struct {
		name, from string
		evidence   []Identity
		want       string // status, or "fail" with the policy
	}{
		{"SPF of the domain", "example.org", []Identity{spf("example.org")}, "pass"},
		{"DKIM of the domain", "example.org", []Identity{key("example.org")}, "pass"},
		{"SPF of another one", "example.org", []Identity{spf("example.net")}, "fail reject"},
		{"nothing", "example.org", nil, "fail reject"},
		{"SPF of a subdomain", "example.org", []Identity{spf("bounce.example.org")}, "pass"},
		{"a neighbour below the same domain", "real.example.org", []Identity{key("mail.example.org")}, "pass"},
		{"a subdomain", "real.example.org", nil, "fail quarantine"},
		{"a subdomain that does not exist", "made-up.example.org", nil, "fail none"},
		{"strictly: a subdomain's SPF", "strict.example", []Identity{spf("bounce.strict.example")}, "fail reject"},
		{"strictly: a subdomain's DKIM", "strict.example", []Identity{key("bounce.strict.example")}, "fail reject"},
		{"strictly: the domain", "strict.example", []Identity{key("strict.example")}, "pass"},
		{"two records", "two.example.org", nil, "none"},
		{"no record", "nothing.example", nil, "none"},
		{"a record that cannot be used", "broken.example", nil, "permerror"},
		{"p=none", "watching.example", nil, "fail none"},
		{"below a.b.co.uk", "a.b.co.uk", nil, "fail reject"},
		{"another below co.uk", "b.co.uk", []Identity{key("c.co.uk")}, "fail reject"},
		{"a public suffix itself", "co.uk", []Identity{key("c.co.uk")}, "fail reject"},
		{"a wildcard suffix", "x.ck", []Identity{key("y.x.ck")}, "fail reject"},
		{"its exception", "www.ck", []Identity{key("a.www.ck")}, "none"},
		{"a private suffix", "someone.github.io", []Identity{key("other.github.io")}, "fail reject"},
		{"the DNS is down", "down.example", []Identity{spf("down.example")}, "temperror"},
		{"SPF cannot be checked", "example.org", []Identity{{Domain: "example.org", SPF: true, Temporary: true}}, "temperror"},
		{"another's DKIM cannot be checked", "example.org", []Identity{{Domain: "example.net", Temporary: true}}, "fail reject"},
		{"DKIM passes and SPF cannot be checked", "example.org", []Identity{{Domain: "example.org", SPF: true, Temporary: true}, key("example.org")}, "pass"},
		{"in the sample", "half.example", nil, "fail reject"},
		{"out of the sample", "half.example 50", nil, "fail quarantine"},
		{"an address literal", "[192.0.2.1]", nil, "none"},
		{"two authors, one passes", "example.org,strict.example", []Identity{key("example.org")}, "fail reject"},
		{"two authors, the strictest policy", "watching.example,example.org,real.example.org", nil, "fail reject"},
		{"two authors, one without a policy", "example.org,nothing.example", []Identity{key("example.org")}, "none"},
		{"two authors, both pass", "example.org,real.example.org", []Identity{key("example.org")}, "pass"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, outside := strings.CutSuffix(tt.from, " 50")
			sample := 49
			if outside {
				sample = 50
			}
			r := Judge(NewFinder(z).Find(t.Context(), strings.Split(from, ",")), nil, tt.evidence, sample)
			if got := strings.TrimSpace(string(r.Status) + " " + string(r.Policy)); got != tt.want || r.Reason == "" {
				t.Errorf("got %+v", r)
			}
		})
	}
	r := Judge(NewFinder(z).Find(t.Context(), []string{"example.org"}), ErrUnclearAuthor, []Identity{key("example.org")}, 0)
	if r.Status != PermError {
		t.Errorf("an author that cannot be read beside one that passes: %+v", r)
	}
	if r := Judge(nil, ErrNoAuthor, nil, 0); r.Status != PermError {
		t.Errorf("no author: %+v", r)
	}
}

func corpus(t *testing.T, name ...string) string {
	t.Helper()
	dir := os.Getenv("GATEPOST_CORPORA")
	if dir == "" {
		t.Skip("GATEPOST_CORPORA is not set")
	}
	return filepath.Join(append([]string{dir, "suites"}, name...)...)
}

func TestListOfPublicSuffixes(t *testing.T) {
	f, err := os.Open(corpus(t, "publicsuffix", "tests__test_psl.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line := regexp.MustCompile(`^checkPublicSuffix\('([^']+)', (?:'([^']+)'|null)\);`)
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		m := line.FindStringSubmatch(s.Text())
		if m == nil || strings.HasPrefix(m[1], ".") {
			continue
		}
		n++
		name, err := idna.ToASCII(strings.ToLower(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		want, err := idna.ToASCII(m[2])
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = name
		}
		if got := OrgDomain(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if n < 70 {
		t.Errorf("only %d cases", n)
	}
}

func TestAuthorsOfTheSuite(t *testing.T) {
	for name, want := range map[string]string{
		"test.message": "example.com", "test.message_multi": "example.org example.com", "test.message_multi2": "example.com example.org",
		"testcomma.message": "example.com", "test.nofrom.message": "",
	} {
		text, err := os.ReadFile(corpus(t, "authheaders-dmarc", "authheaders__test__"+name))
		if err != nil {
			t.Fatal(err)
		}
		crlf := strings.ReplaceAll(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n", "\r\n")
		if got, _ := Authors(message.ParseHeader([]byte(crlf))); strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestMailboxes(t *testing.T) {
	for from, want := range map[string]string{
		"a@b.example":                               "a@b.example",
		"Anna <a@b.example>, (x) c@d.example":       "a@b.example|c@d.example",
		`"c@d.example" <a@b.example>`:               "a@b.example",
		`"a \"b\""@c.example`:                       `"a \"b\""@c.example`,
		`<"a b"@c.example>`:                         `"a b"@c.example`,
		`"x <c@d.example>, <a@b.example>`:           `"x <c@d.example>, <a@b.example>|c@d.example|a@b.example`,
		"Team: a@b.example, c@d.example;":           "a@b.example|c@d.example",
		"<c@d.example> <a@b.example>":               "c@d.example|a@b.example",
		"Berg, Anna <a@b.example>":                  "Berg|a@b.example",
		"undisclosed:;":                             "",
		"<a@b.example":                              "a@b.example",
		"c@d.example <a@b.example> (e@f.example)\t": "a@b.example",
	} {
		if got := strings.Join(Mailboxes(header("From: "+from)), "|"); got != want {
			t.Errorf("%s: %q, want %q", from, got, want)
		}
	}
	if got := Mailboxes(header("From: a@b.example", "Sender: x@y.example", "fRoM: c@d.example")); strings.Join(got, "|") != "a@b.example|c@d.example" {
		t.Errorf("two fields: %q", got)
	}
}

func FuzzAuthors(f *testing.F) {
	for _, s := range []string{`"a" <b@c.example>, d@e.example (x)`, "<<a@b>>", "a:b@c;d@[IPv6:::1]", "\"a\\", "((a)", "<@a,@b:c@d.example>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		domains, err := Authors(header("From: " + s))
		if len(domains) == 0 && err == nil || len(domains) > maxAuthors {
			t.Errorf("%q, %v", domains, err)
		}
		if a, b := mailboxes(s), read(s, true); len(a) != len(b) {
			t.Errorf("%q without quoted strings, %q with them", a, b)
		}
		for _, d := range domains {
			if d == "" || strings.ToLower(d) != d && d[0] != '[' || strings.ContainsAny(d, " \r\n\x00@<>,") {
				t.Errorf("domain %q", d)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"v=DMARC1; p=reject; sp=none; pct=10; rua=mailto:a@b", "v=DMARC1;;;p=", "v=DMARC1\n;p=none;rua=%", "v =DMARC1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if (r == nil) == (err == nil) {
			t.Fatalf("%+v, %v", r, err)
		}
		if r == nil {
			return
		}
		for _, p := range []Policy{r.Policy, r.Subdomain, r.Missing} {
			if _, ok := parsePolicy(string(p)); !ok {
				t.Errorf("policy %q", p)
			}
		}
		if r.Percent < 0 || r.Percent > 100 {
			t.Errorf("percent %d", r.Percent)
		}
	})
}

package rewrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

func inline(lines ...string) []Table { return []Table{{Lines: lines}} }

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, errs := New(cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return e
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// recipients says who gets mail for an address: "a, b copy c", or the error.
func recipients(t testing.TB, e *Engine, to string) string {
	t.Helper()
	x, err := e.Recipient(t.Context(), address(t, to), nil)
	for _, known := range []error{ErrLoop, ErrTooMany, ErrRecursion, errResult} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	if err != nil {
		return err.Error()
	}
	s := strings.Join(texts(x.To), ", ")
	if len(x.Copies) > 0 {
		s += " copy " + strings.Join(texts(x.Copies), ", ")
	}
	return s
}

func ours(domain string) bool { return strings.HasSuffix(domain, "in.example") }

func TestVirtual(t *testing.T) {
	tests := []struct {
		name  string
		table []string
		to    string
		want  string
	}{
		{"nothing fits", []string{"x@in.example y@in.example"}, "a@in.example", "a@in.example"},
		{"the address keeps its spelling where nothing fits", []string{"x@in.example y@in.example"}, `"A b"@In.Example`, `"A b"@In.Example`},
		{"user@domain", []string{"a@in.example b@out.example"}, "a@in.example", "b@out.example"},
		{"case does not matter", []string{"A@IN.example b@out.example"}, "a@In.Example", "b@out.example"},
		{"one to many, with commas or without", []string{"a@in.example b@x.example, c@x.example d@x.example"}, "a@in.example", "b@x.example, c@x.example, d@x.example"},
		{"user, in our domains", []string{"a b@out.example"}, "a@in.example", "b@out.example"},
		{"user, not in others", []string{"a b@out.example"}, "a@x.example", "a@x.example"},
		{"@domain takes everyone", []string{"@in.example b@out.example"}, "a@in.example", "b@out.example"},
		{"@domain to @domain keeps the user", []string{"@in.example @out.example"}, "a@in.example", "a@out.example"},
		{"@domain to @domain keeps quotes that are needed", []string{"@in.example @out.example"}, `"a b"@in.example`, `"a b"@out.example`},
		{"user@domain comes before user", []string{"a wrong@x.example", "a@in.example right@x.example"}, "a@in.example", "right@x.example"},
		{"user comes before @domain", []string{"@in.example wrong@x.example", "a right@x.example"}, "a@in.example", "right@x.example"},
		{"user+ext@domain comes first", []string{"a@in.example wrong@x.example", "a+news@in.example right@x.example"}, "a+news@in.example", "right@x.example"},
		{"user@domain takes extensions and hands them on", []string{"a@in.example b@x.example"}, "a+news@in.example", "b+news@x.example"},
		{"user+ext comes before user", []string{"a wrong@x.example", "a+news right@x.example"}, "a+news@in.example", "right@x.example"},
		{"user takes extensions and hands them on", []string{"a b@x.example, c@x.example"}, "a+News@in.example", "b+News@x.example, c+News@x.example"},
		{"@domain to @domain keeps the extension once", []string{"@in.example @x.example"}, "a+news@in.example", "a+news@x.example"},
		{"@domain to somebody hands no extension on", []string{"@in.example b@x.example"}, "a+news@in.example", "b@x.example"},
		{"an address that is all delimiter has no extension", []string{"@in.example b@x.example"}, "+news@in.example", "b@x.example"},
		{"postfix's own names have none either", []string{"mailer@in.example b@x.example"}, "mailer-daemon@in.example", "mailer-daemon@in.example"},
		{"recursive", []string{"a@in.example b@in.example", "b@in.example c@in.example, d@in.example", "d@in.example e@x.example"}, "a@in.example", "c@in.example, e@x.example"},
		{"nobody twice", []string{"a@in.example b@in.example, c@in.example, B@in.example", "b@in.example d@x.example", "c@in.example d@x.example"}, "a@in.example", "d@x.example"},
		{"a member of itself is a mailbox too", []string{"a@in.example a@in.example, b@x.example"}, "a@in.example", "a@in.example, b@x.example"},
		{"a member that points back to such a mailbox", []string{"a@in.example a@in.example, b@in.example", "b@in.example a@in.example"}, "a@in.example", "a@in.example"},
		{"a circle", []string{"a@in.example b@in.example", "b@in.example a@in.example"}, "a@in.example", ErrLoop.Error()},
		{"a circle beside good members", []string{"a@in.example c@x.example, b@in.example", "b@in.example a@in.example"}, "a@in.example", ErrLoop.Error()},
		{"an address that grows", []string{"/^(.*)@in.example$/ x$1@in.example"}, "a@in.example", errResult.Error()},
		{"a result without domain", []string{"a@in.example b"}, "a@in.example", "b@in.example"},
		{"an IDN in the result", []string{"a@in.example b@Bücher.example"}, "a@in.example", "b@xn--bcher-kva.example"},
		{"an expression", []string{`/^(.+)\.(.+)@old\.in\.example$/ $2.$1@in.example`}, "Anna.Berg@old.in.example", "Berg.Anna@in.example"},
		{"the other spellings of a group", []string{`/^(.)(.)@in\.example$/ ${2}x$(1)@x.example`}, "ab@in.example", "bxa@x.example"},
		{"a dollar sign", []string{`/^a@in\.example$/ $$b@x.example`}, "a@in.example", "$b@x.example"},
		{"expressions ignore case", []string{`/^a@in/ b@x.example`}, "A@in.example", "b@x.example"},
		{"unless the flag says otherwise", []string{`/^a@in/i b@x.example`}, "A@in.example", "A@in.example"},
		{"an expression that must not match", []string{`!/@in\.example$/ b@in.example`}, "a@x.example", "b@in.example"},
		{"the first expression counts", []string{`/^a/ b@x.example`, `/^a@/ c@x.example`}, "a@in.example", "b@x.example"},
		{"a plain entry comes before", []string{`/^a@/ c@x.example`, `a@in.example b@x.example`}, "a@in.example", "b@x.example"},
		{"but not one for the domain", []string{`@in.example b@x.example`, `/^a@/ c@x.example`}, "a@in.example", "c@x.example"},
		{"expressions see the whole address only", []string{`/^@in/ b@x.example`, `/^a$/ b@x.example`}, "a@in.example", "a@in.example"},
		{"and hand on no extension", []string{`/^a\+/ b@x.example`}, "a+news@in.example", "b@x.example"},
		{"what stands in an address makes no more recipients", []string{`/^"?([^"]*)"?@in\.example$/ $1@x.example`}, `"b,c"@in.example`, errResult.Error()},
		{"a network", []string{"192.0.2.0/24 b@x.example"}, "a@[192.0.2.7]", "b@x.example"},
		{"the first network counts, not the smallest", []string{"192.0.2.0/24 b@x.example", "192.0.2.7 c@x.example"}, "a@[192.0.2.7]", "b@x.example"},
		{"an address of IPv6", []string{"2001:db8::/32 b@x.example"}, "a@[IPv6:2001:db8::1]", "b@x.example"},
		{"another network", []string{"192.0.2.0/24 b@x.example"}, "a@[192.0.3.7]", "a@[192.0.3.7]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t, Config{Virtual: inline(tt.table...), Delimiters: "+", Ours: ours})
			if got := recipients(t, e, tt.to); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.to, got, tt.want)
			}
		})
	}
}

func TestLimitsOfExpansion(t *testing.T) {
	var members, chain []string
	for i := range 12 {
		members = append(members, fmt.Sprintf("m%d@x.example", i))
		chain = append(chain, fmt.Sprintf("c%d@in.example c%d@in.example", i, i+1))
	}
	lines := append(chain, "ten@in.example "+strings.Join(members[:10], ","), "many@in.example "+strings.Join(members, ","))
	e := newEngine(t, Config{Virtual: inline(lines...), ExpansionLimit: 10, RecursionLimit: 10})
	for to, want := range map[string]string{
		"ten@in.example":  strings.Join(members[:10], ", "),
		"many@in.example": ErrTooMany.Error(),
		"c0@in.example":   ErrRecursion.Error(),
		"c2@in.example":   "c12@in.example",
	} {
		if got := recipients(t, e, to); got != want {
			t.Errorf("%s: got %s, want %s", to, got, want)
		}
	}
}

func TestCanonical(t *testing.T) {
	e := newEngine(t, Config{
		SenderCanonical:    inline("s@in.example sender@in.example"),
		RecipientCanonical: inline("r@in.example recipient@in.example"),
		Canonical:          inline("recipient@in.example both@in.example", "sender@in.example both@in.example", "both both@in.example", "l@in.example l2@in.example", "l2@in.example l@in.example", "@old.example @new.example"),
		Delimiters:         "+", Ours: ours,
	})
	tests := []struct{ name, sender, recipient string }{
		{"s@in.example", "both@in.example", "s@in.example"},
		{"r@in.example", "r@in.example", "both@in.example"},
		{"s+x@in.example", "both+x@in.example", "s+x@in.example"},
		{"a@old.example", "a@new.example", "a@new.example"},
		{"a@other.example", "a@other.example", "a@other.example"},
	}
	for _, tt := range tests {
		sender, err := e.Sender(t.Context(), address(t, tt.name), nil)
		if err != nil || sender.String() != tt.sender {
			t.Errorf("%s as sender: got %s, %v, want %s", tt.name, sender, err, tt.sender)
		}
		if got := recipients(t, e, tt.name); got != tt.recipient {
			t.Errorf("%s as recipient: got %s, want %s", tt.name, got, tt.recipient)
		}
	}
	if got := recipients(t, e, "l@in.example"); got != ErrLoop.Error() {
		t.Errorf("a circle: %s", got)
	}
	if a, err := e.Sender(t.Context(), mail.Address{}, nil); err != nil || !a.IsNull() {
		t.Errorf("the null sender became %q, %v", a, err)
	}
}

func TestMasquerade(t *testing.T) {
	e := newEngine(t, Config{Masquerade: []string{"foo.example.com", "!plain.example.com", "example.com"}, MasqueradeExceptions: []string{"root"}})
	for from, want := range map[string]string{
		"a@any.thing.foo.example.com": "a@foo.example.com",
		"a@any.thing.example.com":     "a@example.com",
		"a@foo.example.com":           "a@foo.example.com",
		"a@host.plain.example.com":    "a@host.plain.example.com",
		"a@example.com":               "a@example.com",
		"a@notexample.com":            "a@notexample.com",
		"ROOT@host.example.com":       "ROOT@host.example.com",
	} {
		got, err := e.Sender(t.Context(), address(t, from), nil)
		if err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", from, got, err, want)
		}
	}
	if got := recipients(t, e, "a@host.example.com"); got != "a@host.example.com" {
		t.Errorf("an envelope recipient is left alone by default, got %s", got)
	}
	e = newEngine(t, Config{Masquerade: []string{"example.com"}, MasqueradeClasses: EnvelopeRecipient})
	if got := recipients(t, e, "a@host.example.com"); got != "a@example.com" {
		t.Errorf("an envelope recipient where it is asked for: got %s", got)
	}
}

func TestAutomaticCopies(t *testing.T) {
	e := newEngine(t, Config{
		BCC:          inline("boss@in.example archive@in.example"),
		RecipientBCC: inline("a@in.example b@in.example, archive@in.example", "@out.example watch@in.example"),
		SenderBCC:    inline("s@in.example watch@in.example"),
		Virtual:      inline("archive@in.example store@x.example", "list@in.example b@in.example, c@in.example"),
		Delimiters:   "+",
	})
	for to, want := range map[string]string{
		"a@in.example":      "a@in.example copy b@in.example, store@x.example",
		"a+news@in.example": "a+news@in.example copy b@in.example, store@x.example",
		"boss@in.example":   "boss@in.example copy store@x.example",
		"x@out.example":     "x@out.example copy watch@in.example",
		"list@in.example":   "b@in.example, c@in.example",
		"s@in.example":      "s@in.example",
	} {
		if got := recipients(t, e, to); got != want {
			t.Errorf("%s: got %s, want %s", to, got, want)
		}
	}
	for from, want := range map[string]string{"s@in.example": "watch@in.example", "boss@in.example": "store@x.example", "a@in.example": ""} {
		all, err := e.SenderCopies(t.Context(), address(t, from), nil)
		if got := strings.Join(texts(all), ", "); err != nil || got != want {
			t.Errorf("sender %s: got %s, %v, want %s", from, got, err, want)
		}
	}
	if all, err := e.SenderCopies(t.Context(), mail.Address{}, nil); err != nil || len(all) > 0 {
		t.Errorf("the null sender's copies: %v, %v", all, err)
	}
}

func TestTransportMap(t *testing.T) {
	names := []string{"one", "two", "three", "mx", "rest", "parent"}
	cfg := Config{
		TransportMap: inline("anna@in.example one", "in.example two", ".in.example three", "@mail.example mx:hub.example", "parent.example parent", `/^news.*@lists\.example$/ one`),
		Delimiters:   "+", HasTransport: func(name string) bool { return slices.Contains(names, name) },
		Parent: func(domain string) string { return map[string]string{"alias.example": "parent.example"}[domain] },
	}
	withRest := cfg
	withRest.TransportMap = append(inline("* rest"), cfg.TransportMap...)
	plain, rest := newEngine(t, cfg), newEngine(t, withRest)
	tests := []struct{ to, want, orRest string }{
		{"anna@in.example", "one", "one"},
		{"anna+x@in.example", "one", "one"},
		{"bert@in.example", "two", "two"},
		{"bert@a.in.example", "three", "three"},
		{"bert@a.b.in.example", "three", "three"},
		{"x@mail.example", "mx:hub.example", "mx:hub.example"},
		{"x@alias.example", "parent", "parent"},
		{"newsletter@lists.example", "one", "one"},
		{"x@lists.example", "", "rest"},
	}
	for _, tt := range tests {
		for e, want := range map[*Engine]string{plain: tt.want, rest: tt.orRest} {
			hop, ok, err := e.Transport(t.Context(), address(t, tt.to), nil)
			got := hop.Transport
			if hop.Domain != "" {
				got += ":" + hop.Domain
			}
			if err != nil || ok != (want != "") || got != want {
				t.Errorf("%s: got %q, %v, %v, want %q", tt.to, got, ok, err, want)
			}
		}
	}
}

func TestRelocated(t *testing.T) {
	e := newEngine(t, Config{Relocated: inline("anna@in.example anna@new.example", "bert ask the front desk, please", "@gone.example nobody here"), Ours: ours, Delimiters: "+"})
	for to, want := range map[string]string{
		"anna@in.example": "anna@new.example", "Anna+x@in.example": "anna@new.example", "bert@in.example": "ask the front desk, please",
		"x@gone.example": "nobody here", "bert@x.example": "", "x@in.example": "",
	} {
		text, moved, err := e.Moved(t.Context(), address(t, to), nil)
		if err != nil || moved != (want != "") || text != want {
			t.Errorf("%s: got %q, %v, %v, want %q", to, text, moved, err, want)
		}
	}
}

func TestGenericIsAppliedOnceAndWithoutExtension(t *testing.T) {
	e := newEngine(t, Config{Generic: inline("anna@in.example shop@isp.example", "shop@isp.example wrong@isp.example", "@in.example @isp.example"), GenericTransports: []string{"isp"}, Delimiters: "+"})
	for from, want := range map[string]string{
		"anna@in.example": "shop@isp.example", "anna+x@in.example": "shop@isp.example", "bert+x@in.example": "bert+x@isp.example", "x@out.example": "x@out.example",
	} {
		got, err := e.Outgoing(t.Context(), address(t, from), nil)
		if err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", from, got, err, want)
		}
	}
	if !e.Leaves("isp") || e.Leaves("exchange") {
		t.Error("generic is for the transports that are named")
	}
}

func TestAnAliasOfADomainHasTheEntriesOfItsParent(t *testing.T) {
	e := newEngine(t, Config{
		Virtual: inline("sales@in.example a@in.example", "own@in.example b@in.example", "own@alias.example c@in.example", "local d"),
		Ours:    func(domain string) bool { return domain == "in.example" },
		Parent:  func(domain string) string { return map[string]string{"alias.example": "in.example"}[domain] },
	})
	for to, want := range map[string]string{
		"sales@alias.example": "a@in.example",
		"own@alias.example":   "c@in.example",
		"local@alias.example": "d@alias.example",
		"x@alias.example":     "x@alias.example",
	} {
		if got := recipients(t, e, to); got != want {
			t.Errorf("%s: got %s, want %s", to, got, want)
		}
	}
}

func TestTheOriginIsTheDomainOfResultsWithoutOne(t *testing.T) {
	e := newEngine(t, Config{Virtual: inline("a@in.example b"), Origin: "Home.Example"})
	if got := recipients(t, e, "a@in.example"); got != "b@home.example" {
		t.Error(got)
	}
}

// directory is a table elsewhere.
type directory struct {
	entries map[string][]string
	down    bool
	asked   []string
}

func (d *directory) Lookup(_ context.Context, key string) ([]string, error) {
	d.asked = append(d.asked, key)
	if d.down {
		return nil, errors.New("connection refused")
	}
	return d.entries[key], nil
}

func TestATableElsewhere(t *testing.T) {
	d := &directory{entries: map[string][]string{"list@in.example": {"a@x.example", "b@x.example, c@x.example"}, "@in.example": {"d@x.example"}}}
	e := newEngine(t, Config{Virtual: []Table{{Lookup: d, Name: "ldap:ad"}, {Lines: []string{"file@in.example f@x.example"}}}, Delimiters: "+", Ours: ours})
	if got := recipients(t, e, "list@in.example"); got != "a@x.example, b@x.example, c@x.example" {
		t.Error(got)
	}
	d.asked = nil
	if got := recipients(t, e, "u+x@in.example"); got != "d@x.example" {
		t.Error(got)
	}
	want := []string{"u+x@in.example", "u@in.example", "u+x", "u", "@in.example", "d@x.example"} // @x.example is known to be none
	if !slices.Equal(d.asked, want) {
		t.Errorf("asked %q\nwant  %q", d.asked, want)
	}
	d.asked = nil
	if got := recipients(t, e, "u+x@in.example"); got != "d@x.example" || len(d.asked) > 0 {
		t.Errorf("got %s, asked again: %q", got, d.asked)
	}
	if got := recipients(t, e, "file@in.example"); got != "f@x.example" {
		t.Errorf("a second table: %s", got)
	}
	d.down = true
	if got := recipients(t, e, "new@in.example"); !strings.Contains(got, "look up new@in.example in ldap:ad: connection refused") {
		t.Errorf("a table that is down: %s", got)
	}
	if got := recipients(t, e.WithoutNetwork(), "new@in.example"); got != "new@in.example" {
		t.Errorf("without network: %s", got)
	}
}

func TestEveryStepIsTakenDown(t *testing.T) {
	e := newEngine(t, Config{Canonical: inline("# names", "a@in.example anna@in.example"), Virtual: inline("@in.example b@x.example"), BCC: inline("anna@in.example c@x.example")})
	var trace Trace
	if _, err := e.Recipient(t.Context(), address(t, "a@in.example"), &trace); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range trace.Steps {
		got = append(got, fmt.Sprintf("%s %s: %s %s -> %s", s.Stage, s.Address, s.Table, s.Pattern, strings.Join(s.Result, ",")))
	}
	want := []string{
		"canonical a@in.example: inline:2 a@in.example -> anna@in.example",
		"virtual anna@in.example: inline:1 @in.example -> b@x.example",
		"bcc anna@in.example: inline:1 anna@in.example -> c@x.example",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s", strings.Join(got, "\n"))
	}
}

func BenchmarkRecipient(b *testing.B) {
	var lines []string
	for i := range 10_000 {
		lines = append(lines, fmt.Sprintf("user%d@in.example box%d@store.example", i, i))
	}
	e := newEngine(b, Config{Virtual: inline(lines...), Delimiters: "+", Ours: ours})
	a := address(b, "user777@in.example")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Recipient(b.Context(), a, nil); err != nil {
			b.Fatal(err)
		}
	}
}

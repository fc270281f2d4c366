package rewrite

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtp"
)

func parse(s string) (mail.Address, bool) {
	a, err := smtp.ParseAddress(s)
	return a, err == nil
}

// body is a message in memory.
type body struct{ *strings.Reader }

// edited applies edits to a header as delivery does.
func edited(t testing.TB, header string, edits mail.Edits) string {
	t.Helper()
	var b strings.Builder
	at := int64(0)
	for _, r := range edits.Replace {
		if r.Start < at || r.End < r.Start || r.End > int64(len(header)) {
			t.Fatalf("the replacement %+v is out of order or bounds", r.Span)
		}
		b.WriteString(header[at:r.Start])
		b.Write(r.Text)
		at = r.End
	}
	b.WriteString(header[at:])
	return b.String()
}

func headerEngine(t testing.TB) *Engine {
	return newEngine(t, Config{
		Canonical:          inline("anna@in.example anna.berg@in.example", `"a b"@in.example ab@in.example`, "odd@in.example \"o dd\"@in.example"),
		SenderCanonical:    inline("s@in.example sender@in.example"),
		RecipientCanonical: inline("r@in.example recipient@in.example"),
		Masquerade:         []string{"in.example"},
		Delimiters:         "+",
	})
}

func TestHeadersAreChangedAtTheAddressAlone(t *testing.T) {
	tests := []struct{ name, before, after string }{
		{"an address alone", "From: anna@in.example", "From: anna.berg@in.example"},
		{"in angle brackets, with a name", "From: \"Anna, B.\" <anna@in.example>", "From: \"Anna, B.\" <anna.berg@in.example>"},
		{"a name with an address in it", "From: \"anna@in.example\" <anna@in.example>", "From: \"anna@in.example\" <anna.berg@in.example>"},
		{"an encoded name", "From: =?utf-8?q?B=C3=A4r?= <Anna@IN.example>", "From: =?utf-8?q?B=C3=A4r?= <anna.berg@in.example>"},
		{"with comments", "From: anna@in.example (Anna <x@in.example>, (home))", "From: anna.berg@in.example (Anna <x@in.example>, (home))"},
		{"several, folded", "To: anna@in.example,\r\n\tBert <bert@x.example>,\r\n <anna+x@in.example>", "To: anna.berg@in.example,\r\n\tBert <bert@x.example>,\r\n <anna.berg+x@in.example>"},
		{"a group", "Cc: people: anna@in.example, r@in.example;, anna@in.example", "Cc: people: anna.berg@in.example, recipient@in.example;, anna.berg@in.example"},
		{"an empty group", "To: undisclosed-recipients:;", "To: undisclosed-recipients:;"},
		{"a quoted local part", "To: \"a b\"@in.example", "To: ab@in.example"},
		{"a result that needs quotes", "To: <odd@in.example>", "To: <\"o dd\"@in.example>"},
		{"a source route", "To: <@x.example,@y.example:anna@in.example>", "To: <@x.example,@y.example:anna.berg@in.example>"},
		{"white space where the old syntax has it", "To: anna @ in.example", "To: anna.berg@in.example"},
		{"a name without quotes before an address without brackets", "To: Anna anna@in.example", "To: Anna anna@in.example"},
		{"a comment inside of an address", "To: anna(x)@in.example", "To: anna(x)@in.example"},
		{"rubbish", "To: <<anna@in.example, \"anna@in.example, (anna@in.example", "To: <<anna@in.example, \"anna@in.example, (anna@in.example"},
		{"sender canonical in fields of senders", "Reply-To: s@in.example, r@in.example", "Reply-To: sender@in.example, r@in.example"},
		{"recipient canonical in fields of recipients", "Resent-To: s@in.example, r@in.example", "Resent-To: s@in.example, recipient@in.example"},
		{"masquerade", "Sender: x@host.in.example", "Sender: x@in.example"},
		{"other fields stay", "X-Note: anna@in.example\r\nSubject: anna@in.example\r\nMessage-ID: <anna@in.example>", "X-Note: anna@in.example\r\nSubject: anna@in.example\r\nMessage-ID: <anna@in.example>"},
		{"spelling that no entry touches stays", "To: X@OUT.Example", "To: X@OUT.Example"},
		{"an address literal", "To: x@[192.0.2.1], anna@in.example", "To: x@[192.0.2.1], anna.berg@in.example"},
	}
	e := headerEngine(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := message.ParseHeader([]byte("Received: x\r\n" + tt.before + "\r\n\r\n"))
			replace, err := e.Headers(t.Context(), &mail.Session{User: "anna"}, h, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := "Received: x\r\n" + tt.after + "\r\n\r\n"
			if got := edited(t, "Received: x\r\n"+tt.before+"\r\n\r\n", mail.Edits{Replace: replace}); got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestDeliveryAppliesWhatHeadersReturns(t *testing.T) {
	const text = "From: anna@in.example\r\nTo: x@out.example\r\n\r\nanna@in.example\r\n"
	h := message.ParseHeader([]byte(text[:strings.Index(text, "\r\n\r\n")+4]))
	replace, err := headerEngine(t).Headers(t.Context(), &mail.Session{Trusted: true}, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := message.NewContent(mail.Message{Envelope: &mail.Envelope{Edits: mail.Edits{Replace: replace}, HeaderSize: h.Size, Size: int64(len(text))}, Body: body{strings.NewReader(text)}})
	got, err := io.ReadAll(c.Reader())
	if want := strings.Replace(text, "anna@", "anna.berg@", 1); err != nil || string(got) != want {
		t.Errorf("got %q, %v", string(got), err)
	}
}

func TestWhoseHeadersAreRewritten(t *testing.T) {
	h := message.ParseHeader([]byte("From: anna@in.example\r\n\r\n"))
	stranger, trusted, user := &mail.Session{}, &mail.Session{Trusted: true}, &mail.Session{User: "anna"}
	for _, tt := range []struct {
		clients Clients
		want    [3]bool
	}{{"", [3]bool{false, true, true}}, {ClientsTrusted, [3]bool{false, true, true}}, {ClientsAll, [3]bool{true, true, true}}, {ClientsNone, [3]bool{}}} {
		e := newEngine(t, Config{Canonical: inline("anna@in.example a@in.example"), HeaderClients: tt.clients})
		for i, s := range []*mail.Session{stranger, trusted, user} {
			replace, err := e.Headers(t.Context(), s, h, nil)
			if err != nil || (len(replace) == 1) != tt.want[i] {
				t.Errorf("%q, client %d: %d changes, %v", tt.clients, i, len(replace), err)
			}
		}
	}
}

func TestHeadersWaitForATableThatIsDown(t *testing.T) {
	down := LookupFunc(func(context.Context, string) ([]string, error) { return nil, errors.New("no answer") })
	e := newEngine(t, Config{Canonical: []Table{{Lookup: down, Name: "ldap:ad"}}})
	h := message.ParseHeader([]byte("From: anna@in.example\r\n\r\n"))
	if replace, err := e.Headers(t.Context(), &mail.Session{Trusted: true}, h, nil); err == nil || len(replace) > 0 {
		t.Errorf("got %v, %v", replace, err)
	}
}

func TestGenericSeesWhatCanonicalLeft(t *testing.T) {
	const text = "Received: x\r\nX-Old: y\r\nFrom: anna@in.example\r\nSubject: z\r\nTo: Anna <anna.berg@in.example>,\r\n other@in.example\r\n\r\n"
	e := newEngine(t, Config{Canonical: inline("anna@in.example anna.berg@in.example"), Generic: inline("anna.berg@in.example shop@isp.example", "other@in.example anna@in.example")})
	h := message.ParseHeader([]byte(text))
	replace, err := e.Headers(t.Context(), &mail.Session{Trusted: true}, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(strings.Index(text, " z"))
	tag := mail.Replacement{Span: mail.Span{Start: at, End: at}, Text: []byte(" [TAG]")}
	cut := mail.Span{Start: 13, End: 23}
	before := mail.Edits{Prepend: []byte("X-New: y\r\n"), Cut: []mail.Span{cut}, Replace: append(replace, tag)}
	after, err := e.OutgoingHeaders(t.Context(), h, before, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "Received: x\r\nX-Old: y\r\nFrom: shop@isp.example\r\nSubject: [TAG] z\r\nTo: Anna <shop@isp.example>,\r\n anna@in.example\r\n\r\n"
	if got := edited(t, text, after); got != want {
		t.Errorf("got\n%s", got)
	}
	if string(after.Prepend) != "X-New: y\r\n" || len(after.Cut) != 1 || string(before.Replace[0].Text) != "anna.berg@in.example" {
		t.Error("other edits, or those that were given, have changed")
	}
}

func TestFieldsThatAreCutAreLeftAlone(t *testing.T) {
	const text = "From: anna@in.example\r\nTo: anna@in.example\r\n\r\n"
	e := newEngine(t, Config{Generic: inline("anna@in.example shop@isp.example")})
	cut := mail.Span{Start: 0, End: int64(strings.Index(text, "To:"))}
	edits, err := e.OutgoingHeaders(t.Context(), message.ParseHeader([]byte(text)), mail.Edits{Cut: []mail.Span{cut}}, nil)
	if err != nil || len(edits.Replace) != 1 || edits.Replace[0].Start < cut.End {
		t.Errorf("got %+v, %v", edits.Replace, err)
	}
}

func TestALongHeaderIsNoWork(t *testing.T) {
	for name, text := range map[string]string{
		"a phrase":    strings.Repeat("word ", 200_000),
		"dots":        strings.Repeat("a . ", 250_000),
		"comments":    strings.Repeat("(", 1_000_000),
		"addresses":   strings.Repeat("a@b.example,", 80_000),
		"open quotes": strings.Repeat(`"\`, 500_000),
	} {
		for _, s := range addressesIn(text) {
			if len(s.text) > 2*maxAddress {
				t.Errorf("%s: an address of %d bytes", name, len(s.text))
			}
		}
	}
}

// FuzzHeaders: only addresses of the fields for addresses change, and nothing
// around them.
func FuzzHeaders(f *testing.F) {
	f.Add("From: \"A\" <anna@in.example> (c)\r\nTo: g: anna@in.example;, anna @ in.example\r\n\r\n")
	f.Add("To: <@a:anna@in.example>,\r\n \"a\\\"b\"@in.example\r\nX: y\r\n\r\n")
	f.Add("Cc: anna@[1.2.3.4], ((anna@in.example), anna@in.example")
	e := newEngine(f, Config{Canonical: inline("anna@in.example xx@y.example", "@in.example @z.example"), HeaderClients: ClientsAll})
	f.Fuzz(func(t *testing.T, text string) {
		h := message.ParseHeader([]byte(text))
		section := text[:min(int(h.Size), len(text))]
		replace, err := e.Headers(t.Context(), &mail.Session{}, h, nil)
		if err != nil {
			t.Fatal(err)
		}
		after := edited(t, section, mail.Edits{Replace: replace})
		again := message.ParseHeader([]byte(after))
		if len(again.Fields()) != len(h.Fields()) {
			t.Fatalf("%d fields became %d: %q", len(h.Fields()), len(again.Fields()), after)
		}
		for i, field := range h.Fields() {
			if got := again.Fields()[i]; classOf(field.Name) == 0 && got.Raw() != field.Raw() {
				t.Fatalf("%q became %q", field.Raw(), got.Raw())
			}
		}
	})
}

package filter

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

const program = "MZ\x90\x00\x03\x00\x00\x00\x04\x00"

func TestConditions(t *testing.T) {
	const plain = "Subject: =?utf-8?q?Ihre_Rechnung?=\nFrom: x@shop.example\nX-Mailer: Bulk\n  Sender 3\nX-Tag: one\nX-Tag: two\nX-Odd: vi\u200bagra\n\nhello\n"
	zipped := attached([3]string{"a.zip", "application/zip", zipOf(t, "readme.txt", "invoice.pdf.EXE")})
	hidden := attached([3]string{"photo.jpg", "image/jpeg", program})
	tests := []struct {
		name string
		when when
		text string
		want string // the reason, "" for no match
	}{
		// --- envelope
		{"an exact sender", when{"sender": "sender@shop.example"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"another sender", when{"sender": "other@shop.example"}, plain, ""},
		{"the sender's domain with @", when{"sender": "@shop.example"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"the sender's domain", when{"sender": "shop.example"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"a domain above is not it", when{"sender": "example"}, plain, "error"},
		{"a domain above with a dot is it", when{"sender": ".example"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"the domain with a dot is itself too", when{"sender": ".shop.example"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"a domain that only ends alike", when{"sender": ".op.example"}, plain, ""},
		{"a local part everywhere", when{"sender": "SENDER@"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"an expression on the sender minds no case", when{"sender": "/^SEND.*@shop/"}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"one of several", when{"sender": []any{"x@y.example", "@shop.example"}}, plain, `sender matched "<Sender@Shop.Example>"`},
		{"the null sender is none of them", when{"sender": "<>"}, plain, ""},
		{"a recipient", when{"recipient": "bob@example.com"}, plain, `recipient matched "bob@example.com"`},
		{"a recipient as the client named it", when{"recipient": "@example.net"}, plain, `recipient matched "sales@example.net"`},
		{"a client's address", when{"client": "192.0.2.7"}, plain, `client matched "192.0.2.7"`},
		{"a client's network", when{"client": []any{"2001:db8::/32", "192.0.2.0/24"}}, plain, `client matched "192.0.2.7"`},
		{"another network", when{"client": "192.0.3.0/24"}, plain, ""},
		{"a client's name", when{"client": ".shop.example"}, plain, `client matched "mx1.shop.example"`},
		{"an expression on the client's name", when{"client": `/^mx\d\./`}, plain, `client matched "mx1.shop.example"`},
		{"the HELO name", when{"helo": "mx1.shop.example"}, plain, `helo matched "mx1.shop.example"`},
		{"no user", when{"user": ""}, plain, "no user"},
		{"any user", when{"user": "*"}, plain, ""},
		{"a listener", when{"listener": "in*"}, plain, `listener is "inbound"`},
		{"every message", when{"size_over": int64(0)}, "\n", "2 bytes, over 0"},
		{"a small message", when{"size_over": "1KiB"}, plain, ""},
		{"two recipients", when{"recipients_over": int64(1)}, plain, "2 recipients, over 1"},
		{"not more than two", when{"recipients_over": int64(2)}, plain, ""},
		{"working hours", when{"time": "Mon-Fri 08:00-18:00"}, plain, "time is Wed 09:30"},
		{"the weekend", when{"time": []any{"Sat,Sun", "18:00-08:00"}}, plain, ""},

		// --- header
		{"a subject that is encoded", when{"subject": "(?i)rechnung"}, plain, `subject matched "Rechnung" in "Ihre Rechnung"`},
		{"a subject as it stands", when{"subject": `^=\?utf-8`}, plain, `subject matched "=?utf-8" in "Ihre Rechnung"`},
		{"case matters", when{"subject": "rechnung"}, plain, ""},
		{"a field in a table", when{"header": when{"X-Tag": "two"}}, plain, `header.X-Tag matched "two"`},
		{"a field with a dot", when{"header.x-tag": "two"}, plain, `header.x-tag matched "two"`},
		{"a folded field", when{"header": when{"X-Mailer": "^Bulk  ?Sender"}}, plain, `header.X-Mailer matched "Bulk  Sender" in "Bulk  Sender 3"`},
		{"a word with an invisible character", when{"header": when{"X-Odd": "viagra"}}, plain, `header.X-Odd matched "viagra"`},
		{"a field that is there", when{"header": when{"X-Mailer": ""}}, plain, `header.X-Mailer matched "" in "Bulk  Sender 3"`},
		{"a field that is not there", when{"header": when{"List-Id": ""}}, plain, ""},
		{"any field, with its name", when{"header": when{"*": "^X-Tag: t"}}, plain, `header.* matched "X-Tag: t" in "X-Tag: two"`},
		{"the body is no header", when{"header": when{"*": "hello"}}, plain, ""},
		{"two fields, both", when{"header": when{"X-Tag": "one", "X-Mailer": "Bulk"}}, plain, `header.X-Mailer matched "Bulk" in "Bulk  Sender 3" and header.X-Tag matched "one"`},
		{"two fields, one of which does not", when{"header": when{"X-Tag": "three", "X-Mailer": "Bulk"}}, plain, ""},

		// --- findings
		{"what a block found", when{"finding": "spf:fail"}, plain, `finding matched "authres:spf:fail"`},
		{"with the module", when{"finding": "authres:spf:fail"}, plain, `finding matched "authres:spf:fail"`},
		{"whatever a module found", when{"finding": "authres:*"}, plain, `finding matched "authres:spf:fail"`},
		{"what is fine", when{"finding": "dkim:pass"}, plain, `finding matched "authres:dkim:pass"`},
		{"what a check found before", when{"finding": "dnsbl:*"}, plain, `finding matched "dnsbl:zen.example.org"`},
		{"what nobody found", when{"finding": "clamav:*"}, plain, ""},

		// --- files
		{"a name in an archive", when{"attachment_name": `\.pdf\.exe$`}, zipped, `attachment_name matched "invoice.pdf.exe" in "a.zip > invoice.pdf.EXE"`},
		{"names mind no case", when{"attachment_name": `\.EXE$`}, zipped, `attachment_name matched "invoice.pdf.exe" in "a.zip > invoice.pdf.EXE"`},
		{"a name that is not there", when{"attachment_name": `\.scr$`}, zipped, ""},
		{"a type by content", when{"attachment_type": "application/vnd.microsoft.portable-executable"}, hidden, `attachment_type matched "application/vnd.microsoft.portable-executable" in "photo.jpg"`},
		{"a type as declared", when{"attachment_type": "image/*"}, hidden, `attachment_type matched "image/jpeg" in "photo.jpg"`},
		{"name and type of the same file", when{"attachment_name": `\.jpg$`, "attachment_type": "*portable-executable"}, hidden, `attachment_name matched "photo.jpg" in "photo.jpg" and attachment_type matched "application/vnd.microsoft.portable-executable" in "photo.jpg"`},
		{"name and type of different files", when{"attachment_name": `readme`, "attachment_type": "application/zip"}, zipped, ""},
		{"nothing is encrypted", when{"encrypted": true}, zipped, ""},
		{"not encrypted", when{"encrypted": false, "size_over": int64(0)}, "\nx\n", "5 bytes, over 0"},
		{"no macros", when{"macro": true}, zipped, ""},
		{"one attachment", when{"attachments_over": int64(0)}, zipped, "1 attachments, over 0"},
		{"not more than one", when{"attachments_over": int64(1)}, zipped, ""},
		{"an ambiguous message", when{"ambiguous": true}, "Content-Type: multipart/mixed; boundary=a\nContent-Type: multipart/mixed; boundary=b\n\n--a\n\nx\n--b\n\ny\n--a--\n--b--\n", "ambiguous: "},
		{"an ordinary one", when{"ambiguous": true}, plain, ""},

		// --- tables
		{"all conditions", when{"sender": "@shop.example", "subject": "Rechnung"}, plain, `sender matched "<Sender@Shop.Example>" and subject matched "Rechnung" in "Ihre Rechnung"`},
		{"all but one", when{"sender": "@shop.example", "subject": "Angebot"}, plain, ""},
		{"an exception that does not hold", when{"subject": "Rechnung", "not": when{"sender": "@bank.example"}}, plain, `subject matched "Rechnung" in "Ihre Rechnung"`},
		{"an exception that holds", when{"subject": "Rechnung", "not": when{"sender": "@bank.example", "client": "192.0.2.7"}}, plain, ""},
		{"nothing but an exception", when{"not": when{"sender": "@bank.example"}}, plain, "none of the excluded conditions holds"},
		{"an exception of two conditions", when{"not": []any{when{"sender": "@shop.example", "client": "198.51.100.1"}}}, plain, "none of the excluded conditions holds"},
		{"any of two", when{"any": when{"sender": "@bank.example", "subject": "Rechnung"}}, plain, `subject matched "Rechnung" in "Ihre Rechnung"`},
		{"any of two tables", when{"any": []map[string]any{{"sender": "@shop.example", "subject": "x"}, {"client": "192.0.2.7", "helo": ".example"}}}, plain, `client matched "192.0.2.7" and helo matched "mx1.shop.example"`},
		{"any of two fields", when{"any": when{"header": when{"X-Nope": "", "X-Tag": "two"}}}, plain, `header.X-Tag matched "two"`},
		{"not not", when{"not": when{"not": when{"sender": "@shop.example"}}}, plain, "none of the excluded conditions holds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "error" {
				if _, err := Compile(Spec{Name: "f", When: tt.when}); err == nil {
					t.Error("no error")
				}
				return
			}
			got := ""
			for _, f := range run(t, letter(t, tt.text), compile(t, tt.when)) {
				if f.Module != "filters" || f.Symbol != "f" || f.Result != mail.Match {
					t.Errorf("finding %+v", f)
				}
				got = f.Reason
			}
			if got != tt.want && (!strings.HasSuffix(tt.want, ": ") || !strings.HasPrefix(got, tt.want)) {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

func TestTextConditions(t *testing.T) {
	const text = "Subject: x\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n<p>Buy che<b>ap</b> pills =C3=BCberall at <a href=3D\"http://user@pills.Evil.example:8080/p?q=3D1\">our shop</a></p>\n"
	list := filepath.Join(t.TempDir(), "domains")
	if err := os.WriteFile(list, []byte("# bad ones\nevil.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		when when
		want string
	}{
		{"a text across tags and encodings", when{"body": "cheap pills über"}, `body matched "cheap pills über" in part 1`},
		{"a text that is not there", when{"body": "expensive"}, ""},
		{"a link", when{"url": `/p\?q=1$`}, "url matched "},
		{"a link to a domain of a list", when{"url": "file:" + list}, `url matched "pills.evil.example" in `},
		{"another link", when{"url": "bank"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for _, f := range run(t, letter(t, text), compile(t, tt.when)) {
				got = f.Reason
			}
			if !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	const alice, bob = "alice@example.com", "bob@example.com"
	tests := []struct {
		name string
		when when
		want []string // nil: no match; empty: everybody
	}{
		{"everybody", when{"size_over": int64(0)}, []string{}},
		{"one of them", when{"recipient": bob}, []string{bob}},
		{"both by name", when{"recipient": []any{bob, alice}}, []string{alice, bob}},
		{"none of them", when{"recipient": "carol@example.com"}, nil},
		{"all but one", when{"size_over": int64(0), "not": when{"recipient": bob}}, []string{alice}},
		{"all but both", when{"size_over": int64(0), "not": when{"recipient": ".example.com"}}, nil},
		{"all but a stranger", when{"size_over": int64(0), "not": when{"recipient": "carol@example.com"}}, []string{}},
		{"both of two conditions", when{"recipient": "@example.com", "not": when{"recipient": alice}}, []string{bob}},
		{"either of two", when{"any": when{"recipient": bob, "sender": "@bank.example"}}, []string{bob}},
		{"either of two, one for everybody", when{"any": when{"recipient": bob, "sender": "@shop.example"}}, []string{}},
		{"whom a finding concerns", when{"finding": "milter:only-bob"}, []string{bob}},
		{"whom a finding does not concern", when{"not": when{"finding": "only-bob"}}, []string{alice}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range run(t, letter(t, "\nx\n"), compile(t, tt.when)) {
				got = append([]string{}, f.Recipients...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("recipients (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFilterOnRecipientsHoldsForNobodyWhereThereAreNone(t *testing.T) {
	in := letter(t, "\nx\n", func(e *mail.Envelope) { e.Recipients = nil })
	if got := run(t, in, compile(t, when{"recipient": ".example.com"})); len(got) != 0 {
		t.Errorf("findings %+v", got)
	}
	if got := run(t, in, compile(t, when{"not": when{"recipient": ".example.com"}})); len(got) != 1 {
		t.Errorf("findings %+v", got)
	}
}

func TestSessions(t *testing.T) {
	tests := []struct {
		name   string
		when   when
		change func(*mail.Envelope)
		want   bool
	}{
		{"the null sender", when{"sender": "<>"}, func(e *mail.Envelope) { e.Sender = mail.Address{} }, true},
		{"the null sender is in no domain", when{"sender": []any{".example", "/.*/"}}, func(e *mail.Envelope) { e.Sender = mail.Address{} }, false},
		{"any user", when{"user": "*"}, func(e *mail.Envelope) { e.Session.User = "eve" }, true},
		{"one user", when{"user": "Eve"}, func(e *mail.Envelope) { e.Session.User = "eve" }, true},
		{"an expression on the user", when{"user": "/^E/"}, func(e *mail.Envelope) { e.Session.User = "eve" }, true},
		{"an expression on the HELO name", when{"helo": `/^MX\d/`}, nil, true},
		{"no user", when{"user": ""}, func(e *mail.Envelope) { e.Session.User = "eve" }, false},
		{"an IPv4 client in IPv6 clothes", when{"client": "192.0.2.0/24"}, func(e *mail.Envelope) {
			e.Session.Client = netip.MustParseAddrPort("[::ffff:192.0.2.9]:25")
		}, true},
		{"an IPv4 network in IPv6 clothes", when{"client": "::ffff:192.0.2.0/120"}, nil, true},
		{"an IPv6 network", when{"client": "2001:db8::/32"}, func(e *mail.Envelope) {
			e.Session.Client = netip.MustParseAddrPort("[2001:db8::1]:25")
		}, true},
		{"a client of unknown address", when{"client": "0.0.0.0/0"}, func(e *mail.Envelope) { e.Session.Client = netip.AddrPort{} }, false},
		{"over midnight, in the evening", when{"time": "Tue 22:00-06:00"}, at("2026-03-03T23:00:00"), true},
		{"over midnight, in the morning", when{"time": "Tue 22:00-06:00"}, at("2026-03-04T05:59:00"), true},
		{"over midnight, too late", when{"time": "Tue 22:00-06:00"}, at("2026-03-04T06:00:00"), false},
		{"over midnight, the morning of that day", when{"time": "Tue 22:00-06:00"}, at("2026-03-03T05:00:00"), false},
		{"over the weekend", when{"time": "Fri-Mon"}, at("2026-03-08T12:00:00"), true},
		{"the end is not included", when{"time": "08:00-18:00"}, at("2026-03-03T18:00:00"), false},
		{"to the end of the day", when{"time": "18:00-24:00"}, at("2026-03-03T23:59:00"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*mail.Envelope) {}
			}
			if got := run(t, letter(t, "\nx\n", change), compile(t, tt.when)); (len(got) == 1) != tt.want {
				t.Errorf("findings %+v", got)
			}
		})
	}
}

func at(s string) func(*mail.Envelope) {
	return func(e *mail.Envelope) {
		when, err := time.ParseInLocation("2006-01-02T15:04:05", s, time.Local)
		if err != nil {
			panic(err)
		}
		e.Received = when
	}
}

func TestDirection(t *testing.T) {
	in := letter(t, "\nx\n")
	in.Direction = scan.Outbound
	for direction, want := range map[string]int{"": 1, "any": 1, "outbound": 1, "inbound": 0, "pop3": 0} {
		f := compile(t, when{"size_over": int64(0)}, func(s *Spec) { s.Direction = direction })
		if got := run(t, in, f); len(got) != want {
			t.Errorf("direction %q: findings %+v", direction, got)
		}
	}
}

func TestStripNamesEveryPart(t *testing.T) {
	var files [][3]string
	for i := range 30 {
		files = append(files, [3]string{"a" + string(rune('a'+i%26)) + ".exe", "application/octet-stream", program})
	}
	files = append(files, [3]string{"b.zip", "application/zip", zipOf(t, "x.exe", "y.exe")}, [3]string{"fine.txt", "text/plain", "fine"})
	in := letter(t, attached(files...))
	for strip, want := range map[bool]int{true: 31, false: maxNamed} {
		got := run(t, in, compile(t, when{"attachment_name": `\.exe$`}, func(s *Spec) { s.Strip = strip }))
		parts := map[string]bool{}
		for _, f := range got {
			parts[f.Part] = true
			if f.Part == "" || f.Name == "" {
				t.Errorf("finding without a part: %+v", f)
			}
		}
		if len(got) != want || len(parts) != want {
			t.Errorf("strip %v: %d findings on %d parts, want %d", strip, len(got), len(parts), want)
		}
	}
}

// What is taken out for one recipient stays for the other.
func TestPartsConcernWhomTheirTableConcerns(t *testing.T) {
	in := letter(t, attached([3]string{"a.exe", "application/octet-stream", program}, [3]string{"b.scr", "application/octet-stream", program}, [3]string{"c.js", "text/plain", "x"}))
	f := compile(t, when{"any": []any{
		when{"recipient": "alice@example.com", "attachment_name": `\.exe$`},
		when{"recipient": "bob@example.com", "attachment_name": `\.(scr|js)$`},
		when{"recipient": "alice@example.com", "attachment_name": `\.js$`},
	}}, func(s *Spec) { s.Strip = true })
	got := map[string][]string{}
	for _, f := range run(t, in, f) {
		got[f.Name] = f.Recipients
	}
	want := map[string][]string{"a.exe": {"alice@example.com"}, "b.scr": {"bob@example.com"}, "c.js": {"alice@example.com", "bob@example.com"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

// Filters are shared by all messages that are scanned at the same time.
func TestScanIsSafeAtTheSameTime(t *testing.T) {
	m := New([]*Filter{
		compile(t, when{"attachment_name": `\.exe$`}), compile(t, when{"subject": "files"}), compile(t, when{"body": "offer"}),
		compile(t, when{"any": when{"url": "shop", "recipient": "bob@example.com"}}),
	})
	in := letter(t, attached([3]string{"a.zip", "application/zip", zipOf(t, "x.exe")}))
	want, err := m.Scan(t.Context(), in)
	if err != nil || len(want) != 4 {
		t.Fatalf("findings %+v, error %v", want, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := m.Scan(t.Context(), in); err != nil || cmp.Diff(want, got) != "" {
				t.Errorf("findings %+v, error %v", got, err)
			}
		})
	}
	wg.Wait()
}

// A body that cannot be read any more is unknown, and other filters go on.
func TestAFilterThatCannotBeEvaluatedIsUnknown(t *testing.T) {
	large := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{}).Read(large)
	in := letter(t, attached([3]string{"a.zip", "application/zip", string(large) + zipOf(t, "x.exe")}))
	in = broken(t, in)
	findings := run(t, in, compile(t, when{"attachment_name": `\.exe$`}, named("names")), compile(t, when{"sender": "@shop.example"}, named("sender")))
	if len(findings) != 2 || findings[0].Symbol != "names" || findings[0].Result != mail.Unknown || findings[1].Symbol != "sender" || findings[1].Result != mail.Match {
		t.Errorf("findings %+v", findings)
	}
	// What is certain already needs no file.
	f := compile(t, when{"any": when{"attachment_name": `\.exe$`, "sender": "@shop.example"}})
	if got := run(t, in, f); len(got) != 1 || got[0].Result != mail.Match {
		t.Errorf("findings %+v", got)
	}
	f = compile(t, when{"attachment_name": `\.exe$`, "sender": "@bank.example"})
	if got := run(t, in, f); len(got) != 0 {
		t.Errorf("findings %+v", got)
	}
}

func named(name string) func(*Spec) { return func(s *Spec) { s.Name = name } }

// tornBody is a body whose storage fails at some time.
type tornBody struct {
	mail.Body
	torn bool
}

func (b *tornBody) ReadAt(p []byte, off int64) (int, error) {
	if b.torn {
		return 0, errors.New("input/output error")
	}
	return b.Body.ReadAt(p, off)
}

// broken returns the input on a body that fails from now on.
func broken(t *testing.T, in *scan.Input) *scan.Input {
	t.Helper()
	body := &tornBody{Body: in.Message.Body}
	again, err := scan.NewInput(t.Context(), mail.Message{Envelope: in.Message.Envelope, Body: body}, in.Direction, optionsFor(t))
	if err != nil {
		t.Fatal(err)
	}
	body.torn = true
	return again
}

func TestScanStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New([]*Filter{compile(t, when{"size_over": int64(0)})}).Scan(ctx, letter(t, "\nx\n"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

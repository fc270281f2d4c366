package senders

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// lists stand for a database: "owner allow|block pattern", owner "*" for everybody.
type lists struct {
	entries []string
	err     error
	hangs   bool
}

func (l *lists) MatchSenders(ctx context.Context, owners, patterns []string) ([]store.SenderEntry, error) {
	if l.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var found []store.SenderEntry
	for _, text := range l.entries {
		f := strings.Fields(text)
		e := store.SenderEntry{SenderKey: store.SenderKey{Owner: strings.TrimPrefix(f[0], "*"), Pattern: f[2]}, Kind: store.SenderKind(f[1])}
		if slices.Contains(owners, e.Owner) && slices.Contains(patterns, e.Pattern) {
			found = append(found, e)
		}
	}
	return found, l.err
}

func parsed(t *testing.T, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// input is a message from an envelope sender and an author to recipients; passes are
// those of authres, "spf:pass=out.example".
func input(t *testing.T, sender, from string, passes []string, recipients ...string) *scan.Input {
	t.Helper()
	env := &mail.Envelope{ID: mail.NewID(), Sender: parsed(t, sender)}
	for _, r := range recipients {
		given, original, _ := strings.Cut(r, "<")
		to := mail.Recipient{Address: parsed(t, given), Original: parsed(t, given)}
		if original != "" {
			to.Original = parsed(t, original)
		}
		env.Recipients = append(env.Recipients, to)
	}
	text := "From: " + from + "\r\nSubject: x\r\n\r\n"
	header, err := message.ReadHeader(strings.NewReader(text), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	authres := scan.Report{Use: "authres"}
	for _, p := range passes {
		symbol, domain, _ := strings.Cut(p, "=")
		f := mail.Finding{Module: "authres", Symbol: symbol, Name: domain}
		if strings.HasPrefix(symbol, "spf:") {
			f.Properties = []mail.Property{{Name: "smtp.mailfrom", Value: "x@" + domain}}
		}
		if domain, helo := strings.CutPrefix(domain, "helo:"); helo {
			f.Name, f.Properties = domain, []mail.Property{{Name: "smtp.helo", Value: domain}}
		}
		authres.Findings = append(authres.Findings, f)
	}
	return &scan.Input{Message: mail.Message{Envelope: env}, Direction: scan.Inbound, Header: header, Reports: []scan.Report{authres}}
}

// said is what was found, one recipient after the other.
func said(findings []mail.Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, strings.Join(f.Recipients, " ")+" "+f.Symbol+" "+f.Name)
	}
	return strings.Join(all, "; ")
}

func TestTheMostSpecificEntryCounts(t *testing.T) {
	const ann, bob = "ann@in.example", "bob@in.example"
	spf := []string{"spf:pass=shop.example"}
	cases := []struct {
		name    string
		entries []string
		sender  string
		from    string
		passes  []string
		to      []string
		want    string
	}{
		{"nothing is known", []string{"ann@in.example block a@other.example"}, "news@shop.example", "news@shop.example", nil, []string{ann}, ""},
		{"blocked for one alone", []string{"ann@in.example block news@shop.example"}, "news@shop.example", "news@shop.example", nil, []string{ann, bob}, "ann@in.example blocked news@shop.example"},
		{"the recipient's list before that of the domain", []string{"@in.example block @shop.example", "ann@in.example allow @shop.example"}, "news@shop.example", "news@shop.example", spf, []string{ann, bob},
			"ann@in.example allowed @shop.example; bob@in.example blocked @shop.example"},
		{"the domain's list before that of everybody", []string{"* allow news@shop.example", "@in.example block @shop.example"}, "news@shop.example", "news@shop.example", spf, []string{ann}, "ann@in.example blocked @shop.example"},
		{"an address before its domain", []string{"ann@in.example block @shop.example", "ann@in.example allow news@shop.example"}, "news@shop.example", "news@shop.example", spf, []string{ann}, "ann@in.example allowed news@shop.example"},
		{"the longer domain before the shorter one", []string{"* allow @shop.example", "* block @mail.shop.example"}, "n@mail.shop.example", "n@mail.shop.example", []string{"spf:pass=mail.shop.example"}, []string{ann}, "ann@in.example blocked @mail.shop.example"},
		{"a domain holds for those below it", []string{"* block @shop.example"}, "n@a.b.shop.example", "n@a.b.shop.example", nil, []string{ann}, "ann@in.example blocked @shop.example"},
		{"and for none whose name only ends so", []string{"* block @shop.example"}, "n@myshop.example", "n@myshop.example", nil, []string{ann}, ""},
		{"blocked before allowed where both are as specific", []string{"* allow a@out.example", "* block b@out.example"}, "a@out.example", "b@out.example", []string{"dmarc:pass=out.example"}, []string{ann}, "ann@in.example blocked b@out.example"},
		{"a long address is no more specific than a short one", []string{"* allow long.name@out.example", "* block b@out.example"}, "long.name@out.example", "b@out.example", []string{"dmarc:pass=out.example"}, []string{ann}, "ann@in.example blocked b@out.example"},
		{"the author counts as the envelope does", []string{"* block ceo@out.example"}, "bounce@mailer.example", "The CEO <CEO@Out.Example>", nil, []string{ann}, "ann@in.example blocked ceo@out.example"},
		{"the second author as well", []string{"* block ceo@out.example"}, "", "a@b.example, ceo@out.example", nil, []string{ann}, "ann@in.example blocked ceo@out.example"},
		{"a broken From is looked through", []string{"* block ceo@out.example"}, "", "x <<ceo@out.example>", nil, []string{ann}, "ann@in.example blocked ceo@out.example"},
		{"the address that the sender wrote has its list too", []string{"info@in.example block @shop.example"}, "n@shop.example", "n@shop.example", nil, []string{"ann@in.example<info@in.example"}, "ann@in.example blocked @shop.example"},
		{"no sender, no entry", []string{"* block @out.example"}, "", "nobody", nil, []string{ann}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := New(Config{Store: &lists{entries: c.entries}})
			got, err := m.Scan(t.Context(), input(t, c.sender, c.from, c.passes, c.to...))
			if err != nil || said(got) != c.want {
				t.Errorf("got %q, %v; want %q", said(got), err, c.want)
			}
		})
	}
}

func TestWhoIsAllowedMustBeTheSender(t *testing.T) {
	const entry = "* allow @shop.example"
	cases := []struct {
		name         string
		sender, from string
		passes       []string
		unproven     bool
		want         string
	}{
		{"nothing proves it", "n@shop.example", "n@shop.example", nil, false, SymbolUnproven},
		{"SPF proves the envelope", "n@shop.example", "n@shop.example", []string{"spf:pass=shop.example"}, false, SymbolAllowed},
		{"but not where the author is forged", "n@shop.example", "boss@bank.example", []string{"spf:pass=shop.example", "dmarc:fail=bank.example"}, false, SymbolUnproven},
		{"and nothing for an author elsewhere", "n@evil.example", "n@shop.example", []string{"spf:pass=evil.example"}, false, SymbolUnproven},
		{"SPF of HELO proves no sender", "n@shop.example", "n@shop.example", []string{"spf:pass=helo:shop.example"}, false, SymbolUnproven},
		{"a signature of the domain", "x@mailer.example", "n@shop.example", []string{"dkim:pass=shop.example"}, false, SymbolAllowed},
		{"one of a stranger", "x@mailer.example", "n@shop.example", []string{"dkim:pass=mailer.example"}, false, SymbolUnproven},
		{"one that does not hold", "x@mailer.example", "n@shop.example", []string{"dkim:fail=shop.example"}, false, SymbolUnproven},
		{"DMARC", "x@mailer.example", "n@shop.example", []string{"dmarc:pass=shop.example"}, false, SymbolAllowed},
		{"the administrator asks for no proof", "n@shop.example", "n@shop.example", nil, true, SymbolAllowed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := New(Config{Store: &lists{entries: []string{entry}}, Unproven: c.unproven})
			got, err := m.Scan(t.Context(), input(t, c.sender, c.from, c.passes, "ann@in.example"))
			if err != nil || len(got) != 1 || got[0].Symbol != c.want || (got[0].Result == mail.Match) != (c.want == SymbolAllowed) {
				t.Errorf("got %+v, %v; want %s", got, err, c.want)
			}
		})
	}
	t.Run("what is not proven does not keep a wider list from blocking", func(t *testing.T) {
		m := New(Config{Store: &lists{entries: []string{"ann@in.example allow @shop.example", "@in.example block n@shop.example"}}})
		got, err := m.Scan(t.Context(), input(t, "n@shop.example", "n@shop.example", nil, "ann@in.example"))
		if err != nil || said(got) != "ann@in.example blocked n@shop.example" {
			t.Errorf("got %s, %v", said(got), err)
		}
	})
}

func TestAStoreThatIsAwayIsTold(t *testing.T) {
	away := errors.New("connection refused")
	synctest.Test(t, func(t *testing.T) {
		l := &lists{err: away}
		m := New(Config{Store: l})
		scan := func() error {
			got, err := m.Scan(t.Context(), input(t, "a@out.example", "a@out.example", nil, "ann@in.example"))
			if len(got) > 0 {
				t.Errorf("got %v", got)
			}
			return err
		}
		if err := scan(); !errors.Is(err, away) {
			t.Error(err)
		}
		if err := scan(); err == nil || errors.Is(err, away) {
			t.Errorf("it was asked again at once: %v", err)
		}
		time.Sleep(rest)
		l.err = nil
		if err := scan(); err != nil {
			t.Errorf("it is not asked again: %v", err)
		}
	})
}

func TestPatternsAndOwnersAreKeptInOneForm(t *testing.T) {
	for given, want := range map[string]string{
		" News@Shop.Example ": "news@shop.example", "@Shop.Example": "@shop.example", "shop.example": "@shop.example",
		"@example": "", "a@": "", "@": "", "": "", "*": "", "a b@c.example": "", "@[192.0.2.1]": "", "a@b@c.example": "",
	} {
		if got, err := ParsePattern(given); got != want || (err == nil) != (want != "") {
			t.Errorf("ParsePattern(%q) = %q, %v; want %q", given, got, err, want)
		}
	}
	if got, err := ParseOwner(" "); got != "" || err != nil {
		t.Errorf("the list for everybody: %q, %v", got, err)
	}
	if _, err := ParseOwner("everybody"); !errors.Is(err, ErrOwner) {
		t.Errorf("a list of nobody: %v", err)
	}
}

func TestContract(t *testing.T) {
	with := func(l *lists) func(testing.TB) scan.Module {
		return func(testing.TB) scan.Module { return New(Config{Store: l}) }
	}
	known := &lists{entries: []string{"* block @example.org", "* allow @example.com", "* block @client.example"}}
	scantest.Contract(t, scantest.Subject{Use: Use, New: with(known), Hanging: with(&lists{hangs: true})})
}

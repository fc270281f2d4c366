package script_test

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
	"gatepost/internal/script"
	"gatepost/internal/smtp"
)

// compile fails the test where the script is wrong.
func compile(t testing.TB, source string, change ...func(*script.Config)) *script.Program {
	t.Helper()
	cfg := script.Config{Name: "test.star", Source: source}
	for _, f := range change {
		f(&cfg)
	}
	p, err := script.Compile(cfg)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	return p
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

// visit is a session at RCPT to try a script with.
func visit(t testing.TB, change ...func(*script.Input)) *script.Input {
	t.Helper()
	s := &mail.Session{
		Listener: "inbound", Client: netip.MustParseAddrPort("192.0.2.7:4711"), Helo: "mx1.shop.example", ESMTP: true,
		Name: "mx1.shop.example", TLS: mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
	}
	r := mail.Recipient{Address: address(t, "Alice@Example.com")}
	in := &script.Input{
		Stage: script.Recipient, Session: s, Recipient: &r,
		Envelope: &mail.Envelope{Session: *s, Sender: address(t, "Sender@Shop.Example"), Size: 4711, Recipients: []mail.Recipient{{Address: address(t, "bob@example.com")}}},
		Findings: []mail.Finding{
			{Module: "dnsbl", Symbol: "zen.example.org", Result: mail.Match, Score: 2, Reason: "listed"},
			{Module: "spf", Symbol: "spf:pass", Result: mail.Clean},
		},
		Score: 2,
	}
	for _, f := range change {
		f(in)
	}
	return in
}

func at(stage script.Stage) func(*script.Input) {
	return func(in *script.Input) {
		in.Stage = stage
		if stage == script.Connect || stage == script.Auth {
			in.Envelope, in.Recipient = nil, nil
		}
		if stage == script.Auth {
			in.Login, in.Password = "bob", "hunter2"
		}
	}
}

type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

// letter is a visit at Content with a message.
func letter(t testing.TB, text string) *script.Input {
	t.Helper()
	in := visit(t, at(script.Content))
	b := body{strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))}
	m, err := scan.NewInput(t.Context(), mail.Message{Envelope: in.Envelope, Body: b}, scan.Inbound, options(t))
	if err != nil {
		t.Fatal(err)
	}
	in.Message = m
	return in
}

func options(t testing.TB) scan.Options {
	return scan.Options{Unpacker: archive.New(archive.Config{Temp: archive.DirTemp(t.TempDir())})}
}

// say runs the body of a stage function.
func say(t testing.TB, in *script.Input, lines string, change ...func(*script.Config)) *script.Result {
	t.Helper()
	source := "def " + string(in.Stage) + "(s):\n    " + strings.ReplaceAll(lines, "\n", "\n    ") + "\n"
	return compile(t, source, change...).Run(t.Context(), in)
}

// said is say for scripts that must not fail.
func said(t testing.TB, in *script.Input, lines string, change ...func(*script.Config)) *script.Result {
	t.Helper()
	r := say(t, in, lines, change...)
	if r.Failed != nil {
		t.Fatalf("%s\nfailed: %+v", lines, r.Failed)
	}
	return r
}

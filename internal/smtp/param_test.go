package smtp

import (
	"errors"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

const allExtensions = ExtPipelining | ExtSize | Ext8BitMIME | ExtSMTPUTF8 | ExtChunking | ExtBinaryMIME | ExtDSN |
	ExtEnhancedCodes | ExtStartTLS | ExtAuth | ExtLimits | ExtRequireTLS | ExtXClient

func TestParseMail(t *testing.T) {
	from := mail.Address{Local: "a", Domain: "b.example", Raw: "a@b.example"}
	tests := []struct {
		arg  string
		want MailArgs
	}{
		{"FROM:<a@b.example>", MailArgs{From: from}},
		{"from: <a@b.example> ", MailArgs{From: from}},
		{"FROM:<>", MailArgs{}},
		{"FROM:<a@b.example> SIZE=1000 body=8bitmime", MailArgs{From: from, Size: 1000, Body: mail.Body8Bit}},
		{"FROM:<a@b.example>  BODY=7BIT  SMTPUTF8", MailArgs{From: from, Body: mail.Body7Bit, SMTPUTF8: true}},
		{"FROM:<a@b.example> BODY=BINARYMIME", MailArgs{From: from, Body: mail.BodyBinary}},
		{"FROM:<a@b.example> RET=hdrs ENVID=QQ+2B+20x", MailArgs{From: from, Ret: mail.RetHdrs, EnvID: "QQ+ x"}},
		{"FROM:<a@b.example> AUTH=<> REQUIRETLS", MailArgs{From: from, RequireTLS: true}},
		{"FROM:<a@b.example> AUTH=e+3Dmc2@example.com", MailArgs{From: from}},
	}
	for _, tt := range tests {
		got, err := ParseMail(tt.arg, allExtensions)
		if err != nil || got != tt.want {
			t.Errorf("ParseMail(%q) = %+v, %v", tt.arg, got, err)
		}
	}
}

func TestBadMailArgumentsAreRefused(t *testing.T) {
	tests := []struct {
		arg  string
		ext  Extensions
		want error
	}{
		{"", allExtensions, ErrSyntax},
		{"<a@b.example>", allExtensions, ErrSyntax},
		{"FROM <a@b.example>", allExtensions, ErrSyntax},
		{"FROM :<a@b.example>", allExtensions, ErrSyntax},
		{"TO:<a@b.example>", allExtensions, ErrSyntax},
		{"FROM:a@b.example", allExtensions, ErrAddress},
		{"FROM:<a@b.example>SIZE=1", allExtensions, ErrSyntax},
		{"FROM:<a@b.example>\tSIZE=1", allExtensions, ErrSyntax},
		{"FROM:<a@b.example> SIZE=1 SIZE=1", allExtensions, ErrSyntax},
		{"FROM:<a@b.example> SIZE=", allExtensions, ErrSyntax},
		{"FROM:<a@b.example> =1", allExtensions, ErrSyntax},
		{"FROM:<a@b.example> -X=1", allExtensions, ErrSyntax},
		{"FROM:<a@b.example> <x@y>", allExtensions, ErrSyntax},
		{"FROM:<a@b.example> A=1 B=1", allExtensions, ErrUnknownParameter},
		{"FROM:<a@b.example> NOTIFY=NEVER", allExtensions, ErrUnknownParameter},
		{"FROM:<a@b.example> SIZE=1", 0, ErrUnknownParameter},
		{"FROM:<a@b.example> RET=FULL", allExtensions &^ ExtDSN, ErrUnknownParameter},
		{"FROM:<a@b.example> REQUIRETLS", allExtensions &^ ExtRequireTLS, ErrUnknownParameter},
		{"FROM:<a@b.example> SIZE", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> SIZE=-1", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> SIZE=99999999999999999999", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> BODY=9BIT", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> BODY=BINARYMIME", allExtensions &^ ExtBinaryMIME, ErrParameterValue},
		{"FROM:<a@b.example> SMTPUTF8=1", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> RET=ALL", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> ENVID=+0A", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> ENVID=a=b", allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> ENVID=" + strings.Repeat("x", 101), allExtensions, ErrParameterValue},
		{"FROM:<a@b.example> AUTH=+0D", allExtensions, ErrParameterValue},
		{"FROM:<\xc3\xbc@b.example>", allExtensions, ErrNeedsUTF8},
		{"FROM:<\xc3\xbc@b.example> SMTPUTF8", allExtensions &^ ExtSMTPUTF8, ErrNeedsUTF8},
		{"FROM:<\xff@b.example> SMTPUTF8", allExtensions, ErrAddress},
		{"FROM:<a@b.example> X=\xff", allExtensions, ErrSyntax},
	}
	for _, tt := range tests {
		if got, err := ParseMail(tt.arg, tt.ext); !errors.Is(err, tt.want) {
			t.Errorf("ParseMail(%q) = %+v, %v; want %v", tt.arg, got, err, tt.want)
		}
	}
}

func TestParseRcpt(t *testing.T) {
	to := mail.Address{Local: "a", Domain: "b.example", Raw: "a@b.example"}
	tests := []struct {
		arg  string
		want RcptArgs
	}{
		{"TO:<a@b.example>", RcptArgs{To: to}},
		{"to: <@x.example:a@b.example>", RcptArgs{To: to}},
		{"TO:<a@b.example> NOTIFY=success,DELAY", RcptArgs{To: to, Notify: mail.NotifySuccess | mail.NotifyDelay}},
		{"TO:<a@b.example> NOTIFY=NEVER ORCPT=rfc822;x+2By@z.example", RcptArgs{To: to, Notify: mail.NotifyNever, ORcpt: "rfc822;x+y@z.example"}},
		{`TO:<a@b.example> ORCPT=utf-8;\x{E9}\x{2B}@z.example`, RcptArgs{To: to, ORcpt: "utf-8;é+@z.example"}},
		{"TO:<a@b.example> ORCPT=rfc822;+C3+A9@z.example", RcptArgs{To: to, ORcpt: "utf-8;é@z.example"}}, // as Postfix writes it
		{"TO:<a@b.example> ORCPT=utf-8;é@z.example", RcptArgs{To: to, ORcpt: "utf-8;é@z.example"}},
	}
	for _, tt := range tests {
		got, err := ParseRcpt(tt.arg, allExtensions, true)
		if err != nil || got != tt.want {
			t.Errorf("ParseRcpt(%q) = %+v, %v", tt.arg, got, err)
		}
	}
	bad := []struct {
		arg  string
		want error
	}{
		{"TO:<>", ErrAddress},
		{"TO:<a@b.example> SIZE=1", ErrUnknownParameter},
		{"TO:<a@b.example> NOTIFY=NEVER,DELAY", ErrParameterValue},
		{"TO:<a@b.example> NOTIFY=,", ErrParameterValue},
		{"TO:<a@b.example> NOTIFY", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822;x+0D+0ABcc:+20y", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822;+C3", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822;+C2+85", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822;", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=;x", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=r(c;x", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822;é", ErrParameterValue},
		{"TO:<a@b.example> ORCPT=utf-8;é", ErrParameterValue},
		{`TO:<a@b.example> ORCPT=utf-8;\x{0A}`, ErrParameterValue},
		{"TO:<a@b.example> ORCPT=rfc822;" + strings.Repeat("x", 500), ErrParameterValue},
		{"TO:<\xc3\xbc@b.example>", ErrNeedsUTF8},
	}
	for _, tt := range bad {
		if got, err := ParseRcpt(tt.arg, allExtensions, false); !errors.Is(err, tt.want) {
			t.Errorf("ParseRcpt(%q) = %+v, %v; want %v", tt.arg, got, err, tt.want)
		}
	}
	if _, err := ParseRcpt("TO:<a@b.example> NOTIFY=NEVER", 0, true); !errors.Is(err, ErrUnknownParameter) {
		t.Errorf("NOTIFY without DSN: %v", err)
	}
}

func TestXTextRoundTrips(t *testing.T) {
	for _, s := range []string{"", "plain", "a+b=c d", "~!"} {
		got, err := DecodeXText(EncodeXText(s))
		if err != nil || got != s {
			t.Errorf("%q became %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"+", "+2", "+2b", "+0D", "+7F", "+80", "a b", "a=b", "é", "\r"} {
		if got, err := DecodeXText(s); !errors.Is(err, ErrXText) {
			t.Errorf("DecodeXText(%q) = %q, %v", s, got, err)
		}
	}
	for _, s := range []string{`\x{}`, `\x{0D}`, `\x{D800}`, `\x{110000}`, `\x{2028}`, `\x{41`, `\`, "a b", "+41", "\xff", `\x{0000041}`} {
		if got, err := DecodeUTF8AddrXText(s); !errors.Is(err, ErrXText) {
			t.Errorf("DecodeUTF8AddrXText(%q) = %q, %v", s, got, err)
		}
	}
}

func FuzzParameters(f *testing.F) {
	f.Add("FROM:<a@b.example> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+20b AUTH=<> REQUIRETLS")
	f.Add(`TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;\x{E9}`)
	f.Add("TO:<a@b.example> ORCPT=rfc822;a+40b")
	f.Fuzz(func(t *testing.T, arg string) {
		if m, err := ParseMail(arg, allExtensions); err == nil && strings.ContainsAny(m.EnvID+m.From.Raw, "\r\n\x00") {
			t.Fatalf("ParseMail(%q) let a line end through: %+v", arg, m)
		}
		if r, err := ParseRcpt(arg, allExtensions, true); err == nil && strings.ContainsAny(r.ORcpt+r.To.Raw, "\r\n\x00") {
			t.Fatalf("ParseRcpt(%q) let a line end through: %+v", arg, r)
		}
	})
}

func FuzzXText(f *testing.F) {
	for _, s := range []string{"a+20b", "+", `\x{E9}`, "é", "plain"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := DecodeXText(s); err == nil {
			for i := range len(got) {
				if got[i] < ' ' || got[i] > '~' {
					t.Fatalf("DecodeXText(%q) = %q", s, got)
				}
			}
			if again, err := DecodeXText(EncodeXText(got)); err != nil || again != got {
				t.Fatalf("%q, encoded and decoded, is %q, %v", got, again, err)
			}
		}
		if got, err := DecodeUTF8AddrXText(s); err == nil && strings.ContainsAny(got, "\r\n\x00\x7f\u0085\u2028") {
			t.Fatalf("DecodeUTF8AddrXText(%q) = %q", s, got)
		}
	})
}

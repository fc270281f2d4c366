package message

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

var when = time.Date(2024, 2, 29, 7, 8, 9, 0, time.FixedZone("", -3600))

func TestFormatReceived(t *testing.T) {
	id, err := mail.ParseID("01hqtt0000000000000000000a")
	if err != nil {
		t.Fatal(err)
	}
	v4 := netip.MustParseAddrPort("192.0.2.1:4711")
	tests := []struct {
		name string
		in   ReceivedInfo
		want string
	}{
		{"plain SMTP", ReceivedInfo{Session: &mail.Session{Helo: "c.example", Client: v4}},
			"Received: from c.example ([192.0.2.1])\n\tby gw.example with SMTP id ID;\n\tDATE\n"},
		{"one recipient", ReceivedInfo{Session: &mail.Session{Helo: "c.example", Client: v4, ESMTP: true}, For: "a@b.example"},
			"Received: from c.example ([192.0.2.1])\n\tby gw.example with ESMTP id ID\n\tfor <a@b.example>;\n\tDATE\n"},
		{"TLS, a user, a name, IPv6", ReceivedInfo{
			Session: &mail.Session{
				Helo: "[IPv6:2001:db8::1]", Name: "c.example", Client: netip.MustParseAddrPort("[2001:db8::1]:25"),
				ESMTP: true, User: "secret", TLS: mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
			},
		},
			"Received: from [IPv6:2001:db8::1] (c.example [IPv6:2001:db8::1])\n" +
				"\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)\n\tby gw.example with ESMTPSA id ID;\n\tDATE\n"},
		{"an IPv4 client on an IPv6 socket", ReceivedInfo{Session: &mail.Session{Helo: "c", Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:25")}},
			"Received: from c ([192.0.2.1])\n\tby gw.example with SMTP id ID;\n\tDATE\n"},
		{"SMTPUTF8 under TLS", ReceivedInfo{Session: &mail.Session{Helo: "c", Client: v4, ESMTP: true, TLS: mail.TLS{Version: "TLSv1.2"}}, UTF8: true},
			"Received: from c ([192.0.2.1])\n\t(using TLSv1.2)\n\tby gw.example with UTF8SMTPS id ID;\n\tDATE\n"},
		{"leaves out a recipient that is not ASCII", ReceivedInfo{Session: &mail.Session{Helo: "c", Client: v4, ESMTP: true}, UTF8: true, For: "ä@b.example"},
			"Received: from c ([192.0.2.1])\n\tby gw.example with UTF8SMTP id ID;\n\tDATE\n"},
		{"mail of our own", ReceivedInfo{Session: &mail.Session{Helo: "gw.example"}},
			"Received: from gw.example\n\tby gw.example with SMTP id ID;\n\tDATE\n"},
		{"no HELO", ReceivedInfo{Session: &mail.Session{Client: v4}},
			"Received: from unknown ([192.0.2.1])\n\tby gw.example with SMTP id ID;\n\tDATE\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.By, tt.in.ID, tt.in.Time = "gw.example", id, when
			want := strings.NewReplacer("ID", id.String(), "DATE", "Thu, 29 Feb 2024 07:08:09 -0100").Replace(tt.want)
			if got := string(FormatReceived(tt.in)); got != lines(want) {
				t.Errorf("got\n%s want\n%s", got, want)
			}
		})
	}
}

// ADR-01, ADR-05.
func TestFormatReceivedLetsNothingHostileIn(t *testing.T) {
	hostile := []string{
		"a\r\nBcc: x@y", "a\nX: y", "a\rX: y", "a\x00b", "<script>", "a) (b", "a;b", `a"b`, "a\\", "a\tb",
		strings.Repeat("x", 5000), "ä.example", "a\u202eb", "", " ",
	}
	lineLike := regexp.MustCompile(`^(Received: |\t)[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$`)
	for _, h := range hostile {
		got := string(FormatReceived(ReceivedInfo{
			Session: &mail.Session{
				Helo: h, Name: h, Client: netip.MustParseAddrPort("[fe80::1%eth0]:1"), ESMTP: true,
				TLS: mail.TLS{Version: h, Cipher: h},
			},
			By: "gw.example", For: h, Time: when,
		}))
		if n := ParseHeader([]byte(got)); len(n.Fields()) != 1 || n.Count("Received") != 1 {
			t.Errorf("%q: not one field:\n%s", h, got)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(got, "\r\n"), "\r\n") {
			if !lineLike.MatchString(line) || len(line) > 998 {
				t.Errorf("%q: line of %d bytes: %q", h, len(line), line)
			}
		}
	}
}

func TestFormatReceivedKeepsAQuotedLocalPart(t *testing.T) {
	got := string(FormatReceived(ReceivedInfo{
		Session: &mail.Session{Helo: "c"}, By: "gw", For: `"a b\"c@d"@in.example`, Time: when,
	}))
	if !strings.Contains(got, `for <"a b\"c@d"@in.example>;`) {
		t.Error(got)
	}
}

func TestFormatDate(t *testing.T) {
	if got, want := FormatDate(when), "Thu, 29 Feb 2024 07:08:09 -0100"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkFormatReceived(b *testing.B) {
	in := ReceivedInfo{
		Session: &mail.Session{
			Helo: "mx1.example.org", Client: netip.MustParseAddrPort("192.0.2.1:25"), ESMTP: true,
			TLS: mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"},
		},
		By: "gw.example.com", For: "someone@example.com", Time: when,
	}
	b.ReportAllocs()
	for b.Loop() {
		FormatReceived(in)
	}
}

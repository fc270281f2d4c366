package greylist

import (
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "<>" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSendersAreNormalised(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"the null sender", "<>", "<>"},
		{"case", "Bob@Example.ORG", "bob@example.org"},
		{"a tag", "bob+lists@example.org", "bob@example.org"},
		{"VERP with a tag", "bounces+17-carol=example.com@lists.example.org", "bounces@lists.example.org"},
		{"VERP of ezmlm", "list-return-4711-carol=example.com@lists.example.org", "list-return-#-carol=example.com@lists.example.org"},
		{"a local part that begins with +", "+4930@example.org", "+4930@example.org"},
		{"BATV", "prvs=0123456789=bob@example.org", "bob@example.org"},
		{"BATV the other way round", "prvs=bob/0123456789@example.org", "bob@example.org"},
		{"BATV with a tag in the address", "prvs=0123456789=bob+x@example.org", "bob@example.org"},
		{"what only looks like BATV", "prvs=bob@example.org", "prvs=bob@example.org"},
		{"SRS0", "SRS0=HHHH=TT=Example.net=bob@fwd.example.org", "srs0=example.net=bob@fwd.example.org"},
		{"SRS0 of another day", "SRS0=abcd=7Q=example.net=bob@fwd.example.org", "srs0=example.net=bob@fwd.example.org"},
		{"SRS0 with +", "SRS0+HHHH=TT=example.net=bob@fwd.example.org", "srs0=example.net=bob@fwd.example.org"},
		{"SRS1", "SRS1=GGGG=fwd.example.org==HHHH=TT=example.net=bob@two.example.org", "srs1=fwd.example.org=example.net=bob@two.example.org"},
		{"broken SRS0", "srs0=hhhh@fwd.example.org", "srs0=hhhh@fwd.example.org"},
		{"broken SRS1", "srs1=g=x=@fwd.example.org", "srs1=g=x=@fwd.example.org"},
		{"an ID of a message", "0100018c7d5e2f3a-9f1b2c3d-4e5f-6789-abcd-ef0123456789-000000@mail.example.org", "#-9f1b2c3d-4e5f-#-abcd-#-#@mail.example.org"},
		{"a name with a year", "bob1984@example.org", "bob1984@example.org"},
		{"a number", "bounce-123456@example.org", "bounce-#@example.org"},
	} {
		if got := NormalSender(address(t, c.in)); got != c.want {
			t.Errorf("%s: %q becomes %q, want %q", c.name, c.in, got, c.want)
		}
	}
}

func FuzzNormalSender(f *testing.F) {
	for _, s := range []string{"bob", "srs0=a=b=c=d", "srs1=a=b==c=d=e=f", "prvs=a=b", "prvs=a/b", "a-1-b", "+", "srs1==", "srs0+", `prvs==x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, local string) {
		got := NormalSender(mail.Address{Local: local, Domain: "example.org", Raw: "x"})
		if !strings.HasSuffix(got, "@example.org") || len(got) > len(strings.ToLower(local))+len("@example.org") {
			t.Errorf("%q becomes %q", local, got)
		}
	})
}

func TestWhatIsAllowedIsReadStrictly(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7":           "192.0.2.7",
		"::ffff:192.0.2.7":    "192.0.2.7",
		"192.0.2.7/20":        "192.0.0.0/20",
		"2001:DB8::1/64":      "2001:db8::/64",
		" Example.ORG ":       "example.org",
		"münchen.example":     "xn--mnchen-3ya.example",
		"Bob@Example.org":     "bob@example.org",
		"to:bob@example.com":  "to:bob@example.com",
		"to:Example.com":      "to:example.com",
		"to:192.0.2.1":        "",
		"192.0.2":             "",
		"192.0.2.0/33":        "",
		"::ffff:192.0.2.0/24": "",
		"bob@":                "",
		"":                    "",
		"to:":                 "",
		"localhost":           "",
		"[192.0.2.1]":         "",
		"a b.example":         "",
	} {
		if got, err := ParseAllow(in); got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestTheSourceIsWhatCanBeProven(t *testing.T) {
	g := newGreylist(t, Config{Store: &fakeStore{}})
	pass := mail.Finding{Module: "spf", Symbol: "spf:pass", Name: "Example.org", Result: mail.Clean}
	for _, c := range []struct {
		name, client, sender, helo string
		findings                   []mail.Finding
		want                       string
	}{
		{"a network", "192.0.2.7", "bob@example.org", "", nil, "192.0.2.0/24"},
		{"a mapped address", "::ffff:192.0.2.7", "bob@example.org", "", nil, "192.0.2.0/24"},
		{"an IPv6 network", "2001:db8:1:2:3::4", "bob@example.org", "", nil, "2001:db8:1:2::/64"},
		{"SPF passes", "192.0.2.7", "bob@example.org", "", []mail.Finding{pass}, "example.org"},
		{"SPF passes in authres", "192.0.2.7", "bob@example.org", "", []mail.Finding{{Module: "authres", Symbol: "spf:pass", Name: "example.org"}}, "example.org"},
		{"SPF passed for the sender before", "192.0.2.7", "bob@example.net", "", []mail.Finding{pass}, "192.0.2.0/24"},
		{"SPF fails", "192.0.2.7", "bob@example.org", "", []mail.Finding{{Module: "spf", Symbol: "spf:fail", Name: "example.org"}}, "192.0.2.0/24"},
		{"a stranger's module", "192.0.2.7", "bob@example.org", "", []mail.Finding{{Module: "script", Symbol: "spf:pass", Name: "example.org"}}, "192.0.2.0/24"},
		{"HELO of the null sender", "192.0.2.7", "<>", "EXAMPLE.org", []mail.Finding{pass}, "example.org"},
		{"another HELO of the null sender", "192.0.2.7", "<>", "mx.example.org", []mail.Finding{pass}, "192.0.2.0/24"},
	} {
		s := &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(c.client), 25), Helo: c.helo, Findings: c.findings}
		if got := g.source(s, &mail.Envelope{Sender: address(t, c.sender)}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

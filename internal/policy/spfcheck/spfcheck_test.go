package spfcheck

import (
	"net/netip"
	"testing"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/scan/authres/spf"
)

const zone = `
	hard.example.   300 IN TXT "v=spf1 ip4:192.0.2.0/24 -all"
	soft.example.   300 IN TXT "v=spf1 ~all"
	broken.example. 300 IN TXT "v=spf1 ipv4:192.0.2.1 -all"
	helo.example.   300 IN TXT "v=spf1 -all"
	plain.example.  300 IN A 192.0.2.1
`

func input(client, sender string) *policy.Input {
	s := &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 25), Helo: "helo.example"}
	a := mail.Address{}
	if sender != "" {
		a = mail.Address{Local: "a", Domain: sender, Raw: "a@" + sender}
	}
	return &policy.Input{Stage: policy.Recipient, Session: s, Envelope: &mail.Envelope{Session: *s, Sender: a}}
}

func newCheck(t *testing.T, match ...spf.Status) (*Check, *dnstest.Server) {
	t.Helper()
	server := dnstest.Start(t, zone)
	r, err := dns.New(dns.Config{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{Resolver: dns.Settled{R: r}, Match: match}), server
}

func TestAnswers(t *testing.T) {
	check, server := newCheck(t, spf.PermError)
	server.Script("down.example", "TXT", dnstest.Behaviour{Rcode: "SERVFAIL"})
	cases := []struct {
		name, client, sender string
		symbol               string
		result               mail.Result
		domain               string
	}{
		{"the client is permitted", "192.0.2.7", "hard.example", "spf:pass", mail.Clean, "hard.example"},
		{"the client is forbidden", "198.51.100.7", "hard.example", "spf:fail", mail.Match, "hard.example"},
		{"the same in IPv6 dress", "::ffff:192.0.2.7", "hard.example", "spf:pass", mail.Clean, "hard.example"},
		{"a soft failure is no match where nothing follows from it", "198.51.100.7", "soft.example", "spf:softfail", mail.Clean, "soft.example"},
		{"a broken record is a match where something follows from it", "198.51.100.7", "broken.example", "spf:permerror", mail.Match, "broken.example"},
		{"there is no record", "198.51.100.7", "plain.example", "spf:none", mail.Clean, "plain.example"},
		{"the name service is down", "198.51.100.7", "down.example", "spf:temperror", mail.Unknown, "down.example"},
		{"a bounce is checked by the name of the client", "198.51.100.7", "", "spf:fail", mail.Match, "helo.example"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := check.Check(t.Context(), input(c.client, c.sender))
			if err != nil || len(got) != 1 {
				t.Fatalf("got %v, %v", got, err)
			}
			if f := got[0]; f.Module != Name || f.Symbol != c.symbol || f.Result != c.result || f.Name != c.domain || f.Reason == "" {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestWhoMayRelayIsNotAskedAbout(t *testing.T) {
	check, server := newCheck(t)
	trusted, user, early := input("198.51.100.7", "hard.example"), input("198.51.100.7", "hard.example"), input("198.51.100.7", "hard.example")
	trusted.Session.Trusted, user.Session.User, early.Envelope = true, "alice", nil
	for _, in := range []*policy.Input{trusted, user, early} {
		if got, err := check.Check(t.Context(), in); err != nil || got != nil {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if q := server.Queries(); len(q) > 0 {
		t.Errorf("the name service was asked: %v", q)
	}
}

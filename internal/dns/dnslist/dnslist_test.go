package dnslist_test

import (
	"net/netip"
	"testing"

	"gatepost/internal/dns/dnslist"
)

func TestZonesAreParsed(t *testing.T) {
	for _, tt := range []struct {
		text   string
		weight float64
	}{
		{"dbl.example.org", 3},
		{"zen.example.org=127.0.0.2-11*3", 3},
		{"zen.example.org=127.0.0.2", 3},
		{"dnswl.example.org*-2", -2},
		{"dnswl.example.org=127.0.10.0-255*-0.5", -0.5},
	} {
		z, err := dnslist.ParseZone(tt.text)
		if err != nil || z.String() != tt.text || z.Weight() != tt.weight {
			t.Errorf("%q: %q weighs %v, %v", tt.text, z, z.Weight(), err)
		}
	}
	if z, err := dnslist.ParseZone("ZEN.Example.ORG."); err != nil || z.Name != "zen.example.org" {
		t.Errorf("got %+v, %v", z, err)
	}
	for _, text := range []string{
		"", "org", "[127.0.0.1]", "a..b", "zen.example.org*", "zen.example.org*0", "zen.example.org*NaN", "zen.example.org*1001", "zen.example.org*x",
		"zen.example.org=", "zen.example.org=10.0.0.1", "zen.example.org=127.0.0.9-2", "zen.example.org=127.0.0.2-256", "zen.example.org=::1", "zen example.org",
	} {
		if z, err := dnslist.ParseZone(text); err == nil {
			t.Errorf("%q is taken as %v", text, z)
		}
	}
}

func TestAnswersThatAreErrorsAreNeverListings(t *testing.T) {
	tests := []struct {
		zone, answer string
		want         dnslist.Answer
	}{
		{"z.example", "127.0.0.2", dnslist.Listed},
		{"z.example", "127.1.2.3", dnslist.Listed},
		{"z.example", "127.255.254.255", dnslist.Listed},
		{"z.example", "::ffff:127.0.0.2", dnslist.Listed},
		{"z.example", "127.0.0.1", dnslist.Refused},
		{"z.example", "127.255.255.0", dnslist.Refused},
		{"z.example", "127.255.255.254", dnslist.Refused},
		{"z.example", "126.255.255.255", dnslist.Refused},
		{"z.example", "128.0.0.0", dnslist.Refused},
		{"z.example", "192.0.2.1", dnslist.Refused},
		{"z.example", "::1", dnslist.Refused},
		{"z.example=127.0.0.2-11", "127.0.0.2", dnslist.Listed},
		{"z.example=127.0.0.2-11", "127.0.0.11", dnslist.Listed},
		{"z.example=127.0.0.2-11", "127.0.0.12", dnslist.Other},
		{"z.example=127.0.0.2-11", "127.0.1.5", dnslist.Other},
		{"z.example=127.0.0.1-11", "127.0.0.1", dnslist.Refused},
		{"z.example=127.255.255.1-255", "127.255.255.252", dnslist.Refused},
		{"z.example=127.0.0.4", "127.0.0.5", dnslist.Other},
	}
	for _, tt := range tests {
		z, err := dnslist.ParseZone(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		if got := z.Meaning(netip.MustParseAddr(tt.answer)); got != tt.want {
			t.Errorf("%s answers %s: %d, want %d", tt.zone, tt.answer, got, tt.want)
		}
	}
}

// SCN-09.
func TestNamesToAskFor(t *testing.T) {
	z := dnslist.Zone{Name: "z.example"}
	for addr, want := range map[string]string{
		"192.0.2.99":                          "99.2.0.192.z.example",
		"::ffff:192.0.2.99":                   "99.2.0.192.z.example",
		"2001:db8:1:2:3:4:567:89ab":           "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.z.example",
		"2001:0db8:85a3::8a2e:0370:7334%eth0": "4.3.3.7.0.7.3.0.e.2.a.8.0.0.0.0.0.0.0.0.3.a.5.8.8.b.d.0.1.0.0.2.z.example",
		"fe80::1":                             "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.z.example",
	} {
		if got := z.Query(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is asked for as %s, want %s", addr, got, want)
		}
	}
	for got, want := range map[string]string{
		z.TestListed4():   "2.0.0.127.z.example",
		z.TestUnlisted4(): "1.0.0.127.z.example",
		z.TestListed6():   "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.z.example",
		z.TestUnlisted6(): "1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.z.example",
	} {
		if got != want {
			t.Errorf("test point %s, want %s", got, want)
		}
	}
}

func FuzzParseZone(f *testing.F) {
	for _, s := range []string{"zen.example.org=127.0.0.2-11*3", "dnswl.example.org*-2", "a.b", "=*", "a.b=127.0.0.1-*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		z, err := dnslist.ParseZone(s)
		if err != nil {
			return
		}
		again, err := dnslist.ParseZone(z.String())
		if err != nil || again != z {
			t.Errorf("%q: %q is read back as %+v, %v", s, z, again, err)
		}
	})
}

package dnsbl_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnslist"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/dnsbl"
)

func zones(t testing.TB, texts ...string) []dnslist.Zone {
	t.Helper()
	list := make([]dnslist.Zone, len(texts))
	for i, text := range texts {
		z, err := dnslist.ParseZone(text)
		if err != nil {
			t.Fatal(err)
		}
		list[i] = z
	}
	return list
}

func check(t testing.TB, cfg dnsbl.Config) *dnsbl.Check {
	t.Helper()
	c, err := dnsbl.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func resolver(t testing.TB, s *dnstest.Server) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Config{Servers: []string{s.Addr()}, HostsFile: "testdata/none"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func input(client string) *policy.Input {
	return &policy.Input{Stage: policy.Connect, Session: &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4711)}}
}

func asked(t testing.TB, c *dnsbl.Check, client string) []mail.Finding {
	t.Helper()
	findings, err := c.Check(t.Context(), input(client))
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// brief is a finding as tests compare it: "match zen.example.org 3".
func brief(findings []mail.Finding) []string {
	var list []string
	for _, f := range findings {
		s := string(f.Result) + " " + f.Symbol
		if f.Symbol == dnsbl.SymbolError || f.Symbol == dnsbl.SymbolOff {
			s += " " + f.Name
		}
		list = append(list, s)
	}
	return list
}

func total(findings []mail.Finding) (sum float64) {
	for _, f := range findings {
		sum += f.Score
	}
	return sum
}

func TestListings(t *testing.T) {
	tests := []struct {
		name   string
		zones  []string
		client string
		want   []string
		score  float64
	}{
		{"an address on no list has no finding", []string{"zen.example.org", "black.example"}, "203.0.113.9", nil, 0},
		{"an address on a list", []string{"zen.example.org"}, "203.0.113.5", []string{"match zen.example.org"}, 3},
		{"a weight", []string{"zen.example.org*4.5"}, "203.0.113.5", []string{"match zen.example.org"}, 4.5},
		{"an answer in the range", []string{"zen.example.org=127.0.0.2-11*3"}, "203.0.113.5", []string{"match zen.example.org"}, 3},
		{"an answer beside the range", []string{"zen.example.org=127.0.0.9-11*3"}, "203.0.113.5", nil, 0},
		{"one zone twice with different ranges", []string{"zen.example.org=127.0.0.2-3*4", "zen.example.org=127.0.0.4-7*1"}, "203.0.113.5", []string{"match zen.example.org", "match zen.example.org"}, 5},
		{"several answers count once", []string{"zen.example.org*2"}, "203.0.113.5", []string{"match zen.example.org"}, 2},
		{"a list of the good takes away", []string{"zen.example.org*3", "white.example*-2"}, "203.0.113.5", []string{"match zen.example.org", "clean white.example"}, 1},
		{"the client in IPv6 dress", []string{"zen.example.org"}, "::ffff:203.0.113.5", []string{"match zen.example.org"}, 3},
		{"an IPv6 client", []string{"zen.example.org"}, "2001:4860::5", []string{"match zen.example.org"}, 3},
		{"127.255.255.254 is an error", []string{"refusing.example"}, "203.0.113.5", []string{"unknown list-error refusing.example"}, 0},
		{"127.0.0.1 is an error", []string{"local.example"}, "203.0.113.5", []string{"unknown list-error local.example"}, 0},
		{"an address outside of 127/8 is an error", []string{"parked.example"}, "203.0.113.5", []string{"unknown list-error parked.example"}, 0},
		{"an error beside a listing spoils it", []string{"mixed.example"}, "203.0.113.5", []string{"unknown list-error mixed.example"}, 0},
		{"an error within the range stays one", []string{"refusing.example=127.255.255.1-255"}, "203.0.113.5", []string{"unknown list-error refusing.example"}, 0},
		{"a list that fails takes nothing from the others", []string{"broken.example", "zen.example.org"}, "203.0.113.5", []string{"unknown list-error broken.example", "match zen.example.org"}, 3},
		{"a text record alone is no listing", []string{"text.example"}, "203.0.113.5", nil, 0},
	}
	s := dnstest.Start(t, `
		5.113.0.203.zen.example.org. 60 IN A 127.0.0.4
		5.113.0.203.zen.example.org. 60 IN A 127.0.0.2
		5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.8.4.1.0.0.2.zen.example.org. 60 IN A 127.0.0.2
		5.113.0.203.white.example. 60 IN A 127.0.10.1
		5.113.0.203.refusing.example. 60 IN A 127.255.255.254
		5.113.0.203.local.example. 60 IN A 127.0.0.1
		5.113.0.203.parked.example. 60 IN A 198.51.100.80
		5.113.0.203.mixed.example. 60 IN A 127.0.0.2
		5.113.0.203.mixed.example. 60 IN A 198.51.100.80
		5.113.0.203.text.example. 60 IN TXT "listed"
	`)
	s.Script("5.113.0.203.broken.example", "A", dnstest.Behaviour{Rcode: "SERVFAIL"})
	r := resolver(t, s)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := asked(t, check(t, dnsbl.Config{Zones: zones(t, tt.zones...), Resolver: r}), tt.client)
			if diff := cmp.Diff(tt.want, brief(got)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if total(got) != tt.score {
				t.Errorf("score %v, want %v", total(got), tt.score)
			}
		})
	}
}

// SCN-09.
func TestTheNamesThatAreAskedFor(t *testing.T) {
	for client, want := range map[string]string{
		"203.0.113.5":                    "5.113.0.203.zen.example.org",
		"::ffff:203.0.113.5":             "5.113.0.203.zen.example.org",
		"2a00:1450:4001:830:0:0:12:345f": "f.5.4.3.2.1.0.0.0.0.0.0.0.0.0.0.0.3.8.0.1.0.0.4.0.5.4.1.0.0.a.2.zen.example.org",
	} {
		s := dnstest.Start(t, "")
		c := check(t, dnsbl.Config{Zones: zones(t, "zen.example.org"), Resolver: resolver(t, s)})
		if got := asked(t, c, client); got != nil {
			t.Errorf("%s: %v", client, got)
		}
		if diff := cmp.Diff([]dnstest.Query{{Name: want, Type: "A", Net: "udp"}}, s.Queries()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", client, diff)
		}
	}
}

func TestWhoIsNotAskedAbout(t *testing.T) {
	s := dnstest.Start(t, "")
	c := check(t, dnsbl.Config{Zones: zones(t, "zen.example.org"), Resolver: resolver(t, s)})
	for _, client := range []string{
		"10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.0.0.2", "169.254.1.1", "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1",
		"::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:10.0.0.1",
	} {
		if got := asked(t, c, client); got != nil {
			t.Errorf("%s: %v", client, got)
		}
	}
	trusted := input("203.0.113.5")
	trusted.Session.Trusted = true
	if got, err := c.Check(t.Context(), trusted); got != nil || err != nil {
		t.Errorf("a trusted client: %v, %v", got, err)
	}
	if n := len(s.Queries()); n > 0 {
		t.Errorf("%d questions", n)
	}
}

func TestAnswersAreCached(t *testing.T) {
	s := dnstest.Start(t, "5.113.0.203.zen.example.org. 60 IN A 127.0.0.2")
	c := check(t, dnsbl.Config{Zones: zones(t, "zen.example.org"), Resolver: resolver(t, s)})
	for range 3 {
		asked(t, c, "203.0.113.5")
		asked(t, c, "203.0.113.6")
	}
	if n := len(s.Queries()); n != 2 {
		t.Errorf("%d questions for two clients that came three times", n)
	}
}

func TestTextsTellWhy(t *testing.T) {
	s := dnstest.Start(t, `
		5.113.0.203.zen.example.org. 60 IN A 127.0.0.2
		5.113.0.203.zen.example.org. 60 IN TXT "see https://zen.example.org/203.0.113.5\013\010X-Evil: \027[31m"
		5.113.0.203.long.example. 60 IN A 127.0.0.2
		5.113.0.203.mute.example. 60 IN A 127.0.0.2
	`)
	s.Add(t, `5.113.0.203.long.example. 60 IN TXT "`+strings.Repeat("x", 255)+`" "`+strings.Repeat("y", 255)+`"`)
	c := check(t, dnsbl.Config{Zones: zones(t, "zen.example.org", "long.example", "mute.example", "other.example"), Resolver: resolver(t, s), Texts: true})
	got := asked(t, c, "203.0.113.5")
	if len(got) != 3 {
		t.Fatalf("findings %v", got)
	}
	if want := "203.0.113.5 is listed by zen.example.org (127.0.0.2): see https://zen.example.org/203.0.113.5??X-Evil: ?[31m"; got[0].Reason != want {
		t.Errorf("reason %q, want %q", got[0].Reason, want)
	}
	if n := len(got[1].Reason); n > 300 {
		t.Errorf("a reason of %d bytes", n)
	}
	if want := "203.0.113.5 is listed by mute.example (127.0.0.2)"; got[2].Reason != want {
		t.Errorf("reason %q, want %q", got[2].Reason, want)
	}
	if s.Count("5.113.0.203.other.example", "TXT") > 0 {
		t.Error("a list that does not have the client is asked why")
	}
}

// SCN-07, over the wire: all lists fail each in its way, and nobody is taken for
// listed.
func TestListsThatFail(t *testing.T) {
	s := dnstest.Start(t, "")
	s.Script("5.113.0.203.a.example", "A", dnstest.Behaviour{Rcode: "SERVFAIL"})
	s.Script("5.113.0.203.b.example", "A", dnstest.Behaviour{Rcode: "REFUSED"})
	s.Script("5.113.0.203.c.example", "A", dnstest.Behaviour{Drop: true})
	c := check(t, dnsbl.Config{Zones: zones(t, "a.example", "b.example", "c.example"), Resolver: resolver(t, s), Timeout: 300 * time.Millisecond})
	want := []string{"unknown list-error a.example", "unknown list-error b.example", "unknown list-error c.example"}
	got := asked(t, c, "203.0.113.5")
	if diff := cmp.Diff(want, brief(got)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if !strings.Contains(got[2].Reason, "it did not answer in time") {
		t.Errorf("reason %q", got[2].Reason)
	}
}

// script answers by name: addresses, or nil for a name that does not exist. A name
// with a delay answers after it, below 0 never.
type script struct {
	mu      sync.Mutex
	answers map[string]string
	delays  map[string]time.Duration
	err     error
}

func (s *script) IPv4(ctx context.Context, name string) ([]netip.Addr, error) {
	if d := s.delays[name]; d != 0 {
		if d < 0 {
			d = time.Hour * 1000
		}
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, &dns.Error{Name: name, Type: "A", Temporary: true, Err: ctx.Err()}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	if a, ok := s.answers[name]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, &dns.Error{Name: name, Type: "A", NXDomain: true}
}

// change changes the script while it is in use.
func (s *script) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *script) TXT(ctx context.Context, name string) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// SCN-07.
func TestTheBudgetHoldsWhateverTheServersDo(t *testing.T) {
	for _, budget := range []time.Duration{0, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{delays: map[string]time.Duration{}}
			var texts []string
			for _, z := range []string{"a.example", "b.example", "c.example", "d.example"} {
				s.delays["5.113.0.203."+z] = -1
				texts = append(texts, z)
			}
			c := check(t, dnsbl.Config{Zones: zones(t, texts...), Resolver: s, Timeout: budget, Texts: true})
			start := time.Now()
			got := asked(t, c, "203.0.113.5")
			want := budget
			if budget == 0 {
				want = 5 * time.Second
			}
			if took := time.Since(start); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
			if len(got) != 4 || slices.ContainsFunc(got, func(f mail.Finding) bool { return f.Result != mail.Unknown || f.Score != 0 }) {
				t.Errorf("findings %v", got)
			}
		})
	}
}

func TestTextsAreInsideTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: map[string]string{"5.113.0.203.a.example": "127.0.0.2"}}
		c := check(t, dnsbl.Config{Zones: zones(t, "a.example"), Resolver: s, Texts: true})
		start := time.Now()
		got := asked(t, c, "203.0.113.5")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
		if diff := cmp.Diff([]string{"match a.example"}, brief(got)); diff != "" {
			t.Errorf("findings:\n%s", diff)
		}
	})
}

func TestItStopsWhenTheThresholdIsCertain(t *testing.T) {
	tests := []struct {
		name      string
		threshold float64
		zones     []string
		delays    map[string]time.Duration
		took      time.Duration
		want      []string
	}{
		{"enough is known", 3, []string{"bad.example*3", "slow.example*1"}, map[string]time.Duration{"slow.example": -1}, 0, []string{"match bad.example"}},
		{"more is needed", 4, []string{"bad.example*3", "slow.example*1"}, map[string]time.Duration{"slow.example": time.Second}, time.Second, []string{"match bad.example", "match slow.example"}},
		{"a list of the good may still take it away", 3, []string{"bad.example*3", "good.example*-1"}, map[string]time.Duration{"good.example": time.Second}, time.Second, []string{"match bad.example", "clean good.example"}},
		{"a list of the good cannot take enough away", 3, []string{"bad.example*5", "good.example*-1"}, map[string]time.Duration{"good.example": -1}, 0, []string{"match bad.example"}},
		{"below the threshold every list is waited for", 9, []string{"bad.example*3", "slow.example*1"}, map[string]time.Duration{"slow.example": -1}, 5 * time.Second, []string{"match bad.example", "unknown list-error slow.example"}},
		{"nothing bad is never certain", -5, []string{"good.example*-1", "slow.example*-1"}, map[string]time.Duration{"slow.example": time.Second}, time.Second, []string{"clean good.example", "clean slow.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: map[string]string{}, delays: map[string]time.Duration{}}
				for _, z := range []string{"bad.example", "slow.example", "good.example"} {
					s.answers["5.113.0.203."+z] = "127.0.0.2"
					s.delays["5.113.0.203."+z] = tt.delays[z]
				}
				c := check(t, dnsbl.Config{Zones: zones(t, tt.zones...), Resolver: s, Threshold: &tt.threshold})
				start := time.Now()
				got := asked(t, c, "203.0.113.5")
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if diff := cmp.Diff(tt.want, brief(got)); diff != "" {
					t.Errorf("findings (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestACallerThatLeavesIsNotTheListsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{delays: map[string]time.Duration{"5.113.0.203.a.example": -1}}
		c := check(t, dnsbl.Config{Zones: zones(t, "a.example"), Resolver: s})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		got, err := c.Check(ctx, input("203.0.113.5"))
		if got != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// SCN-07: who asks gives a block the same time as the block gives its lists. One list
// that says nothing does not take away what the others said.
func TestAListThatIsSilentDoesNotSilenceOthers(t *testing.T) {
	for name, patience := range map[string]time.Duration{"the same time": 5 * time.Second, "less time": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: map[string]string{"5.113.0.203.a.example": "127.0.0.2"}, delays: map[string]time.Duration{"5.113.0.203.good.example": -1}}
				three := 3.0
				c := check(t, dnsbl.Config{Zones: zones(t, "a.example", "good.example*-2"), Resolver: s, Threshold: &three, Texts: true})
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				got, err := c.Check(ctx, input("203.0.113.5"))
				if diff := cmp.Diff([]string{"match a.example", "unknown list-error good.example"}, brief(got)); err != nil || diff != "" {
					t.Errorf("%v, findings (-want +got):\n%s", err, diff)
				}
			})
		})
	}
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	r := &script{}
	long := strings.Repeat("abcdefgh.", 22) + "example"
	many := make([]dnslist.Zone, 51)
	for name, cfg := range map[string]dnsbl.Config{
		"dnsbl: zones: it needs at least one list":                              {Resolver: r},
		"dnsbl: it needs a resolver":                                            {Zones: zones(t, "a.example")},
		"dnsbl: zones: 51 lists, at most 50":                                    {Zones: many, Resolver: r},
		"dnsbl: zones: a.example*2 is there twice":                              {Zones: zones(t, "a.example*2", "A.example.*2"), Resolver: r},
		"dnsbl: zones: " + long + " is too long a name to ask for addresses in": {Zones: zones(t, long), Resolver: r},
	} {
		if _, err := dnsbl.New(cfg); err == nil || err.Error() != name {
			t.Errorf("%v, want %s", err, name)
		}
	}
}

func BenchmarkCheckCached(b *testing.B) {
	s := dnstest.Start(b, "9.113.0.203.a.example. 86400 IN A 127.0.0.2")
	s.SetNegativeTTL(86400)
	c := check(b, dnsbl.Config{Zones: zones(b, "a.example", "b.example", "c.example"), Resolver: resolver(b, s)})
	in := input("203.0.113.5")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Check(b.Context(), in); err != nil {
			b.Fatal(err)
		}
	}
}

package links_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/scan/links"
)

func TestZonesAreParsed(t *testing.T) {
	for _, tt := range []struct {
		text  string
		low   string
		high  string
		score float64
	}{
		{"dbl.example.org", "", "", 0},
		{"dbl.example.org=127.0.1.2", "127.0.1.2", "127.0.1.2", 0},
		{"dbl.example.org=127.0.1.2-99*4", "127.0.1.2", "127.0.1.99", 4},
		{"white.example.org*-2.5", "", "", -2.5},
	} {
		z, err := links.ParseZone(tt.text)
		if err != nil || z.Score != tt.score || z.String() != tt.text || tt.low != "" && (z.Low.String() != tt.low || z.High.String() != tt.high) {
			t.Errorf("%s: %+v, %v", tt.text, z, err)
		}
	}
	for _, text := range []string{"", "dbl", "-x.example", "dbl.example.org=", "dbl.example.org=192.0.2.1", "dbl.example.org=127.0.1.9-2", "dbl.example.org=127.0.1.2-300",
		"dbl.example.org*", "dbl.example.org*x", "dbl.example.org*0", "dbl.example.org*NaN", "[192.0.2.1]", "dbl.example.org=127.0.1.2-99*4*5", "a b.example"} {
		if z, err := links.ParseZone(text); err == nil {
			t.Errorf("%q is no zone, got %+v", text, z)
		}
	}
}

func FuzzParseZone(f *testing.F) {
	for _, seed := range []string{"dbl.example.org=127.0.1.2-99*4", "a.b", "a.b=127.0.0.2", "a.b*-1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		z, err := links.ParseZone(s)
		if err != nil {
			return
		}
		again, err := links.ParseZone(z.String())
		if err != nil || again != z {
			t.Errorf("%q: %+v, then %+v, %v", s, z, again, err)
		}
	})
}

func zones(t testing.TB, texts ...string) []links.Zone {
	t.Helper()
	var list []links.Zone
	for _, text := range texts {
		z, err := links.ParseZone(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, z)
	}
	return list
}

func resolver(t testing.TB, s *dnstest.Server) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Config{Servers: []string{s.Addr()}, HostsFile: os.DevNull})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func find(findings []mail.Finding, symbol string) mail.Finding {
	for _, f := range findings {
		if f.Symbol == symbol {
			return f
		}
	}
	return mail.Finding{}
}

func TestDomainsAreLookedUpInLists(t *testing.T) {
	s := dnstest.Start(t, `
		evil.com.dbl.example.org.       300 IN A 127.0.1.2
		bad.com.dbl.example.org.        300 IN A 127.0.2.3
		sub.host.net.dbl.example.org.   300 IN A 127.0.1.99
		refused.com.dbl.example.org.    300 IN A 127.255.255.254
		one.com.dbl.example.org.        300 IN A 127.0.0.1
		wild.com.dbl.example.org.       300 IN A 192.0.2.80
	`)
	s.Script("down.com.dbl.example.org", "A", dnstest.Behaviour{Rcode: "SERVFAIL"})
	for _, tt := range []struct {
		name, zone, text, symbols string
		score                     float64
	}{
		{"a listed domain", "dbl.example.org", "http://www.evil.com/x", "dbl.example.org", 3},
		{"with the score of the zone", "dbl.example.org*4.5", "http://www.evil.com/x", "dbl.example.org", 4.5},
		{"an answer in the range", "dbl.example.org=127.0.1.2-99*4", "http://evil.com/", "dbl.example.org", 4},
		{"an answer outside of it", "dbl.example.org=127.0.1.2-99*4", "http://bad.com/", "", 0},
		{"a listed host of a domain that is not", "dbl.example.org", "http://sub.host.net/", "dbl.example.org", 3},
		{"nothing listed", "dbl.example.org", "http://good.com/ http://192.0.2.1.example.com/", "", 0},
		{"a list that refuses is no listing", "dbl.example.org", "http://refused.com/", "list-error", 0},
		{"nor is 127.0.0.1", "dbl.example.org", "http://one.com/", "list-error", 0},
		{"nor an answer from elsewhere", "dbl.example.org", "http://wild.com/", "list-error", 0},
		{"nor a failure", "dbl.example.org", "http://down.com/", "list-error", 0},
		{"a failure hides no listing", "dbl.example.org", "http://down.com/ http://evil.com/", "dbl.example.org list-error", 3},
		{"mail addresses are not looked up", "dbl.example.org", "joe@evil.com", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := links.New(links.Config{Zones: zones(t, tt.zone), Resolver: resolver(t, s)})
			findings := scanned(t, m, input(t, "\n"+tt.text+"\n"))
			if symbols(findings) != tt.symbols || find(findings, "dbl.example.org").Score != tt.score {
				t.Errorf("%+v", findings)
			}
			if f := find(findings, "list-error"); f.Symbol != "" && (f.Result != mail.Unknown || f.Score != 0) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// counter is a resolver that knows nothing.
type counter struct {
	mu            sync.Mutex
	names         []string
	busy, busiest atomic.Int32
	fail          error
}

func (c *counter) IPv4(ctx context.Context, name string) ([]netip.Addr, error) {
	c.mu.Lock()
	c.names = append(c.names, name)
	c.mu.Unlock()
	n := c.busy.Add(1)
	defer c.busy.Add(-1)
	for old := c.busiest.Load(); n > old && !c.busiest.CompareAndSwap(old, n); old = c.busiest.Load() {
	}
	if c.fail != nil {
		return nil, c.fail
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Second):
	}
	return nil, &dns.Error{Name: name, Type: "A", NXDomain: true}
}

// manyLinks is a message with so many different domains.
func manyLinks(n int) string {
	var b strings.Builder
	b.WriteString("Content-Type: text/html\n\n")
	for i := range n {
		fmt.Fprintf(&b, "<img src=http://pic%d.com/> <a href=http://www.shop%d.com/>x</a>\n", i, i)
	}
	return b.String()
}

// DOS-08.
func TestManyLinksCostFewQuestions(t *testing.T) {
	in := input(t, manyLinks(5000))
	if _, err := in.Text(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := &counter{}
		m := links.New(links.Config{Zones: zones(t, "a.example.org", "b.example.org"), Resolver: c})
		begun := time.Now()
		findings := scanned(t, m, in)
		if len(c.names) != 50 || c.busiest.Load() > 10 {
			t.Errorf("%d questions, %d at a time", len(c.names), c.busiest.Load())
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if find(findings, "many-domains").Result != mail.Match {
			t.Errorf("%+v", findings)
		}
		for _, name := range c.names {
			if !strings.HasPrefix(name, "shop") {
				t.Errorf("asked about %s before what can be clicked", name)
			}
		}
	})
}

func TestReasonNamesTheFirstOfSeveral(t *testing.T) {
	s := dnstest.Start(t, `
		one.com.dbl.example.org. 300 IN A 127.0.1.2
		two.com.dbl.example.org. 300 IN A 127.0.1.2
		three.com.dbl.example.org. 300 IN A 127.0.1.2
	`)
	for _, parallel := range []int{1, 8} {
		m := links.New(links.Config{Zones: zones(t, "dbl.example.org"), Resolver: resolver(t, s), Parallel: parallel})
		findings := scanned(t, m, input(t, html(`<img src="http://three.com/"><a href="http://one.com/">x</a><a href="http://two.com/">x</a>`)))
		if f := find(findings, "dbl.example.org"); f.Reason != "one.com is listed by dbl.example.org (127.0.1.2)" || f.Part != "1" {
			t.Errorf("%+v", f)
		}
	}
}

func TestNamesThatAreTooLongAreNotAskedAbout(t *testing.T) {
	c := &counter{fail: errors.New("asked")}
	label := strings.Repeat("a", 60) + "."
	m := links.New(links.Config{Zones: zones(t, "dbl.example.org"), Resolver: c})
	scanned(t, m, input(t, "\nhttp://"+strings.Repeat(label, 4)+"com/\n"))
	if len(c.names) != 1 || !strings.HasPrefix(c.names[0], label+"com.") {
		t.Errorf("asked %q", c.names)
	}
}

func TestEachDomainIsAskedOnce(t *testing.T) {
	in := input(t, html(strings.Repeat(`<a href="http://www.shop.com/a">x</a> <a href="http://shop.com/b">y</a> http://SHOP.com/c `, 20)))
	synctest.Test(t, func(t *testing.T) {
		c := &counter{}
		scanned(t, links.New(links.Config{Zones: zones(t, "a.example.org"), Resolver: c}), in)
		if len(c.names) != 1 || c.names[0] != "shop.com.a.example.org" {
			t.Errorf("asked %q", c.names)
		}
	})
}

func TestListThatIsDownIsLeftAlone(t *testing.T) {
	c := &counter{fail: &dns.Error{Temporary: true, Err: errors.New("no answer")}}
	m := links.New(links.Config{Zones: zones(t, "a.example.org"), Resolver: c, Parallel: 1})
	findings := scanned(t, m, input(t, manyLinks(40)))
	if len(c.names) != 3 || find(findings, "list-error").Result != mail.Unknown {
		t.Errorf("%d questions, %+v", len(c.names), findings)
	}
}

func TestEndOfTheContextIsNoListing(t *testing.T) {
	in := input(t, manyLinks(40))
	if _, err := in.Text(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Files(t.Context()); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		m := links.New(links.Config{Zones: zones(t, "a.example.org"), Resolver: &counter{}})
		findings, err := m.Scan(ctx, in)
		if err != nil || find(findings, "list-error").Result != mail.Unknown || time.Since(begun) > time.Second {
			t.Errorf("%+v, %v after %v", findings, err, time.Since(begun))
		}
	})
}

func TestNothingIsAskedWithoutZonesOrLookups(t *testing.T) {
	c := &counter{fail: errors.New("asked")}
	scanned(t, links.New(links.Config{Resolver: c}), input(t, manyLinks(3)))
	scanned(t, links.New(links.Config{Resolver: c, Zones: zones(t, "a.example.org"), MaxLookups: -1}), input(t, manyLinks(3)))
	if len(c.names) != 0 {
		t.Errorf("asked %q", c.names)
	}
}

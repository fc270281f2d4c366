package access_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/access"
)

func check(t testing.TB, cfg access.Config) *access.Check {
	t.Helper()
	c, err := access.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func input(client string) *policy.Input {
	return &policy.Input{Stage: policy.Connect, Session: &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4711)}}
}

// look returns what the check says of a client: "deny 192.0.2.0/24", "unknown
// name", several with commas.
func look(t testing.TB, c *access.Check, client string) string {
	t.Helper()
	return said(t, c, input(client))
}

func said(t testing.TB, c *access.Check, in *policy.Input) string {
	t.Helper()
	findings, err := c.Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range findings {
		want := map[string]mail.Result{"allow": mail.Clean, "deny": mail.Match, "name": mail.Unknown}[f.Symbol]
		if f.Module != access.Use || f.Result != want || f.Reason == "" || f.Score != 0 {
			t.Errorf("finding %+v", f)
		}
		list = append(list, strings.TrimSpace(f.Symbol+" "+f.Name))
	}
	return strings.Join(list, ", ")
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, text)
	return path
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNetworks(t *testing.T) {
	tests := []struct {
		name        string
		allow, deny []string
		client      string
		want        string
	}{
		{"a client on no list", []string{"192.0.2.0/24"}, []string{"203.0.113.0/24"}, "198.51.100.1", ""},
		{"a network that is allowed", []string{"192.0.2.0/24"}, nil, "192.0.2.255", "allow 192.0.2.0/24"},
		{"a network that is denied", nil, []string{"192.0.2.0/24"}, "192.0.2.0", "deny 192.0.2.0/24"},
		{"an address", nil, []string{"192.0.2.7"}, "192.0.2.7", "deny 192.0.2.7"},
		{"the address beside it", nil, []string{"192.0.2.7"}, "192.0.2.6", ""},
		{"a smaller network that is denied in one that is allowed", []string{"192.0.2.0/24"}, []string{"192.0.2.64/26"}, "192.0.2.65", "deny 192.0.2.64/26"},
		{"a smaller network that is allowed in one that is denied", []string{"192.0.2.64/26"}, []string{"192.0.2.0/24"}, "192.0.2.65", "allow 192.0.2.64/26"},
		{"of equals the allow list decides", []string{"192.0.2.0/24"}, []string{"192.0.2.0/24"}, "192.0.2.65", "allow 192.0.2.0/24"},
		{"IPv6", nil, []string{"2001:db8::/32"}, "2001:db8:1::5", "deny 2001:db8::/32"},
		{"IPv6 is not IPv4", nil, []string{"0.0.0.0/0"}, "2001:db8:1::5", ""},
		{"a client in IPv6 dress", nil, []string{"192.0.2.0/24"}, "::ffff:192.0.2.1", "deny 192.0.2.0/24"},
		{"an entry in IPv6 dress", nil, []string{"::ffff:192.0.2.0/120"}, "192.0.2.1", "deny 192.0.2.0/24"},
		{"a client with a zone", nil, []string{"fe80::/10"}, "fe80::1%eth0", "deny fe80::/10"},
		{"everybody", nil, []string{"::/0", "0.0.0.0/0"}, "2001:db8::1", "deny ::/0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := check(t, access.Config{Allow: tt.allow, Deny: tt.deny})
			if got := look(t, c, tt.client); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFilesAndReasons(t *testing.T) {
	deny := file(t, "\ufeff# our list\r\n\r\n192.0.2.0/24 sends spam since May # ticket 4711\r\n\t198.51.100.7\tno reason to \x1b[31m love it\r\n203.0.113.0/24#x\n")
	c, err := access.New(access.Config{DenyFile: deny})
	if err == nil || c != nil {
		t.Fatal("an entry with a # inside is taken")
	}
	write(t, deny, "\ufeff# our list\r\n\r\n192.0.2.0/24 sends spam since May # ticket 4711\r\n\t198.51.100.7\tno reason to \x1b[31m love it")
	c = check(t, access.Config{DenyFile: deny, Allow: []string{"203.0.113.0/24"}})
	for client, want := range map[string]string{
		"192.0.2.5":    "192.0.2.5 is denied by 192.0.2.0/24 in " + deny + ": sends spam since May",
		"198.51.100.7": "198.51.100.7 is denied by 198.51.100.7 in " + deny + ": no reason to ?[31m love it",
		"203.0.113.9":  "203.0.113.9 is allowed by 203.0.113.0/24 in allow",
	} {
		findings, err := c.Check(t.Context(), input(client))
		if err != nil || len(findings) != 1 || findings[0].Reason != want {
			t.Errorf("%v, %v, want %s", findings, err, want)
		}
	}
}

const zone = `
	5.2.0.192.in-addr.arpa. 60 IN PTR mail.example.com.
	mail.example.com. 60 IN A 192.0.2.5
	6.2.0.192.in-addr.arpa. 60 IN PTR mail.bank.example.
	mail.bank.example. 60 IN A 198.51.100.1
	7.2.0.192.in-addr.arpa. 60 IN PTR a.dyn.example.net.
	7.2.0.192.in-addr.arpa. 60 IN PTR mail.example.net.
	a.dyn.example.net. 60 IN A 192.0.2.7
	mail.example.net. 60 IN A 192.0.2.7
	8.2.0.192.in-addr.arpa. 60 IN PTR notexample.com.
	notexample.com. 60 IN A 192.0.2.8
	5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR six.example.com.
	six.example.com. 60 IN AAAA 2001:db8::5
	11.2.0.192.in-addr.arpa. 60 IN PTR lame.example.com.
`

func resolver(t testing.TB, s *dnstest.Server) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Config{Servers: []string{s.Addr()}, HostsFile: "testdata/none"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestNames(t *testing.T) {
	tests := []struct {
		name        string
		allow, deny []string
		client      string
		want        string
	}{
		{"a host below a domain", []string{".example.com"}, nil, "192.0.2.5", "allow .example.com"},
		{"a host below a domain, IPv6", []string{".Example.COM"}, nil, "2001:db8::5", "allow .example.com"},
		{"the host itself", nil, []string{"mail.example.com"}, "192.0.2.5", "deny mail.example.com"},
		{"a host is not those below it", nil, []string{"example.com"}, "192.0.2.5", ""},
		{"a name that begins alike", nil, []string{".example.com"}, "192.0.2.8", ""},
		{"a name that its own address does not confirm", []string{".bank.example"}, nil, "192.0.2.6", ""},
		{"the longest entry decides", []string{".example.com"}, []string{"mail.example.com"}, "192.0.2.5", "deny mail.example.com"},
		{"of several names the one with the longest entry", []string{".example.net"}, []string{".dyn.example.net"}, "192.0.2.7", "deny .dyn.example.net"},
		{"of equals the allow list", []string{".example.com"}, []string{".example.com"}, "192.0.2.5", "allow .example.com"},
		{"a network is more specific than a name", []string{".example.com"}, []string{"192.0.0.0/8"}, "192.0.2.5", "deny 192.0.0.0/8"},
		{"an address without a name", nil, []string{".example.com"}, "192.0.2.9", ""},
		{"a reverse zone that is down", nil, []string{".example.com"}, "192.0.2.10", "name"},
		{"a name that cannot be confirmed now", nil, []string{".example.com"}, "192.0.2.11", "name"},
	}
	s := dnstest.Start(t, zone)
	s.Script("10.2.0.192.in-addr.arpa", "PTR", dnstest.Behaviour{Rcode: "SERVFAIL"})
	s.Script("lame.example.com", "*", dnstest.Behaviour{Rcode: "SERVFAIL"})
	r := resolver(t, s)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := check(t, access.Config{Allow: tt.allow, Deny: tt.deny, Resolver: r})
			if got := look(t, c, tt.client); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNamesAreLookedUpOnlyWhereAListHasAny(t *testing.T) {
	s := dnstest.Start(t, zone)
	r := resolver(t, s)
	look(t, check(t, access.Config{Deny: []string{"203.0.113.0/24"}, Resolver: r}), "192.0.2.5")
	look(t, check(t, access.Config{Deny: []string{"192.0.2.0/24", ".example.com"}, Resolver: r}), "192.0.2.5")
	if q := s.Queries(); len(q) > 0 {
		t.Errorf("asked for %v", q)
	}
	c := check(t, access.Config{Deny: []string{".example.org"}, Resolver: r})
	for range 3 {
		look(t, c, "192.0.2.5")
	}
	if q := s.Queries(); len(q) != 1 || q[0].Type != "PTR" {
		t.Errorf("three times a name on no list: asked for %v", q)
	}
}

func TestANameOfABelievedXCLIENTIsTaken(t *testing.T) {
	s := dnstest.Start(t, "")
	c := check(t, access.Config{Deny: []string{".example.com"}, Resolver: resolver(t, s)})
	in := input("192.0.2.99")
	in.Session.Name = "Mail.Example.com"
	if got := said(t, c, in); got != "deny .example.com" {
		t.Errorf("got %q", got)
	}
	if q := s.Queries(); len(q) > 0 {
		t.Errorf("asked for %v", q)
	}
}

// manyNames is a reverse zone whose owner gave an address many names.
type manyNames struct {
	mu    sync.Mutex
	asked int
	hang  bool
}

func (r *manyNames) PTR(ctx context.Context, _ netip.Addr) ([]string, error) {
	if r.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	list := make([]string, 1000)
	for i := range list {
		list[i] = fmt.Sprintf("h%d.example.com", i)
	}
	return list, nil
}

func (r *manyNames) Addrs(context.Context, string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return []netip.Addr{netip.MustParseAddr("198.51.100.1")}, nil
}

func TestLookUpsAreBounded(t *testing.T) {
	r := &manyNames{}
	if got := look(t, check(t, access.Config{Deny: []string{".example.com"}, Resolver: r}), "192.0.2.5"); got != "" || r.asked != 10 {
		t.Errorf("%q after %d look-ups", got, r.asked)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if got := look(t, check(t, access.Config{Deny: []string{".example.com"}, Resolver: &manyNames{hang: true}}), "192.0.2.5"); got != "name" {
			t.Errorf("got %q", got)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestDatabases(t *testing.T) {
	both := []string{"testdata/country.mmdb", "testdata/asn.mmdb"}
	tests := []struct {
		name   string
		cfg    access.Config
		client string
		want   string
	}{
		{"a country that is denied", access.Config{DenyCountries: []string{"de"}}, "203.0.113.5", "deny DE"},
		{"a country that is allowed", access.Config{AllowCountries: []string{"FR"}}, "203.0.113.200", "allow FR"},
		{"another country", access.Config{DenyCountries: []string{"FR"}}, "203.0.113.5", ""},
		{"IPv6", access.Config{DenyCountries: []string{"DE"}}, "2001:db8:1::9", "deny DE"},
		{"the country of the owner where there is no other", access.Config{DenyCountries: []string{"NL"}}, "198.51.100.9", "deny NL"},
		{"an ASN", access.Config{DenyASNs: []uint32{64496}}, "203.0.113.5", "deny AS64496"},
		{"an ASN is more specific than a country", access.Config{AllowASNs: []uint32{64496}, DenyCountries: []string{"DE"}}, "203.0.113.5", "allow AS64496"},
		{"beyond the ASN the country counts", access.Config{AllowASNs: []uint32{64496}, DenyCountries: []string{"DE"}}, "203.0.113.100", "deny DE"},
		{"of equals the allow list", access.Config{AllowCountries: []string{"DE"}, DenyCountries: []string{"DE"}}, "203.0.113.5", "allow DE"},
		{"a network is more specific than both", access.Config{Allow: []string{"203.0.113.0/24"}, DenyASNs: []uint32{64496}, DenyCountries: []string{"DE"}}, "203.0.113.5", "allow 203.0.113.0/24"},
		{"an address that no database knows", access.Config{DenyCountries: []string{"DE"}}, "192.0.2.1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Databases = both
			if got := look(t, check(t, tt.cfg), tt.client); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestADatabaseIsReplaced(t *testing.T) {
	country, err := os.ReadFile("testdata/country.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, string(country))
	synctest.Test(t, func(t *testing.T) {
		c := check(t, access.Config{DenyCountries: []string{"DE"}, DenyASNs: []uint32{64496}, Databases: []string{path}})
		asn, err := os.ReadFile("testdata/asn.mmdb")
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "not a database")
		time.Sleep(5 * time.Second)
		if got := look(t, c, "203.0.113.5"); got != "deny DE" {
			t.Errorf("after a bad file: %q", got)
		}
		write(t, path, string(asn))
		time.Sleep(5 * time.Second)
		if got := look(t, c, "203.0.113.5"); got != "deny AS64496" {
			t.Errorf("after a good file: %q", got)
		}
	})
}

func TestAFileThatChangesIsReadAgain(t *testing.T) {
	path := file(t, "192.0.2.1\n")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := check(t, access.Config{DenyFile: path, Log: slog.New(slog.NewTextHandler(&log, nil))})
		expect := func(step, one, two string) {
			t.Helper()
			if got := look(t, c, "192.0.2.1"); got != one {
				t.Errorf("%s: 192.0.2.1 is %q, want %q", step, got, one)
			}
			if got := look(t, c, "192.0.2.22"); got != two {
				t.Errorf("%s: 192.0.2.22 is %q, want %q", step, got, two)
			}
		}
		expect("at first", "deny 192.0.2.1", "")
		write(t, path, "192.0.2.22\n")
		time.Sleep(5*time.Second - 1)
		expect("before it is looked at", "deny 192.0.2.1", "")
		time.Sleep(time.Nanosecond)
		expect("when it is looked at", "", "deny 192.0.2.22")

		write(t, path, "192.0.2.1\n192.0.2.22\nnonsense here\n300.1.1.1\n")
		for range 4 {
			time.Sleep(5 * time.Second)
			expect("with bad lines", "", "deny 192.0.2.22")
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), "line 3:") || !strings.Contains(log.String(), "line 4:") {
			t.Errorf("%d errors: %s", n, &log)
		}

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(5 * time.Second)
			expect("without the file", "", "deny 192.0.2.22")
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
			t.Errorf("%d errors: %s", n, &log)
		}
		write(t, path, "192.0.2.1\n192.0.2.22\n")
		time.Sleep(5 * time.Second)
		expect("with the file again", "deny 192.0.2.1", "deny 192.0.2.22")
	})
}

func TestAFileIsReadAgainWhileOthersLookUp(t *testing.T) {
	path := file(t, strings.Repeat("192.0.2.1\n", 1000))
	c := check(t, access.Config{DenyFile: path, CheckEvery: time.Nanosecond})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if got := look(t, c, "192.0.2.1"); got != "deny 192.0.2.1" {
					t.Errorf("got %q", got)
				}
			}
		})
	}
	next := filepath.Join(t.TempDir(), "next")
	for i := range 50 {
		write(t, next, strings.Repeat("192.0.2.1\n", 1000+i))
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	tests := []struct {
		name string
		cfg  access.Config
		want string
	}{
		{"nothing", access.Config{}, "access: it needs a list"},
		{"a bad network", access.Config{Allow: []string{"192.0.2.0/33"}}, `access: allow: "192.0.2.0/33" is no network`},
		{"bits behind the length", access.Config{Deny: []string{"192.0.2.1/24"}}, `access: deny: "192.0.2.1/24" has bits behind its length: write 192.0.2.0/24`},
		{"a mixture", access.Config{Deny: []string{"::ffff:0.0.0.0/90"}}, "mixes IPv4 and IPv6"},
		{"a zone", access.Config{Deny: []string{"fe80::1%eth0"}}, "zone"},
		{"a mistyped address", access.Config{Deny: []string{"192.0.2.256"}}, `"192.0.2.256" is no network, address or host name`},
		{"a word", access.Config{Deny: []string{"spammer"}}, `write ".spammer" for the hosts of a domain`},
		{"an empty entry", access.Config{Deny: []string{""}}, "is no network"},
		{"names without a resolver", access.Config{Deny: []string{".example.com"}}, "access: deny: it has host names, and there is no resolver"},
		{"a file that is missing", access.Config{DenyFile: missing}, "access: deny_file: open list"},
		{"a directory", access.Config{AllowFile: t.TempDir()}, "is no regular file"},
		{"a file with bad lines", access.Config{AllowFile: file(t, "192.0.2.1\nx\n")}, "access: allow_file: read "},
		{"a file with many bad lines", access.Config{AllowFile: file(t, strings.Repeat("x\n", 100))}, "line 5: \"x\" is no network, address or host name; write \".x\" for the hosts of a domain\nand perhaps more"},
		{"a long line", access.Config{DenyFile: file(t, "192.0.2.1 "+strings.Repeat("x", 1000))}, "line 1: longer than 1000 bytes"},
		{"too many entries", access.Config{DenyFile: file(t, "192.0.2.1\n192.0.2.2\n192.0.2.3\n"), MaxEntries: 2}, "line 3: more than 2 entries"},
		{"too large a file", access.Config{DenyFile: file(t, "192.0.2.1\n192.0.2.2\n"), MaxFileSize: 10}, "20 bytes, at most 10"},
		{"countries without a database", access.Config{DenyCountries: []string{"DE"}}, "need an mmdb_file"},
		{"a database without countries", access.Config{Databases: []string{"testdata/asn.mmdb"}}, "no country and no ASN"},
		{"a word for a country", access.Config{DenyCountries: []string{"GER"}, Databases: []string{"testdata/asn.mmdb"}}, `"GER" is no code of two letters`},
		{"a database that is none", access.Config{DenyCountries: []string{"DE"}, Databases: []string{"testdata/README.md"}}, "access: mmdb_file: read testdata/README.md: open database"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := access.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// millionNetworks is a file of a million different networks and addresses.
func millionNetworks(t testing.TB) string {
	var b bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 1_000_000 {
		if i%10 == 0 {
			fmt.Fprintf(&b, "2001:%x:%x::/48\n", r.IntN(1<<16), i/10%(1<<16))
			continue
		}
		n := uint32(i) * 3700
		bits := []int{32, 32, 24}[i%3]
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), bits).Masked()
		fmt.Fprintf(&b, "%s listed\n", p)
	}
	return file(t, b.String())
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAMillionNetworksFitIntoMemory(t *testing.T) {
	path := millionNetworks(t)
	before := heap()
	c := check(t, access.Config{DenyFile: path})
	used := int64(heap()) - int64(before)
	t.Logf("%d MiB", used>>20)
	if used > 128<<20 {
		t.Errorf("a million networks take %d MiB", used>>20)
	}
	if got := look(t, c, "0.0.14.116"); got != "deny 0.0.14.116" {
		t.Error("the first one is not there")
	}
}

func BenchmarkCheckMillion(b *testing.B) {
	c := check(b, access.Config{DenyFile: millionNetworks(b)})
	r := rand.New(rand.NewPCG(3, 4))
	inputs := make([]*policy.Input, 1<<12)
	for i := range inputs {
		n := r.Uint32()
		inputs[i] = input(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}).String())
	}
	ctx := b.Context()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := c.Check(ctx, inputs[i&(1<<12-1)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

func BenchmarkLoadMillion(b *testing.B) {
	path := millionNetworks(b)
	for b.Loop() {
		check(b, access.Config{DenyFile: path})
	}
}

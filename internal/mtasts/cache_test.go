package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/test/peer"
)

// policyHost is the policy host of out.example, with a name server that announces it.
type policyHost struct {
	names  *dnstest.Server
	server *httptest.Server
	cert   peer.Certificate
	asked  atomic.Int32
	answer atomic.Pointer[http.HandlerFunc]
}

func newPolicyHost(t *testing.T, zone string) *policyHost {
	t.Helper()
	h := &policyHost{names: dnstest.Start(t, zone), cert: peer.NewCertificate(t, "mta-sts.out.example")}
	h.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		(*h.answer.Load())(w, r)
	}))
	h.server.TLS = &tls.Config{Certificates: []tls.Certificate{h.cert.TLS}}
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	return h
}

// says has the host answer with a policy from now on.
func (h *policyHost) says(text string) {
	h.does(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "mta-sts.out.example" || r.URL.Path != "/.well-known/mta-sts.txt" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, text)
	})
}

func (h *policyHost) does(f http.HandlerFunc) { h.answer.Store(&f) }

// cache asks the host, whose address the name service would have on port 443.
func (h *policyHost) cache(t *testing.T, cfg Config) *Cache {
	t.Helper()
	resolver, err := dns.New(dns.Config{Servers: []string{h.names.Addr()}, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Resolver = resolver
	if cfg.Roots == nil {
		cfg.Roots = h.cert.Pool
	}
	cfg.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, h.server.Listener.Addr().String())
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const (
	announced = "_mta-sts.out.example. 0 IN TXT \"v=STSv1; id=1;\"\n"
	enforced  = "version: STSv1\r\nmode: enforce\r\nmx: mx.out.example\r\nmax_age: 86400\r\n"
)

func TestThePolicyOfADomainIsFetchedOnce(t *testing.T) {
	h := newPolicyHost(t, announced)
	h.says(enforced)
	c := h.cache(t, Config{Dir: t.TempDir()})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if f := c.Policy(t.Context(), "OUT.example."); !f.Policy.Enforced() || !f.Policy.Matches("mx.out.example") || f.Err != nil {
				t.Errorf("%+v", f)
			}
		})
	}
	wg.Wait()
	if n := h.asked.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	if f := c.Policy(t.Context(), "other.example"); f.Policy != nil || f.Err != nil {
		t.Errorf("a domain without: %+v", f)
	}
}

// RFC 8461 §10.2: who can suppress the record or the policy host must not be able to
// switch a policy off, and neither can a restart.
func TestAKnownPolicyHoldsWhateverIsSaidMeanwhile(t *testing.T) {
	h := newPolicyHost(t, announced)
	h.says(enforced)
	dir := t.TempDir()
	if f := h.cache(t, Config{Dir: dir}).Policy(t.Context(), "out.example"); !f.Policy.Enforced() {
		t.Fatalf("%+v", f)
	}
	for name, b := range map[string]dnstest.Behaviour{"no record": {Rcode: "NXDOMAIN"}, "no answer": {Rcode: "SERVFAIL"}} {
		h.names.Script("_mta-sts.out.example", "TXT", b)
		if f := h.cache(t, Config{Dir: dir}).Policy(t.Context(), "out.example"); !f.Policy.Enforced() {
			t.Errorf("%s: %+v", name, f)
		}
	}
	h.names.Script("_mta-sts.out.example", "TXT", dnstest.Behaviour{})
	h.does(http.NotFound)
	c := h.cache(t, Config{Dir: dir, Fresh: time.Nanosecond})
	f := c.Policy(t.Context(), "out.example")
	if !f.Policy.Enforced() || f.Err == nil || f.Err.Kind != FetchFailed {
		t.Errorf("the policy host is broken: %+v", f)
	}
	asked := h.asked.Load()
	c.Policy(t.Context(), "out.example")
	if h.asked.Load() != asked {
		t.Error("a broken policy host is asked at once again")
	}
}

func TestANewIDBringsANewPolicy(t *testing.T) {
	h := newPolicyHost(t, announced)
	h.says(enforced)
	dir := t.TempDir()
	h.cache(t, Config{Dir: dir}).Policy(t.Context(), "out.example")
	h.names = dnstest.Start(t, strings.Replace(announced, "id=1", "id=2", 1))
	h.says(strings.Replace(enforced, "enforce", "none", 1))
	c := h.cache(t, Config{Dir: dir})
	if f := c.Policy(t.Context(), "out.example"); f.Policy != nil || f.Err != nil {
		t.Errorf("mode none: %+v", f)
	}
	if h.cache(t, Config{Dir: dir}).Policy(t.Context(), "out.example"); h.asked.Load() != 2 {
		t.Errorf("fetched %d times", h.asked.Load())
	}
}

func TestPoliciesThatCannotBeHad(t *testing.T) {
	plain := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, text)
		}
	}
	tests := []struct {
		name  string
		does  http.HandlerFunc
		roots *x509.CertPool
		want  Kind
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusFound) }, nil, FetchFailed},
		{"not found", http.NotFound, nil, FetchFailed},
		{"a page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, enforced)
		}, nil, InvalidText},
		{"too long", plain(enforced + strings.Repeat("x: y\n", 20000)), nil, InvalidText},
		{"no policy", plain("hello\n"), nil, InvalidText},
		{"no mx", plain("version: STSv1\nmode: enforce\nmax_age: 1\n"), nil, InvalidText},
		{"an unknown authority", plain(enforced), x509.NewCertPool(), InvalidWebCA},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newPolicyHost(t, announced)
			h.does(tt.does)
			f := h.cache(t, Config{Roots: tt.roots}).Policy(t.Context(), "out.example")
			if f.Policy != nil || f.Err == nil || f.Err.Kind != tt.want || errors.Unwrap(f.Err) == nil {
				t.Errorf("%+v, want %s", f, tt.want)
			}
		})
	}
}

func TestAPolicyHostThatHangsCostsBoundedTime(t *testing.T) {
	h := newPolicyHost(t, announced)
	release := make(chan struct{})
	h.does(func(http.ResponseWriter, *http.Request) { <-release })
	f := h.cache(t, Config{Timeout: 100 * time.Millisecond}).Policy(t.Context(), "out.example")
	close(release)
	if f.Policy != nil || f.Err == nil || f.Err.Kind != FetchFailed {
		t.Errorf("%+v", f)
	}
}

func TestRecordsThatAnnounceNothing(t *testing.T) {
	tests := map[string]string{
		`"v=STSv1; id=1;"`: "1", `"v=STSv1;id=20260101T000000;"`: "20260101T000000", `"v=STSv1; x=y; id=a1"`: "a1",
		`"v=STSv1"`: "", `"v=STSv2; id=1"`: "", `"id=1; v=STSv1"`: "", `"v=STSv1; id=a-b"`: "", `"v=STSv1; id="`: "",
		`"v=STSv1; id=` + strings.Repeat("a", 33) + `"`: "",
	}
	for text, want := range tests {
		id, ok := parseRecord([]string{"v=spf1 -all", strings.Trim(text, `"`)})
		if ok != (want != "") || ok && id != want {
			t.Errorf("%s: %q, %v", text, id, ok)
		}
	}
	if _, ok := parseRecord([]string{"v=STSv1; id=1", "v=STSv1; id=2"}); ok {
		t.Error("two records are taken for one")
	}
}

func TestMatches(t *testing.T) {
	p, err := Parse([]byte("version: STSv1\nmode: testing\nmx: mx1.out.example\nmx: *.mail.out.example\nmax_age: 99999999\nmode: enforce\nnew: thing\n"))
	if err != nil || p.Mode != Testing || p.MaxAge != maxAge || len(p.Lines) != 7 {
		t.Fatalf("%+v, %v", p, err)
	}
	for host, want := range map[string]bool{
		"mx1.out.example": true, "MX1.out.example.": true, "mx2.out.example": false, "a.mail.out.example": true,
		"a.b.mail.out.example": false, "mail.out.example": false, ".mail.out.example": false, "": false, "192.0.2.1": false,
	} {
		if p.Matches(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

func TestKeptPoliciesAreSweptAndTheRestIgnored(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"old.example.json": `{"id":"1","fetched":"2020-01-01T00:00:00Z","policy":{"mode":"enforce","mx":["x"],"max_age":1}}`,
		"bad.example.json": `{`, ".new-1": "x",
		"good.example.json": fmt.Sprintf(`{"id":"1","fetched":%q,"policy":{"mode":"enforce","mx":["mx.good.example"],"max_age":3600000000000}}`, time.Now().Format(time.RFC3339)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := newPolicyHost(t, "")
	c := h.cache(t, Config{Dir: dir})
	list, err := os.ReadDir(dir)
	if err != nil || len(list) != 1 || !c.Policy(t.Context(), "good.example").Policy.Enforced() {
		t.Errorf("%v, %v", list, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	h := newPolicyHost(t, "")
	c := h.cache(t, Config{Max: 3})
	for i := range 10 {
		c.keep(fmt.Sprintf("d%d.example", i), &entry{}, false)
	}
	if len(c.domains) != 3 {
		t.Errorf("%d domains", len(c.domains))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(enforced))
	f.Add([]byte("version: STSv1\nmode: none\nmax_age: 0\n"))
	f.Add([]byte("version:STSv1\n:\nmx:*.\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		if p.MaxAge < 0 || p.MaxAge > maxAge || p.Active() && len(p.MX) == 0 || len(p.MX) > maxMX {
			t.Errorf("%+v", p)
		}
		for _, mx := range p.MX {
			if !isName(strings.TrimPrefix(mx, "*.")) {
				t.Errorf("mx %q", mx)
			}
		}
	})
}

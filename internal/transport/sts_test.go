package transport

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/mtasts"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/tlsrpt"
)

// policies are MTA-STS policies that need not be fetched.
type policies map[string]mtasts.Found

// Policy implements STS.
func (p policies) Policy(_ context.Context, domain string) mtasts.Found { return p[domain] }

// noted collects what reports would say, and what is counted.
type noted struct {
	nobody
	mu       sync.Mutex
	sessions []tlsrpt.Session
	secured  []string
}

// Note implements Reports.
func (n *noted) Note(s tlsrpt.Session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sessions = append(n.sessions, s)
}

// Secured implements Observer.
func (n *noted) Secured(_, policy, result string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.secured = append(n.secured, policy+" "+result)
}

func (n *noted) brief() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := append([]string(nil), n.secured...)
	for _, s := range n.sessions {
		all = append(all, strings.TrimSpace(s.Policy.Type+" "+s.Failure.Type))
	}
	return strings.Join(all, ", ")
}

func TestMTASTS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	cert, wrongName, untrusted := ca.server(soon, "mx.out.example"), ca.server(soon, "elsewhere"), other.server(soon, "mx.out.example")
	expired := ca.server(time.Now().Add(-time.Hour), "mx.out.example")
	policy := func(mode mtasts.Mode, mx ...string) mtasts.Found {
		return mtasts.Found{Policy: &mtasts.Policy{Mode: mode, MX: mx, MaxAge: time.Hour}}
	}
	good, strange := policy(mtasts.Enforce, "mx.out.example"), policy(mtasts.Enforce, "mx.elsewhere.example")
	ee := []dns.TLSA{{Usage: 3, Selector: 0, Matching: 1, Data: hash(untrusted.Leaf.Raw)}}
	for _, tc := range []struct {
		name    string
		mode    TLSMode
		found   mtasts.Found
		records []dns.TLSA
		server  sinktest.Config
		want    string // "verified", "TLS", "clear", "deferred"
		noted   string
	}{
		{"enforce, good", TLSOpportunistic, good, nil, withCert(cert), "verified", "mta-sts verified, sts"},
		{"enforce, another host", TLSOpportunistic, strange, nil, withCert(cert), "deferred", "mta-sts failed, sts certificate-host-mismatch"},
		{"enforce, certificate for another name", TLSOpportunistic, good, nil, withCert(wrongName), "deferred", "mta-sts failed, sts certificate-host-mismatch"},
		{"enforce, untrusted", TLSOpportunistic, good, nil, withCert(untrusted), "deferred", "mta-sts failed, sts certificate-not-trusted"},
		{"enforce, expired", TLSOpportunistic, good, nil, withCert(expired), "deferred", "mta-sts failed, sts certificate-expired"},
		{"enforce, STARTTLS is hidden", TLSOpportunistic, good, nil, sinktest.Config{}, "deferred", "mta-sts failed, sts starttls-not-supported"},
		{"enforce, the transport requires TLS", TLSRequire, good, nil, withCert(untrusted), "deferred", "mta-sts failed, sts certificate-not-trusted"},
		{"testing, good", TLSOpportunistic, policy(mtasts.Testing, "mx.out.example"), nil, withCert(cert), "TLS", "mta-sts-testing encrypted, sts"},
		{"testing, untrusted", TLSOpportunistic, policy(mtasts.Testing, "mx.out.example"), nil, withCert(untrusted), "TLS", "mta-sts-testing encrypted, sts certificate-not-trusted"},
		{"testing, another host", TLSOpportunistic, policy(mtasts.Testing, "x.example"), nil, withCert(cert), "TLS", "mta-sts-testing encrypted, sts certificate-host-mismatch"},
		{"testing, STARTTLS is hidden", TLSOpportunistic, policy(mtasts.Testing, "mx.out.example"), nil, sinktest.Config{}, "clear", "mta-sts-testing clear, sts starttls-not-supported"},
		{"no policy", TLSOpportunistic, mtasts.Found{}, nil, withCert(untrusted), "TLS", "opportunistic encrypted, no-policy-found"},
		{"no policy, no STARTTLS", TLSOpportunistic, mtasts.Found{}, nil, sinktest.Config{}, "clear", "opportunistic clear, no-policy-found starttls-not-supported"},
		{"a policy that can't be fetched", TLSOpportunistic, mtasts.Found{Err: &mtasts.Error{Kind: mtasts.FetchFailed, Err: errors.New("x")}}, nil, withCert(cert), "TLS",
			"opportunistic encrypted, sts sts-policy-fetch-error, no-policy-found"},
		{"off", TLSOff, good, nil, withCert(cert), "clear", "off clear"},
		{"DANE says yes, MTA-STS no", TLSDANE, good, ee, withCert(untrusted), "verified", "dane verified, tlsa"},
		{"DANE says no, MTA-STS yes", TLSDANE, good, ee, withCert(cert), "deferred", "dane failed, tlsa validation-failure"},
		{"DANE has unusable records only, MTA-STS says no", TLSDANE, good, []dns.TLSA{{Usage: 1, Selector: 0, Matching: 1, Data: []byte("x")}}, withCert(untrusted), "deferred", "mta-sts failed, sts certificate-not-trusted"},
		{"DANE has no records, MTA-STS says no", TLSDANE, good, nil, withCert(untrusted), "deferred", "mta-sts failed, sts certificate-not-trusted"},
		{"neither has anything", TLSDANE, mtasts.Found{}, nil, withCert(untrusted), "TLS", "opportunistic encrypted, no-policy-found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, watch := newNetwork(t), &noted{}
			s := n.host("192.0.2.1:25", tc.server)
			r := names{
				mx: map[string][]dns.MX{"out.example": {{Host: "mx.out.example"}}}, addrs: map[string][]netip.Addr{"mx.out.example": {netip.MustParseAddr("192.0.2.1")}},
				tlsa: map[string][]dns.TLSA{"_25._tcp.mx.out.example": tc.records}, secure: true,
			}
			tr, err := New(Config{Kind: MX, Hostname: "gw.in.example", TLS: tc.mode, TLSCAFile: ca.file},
				Deps{Resolver: r, Dial: n.dial, STS: policies{"out.example": tc.found}, Reports: watch, Observer: watch})
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			o := tr.Deliver(t.Context(), delivery(t, secret, "r@out.example"))[0]
			got := string(o.Status)
			switch {
			case o.Status != mail.Delivered:
			case o.TLS.Verified:
				got = "verified"
			case o.TLS.Active():
				got = "TLS"
			default:
				got = "clear"
			}
			if got != tc.want || watch.brief() != tc.noted {
				t.Errorf("%s, want %s: %s (%s)\nnoted %s\nwant  %s", got, tc.want, o.Reply, o.Cause, watch.brief(), tc.noted)
			}
			if strings.Contains(s.Clear(), "MAIL") != (tc.want == "clear") {
				t.Errorf("in clear text: %q", s.Clear())
			}
			policy := map[bool]string{false: "the MTA-STS policy of out.example (enforce)", true: "DANE, by the TLSA records of mx.out.example"}[strings.HasPrefix(tc.noted, "dane")]
			if (tc.want == "deferred" || tc.want == "verified") && !strings.Contains(o.Cause, "required by "+policy) {
				t.Errorf("cause %q", o.Cause)
			}
		})
	}
}

// A session that was opened for a domain without a policy must not serve one with.
func TestSessionsOfUnverifiedHostsAreNotSharedUnderAPolicy(t *testing.T) {
	ca := newAuthority(t)
	n := newNetwork(t)
	n.host("192.0.2.1:25", withCert(newAuthority(t).server(time.Now().Add(time.Hour), "mx.out.example")))
	mx := []dns.MX{{Host: "mx.out.example"}}
	r := names{mx: map[string][]dns.MX{"out.example": mx, "free.example": mx}, addrs: map[string][]netip.Addr{"mx.out.example": {netip.MustParseAddr("192.0.2.1")}}}
	tr, err := New(Config{Kind: MX, Hostname: "gw.in.example", TLSCAFile: ca.file}, Deps{Resolver: r, Dial: n.dial,
		STS: policies{"out.example": {Policy: &mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mx.out.example"}, MaxAge: time.Hour}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if o := tr.Deliver(t.Context(), delivery(t, short, "r@free.example")); briefs(o) != "delivered eod 250" {
		t.Fatal(briefs(o))
	}
	if o := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(o) != "deferred starttls own 451" {
		t.Errorf("%s (%s)", briefs(o), o[0].Cause)
	}
	// RFC 8460 §3: the report about it gets through.
	d := delivery(t, short, "tls@out.example")
	d.Message.Envelope.TLSOptional = true
	if o := tr.Deliver(t.Context(), d); briefs(o) != "delivered eod 250" {
		t.Errorf("a report: %s (%s)", briefs(o), o[0].Cause)
	}
}

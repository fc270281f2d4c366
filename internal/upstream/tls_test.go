package upstream_test

import (
	"crypto/sha256"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/dns"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
	testpeer "gatepost/test/peer"
)

const secret = "Subject: topsecret\r\n\r\nnobody may read this\r\n"

func TestTLS(t *testing.T) {
	good, other := testpeer.NewCertificate(t, "mx.example"), testpeer.NewCertificate(t, "other.example")
	type tcase struct {
		name    string
		mode    upstream.TLSMode
		cert    *testpeer.Certificate // nil: none
		hide    bool
		act     *sinktest.Act // to STARTTLS
		want    string
		secured bool
	}
	no := sinktest.Reply("454 4.7.0 not now")
	bad := &sinktest.Act{Wire: "220 go\r\n250 injected\r\n"}
	broken := &sinktest.Act{Wire: "220 go\r\n", Close: true}
	const ok, down = "eod 250 answered", "starttls 451 unreached"
	for _, tc := range []tcase{
		{"off", upstream.TLSOff, &good, false, nil, ok, false},
		{"opportunistic", "", &good, false, nil, ok, true},
		{"opportunistic, wrong name", "", &other, false, nil, ok, true},
		{"opportunistic, not offered", "", &good, true, nil, ok, false},
		{"opportunistic, refused", "", &good, false, no, ok, false},
		{"require, wrong name", upstream.TLSRequire, &other, false, nil, ok, true},
		{"require, not offered", upstream.TLSRequire, &good, true, nil, down, false},
		{"require, refused", upstream.TLSRequire, &good, false, no, down, false},
		{"require, injected", upstream.TLSRequire, &good, false, bad, down, false},
		{"require, handshake fails", upstream.TLSRequire, &good, false, broken, down, false},
		{"verify", upstream.TLSVerify, &good, false, nil, ok, true},
		{"verify, wrong name", upstream.TLSVerify, &other, false, nil, down, false},
		{"verify, not offered", upstream.TLSVerify, &good, true, nil, down, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			n.names = map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}
			cfg := sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{tc.cert.TLS}}, HideTLS: tc.hide}
			if tc.act != nil {
				cfg.Script = at(sinktest.StartTLS, tc.act)
			}
			sink := n.host("192.0.2.1:25", cfg)
			s := n.server(upstream.Config{Hosts: hosts("mx.example"), TLS: tc.mode, Roots: tc.cert.Pool})
			res := deliver(t, s, secret)
			if got := brief(res); got != tc.want {
				t.Fatalf("%s (%v), want %s", got, res.Err, tc.want)
			}
			if res.TLS.Active() != tc.secured || res.OK() && strings.Contains(sink.Clear(), "topsecret") == tc.secured {
				t.Errorf("TLS %+v, in clear text: %q", res.TLS, sink.Clear())
			}
			if !res.OK() && (res.Reply.Text() != "No answer from the next hop" || strings.Contains(sink.Clear(), "MAIL")) {
				t.Errorf("reply %s, wire %q", res.Reply, sink.Clear())
			}
			if verified := tc.mode == upstream.TLSVerify && res.OK(); res.TLS.Verified != verified {
				t.Errorf("verified: %v", res.TLS.Verified)
			}
		})
	}
}

func TestDANE(t *testing.T) {
	cert, other := testpeer.NewCertificate(t, "mx.example"), testpeer.NewCertificate(t, "mx.example")
	record := func(usage uint8, c testpeer.Certificate) []dns.TLSA {
		sum := sha256.Sum256(c.TLS.Certificate[0])
		return []dns.TLSA{{Usage: usage, Matching: 1, Data: sum[:]}}
	}
	const ok, down = "eod 250 answered", "starttls 451 unreached"
	for _, tc := range []struct {
		name              string
		records           []dns.TLSA
		err               error
		insecure, hide    bool
		want              string
		secured, verified bool
	}{
		{name: "a record of the certificate", records: record(3, cert), want: ok, secured: true, verified: true},
		{name: "a record of another one", records: record(3, other), want: down},
		{name: "records, but no STARTTLS", records: record(3, cert), hide: true, want: down},
		{name: "records that cannot be used", records: record(1, other), want: ok, secured: true},
		{name: "records that cannot be used, and no STARTTLS", records: record(1, other), hide: true, want: down},
		{name: "no records", want: ok, secured: true},
		{name: "no records, and no STARTTLS", hide: true, want: ok},
		{name: "records that nobody vouches for", records: record(3, other), insecure: true, want: ok, secured: true},
		{name: "records that can't be had", err: &dns.Error{Name: "x", Type: "TLSA", Rcode: "SERVFAIL", Temporary: true}, want: down},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			n.names = map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}
			n.tlsa, n.tlsaErr, n.secure = map[string][]dns.TLSA{"_2525._tcp.mx.example": tc.records}, tc.err, !tc.insecure
			sink := n.host("192.0.2.1:2525", sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert.TLS}}, HideTLS: tc.hide})
			s := n.server(upstream.Config{Hosts: hosts("mx.example:2525"), TLS: upstream.TLSDANE})
			res := deliver(t, s, secret)
			if got := brief(res); got != tc.want || res.TLS.Active() != tc.secured || res.TLS.Verified != tc.verified {
				t.Errorf("%s (%v), TLS %+v, want %s", got, res.Err, res.TLS, tc.want)
			}
			if clear := tc.want == ok && !tc.secured; strings.Contains(sink.Clear(), "MAIL") != clear {
				t.Errorf("in clear text: %q", sink.Clear())
			}
		})
	}
}

func TestImplicitTLS(t *testing.T) {
	good, other := testpeer.NewCertificate(t, "mx.example"), testpeer.NewCertificate(t, "other.example")
	for _, tc := range []struct {
		name string
		host string
		mode upstream.TLSMode
		cert testpeer.Certificate
		want string
	}{
		{"any certificate", "mx.example", upstream.TLSRequire, other, "eod 250 answered"},
		{"any certificate, by the port", "mx.example:465", "", other, "eod 250 answered"},
		{"the right certificate", "mx.example", upstream.TLSVerify, good, "eod 250 answered"},
		{"the wrong certificate", "mx.example", upstream.TLSVerify, other, "starttls 451 unreached"},
		{"the wrong certificate, by the port", "mx.example:465", upstream.TLSVerify, other, "starttls 451 unreached"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			n.names = map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}
			ln := &proxied{Listener: n.listen("192.0.2.1:465")}
			sinktest.Start(t, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{tc.cert.TLS}}),
				sinktest.Config{Extensions: []string{"AUTH PLAIN"}, Script: func(e sinktest.Event) *sinktest.Act {
					switch {
					case e.Stage == sinktest.Auth:
						return sinktest.Reply("334 ")
					case e.Line == "AHUAcA==":
						return sinktest.Reply("235 2.7.0 in")
					}
					return nil
				}})
			// The PROXY header goes before the handshake; the login needs TLS.
			s := n.server(upstream.Config{Hosts: hosts(tc.host), ImplicitTLS: tc.host == "mx.example", TLS: tc.mode, Roots: tc.cert.Pool,
				Identity: upstream.IdentityProxyV1, Auth: &smtpclient.Credentials{Username: "u", Password: "p"}})
			res := deliver(t, s, short)
			if got := brief(res); got != tc.want || res.TLS.Active() != res.OK() {
				t.Errorf("%s (%v), TLS %+v", got, res.Err, res.TLS)
			}
			if !res.OK() && strings.Contains(res.Reply.String(), "certificate") {
				t.Errorf("reply %s", res.Reply)
			}
		})
	}
}

func TestLoginThatFailsIsNoSession(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"AUTH PLAIN"}, Script: at(sinktest.Auth, sinktest.Reply("535 5.7.8 no"))})
	s := n.server(upstream.Config{Auth: &smtpclient.Credentials{Username: "u", Password: "topsecret", AllowCleartext: true}})
	res := deliver(t, s, short)
	if brief(res) != "auth 451 unreached" || strings.Contains(res.Err.Error(), "topsecret") {
		t.Errorf("%s (%v)", brief(res), res.Err)
	}
}

func TestRequireTLSIsKept(t *testing.T) {
	cert := testpeer.NewCertificate(t, "mx.example")
	n := newNetwork(t)
	n.names = map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}
	sink := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"REQUIRETLS"}, TLS: &tls.Config{Certificates: []tls.Certificate{cert.TLS}}})
	s := n.server(upstream.Config{Hosts: hosts("mx.example"), Roots: cert.Pool})
	mustDeliver(t, s) // leaves an unverified session in the pool
	env := envelope(t)
	env.RequireTLS = true
	for range 2 {
		if res := deliverAs(t, s, env, short); !res.OK() || !res.TLS.Verified {
			t.Errorf("%s (%v), TLS %+v", brief(res), res.Err, res.TLS)
		}
	}
	if sink.Conns() != 2 || !strings.HasSuffix(sink.Messages()[1].From, " REQUIRETLS") {
		t.Errorf("%d connections, %q", sink.Conns(), sink.Lines())
	}
}

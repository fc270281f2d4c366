package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
)

// authority is a CA for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	file string // PEM
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	a.cert, a.key = a.sign(template, nil)
	a.file = writePEM(t, a.cert)
	return a
}

// sign makes a certificate, signed by the CA or by itself.
func (a *authority) sign(template *x509.Certificate, by *authority) (*x509.Certificate, crypto.Signer) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func writePEM(t *testing.T, cert *x509.Certificate) string {
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// server is a certificate for a name, good until the given time.
func (a *authority) server(until time.Time, names ...string) tls.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	cert, key := a.sign(template, a)
	return tls.Certificate{Certificate: [][]byte{cert.Raw, a.cert.Raw}, PrivateKey: key, Leaf: cert}
}

const secret = "Subject: topsecret\r\n\r\nnobody may read this\r\n"

// The TLS matrix: for each policy and each fault of the next hop, is the mail
// delivered, under TLS or in clear text, and does a byte of it leak.
func TestTLSPolicies(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	good := &tls.Config{Certificates: []tls.Certificate{ca.server(soon, "mx.example")}}
	with := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	refuse := at(sinktest.StartTLS, sinktest.Reply("454 4.7.0 TLS not available"))
	garbage := at(sinktest.StartTLS, &sinktest.Act{Wire: "220 go\r\nno TLS here\r\n", Close: true})
	closing := at(sinktest.StartTLS, &sinktest.Act{Wire: "220 go\r\n", Close: true})

	servers := map[string]sinktest.Config{
		"good certificate":      {TLS: good},
		"hides STARTTLS":        {TLS: good, HideTLS: true},
		"answers 454":           {TLS: good, Script: refuse},
		"answers 220 and rot":   {TLS: good, Script: garbage},
		"answers 220 and goes":  {TLS: good, Script: closing},
		"unknown CA":            {TLS: with(other.server(soon, "mx.example"))},
		"wrong name":            {TLS: with(ca.server(soon, "mx.other.example"))},
		"expired":               {TLS: with(ca.server(time.Now().Add(-time.Hour), "mx.example"))},
		"TLS 1.1 only":          {TLS: &tls.Config{Certificates: good.Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}},
		"does not know EHLO":    {Script: at(sinktest.Ehlo, sinktest.Reply("502 5.5.1 no"))},
		"injects a reply":       {TLS: good, Script: at(sinktest.StartTLS, sinktest.Reply("220 go", "250-sink", "250 X"))},
		"announces in any case": {TLS: good, Script: lowerCaseEhlo},
	}
	const inTLS, inClear, notAtAll = "TLS", "clear text", "not"
	for _, tc := range []struct {
		server                         string
		opportunistic, require, verify string
	}{
		{"good certificate", inTLS, inTLS, inTLS},
		{"announces in any case", inTLS, inTLS, inTLS},
		{"hides STARTTLS", inClear, notAtAll, notAtAll},
		{"answers 454", inClear, notAtAll, notAtAll},
		{"answers 220 and rot", inClear, notAtAll, notAtAll},
		{"answers 220 and goes", inClear, notAtAll, notAtAll},
		{"injects a reply", inClear, notAtAll, notAtAll},
		{"does not know EHLO", inClear, notAtAll, notAtAll},
		{"TLS 1.1 only", inClear, notAtAll, notAtAll},
		{"unknown CA", inTLS, inTLS, notAtAll},
		{"wrong name", inTLS, inTLS, notAtAll},
		{"expired", inTLS, inTLS, notAtAll},
	} {
		for mode, want := range map[TLSMode]string{TLSOff: inClear, TLSOpportunistic: tc.opportunistic, TLSRequire: tc.require, TLSVerify: tc.verify} {
			t.Run(string(mode)+", the server "+tc.server, func(t *testing.T) {
				n := newNetwork(t)
				s := n.host("192.0.2.1:25", servers[tc.server])
				r := names{addrs: map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}}
				tr := n.transport(Config{Hosts: []string{"mx.example"}, TLS: mode, TLSCAFile: ca.file}, r)
				o := tr.Deliver(t.Context(), delivery(t, secret, "r@out.example"))[0]
				got := notAtAll
				if o.Status == mail.Delivered {
					got = inClear
					if o.TLS.Active() {
						got = inTLS
					}
				} else if o.Status != mail.Deferred || o.Stage != "starttls" {
					t.Errorf("outcome %s (%s)", brief(o), o.Cause)
				}
				if got != want {
					t.Errorf("sent in %s, want %s; %s %s (%s)", got, want, brief(o), o.Reply, o.Cause)
				}
				if o.TLS.Verified != (mode == TLSVerify && want == inTLS) {
					t.Errorf("verified: %v", o.TLS.Verified)
				}
				if leaked := strings.Contains(s.Clear(), "topsecret") || strings.Contains(s.Clear(), "MAIL"); leaked != (want == inClear) {
					t.Errorf("in clear text: %q", s.Clear())
				}
				failed := mode == TLSOpportunistic && want == inClear && tc.server != "hides STARTTLS" && tc.server != "does not know EHLO"
				if noted := strings.HasPrefix(o.Cause, "sent in clear text because TLS failed: "); o.Status == mail.Delivered && noted != failed {
					t.Errorf("cause %q", o.Cause)
				}
			})
		}
	}
}

// lowerCaseEhlo announces as some servers do.
func lowerCaseEhlo(e sinktest.Event) *sinktest.Act {
	if e.Stage == sinktest.Ehlo && !e.TLS {
		return sinktest.Reply("250-sink", "250 starttls")
	}
	return nil
}

func TestPinnedCertificates(t *testing.T) {
	ca := newAuthority(t)
	until := time.Now().Add(time.Hour)
	self, key := ca.sign(&x509.Certificate{SerialNumber: big.NewInt(3), DNSNames: []string{"mx.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}, nil)
	selfSigned := tls.Certificate{Certificate: [][]byte{self.Raw}, PrivateKey: key}
	for _, tc := range []struct {
		name string
		cert tls.Certificate
		cfg  Config
		want string
	}{
		{"the certificate itself", selfSigned, Config{Hosts: []string{"mx.example"}, TLSCAFile: writePEM(t, self)}, "delivered eod 250"},
		{"the certificate itself, another name", selfSigned, Config{Hosts: []string{"192.0.2.1"}, TLSCAFile: writePEM(t, self)}, "deferred starttls own 451"},
		{"the certificate itself, the name given", selfSigned, Config{Hosts: []string{"192.0.2.1"}, TLSCAFile: writePEM(t, self), TLSName: "mx.example"}, "delivered eod 250"},
		{"another certificate", selfSigned, Config{Hosts: []string{"mx.example"}, TLSCAFile: ca.file}, "deferred starttls own 451"},
		{"the system's CAs", ca.server(until, "mx.example"), Config{Hosts: []string{"mx.example"}}, "deferred starttls own 451"},
		{"an address in the certificate", ca.server(until, "192.0.2.1"), Config{Hosts: []string{"192.0.2.1"}, TLSCAFile: ca.file}, "delivered eod 250"},
		{"a leaf of a CA as pin", ca.server(until, "mx.example"), Config{Hosts: []string{"mx.example"}, TLSCAFile: writePEM(t, ca.server(until, "mx.example").Leaf)}, "deferred starttls own 451"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			n.host("192.0.2.1:25", sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{tc.cert}}})
			tc.cfg.TLS = TLSVerify
			tr := n.transport(tc.cfg, names{addrs: map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}})
			for range 2 { // the second time with a session ticket
				tr.(*smtpTransport).relay.pool.dropIdle("192.0.2.1:25")
				out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
				if got := briefs(out); got != tc.want {
					t.Errorf("%s (%s), want %s", got, out[0].Cause, tc.want)
				}
			}
		})
	}
}

func TestBadCAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(file, []byte("nothing here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Kind: SMTP, Hostname: "h", Hosts: []string{"192.0.2.1"}, TLSCAFile: file}, Deps{})
	if err == nil || !strings.Contains(err.Error(), "no certificate in it") {
		t.Errorf("error %v", err)
	}
}

func TestPolicyFailureGoesToTheNextHost(t *testing.T) {
	ca := newAuthority(t)
	n := newNetwork(t)
	first := n.host("192.0.2.1:25", sinktest.Config{})
	second := n.host("192.0.2.2:25", sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{ca.server(time.Now().Add(time.Hour), "x")}}})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}, TLS: TLSRequire}, nil)
	if out := tr.Deliver(t.Context(), delivery(t, secret, "r@out.example")); briefs(out) != "delivered eod 250" {
		t.Error(briefs(out))
	}
	if strings.Contains(first.Clear(), "MAIL") || len(second.Messages()) != 1 {
		t.Errorf("the first host got %q", first.Clear())
	}
}

func hash(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

func TestDANE(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	soon := time.Now().Add(time.Hour)
	cert := ca.server(soon, "mx.out.example")
	expired := ca.server(time.Now().Add(-time.Hour), "unrelated")
	byDomain := ca.server(soon, "out.example")
	unrelated := ca.server(soon, "unrelated")
	leaf := cert.Leaf
	ee := func(sel, match uint8, data []byte) dns.TLSA {
		return dns.TLSA{Usage: 3, Selector: sel, Matching: match, Data: data}
	}
	ta := func(data []byte) dns.TLSA { return dns.TLSA{Usage: 2, Selector: 0, Matching: 1, Data: data} }
	servfail := &dns.Error{Name: "x", Type: "TLSA", Rcode: "SERVFAIL", Temporary: true}

	for _, tc := range []struct {
		name     string
		records  []dns.TLSA
		insecure bool
		plainMX  bool
		err      error
		server   sinktest.Config
		want     string // "verified", "TLS", "clear", "deferred"
	}{
		{name: "EE, key hash", records: []dns.TLSA{ee(1, 1, hash(leaf.RawSubjectPublicKeyInfo))}, server: withCert(cert), want: "verified"},
		{name: "EE, certificate hash", records: []dns.TLSA{ee(0, 1, hash(leaf.Raw))}, server: withCert(cert), want: "verified"},
		{name: "EE, whole certificate", records: []dns.TLSA{ee(0, 0, leaf.Raw)}, server: withCert(cert), want: "verified"},
		{name: "EE, expired and another name", records: []dns.TLSA{ee(1, 1, hash(expired.Leaf.RawSubjectPublicKeyInfo))}, server: withCert(expired), want: "verified"},
		{name: "EE, second record matches", records: []dns.TLSA{ee(1, 1, hash([]byte("old"))), ee(0, 1, hash(leaf.Raw))}, server: withCert(cert), want: "verified"},
		{name: "EE, no match", records: []dns.TLSA{ee(1, 1, hash([]byte("x")))}, server: withCert(cert), want: "deferred"},
		{name: "TA", records: []dns.TLSA{ta(hash(ca.cert.Raw))}, server: withCert(cert), want: "verified"},
		{name: "TA, whole certificate", records: []dns.TLSA{{Usage: 2, Selector: 0, Matching: 0, Data: ca.cert.Raw}}, server: withCert(tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: cert.PrivateKey}), want: "verified"},
		{name: "TA, certificate for the domain", records: []dns.TLSA{ta(hash(ca.cert.Raw))}, server: withCert(byDomain), want: "verified"},
		{name: "TA, certificate for another name", records: []dns.TLSA{ta(hash(ca.cert.Raw))}, server: withCert(unrelated), want: "deferred"},
		{name: "TA, another CA", records: []dns.TLSA{ta(hash(other.cert.Raw))}, server: withCert(cert), want: "deferred"},
		{name: "records, but no STARTTLS", records: []dns.TLSA{ee(0, 1, hash(leaf.Raw))}, server: sinktest.Config{}, want: "deferred"},
		{name: "unusable records only", records: []dns.TLSA{{Usage: 1, Selector: 0, Matching: 1, Data: hash(other.cert.Raw)}}, server: withCert(cert), want: "TLS"},
		{name: "unusable records only, no STARTTLS", records: []dns.TLSA{{Usage: 1, Selector: 0, Matching: 1, Data: hash(other.cert.Raw)}}, server: sinktest.Config{}, want: "deferred"},
		{name: "no records", server: withCert(cert), want: "TLS"},
		{name: "no records, no STARTTLS", server: sinktest.Config{}, want: "clear"},
		{name: "records without DNSSEC", records: []dns.TLSA{ee(1, 1, hash([]byte("x")))}, insecure: true, server: withCert(cert), want: "TLS"},
		{name: "records, but exchangers without DNSSEC", records: []dns.TLSA{ee(1, 1, hash([]byte("x")))}, plainMX: true, server: withCert(cert), want: "TLS"},
		{name: "bogus records", err: servfail, server: withCert(cert), want: "deferred"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			s := n.host("192.0.2.1:25", tc.server)
			r := names{
				mx: map[string][]dns.MX{"out.example": {{Host: "mx.out.example"}}}, addrs: map[string][]netip.Addr{"mx.out.example": {netip.MustParseAddr("192.0.2.1")}},
				tlsa: map[string][]dns.TLSA{"_25._tcp.mx.out.example": tc.records}, secure: !tc.insecure, plainMX: tc.plainMX, tlsaErr: tc.err,
			}
			tr := n.transport(Config{Kind: MX, TLS: TLSDANE}, r)
			o := tr.Deliver(t.Context(), delivery(t, secret, "r@out.example"))[0]
			got := string(o.Status)
			if o.Status == mail.Delivered {
				switch {
				case o.TLS.Verified:
					got = "verified"
				case o.TLS.Active():
					got = "TLS"
				default:
					got = "clear"
				}
			}
			if got != tc.want {
				t.Errorf("%s, want %s: %s (%s)", got, tc.want, o.Reply, o.Cause)
			}
			if strings.Contains(s.Clear(), "MAIL") != (tc.want == "clear") {
				t.Errorf("in clear text: %q", s.Clear())
			}
		})
	}
}

func withCert(c tls.Certificate) sinktest.Config {
	return sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{c}}}
}

func TestRequireTLS(t *testing.T) {
	ca := newAuthority(t)
	cert := ca.server(time.Now().Add(time.Hour), "mx.example")
	good := sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Extensions: []string{"REQUIRETLS"}}
	silent := good
	silent.Extensions = nil
	untrusted := sinktest.Config{TLS: &tls.Config{Certificates: []tls.Certificate{newAuthority(t).server(time.Now().Add(time.Hour), "mx.example")}}, Extensions: []string{"REQUIRETLS"}}
	for _, tc := range []struct {
		name     string
		server   sinktest.Config
		want     string
		enhanced string
	}{
		{"verified and announced", good, "delivered eod 250", "2.0.0"},
		{"not announced", silent, "failed ehlo own 550", "5.7.30"},
		{"no trusted certificate", untrusted, "deferred starttls own 451", "4.7.5"},
		{"no TLS", sinktest.Config{Extensions: []string{"REQUIRETLS"}}, "failed starttls own 550", "5.7.30"},
	} {
		for _, mode := range []TLSMode{TLSOff, TLSOpportunistic, TLSRequire, TLSVerify, TLSDANE} {
			t.Run(tc.name+", policy "+string(mode), func(t *testing.T) {
				n := newNetwork(t)
				s := n.host("192.0.2.1:25", tc.server)
				tr := n.transport(Config{Hosts: []string{"mx.example"}, TLS: mode, TLSCAFile: ca.file}, names{addrs: map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}})
				if mode == TLSOpportunistic && tc.name == "verified and announced" {
					// An open session that was not verified must not serve.
					mustDeliver(t, tr)
				}
				d := delivery(t, secret, "r@out.example")
				d.Message.Envelope.RequireTLS = true
				out := tr.Deliver(t.Context(), d)
				if briefs(out) != tc.want || out[0].Reply.Enhanced != tc.enhanced {
					t.Errorf("%s %s (%s), want %s %s", briefs(out), out[0].Reply, out[0].Cause, tc.want, tc.enhanced)
				}
				if strings.Contains(s.Clear(), "topsecret") {
					t.Error("sent in clear text")
				}
				if m := s.Messages(); out[0].Status == mail.Delivered && !strings.Contains(m[len(m)-1].From, " REQUIRETLS") {
					t.Errorf("messages %+v", m)
				}
			})
		}
	}
}

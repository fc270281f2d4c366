package transport

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/smtpclient/sinktest"
)

// hostTLS is a server where sessions begin with TLS.
func (n *network) hostTLS(address string, cert tls.Certificate) *sinktest.Server {
	ln := memconn.Listen()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[address] = ln
	return sinktest.Start(n.t, tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}), sinktest.Config{})
}

func TestImplicitTLS(t *testing.T) {
	ca := newAuthority(t)
	good, other := ca.server(time.Now().Add(time.Hour), "mx.example"), ca.server(time.Now().Add(time.Hour), "other.example")
	for _, tc := range []struct {
		name           string
		host, at       string
		implicit, good bool
		mode           TLSMode
		want           string // "verified", "TLS" or "deferred"
	}{
		{"port 465 begins with TLS", "mx.example:465", "465", false, false, "", "TLS"},
		{"so does another port that says so", "mx.example:4650", "4650", true, false, "", "TLS"},
		{"465 is the port where there is none", "mx.example", "465", true, false, TLSRequire, "TLS"},
		{"an address does, too", "192.0.2.1:465", "465", false, false, TLSRequire, "TLS"},
		{"a good certificate", "mx.example", "465", true, true, TLSVerify, "verified"},
		{"another name", "mx.example:465", "465", false, false, TLSVerify, "deferred"},
		{"never means never", "mx.example:465", "465", false, true, TLSOff, "deferred"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			cert := other
			if tc.good {
				cert = good
			}
			n.hostTLS("192.0.2.1:"+tc.at, cert)
			r := names{addrs: map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1")}}}
			cfg := Config{Hosts: []string{tc.host}, ImplicitTLS: tc.implicit, TLS: tc.mode}
			cfg.Timeouts.Banner = 200 * time.Millisecond
			if tc.mode == TLSVerify {
				cfg.TLSCAFile = ca.file
			}
			o := n.transport(cfg, r).Deliver(t.Context(), delivery(t, secret, "r@out.example"))[0]
			got := string(o.Status)
			switch {
			case o.Status != mail.Delivered:
			case o.TLS.Verified:
				got = "verified"
			case o.TLS.Active():
				got = "TLS"
			}
			if got != tc.want {
				t.Errorf("%s, want %s: %s (%s)", got, tc.want, o.Reply, o.Cause)
			}
		})
	}
}

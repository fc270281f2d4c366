package dialogue

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/sink"
)

// encrypted is a server whose sessions begin with TLS.
func encrypted(t *testing.T, cert peer.Certificate) *sink.Sink {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return next(t, sink.Options{Listener: tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert.TLS}})})
}

// With implicit_tls sessions begin with TLS, for what is passed through as for what is
// delivered later, and with a certificate as tls wants it.
func TestSessionsThatBeginWithTLS(t *testing.T) {
	t.Parallel()
	cert := peer.NewCertificate(t, "mail.example")
	s := encrypted(t, cert)
	verified := fmt.Sprintf("implicit_tls = true\ntls = \"verify\"\ntls_ca_file = %q\ntls_name = \"mail.example\"", cert.CertFile)
	g, _ := through(t, s, gatepost.Settings{More: fmt.Sprintf("[[domain]]\nname = \"later.example\"\ntransport = \"later\"\n[[transport]]\nname = \"later\"\nkind = \"smtp\"\nhosts = [%q]\n%s\n", s.Addr, verified)}, verified)
	for _, to := range []string{"bob@live.example", "bob@later.example"} {
		if got := deliver(t, g, to, "Subject: x\n\nx\n"); got[:3] != "250" {
			t.Fatalf("%s: %s", to, got)
		}
		theMail(t, s, to)
	}
}

package interop

import (
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// TLS-08: what openssl is let in with, and what not.
func TestOpenSSLNegotiates(t *testing.T) {
	peer.Require(t, "openssl")
	g, _ := pair(t, gatepost.Settings{})
	// A server that takes everything that it can: what is refused by Gatepost
	// below must be possible at all, or the test shows nothing.
	lax := sink.Start(t, sink.Options{TLS: &tls.Config{
		Certificates: []tls.Certificate{peer.NewCertificate(t, "lax.example").TLS}, MinVersion: tls.VersionTLS10,
	}})
	tests := []struct {
		name    string
		args    []string
		welcome bool
		control bool // the lax server lets it in
	}{
		{"TLS 1.3", []string{"-tls1_3"}, true, true},
		{"TLS 1.2", []string{"-tls1_2"}, true, true},
		{"TLS 1.1", []string{"-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"}, false, true},
		{"TLS 1.0", []string{"-tls1", "-cipher", "DEFAULT@SECLEVEL=0"}, false, true},
		{"ciphers without encryption", []string{"-tls1_2", "-cipher", "eNULL@SECLEVEL=0"}, false, false},
		{"ciphers without authentication", []string{"-tls1_2", "-cipher", "aNULL@SECLEVEL=0"}, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, out := negotiates(t, g.SMTP, tt.args); got != tt.welcome {
				t.Errorf("welcome: %v, want %v\n%s", got, tt.welcome, out)
			}
			if got, out := negotiates(t, lax.Addr, tt.args); got != tt.control {
				t.Errorf("welcome at a lax server: %v, want %v\n%s", got, tt.control, out)
			}
		})
	}
}

// negotiates reports whether the client gets an answer to QUIT through TLS.
func negotiates(t *testing.T, addr string, args []string) (bool, string) {
	t.Helper()
	all := append([]string{"s_client", "-connect", addr, "-starttls", "smtp", "-crlf", "-quiet"}, args...)
	// -quiet makes it wait until the server closes.
	r := peer.Run(t, "QUIT\n", "openssl", all...)
	return strings.Contains(r.Output, "\n221 "), r.Output
}

// TLS-08: a certificate is replaced while sessions run.
func TestCertificateIsReplacedWithoutDroppingASession(t *testing.T) {
	old, renewed := peer.NewCertificate(t, "gw.example.com"), peer.NewCertificate(t, "gw.example.com")
	g, _ := pair(t, gatepost.Settings{More: fmt.Sprintf("[tls]\ncert_file = %q\nkey_file = %q\n", old.CertFile, old.KeyFile)})
	session := func(c peer.Certificate) (*wire.Conn, error) {
		conn := g.Hello("")
		_, err := conn.StartTLS(&tls.Config{RootCAs: c.Pool, ServerName: "gw.example.com"})
		return conn, err
	}
	running, err := session(old)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{renewed.CertFile: old.CertFile, renewed.KeyFile: old.KeyFile} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.Signal(syscall.SIGHUP)
	gatepost.Eventually(t, "new sessions see the renewed certificate", patience, func() bool {
		_, err := session(renewed)
		return err == nil
	})
	if r, err := running.Cmd("EHLO client.example"); err != nil || r.Code != 250 {
		t.Errorf("the session that ran all the while: %v, %v", r, err)
	}
	m := ledger.New(100)
	if r, err := running.Deliver("sender@out.example", []string{"user@in.example"}, m.Data); err != nil || r.Code != 250 {
		t.Errorf("its mail: %v, %v", r, err)
	}
}

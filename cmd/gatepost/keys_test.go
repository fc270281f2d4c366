package main

import (
	"bufio"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"testing"

	"gatepost/internal/certs"
	"gatepost/internal/config"
)

// TestTheCertificateOfATransportIsFetched asks a server whose certificate nobody has
// signed.
func TestTheCertificateOfATransportIsFetched(t *testing.T) {
	pair, err := certs.SelfSigned(t.TempDir(), "mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		startTLS(l, cert)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-served
	})
	gen := &generation{cfg: &config.Config{Hostname: "gw.example.com"}}
	h := config.HostPort{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
	chain, err := fetchFrom(t.Context(), gen, h)
	if err != nil || len(chain) == 0 || chain[0].VerifyHostname("mail.example.com") != nil {
		t.Errorf("the chain is %v (%v)", chain, err)
	}
	text, err := os.ReadFile(pair.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	if file, err := chainOf(text); err != nil || len(file) == 0 || len(chain) == 0 || !file[0].Equal(chain[0]) {
		t.Errorf("the file holds %v (%v)", file, err)
	}
}

// startTLS is a mail server that knows EHLO, STARTTLS and QUIT, for one session.
func startTLS(l net.Listener, cert tls.Certificate) {
	nc, err := l.Accept()
	if err != nil {
		return
	}
	defer nc.Close()
	_, _ = nc.Write([]byte("220 mail.example.com ESMTP\r\n"))
	r := bufio.NewReader(nc)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(strings.TrimSpace(line)); {
		case strings.HasPrefix(verb, "EHLO"):
			_, _ = nc.Write([]byte("250-mail.example.com\r\n250 STARTTLS\r\n"))
		case verb == "STARTTLS":
			_, _ = nc.Write([]byte("220 go on\r\n"))
			nc = tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{cert}})
			r = bufio.NewReader(nc)
		default:
			_, _ = nc.Write([]byte("221 bye\r\n"))
			return
		}
	}
}

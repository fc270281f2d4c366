package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pairFor writes a certificate for the name under prefix in dir.
func pairFor(t *testing.T, dir, prefix, name string, made time.Time) Pair {
	t.Helper()
	certPEM, keyPEM, err := generate(name, made)
	must(t, err)
	p := Pair{CertFile: filepath.Join(dir, prefix+"-cert.pem"), KeyFile: filepath.Join(dir, prefix+"-key.pem")}
	must(t, os.WriteFile(p.CertFile, certPEM, 0o600))
	must(t, os.WriteFile(p.KeyFile, keyPEM, 0o600))
	return p
}

// shown is the first name of the certificate that a server shows a client that
// asks for name.
func shown(t *testing.T, config *tls.Config, name string) string {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		_ = tls.Server(server, config).HandshakeContext(context.Background())
	}()
	conn := tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	must(t, conn.HandshakeContext(t.Context()))
	return conn.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func TestTheCertificateIsChosenByName(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	store, err := Load(
		pairFor(t, dir, "a", "gw.example.com", now),
		pairFor(t, dir, "b", "MX.example.net", now),
		pairFor(t, dir, "c", "*.example.org", now))
	must(t, err)
	config := store.ServerConfig(0)
	for ask, want := range map[string]string{
		"gw.example.com":  "gw.example.com",
		"mx.example.NET":  "MX.example.net",
		"a.example.org":   "*.example.org",
		"a.b.example.org": "gw.example.com",
		"example.org":     "gw.example.com",
		"other.example":   "gw.example.com",
		"":                "gw.example.com",
	} {
		if got := shown(t, config, ask); got != want {
			t.Errorf("asked for %q, shown %q, want %q", ask, got, want)
		}
	}
}

func TestABrokenNewPairLeavesTheOldOneInUseAndIsTold(t *testing.T) {
	dir := t.TempDir()
	p := pairFor(t, dir, "a", "old.example", time.Now())
	other := pairFor(t, dir, "b", "new.example", time.Now())
	store, err := Load(p)
	must(t, err)
	must(t, store.Health())

	must(t, os.Rename(other.CertFile, p.CertFile)) // now it does not fit its key
	if err := store.Reload(); err == nil || !strings.Contains(err.Error(), p.CertFile) {
		t.Errorf("reload of a pair that does not match: %v", err)
	}
	if got := shown(t, store.ServerConfig(0), ""); got != "old.example" {
		t.Errorf("shown %s", got)
	}
	if store.Health() == nil {
		t.Error("Health does not tell of the failed reload")
	}
	must(t, os.Rename(other.KeyFile, p.KeyFile))
	must(t, store.Reload())
	must(t, store.Health())
	if got := shown(t, store.ServerConfig(0), ""); got != "new.example" {
		t.Errorf("shown %s", got)
	}
	if err := store.Reload(p, Pair{"/nonexistent/cert", "/nonexistent/key"}); err == nil {
		t.Error("a missing second pair was accepted")
	}
}

// TLS-08: exchanging the certificate drops no session and fails no handshake.
func TestReloadUnderLoadFailsNoHandshakeAndDropsNoSession(t *testing.T) {
	dir := t.TempDir()
	p := pairFor(t, dir, "a", "first.example", time.Now())
	store, err := Load(p)
	must(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", store.ServerConfig(0))
	must(t, err)
	var servers sync.WaitGroup
	servers.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			servers.Go(func() {
				defer conn.Close()
				io.Copy(conn, conn)
			})
		}
	})
	config := &tls.Config{InsecureSkipVerify: true}
	echo := func(conn *tls.Conn) error {
		if _, err := conn.Write([]byte("ping")); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, 4))
		return err
	}
	long, err := tls.Dial("tcp", l.Addr().String(), config)
	must(t, err)
	must(t, echo(long))

	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.Dial("tcp", l.Addr().String(), config)
				if err == nil {
					err = echo(conn)
					conn.Close()
				}
				if err != nil {
					t.Errorf("during reload: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		must(t, store.Reload(pairFor(t, dir, string(rune('b'+i)), "second.example", time.Now())))
	}
	close(stop)
	clients.Wait()
	must(t, echo(long))
	long.Close()
	if got := shown(t, store.ServerConfig(0), ""); got != "second.example" {
		t.Errorf("shown %s", got)
	}
	l.Close()
	servers.Wait()
}

// TLS-08: old versions and weak ciphers are refused.
func TestOldVersionsAndWeakCiphersAreRefused(t *testing.T) {
	store, err := Load(pairFor(t, t.TempDir(), "a", "gw.example", time.Now()))
	must(t, err)
	try := func(config *tls.Config, server uint16) error {
		client, serverSide := net.Pipe()
		defer client.Close()
		go func() {
			defer serverSide.Close()
			_ = tls.Server(serverSide, store.ServerConfig(server)).HandshakeContext(context.Background())
		}()
		config.InsecureSkipVerify = true
		return tls.Client(client, config).HandshakeContext(t.Context())
	}
	var insecure []uint16
	for _, suite := range tls.InsecureCipherSuites() {
		insecure = append(insecure, suite.ID)
	}
	for _, c := range []struct {
		name   string
		client *tls.Config
		server uint16
		ok     bool
	}{
		{"TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0, false},
		{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, 0, true},
		{"TLS 1.2 where 1.3 is wanted", &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS13, false},
		{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, 0, true},
		{"insecure ciphers", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: insecure}, 0, false},
		{"AES-GCM", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, 0, true},
	} {
		if err := try(c.client, c.server); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTheSelfSignedPairIsMadeOnceAndItsKeyIsPrivate(t *testing.T) {
	dir := t.TempDir()
	p, err := SelfSigned(dir, "gw.example.com")
	must(t, err)
	first, err := os.ReadFile(p.CertFile)
	must(t, err)
	for _, name := range []string{p.KeyFile, p.CertFile} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 { // DUR-32
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	store, err := Load(p)
	must(t, err)
	leaf := store.current.Load().all[0].Leaf
	must(t, leaf.VerifyHostname("gw.example.com"))
	if leaf.PublicKeyAlgorithm != x509.ECDSA || leaf.NotAfter.Before(time.Now().AddDate(9, 11, 0)) {
		t.Errorf("%v until %v", leaf.PublicKeyAlgorithm, leaf.NotAfter)
	}
	if list := store.Certificates(); len(list) != 1 || !list[0].SelfSigned || !slices.Equal(list[0].Names, []string{"gw.example.com"}) {
		t.Errorf("%+v", list)
	}
	again, err := SelfSigned(dir, "other.example.com")
	must(t, err)
	second, err := os.ReadFile(again.CertFile)
	must(t, err)
	if string(first) != string(second) {
		t.Error("a second start made another certificate")
	}
	must(t, os.Remove(p.CertFile)) // a crash between key and certificate
	_, err = SelfSigned(dir, "gw.example.com")
	must(t, err)
	must(t, os.WriteFile(p.CertFile, []byte("damaged"), 0o600))
	if _, err := SelfSigned(dir, "gw.example.com"); err == nil || !strings.Contains(err.Error(), p.CertFile) {
		t.Errorf("a damaged certificate: %v", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	if hidden, _ := filepath.Glob(filepath.Join(dir, ".*")); len(names)+len(hidden) != 2 {
		t.Errorf("left behind: %v %v", names, hidden)
	}
}

func TestAHostNameOfAnyLengthGetsACertificate(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".example"
	p, err := SelfSigned(t.TempDir(), long)
	must(t, err)
	store, err := Load(p)
	must(t, err)
	must(t, store.current.Load().all[0].Leaf.VerifyHostname(long))
}

func TestHealthWarnsBeforeACertificateEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store, err := Load(pairFor(t, dir, "a", "gw.example", time.Now()))
		must(t, err)
		end := store.Certificates()[0].NotAfter
		for _, c := range []struct {
			left time.Duration
			want string
		}{{warnBefore + time.Hour, ""}, {warnBefore - time.Hour, "expires on"}, {-time.Hour, "expired on"}} {
			time.Sleep(time.Until(end.Add(-c.left)))
			if err := store.Health(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v left: %v", c.left, err)
			}
		}
	})
}

func TestVersionsAreReadAsTheConfigurationWritesThem(t *testing.T) {
	for s, want := range map[string]uint16{"": tls.VersionTLS12, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13, "1.0": tls.VersionTLS10} {
		if got, err := Version(s); err != nil || got != want {
			t.Errorf("Version(%q) = %x, %v", s, got, err)
		}
	}
	if _, err := Version("ssl3"); err == nil {
		t.Error("ssl3 accepted")
	}
}

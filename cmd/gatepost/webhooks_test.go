package main

import (
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/logs"
)

// hooks makes webhooks as the gateway does, and counts who reaches a server on this host.
func hooks(t *testing.T, answer http.HandlerFunc) (test func(url string, private bool) error, port string, reached *atomic.Int64) {
	t.Helper()
	reached = new(atomic.Int64)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, text := range map[string]string{secret: "0123456789abcdef0123\n", ca: string(text)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := logs.Open(logs.Config{Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{logs: l}
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return func(url string, private bool) error {
		hook, web, err := a.makeWebhook(&config.AdminWebhook{
			Name: "x", URL: url, SecretFile: config.Path(secret), TLSCAFile: config.Path(ca), Timeout: 5 * time.Second, AllowPrivate: private,
		}, "")
		if err != nil {
			return err
		}
		defer web.Close()
		return hook.Test(t.Context())
	}, port, reached
}

// TestWebhooksReachNothingOfThisHost is WEB-07 for webhooks and their test. That a name
// is resolved once, so that it cannot lead elsewhere the second time, is held by the
// client's own tests.
func TestWebhooksReachNothingOfThisHost(t *testing.T) {
	test, port, reached := hooks(t, func(w http.ResponseWriter, _ *http.Request) {})
	for _, host := range []string{
		"127.0.0.1", "[::1]", "169.254.169.254", "0177.1", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "localhost", "0.0.0.0", "10.0.0.1", "localhost.",
	} {
		if err := test("https://"+host+":"+port+"/", false); err == nil || reached.Load() != 0 {
			t.Errorf("%s: reached %d, %v", host, reached.Load(), err)
		}
	}
	for _, url := range []string{"file:///etc/passwd", "gopher://127.0.0.1:" + port + "/_x", "ftp://127.0.0.1/", "//127.0.0.1/", ""} {
		if err := test(url, true); err == nil || reached.Load() != 0 {
			t.Errorf("%s: reached %d, %v", url, reached.Load(), err)
		}
	}
	if err := test("https://127.0.0.1:"+port+"/", true); err != nil || reached.Load() != 1 {
		t.Errorf("what is allowed: reached %d, %v", reached.Load(), err)
	}
	// Even then not what clouds tell their guests.
	if err := test("https://169.254.169.254/latest/meta-data/", true); err == nil {
		t.Error("secrets of a cloud are asked for")
	}
}

func TestWebhooksFollowNobodyAndReadLittle(t *testing.T) {
	const told = "the body of the answer"
	var sent atomic.Int64
	test, port, reached := hooks(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, "/told", http.StatusFound)
		case "/much":
			w.WriteHeader(http.StatusTeapot)
			for range 1 << 10 {
				n, err := io.WriteString(w, strings.Repeat(told, 50_000))
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		case "/no":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, told)
		}
	})
	base := "https://127.0.0.1:" + port
	if err := test(base+"/elsewhere", true); err == nil || reached.Load() != 1 {
		t.Errorf("a redirect: reached %d, %v", reached.Load(), err)
	}
	for path, status := range map[string]string{"/much": "418", "/no": "500"} {
		err := test(base+path, true)
		if err == nil || strings.Contains(err.Error(), told) || !strings.Contains(err.Error(), status) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if sent.Load() > 64<<20 {
		t.Errorf("%d bytes of an answer were taken", sent.Load())
	}
}

// TestTheConfigurationTakesWebhooksOverHTTPSOnly is the first half of WEB-07.
func TestTheConfigurationTakesWebhooksOverHTTPSOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "s"), []byte("0123456789abcdef0123\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com/", "https://", "https://user:pw@hooks.example.com/", "https://hooks.example.com/\\nHost: x", "//hooks.example.com/"} {
		text := "hostname = \"gw.example.com\"\ndata_dir = \"d\"\n[[admin.webhook]]\nname = \"x\"\nsecret_file = \"s\"\nurl = \"" + url + "\"\n"
		_, problems := config.LoadText(filepath.Join(dir, "gatepost.toml"), []byte(text), nil)
		found := false
		for _, p := range problems {
			found = found || strings.HasSuffix(p.Path, ".url")
		}
		if !found {
			t.Errorf("%s is taken: %v", url, problems)
		}
	}
}

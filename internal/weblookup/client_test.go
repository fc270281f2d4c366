package weblookup

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hosts is a resolver that knows these, and gives the n-th answer the n-th time.
type hosts map[string][]string

func (h hosts) Addrs(_ context.Context, host string) ([]netip.Addr, error) {
	if len(h[host]) == 0 {
		return nil, errors.New("no such host")
	}
	next := h[host][0]
	if len(h[host]) > 1 {
		h[host] = h[host][1:]
	}
	var all []netip.Addr
	for a := range strings.FieldsSeq(next) {
		all = append(all, netip.MustParseAddr(a))
	}
	return all, nil
}

// world is a client that reaches the server under every address; where the
// connections went is noted.
type world struct {
	*Client
	went []string
}

func newWorld(t *testing.T, cfg Config, s *httptest.Server) *world {
	t.Helper()
	w := &world{}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		w.went = append(w.went, address)
		if s == nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("nobody there")}
		}
		return (&net.Dialer{}).DialContext(ctx, network, s.Listener.Addr().String())
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Client = c
	t.Cleanup(func() { c.Close() })
	return w
}

func (w *world) get(t *testing.T, url string) (Answer, error) {
	t.Helper()
	q, err := Parse(Request{URL: url}, "user", "password")
	if err != nil {
		return Answer{}, err
	}
	return w.Do(t.Context(), q, map[string]string{"user": "bob", "password": "s3cret value"})
}

func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func TestAsking(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(202)
		io.WriteString(w, strings.Join([]string{r.Method, r.URL.String(), r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body)}, "|"))
	})
	w := newWorld(t, Config{Resolver: hosts{"x.example": {"198.18.0.1 8.8.8.8"}}}, s)
	q, err := Parse(Request{URL: "http://x.example/a?u={user}", Method: "POST", Body: "p={password}", Header: map[string]string{"authorization": "Bearer t"}}, "user", "password")
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.Do(t.Context(), q, map[string]string{"user": "b&b", "password": "x y"})
	if want := "POST|/a?u=b%26b|Bearer t|application/x-www-form-urlencoded|p=x+y"; err != nil || a.Status != 202 || a.ContentType != "text/plain" || string(a.Body) != want {
		t.Errorf("%+v, %v", a, err)
	}
	if len(w.went) != 1 || w.went[0] != "8.8.8.8:80" {
		t.Errorf("connected to %q", w.went)
	}
}

// WEB-07: whichever way an address is written, it is not reached.
func TestForbiddenAddressesAreNotReached(t *testing.T) {
	resolver := func() hosts {
		return hosts{"local.example": {"127.0.0.1"}, "mapped.example": {"::ffff:127.0.0.1"}, "metadata.example": {"169.254.169.254"},
			"0177.1": {"127.0.0.1"}, "2130706433": {"127.0.0.1"}}
	}
	never := []string{"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/",
		"http://100.100.100.200/", "http://0.0.0.0/", "http://[::]/", "http://224.0.0.1/", "http://[ff02::1]/", "http://metadata.example/",
		"http://[64:ff9b::a9fe:a9fe]/", "http://[2002:a9fe:a9fe::]/", "http://2130706433/", "http://0177.1/", "http://0x7f000001/", "http://127.1/",
		"http://017700000001/", "http://2130706433./", "file:///etc/passwd", "gopher://8.8.8.8/", "http://①②⑦.1/", "http://①②⑦.0.0.1/"}
	private := []string{"http://127.0.0.1/", "http://127.8.8.8:8080/", "http://[::1]/", "http://10.1.2.3/", "http://172.16.0.1/", "http://192.168.1.1/",
		"http://100.64.0.1/", "http://[fc00::1]/", "http://[fd12:3456::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::7f00:1]/",
		"http://[64:ff9b::7f00:1]/", "http://[64:ff9b::10.0.0.1]/", "http://[2002:7f00:1::]/", "http://[2001:db8::1]/", "http://[2001::1]/", "http://[fec0::1]/",
		"http://192.0.2.1/", "http://198.18.0.1/", "http://240.0.0.1/", "http://255.255.255.255/", "http://local.example/", "http://mapped.example/"}
	w := newWorld(t, Config{Resolver: resolver()}, nil)
	for _, u := range append(never, private...) {
		if _, err := w.get(t, u); err == nil || len(w.went) > 0 {
			t.Errorf("%s: %v, connected to %q", u, err, w.went)
			w.went = nil
		}
	}
	open := newWorld(t, Config{Resolver: resolver(), AllowPrivate: true}, nil)
	for _, u := range never {
		if _, err := open.get(t, u); err == nil || len(open.went) > 0 {
			t.Errorf("with allow_private: %s: %v, connected to %q", u, err, open.went)
			open.went = nil
		}
	}
	for _, u := range private {
		if open.get(t, u); len(open.went) == 0 && !strings.Contains(u, "240.0") && !strings.Contains(u, "255.255") {
			t.Errorf("with allow_private: %s was not tried", u)
		}
		open.went = nil
	}
	for _, u := range []string{"http://8.8.8.8/", "http://[2606:4700::1111]/", "http://[64:ff9b::8.8.8.8]/"} {
		if w.get(t, u); len(w.went) != 1 {
			t.Errorf("%s was not tried", u)
		}
		w.went = nil
	}
}

// A name that has a public address when it is checked, and another one right
// after: what was checked is what is connected to.
func TestANameIsResolvedOnce(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "OK")
	})
	w := newWorld(t, Config{Resolver: hosts{"x.example": {"8.8.8.8", "127.0.0.1"}}}, s)
	if _, err := w.get(t, "http://x.example/"); err != nil || len(w.went) != 1 || w.went[0] != "8.8.8.8:80" {
		t.Errorf("%v, connected to %q", err, w.went)
	}
	if _, err := w.get(t, "http://x.example/"); !errors.Is(err, ErrForbidden) || len(w.went) != 1 {
		t.Errorf("after the change: %v, connected to %q", err, w.went)
	}
}

func TestRedirects(t *testing.T) {
	var last *http.Request
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		last = r
		switch r.URL.Path {
		case "/same":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/end":
			io.WriteString(w, "OK")
		default:
			w.Header().Set("Location", strings.TrimPrefix(r.URL.Path, "/to/")+"?"+r.URL.RawQuery)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	})
	w := newWorld(t, Config{Resolver: hosts{"x.example": {"8.8.8.8"}, "other.example": {"9.9.9.9"}}}, s)
	if a, err := w.get(t, "http://x.example/same?p={password}"); err != nil || string(a.Body) != "OK" {
		t.Errorf("within the host: %+v, %v", a, err)
	}
	if last.Header.Get("Referer") != "" {
		t.Errorf("the referrer holds the password: %q", last.Header.Get("Referer"))
	}
	for _, u := range []string{"/loop", "/to/http://other.example/end", "/to/https://x.example/end", "/to/http://x.example:8080/end", "/to/http://127.0.0.1/end",
		"/to/http://169.254.169.254/end", "/to/http://u@x.example/end", "/to/file:///etc/passwd", "/to/http://x.example.other.example/end", "/to/:bad%zz"} {
		went := len(w.went)
		a, err := w.get(t, "http://x.example"+u+"?p={password}")
		if err == nil {
			t.Errorf("%s: %+v", u, a)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "other.example") {
			t.Errorf("%s: the error holds what was sent: %v", u, err)
		}
		for _, address := range w.went[went:] {
			if address != "8.8.8.8:80" {
				t.Errorf("%s: connected to %s", u, address)
			}
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	var sent atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/limit":
			io.WriteString(w, strings.Repeat("x", 64<<10))
		case "/header":
			w.Header().Set("X", strings.Repeat("x", 100<<10))
		case "/bomb":
			block := make([]byte, 64<<10)
			for range 1 << 14 { // 1 GiB
				n, err := w.Write(block)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
	})
	w := newWorld(t, Config{Resolver: hosts{"x.example": {"8.8.8.8"}}}, s)
	if a, err := w.get(t, "http://x.example/limit"); err != nil || len(a.Body) != 64<<10 {
		t.Errorf("64 KiB: %d, %v", len(a.Body), err)
	}
	if _, err := w.get(t, "http://x.example/bomb"); !errors.Is(err, ErrTooLarge) || sent.Load() > 64<<20 {
		t.Errorf("1 GiB: %v after %d bytes", err, sent.Load())
	}
	if _, err := w.get(t, "http://x.example/header"); err == nil {
		t.Error("100 KiB of header were taken")
	}
}

func TestAServiceThatDoesNotAnswerIsLeft(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			io.WriteString(w, "O")
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	w := newWorld(t, Config{Resolver: hosts{"x.example": {"8.8.8.8"}}, Timeout: 50 * time.Millisecond}, s)
	for _, u := range []string{"http://x.example/?p={password}", "http://x.example/slow?p={password}"} {
		if _, err := w.get(t, u); !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", u, err)
		}
	}
}

func TestErrorsHoldNoSecrets(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		nc, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		io.WriteString(nc, "nonsense "+r.URL.RawQuery+"\r\n\r\n")
		nc.Close()
	})
	names := hosts{"x.example": {"8.8.8.8"}}
	for _, w := range []*world{newWorld(t, Config{Resolver: names}, s), newWorld(t, Config{Resolver: names}, nil), newWorld(t, Config{Resolver: hosts{}}, s)} {
		for _, u := range []string{"http://x.example/{user}?p={password}", "https://x.example/{user}?p={password}"} {
			_, err := w.get(t, u)
			if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "bob") {
				t.Errorf("%s: %v", u, err)
			}
		}
	}
}

func TestTheEnvironmentChoosesNoProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://9.9.9.9:3128")
	}
	w := newWorld(t, Config{Resolver: hosts{"x.example": {"8.8.8.8"}}}, nil)
	w.get(t, "http://x.example/")
	if len(w.went) != 1 || w.went[0] != "8.8.8.8:80" {
		t.Errorf("connected to %q", w.went)
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "OK") }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	names := hosts{"example.com": {"8.8.8.8"}, "x.example": {"8.8.8.8"}}
	if a, err := newWorld(t, Config{Resolver: names, CAFile: ca}, s).get(t, "https://example.com/"); err != nil || string(a.Body) != "OK" {
		t.Errorf("its CA: %+v, %v", a, err)
	}
	if _, err := newWorld(t, Config{Resolver: names, CAFile: ca}, s).get(t, "https://x.example/"); err == nil {
		t.Error("another name was taken")
	}
	if _, err := newWorld(t, Config{Resolver: names}, s).get(t, "https://example.com/"); err == nil {
		t.Error("an unknown CA was taken")
	}
}

func TestExpect(t *testing.T) {
	for _, tt := range []struct {
		name string
		e    Expect
		a    Answer
		want bool
	}{
		{"any body with 200", Expect{}, Answer{Status: 200, Body: []byte("x")}, true},
		{"another status", Expect{}, Answer{Status: 204}, false},
		{"a status that is named", Expect{Status: []int{200, 204}}, Answer{Status: 204}, true},
		{"the body", Expect{Body: "OK"}, Answer{Status: 200, Body: []byte("OK\r\n")}, true},
		{"more than the body", Expect{Body: "OK"}, Answer{Status: 200, Body: []byte("OK not")}, false},
		{"nothing", Expect{Body: "OK"}, Answer{Status: 200}, false},
		{"another case", Expect{Body: "OK"}, Answer{Status: 200, Body: []byte("ok")}, false},
		{"a prefix", Expect{Body: "OK", Prefix: true}, Answer{Status: 200, Body: []byte("OK bob")}, true},
		{"another prefix", Expect{Body: "OK", Prefix: true}, Answer{Status: 200, Body: []byte("NOK")}, false},
		{"the body with a failure", Expect{Body: "OK"}, Answer{Status: 500, Body: []byte("OK")}, false},
	} {
		if got := tt.e.Met(tt.a); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if (Expect{Status: []int{99}}).Check() == nil || (Expect{Prefix: true}).Check() == nil || (Expect{Body: "x", Prefix: true, Status: []int{204}}).Check() != nil {
		t.Error("Check")
	}
}

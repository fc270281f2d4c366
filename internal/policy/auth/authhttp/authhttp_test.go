package authhttp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/weblookup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, private bool) *weblookup.Client {
	t.Helper()
	c, err := weblookup.New(weblookup.Config{AllowPrivate: private})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func session() *mail.Session {
	return &mail.Session{Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:4711"), Helo: "client.example", Listener: "in", TLS: mail.TLS{Version: "TLSv1.3"}}
}

func TestAnswersOfTheService(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.FormValue("u") {
		case "bob":
			if r.FormValue("p") == "right &=%" {
				io.WriteString(w, "OK\n")
			} else {
				io.WriteString(w, "NO "+r.FormValue("p"))
			}
		case "401":
			w.WriteHeader(401)
		case "403":
			w.WriteHeader(403)
			io.WriteString(w, "OK")
		case "404":
			w.WriteHeader(404)
		case "500":
			w.WriteHeader(500)
			io.WriteString(w, "OK")
		case "moved":
			http.Redirect(w, r, "http://other.example/", http.StatusFound)
		case "too-much":
			io.WriteString(w, "OK"+strings.Repeat(" ", 100<<10))
		case "prefix":
			io.WriteString(w, "OKAY")
		}
	}))
	t.Cleanup(s.Close)
	for method, r := range map[string]weblookup.Request{
		"GET":  {URL: s.URL + "/auth?u={user}&p={password}"},
		"POST": {URL: s.URL + "/auth", Method: "POST", Body: "u={user}&p={password}"},
	} {
		b, err := New(Config{Client: client(t, true), Request: r, Expect: weblookup.Expect{Body: "OK"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			user, password string
			want           policy.AuthResult
		}{
			{"bob", "right &=%", policy.AuthYes},
			{"bob", "wrong", policy.AuthNo},
			{"bob", "", policy.AuthNo},
			{"bob&p=right", "wrong", policy.AuthNo},
			{"nobody", "x", policy.AuthNo},
			{"401", "x", policy.AuthNo},
			{"403", "x", policy.AuthNo},
			{"404", "x", policy.AuthUnknown},
			{"500", "x", policy.AuthUnknown},
			{"moved", "x", policy.AuthUnknown},
			{"too-much", "x", policy.AuthUnknown},
			{"prefix", "x", policy.AuthNo},
		} {
			a, err := b.Authenticate(t.Context(), session(), tt.user, tt.password)
			if a.Result != tt.want || err != nil && tt.want != policy.AuthUnknown {
				t.Errorf("%s: %q %q: %+v, %v", method, tt.user, tt.password, a, err)
			}
			if strings.Contains(a.Reason, "wrong") || err != nil && strings.Contains(err.Error(), tt.user) {
				t.Errorf("%s: %q: the answer holds what was sent: %+v, %v", method, tt.user, a, err)
			}
		}
	}
}

func TestPlaces(t *testing.T) {
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.String()
		io.WriteString(w, "OK")
	}))
	t.Cleanup(s.Close)
	b, err := New(Config{Client: client(t, true), Request: weblookup.Request{
		URL: s.URL + "/{domain}/{local}?u={user}&p={password}&c={client}&h={helo}&l={listener}&t={tls}"}})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := b.Authenticate(t.Context(), session(), "bob@example.com", "x"); err != nil || a.Result != policy.AuthYes {
		t.Fatalf("%+v, %v", a, err)
	}
	if want := "/example.com/bob?u=bob%40example.com&p=x&c=192.0.2.1&h=client.example&l=in&t=TLSv1.3"; got != want {
		t.Errorf("%q", got)
	}
	// Nobody can be called so; the service is not asked.
	got = ""
	if a, err := b.Authenticate(t.Context(), session(), "bob@..", "x"); err != nil || a.Result != policy.AuthNobody || got != "" {
		t.Errorf("%+v, %v, asked %q", a, err, got)
	}
}

func TestPrivateAddressesAreForbidden(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the service was asked") }))
	t.Cleanup(s.Close)
	b, err := New(Config{Client: client(t, false), Request: weblookup.Request{URL: s.URL + "/?u={user}&p={password}"}})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := b.Authenticate(t.Context(), session(), "bob", "x"); err == nil || a.Result != policy.AuthUnknown {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	c := client(t, false)
	for _, cfg := range []Config{
		{Request: weblookup.Request{URL: "http://x.example/?{user}{password}"}},
		{Client: c, Request: weblookup.Request{URL: "http://x.example/?{user}"}},
		{Client: c, Request: weblookup.Request{URL: "http://x.example/?{password}"}},
		{Client: c, Request: weblookup.Request{URL: "http://x.example/?{user}{password}{recipient}"}},
		{Client: c, Request: weblookup.Request{URL: "http://x.example/?{user}{password}"}, Expect: weblookup.Expect{Prefix: true}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg.Request)
		}
	}
}

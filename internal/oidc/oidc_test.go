package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// issuer is a provider with one person, whose token the test may spoil.
type issuer struct {
	*httptest.Server
	t         *testing.T
	key       *rsa.PrivateKey
	challenge string
	claims    map[string]any
	spoil     func(header, claims map[string]any)
	signer    *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key, signer: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.json(w, map[string]any{"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.json(w, map[string]any{"keys": []any{map[string]any{"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig",
			"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes())}}})
	})
	mux.HandleFunc("/token", i.token)
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

// token checks the proof of RFC 7636 §4.6 and hands the token out.
func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if base64.RawURLEncoding.EncodeToString(sum[:]) != i.challenge || r.PostFormValue("code") != "the-code" {
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	}
	header := map[string]any{"alg": "RS256", "kid": "1", "typ": "JWT"}
	if i.spoil != nil {
		i.spoil(header, i.claims)
	}
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			i.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(header) + "." + part(i.claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.signer, crypto.SHA256, digest[:])
	if err != nil {
		i.t.Error(err)
	}
	i.json(w, map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": signed + "." + base64.RawURLEncoding.EncodeToString(signature)})
}

const callback = "https://gw.example.com/login/oidc/x/back"

// begin goes to the provider and returns what comes back with the browser.
func (i *issuer) begin(p *Provider) (memory, state string) {
	i.t.Helper()
	address, memory, err := p.Begin(i.t.Context(), callback)
	if err != nil {
		i.t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		i.t.Fatal(err)
	}
	q := u.Query()
	if q.Get("redirect_uri") != callback || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("client_id") != "gatepost" {
		i.t.Errorf("asked for %v", q)
	}
	i.challenge = q.Get("code_challenge")
	i.claims = map[string]any{"iss": i.URL, "aud": "gatepost", "sub": "4711", "nonce": q.Get("nonce"), "email": "ada@example.com",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()}
	return memory, q.Get("state")
}

func (i *issuer) provider() *Provider {
	i.t.Helper()
	p, err := New(Config{Issuer: i.URL, ClientID: "gatepost", Client: i.Client()})
	if err != nil {
		i.t.Fatal(err)
	}
	return p
}

func TestSomebodyLogsIn(t *testing.T) {
	i := newIssuer(t)
	p := i.provider()
	memory, state := i.begin(p)
	claims, err := p.Finish(t.Context(), callback, memory, state, "the-code")
	if err != nil || claims["email"] != "ada@example.com" || claims["sub"] != "4711" {
		t.Errorf("%v %v", claims, err)
	}
}

func TestTokensThatAreNotRightAreRefused(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(i *issuer, header, claims map[string]any){
		"for another client":   func(_ *issuer, _, c map[string]any) { c["aud"] = "somebody-else" },
		"of another issuer":    func(_ *issuer, _, c map[string]any) { c["iss"] = "https://evil.example" },
		"expired":              func(_ *issuer, _, c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"for another login":    func(_ *issuer, _, c map[string]any) { c["nonce"] = "x" },
		"without a nonce":      func(_ *issuer, _, c map[string]any) { delete(c, "nonce") },
		"signed by another":    func(i *issuer, _, _ map[string]any) { i.signer = other },
		"not signed at all":    func(_ *issuer, h, _ map[string]any) { h["alg"] = "none" },
		"signed symmetrically": func(_ *issuer, h, _ map[string]any) { h["alg"] = "HS256" },
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			p := i.provider()
			memory, state := i.begin(p)
			i.spoil = func(h, c map[string]any) { spoil(i, h, c) }
			if claims, err := p.Finish(t.Context(), callback, memory, state, "the-code"); !errors.Is(err, ErrToken) {
				t.Errorf("%v %v", claims, err)
			}
		})
	}
}

func TestWhatWasNotBegunHereIsRefused(t *testing.T) {
	i := newIssuer(t)
	p := i.provider()
	memory, state := i.begin(p)
	for name, c := range map[string][3]string{
		"another state": {memory, "x", "the-code"}, "no state": {memory, "", "the-code"}, "no memory": {"", state, "the-code"},
		"an empty memory": {"..", "", "the-code"}, "no code": {memory, state, ""},
	} {
		if _, err := p.Finish(t.Context(), callback, c[0], c[1], c[2]); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.Finish(t.Context(), callback, memory, state, "another-code"); !errors.Is(err, ErrToken) {
		t.Errorf("another code: %v", err)
	}
}

func TestAProviderThatIsDownIsLookedForAgain(t *testing.T) {
	i := newIssuer(t)
	down := true
	p, err := New(Config{Issuer: i.URL, ClientID: "gatepost", Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		if down {
			return nil, errors.New("down")
		}
		return http.DefaultTransport.RoundTrip(r)
	})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Begin(t.Context(), callback); err == nil {
		t.Error("nobody was there, and it went well")
	}
	down = false
	if _, _, err := p.Begin(t.Context(), callback); err != nil {
		t.Error(err)
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

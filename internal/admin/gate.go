package admin

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
)

// GateConfig is what a Gate needs. Accounts and Check are required.
type GateConfig struct {
	Accounts *accounts.Accounts
	// Check decides about names and passwords, slows down who guesses, and takes the
	// same time for names that are not there: a gate of package auth whose first block
	// is LocalUsers.
	Check Checker
	// BaseURL is how people reach the pages, "" where it is not known. With https
	// cookies are for https only.
	BaseURL string
	// Proxies are the reverse proxies whose X-Forwarded-For and X-Forwarded-Proto
	// are believed.
	Proxies []netip.Prefix
	// Providers are of OpenID Connect.
	Providers []Provider
	// Domains adds the aliases that the domains of an account have in the present
	// configuration; nil: they have none.
	Domains func(domains []string) []string
}

// Checker decides about a name and a password; *auth.Gate is one.
type Checker interface {
	Authenticate(ctx context.Context, s *mail.Session, user, password string) mail.Decision
}

// Gate knows who sends a request, and lets people in and out.
type Gate struct {
	accounts *accounts.Accounts
	check    Checker
	base     *url.URL // nil: not known
	proxies  []netip.Prefix
	origins  *http.CrossOriginProtection
	// logins bounds how many are waiting for an answer at once: guessing is slowed
	// down by letting it wait.
	logins    chan struct{}
	providers []Provider
	domains   func([]string) []string
}

// maxLogins bounds the logins under way; each may take a connection for as long as
// guessing is slowed down.
const maxLogins = 40

// NewGate checks the configuration.
func NewGate(cfg GateConfig) (*Gate, error) {
	if cfg.Accounts == nil || cfg.Check == nil {
		return nil, errors.New("admin: accounts and check are required")
	}
	g := &Gate{
		accounts: cfg.Accounts, check: cfg.Check, proxies: cfg.Proxies, origins: http.NewCrossOriginProtection(),
		logins: make(chan struct{}, maxLogins), providers: cfg.Providers, domains: cfg.Domains,
	}
	if g.domains == nil {
		g.domains = func(domains []string) []string { return domains }
	}
	if cfg.BaseURL == "" {
		return g, nil
	}
	u, err := url.Parse(cfg.BaseURL)
	if err != nil {
		return nil, fmt.Errorf("admin: base URL: %w", err)
	}
	g.base = u
	// Behind a proxy that changes Host the browser's origin is the base URL.
	if err := g.origins.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
		return nil, fmt.Errorf("admin: base URL: %w", err)
	}
	return g, nil
}

// identify finds out who sends a request; nobody is an Actor without a name. An error
// says that it cannot be known now. On a route where it is the same who asks it is
// nobody.
func (g *Gate) identify(r *http.Request, route *Route) (*Actor, error) {
	a := &Actor{Client: g.Client(r).String()}
	if route != nil && route.Capability {
		return a, nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		return a, g.byToken(r, a, header)
	}
	secret := g.cookie(r)
	if secret == "" {
		return a, nil
	}
	v, err := g.accounts.Session(r.Context(), secret)
	if errors.Is(err, accounts.ErrNotFound) {
		return a, nil
	}
	if err != nil || v.Pending {
		return a, err
	}
	a.Name, a.Account, a.Session, a.CSRF = v.Account, v.Account, v.ID, v.CSRF
	a.Role, a.Domains, a.Addresses, a.Kind = v.Role, g.domains(v.Domains), v.Addresses, v.Kind
	return a, nil
}

// byToken fills in the actor of a token. Tokens are for the API alone: a request that
// brings one for a page is from nobody.
func (g *Gate) byToken(r *http.Request, a *Actor, header string) error {
	scheme, secret, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || !strings.HasPrefix(r.URL.Path, apiPrefix) {
		return nil
	}
	t, account, err := g.accounts.Token(r.Context(), strings.TrimSpace(secret))
	if errors.Is(err, accounts.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	a.Name, a.Account, a.Token, a.Kind = "token "+t.Name+" of "+account.Name, account.Name, t.Name, accounts.Local
	a.Role, a.Domains, a.Addresses = account.Role, g.domains(account.Domains), account.Addresses
	if len(t.Scopes) > 0 {
		a.scopes = t.Scopes
	}
	return nil
}

// csrfField is the field of a form that has the token, csrfHeader the header.
const (
	csrfField  = "csrf"
	csrfHeader = "X-CSRF-Token"
)

// forged says why a request that changes something may have been sent by another
// site, or "".
func (g *Gate) forged(r *http.Request, route *Route, a *Actor) string {
	if err := g.origins.Check(r); err != nil {
		// A page without a referrer, as that behind a digest's link, has no origin
		// to name; the secret in its path is what protects it.
		if !route.Capability || r.Header.Get("Origin") != "null" || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
			return "this request comes from another site"
		}
	}
	if route.Capability || a.Token != "" {
		return ""
	}
	want := a.CSRF
	if want == "" {
		if !route.Public {
			return "" // nobody: it is refused for that
		}
		want = formToken(g.formCookie(r))
	}
	if want == "" || subtle.ConstantTimeCompare([]byte(sentToken(r, route)), []byte(want)) != 1 {
		return "the form is too old: load the page again, then send it once more"
	}
	return ""
}

// sentToken is the token that a request brings. A JSON body has no place for it: the
// header is asked for.
func sentToken(r *http.Request, route *Route) string {
	if t := r.Header.Get(csrfHeader); t != "" || route.isAPI() {
		return t
	}
	switch kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind {
	case "application/x-www-form-urlencoded", "multipart/form-data":
		// PostFormValue reads forms of both kinds, in memory up to 32 MiB; the body is
		// limited to what the route takes.
		return r.PostFormValue(csrfField)
	}
	return ""
}

// Client is the address that a request comes from: the peer's, or what a proxy that
// is trusted says.
func (g *Gate) Client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr := peer.Addr().Unmap().WithZone("")
	// From the right: each entry was added by the proxy that is right of it.
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(list) - 1; i >= 0 && g.trusts(addr); i-- {
		next, err := netip.ParseAddr(strings.Trim(strings.TrimSpace(list[i]), "[]"))
		if err != nil {
			break
		}
		addr = next.Unmap().WithZone("")
	}
	return addr
}

func (g *Gate) trusts(a netip.Addr) bool {
	for _, p := range g.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// secureRequest reports whether the browser speaks HTTPS.
func (g *Gate) secureRequest(r *http.Request) bool {
	if r.TLS != nil || g.base != nil && g.base.Scheme == "https" {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && g.trusts(peer.Addr().Unmap()) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// Host is how people call this host, for lists of second factors.
func (g *Gate) Host(r *http.Request) string {
	if g.base != nil {
		return g.base.Hostname()
	}
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

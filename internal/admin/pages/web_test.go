package pages_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/admin/pages"
	"gatepost/internal/mail"
	"gatepost/internal/policy/auth"
	"gatepost/internal/quarantine"
	"gatepost/internal/scan/senders"
	"gatepost/internal/store"
)

const password = "correct horse battery"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// web is the whole handler for TCP on a store of its own. What is behind the API is
// not there: a handler that is reached may panic, which the tests take as reached.
type web struct {
	t        testing.TB
	accounts *accounts.Accounts
	store    *store.Store
	server   *admin.Server
	gate     *admin.Gate
	handler  http.Handler
}

type noQueue struct{ admin.Queue }
type noQuarantine struct{ admin.Quarantine }
type noGreylist struct{ admin.Greylist }
type noFlows struct{ admin.Flows }
type noRouting struct{ admin.Routing }
type noContent struct{ admin.Content }
type noAgain struct{ admin.Again }
type noLinks struct{ admin.DigestLinks }
type noDigests struct{ admin.Digests }
type noConfiguration struct{ admin.Configuration }
type noPagesQuarantine struct{ pages.Quarantine }
type noKeys struct{ pages.Keys }
type noHistory struct{ admin.History }
type noLog struct{ admin.LogFiles }
type healthy struct{}

func (healthy) Checks() []admin.Check { return nil }

// everything is a Config with every part, so that every route is there.
func everything() admin.Config {
	return admin.Config{
		Queue: noQueue{}, Health: healthy{}, Quarantine: noQuarantine{}, Greylist: noGreylist{}, Flows: noFlows{},
		History: noHistory{}, LogFiles: noLog{}, Routing: noRouting{}, Content: noContent{}, Again: noAgain{}, DigestLinks: noLinks{}, Digests: noDigests{}, Configuration: noConfiguration{},
		Reload:  func(context.Context) error { return nil },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
	}
}

func open(t testing.TB, change ...func(*admin.GateConfig)) *web {
	t.Helper()
	return openWith(t, func(*store.Store, *pages.Config) {}, change...)
}

// openWith is open with other parts for the pages.
func openWith(t testing.TB, parts func(*store.Store, *pages.Config), change ...func(*admin.GateConfig)) *web {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{Dir: t.TempDir(), Node: "gw1", Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	w := &web{t: t, store: s}
	w.accounts, err = accounts.New(accounts.Config{Store: s})
	must(t, err)
	check, err := auth.New(auth.Config{Pad: -1, Blocks: []auth.Block{{Use: admin.LocalBlock, Backend: admin.LocalUsers{Accounts: w.accounts}}}})
	must(t, err)
	gc := admin.GateConfig{Accounts: w.accounts, Check: check}
	for _, c := range change {
		c(&gc)
	}
	gate, err := admin.NewGate(gc)
	must(t, err)
	pc := pages.Config{Gate: gate, Configuration: noConfiguration{}, Keys: noKeys{}, Quarantine: noPagesQuarantine{}, Queue: noQueue{}, Greylist: noGreylist{}, History: noHistory{}, LogFiles: noLog{}, Again: noAgain{}}
	pc.Senders = senders.Lists{Store: s}
	parts(s, &pc)
	pc.TestMail = func(context.Context, mail.Address, string) error { return nil }
	site, err := pages.New(pc)
	must(t, err)
	w.gate = gate
	cfg := everything()
	cfg.Senders = pc.Senders
	cfg.Quarantine, cfg.Greylist, cfg.Queue = pc.Quarantine, pc.Greylist, pc.Queue
	if d, ok := pc.Digests.(*quarantine.Digests); ok {
		cfg.Digests, cfg.DigestLinks = d, d.Links()
	}
	cfg.Accounts, cfg.Gate, cfg.Pages = w.accounts, gate, site
	w.server, err = admin.New(cfg)
	must(t, err)
	w.handler = w.server.Public()
	return w
}

// client is a browser: it keeps cookies and knows its token.
type client struct {
	*web
	cookies map[string]string
	csrf    string
	bearer  string
	header  http.Header
}

func (w *web) client() *client {
	return &client{web: w, cookies: map[string]string{}, header: http.Header{}}
}

// as is a browser that is logged in with a role.
func (w *web) as(role accounts.Role) *client {
	w.t.Helper()
	name := "the-" + string(role)
	if _, err := w.accounts.Get(w.t.Context(), name); err != nil {
		must(w.t, w.accounts.Create(w.t.Context(), accounts.Account{Name: name, Role: role, Domains: []string{"a.example"}, Addresses: []string{"u@a.example"}}, password))
	}
	c := w.client()
	secret, v, err := w.accounts.Open(w.t.Context(), accounts.Session{Account: name, Kind: accounts.Local, Role: role})
	must(w.t, err)
	c.cookies["gatepost-session"], c.csrf = secret, v.CSRF
	return c
}

// errReached says that a handler was reached whose part is not there.
var errReached = fmt.Errorf("reached")

// send sends a request as the browser; a body that begins with "{" is JSON.
func (c *client) send(method, path, body string) (resp *httptest.ResponseRecorder, err error) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Accept", "text/html")
	switch {
	case strings.HasPrefix(body, "{"):
		r.Header.Set("Content-Type", "application/json")
	case body != "" || method == "POST":
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.csrf != "" {
		r.Header.Set("X-CSRF-Token", c.csrf)
	}
	if c.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	for name, value := range c.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	resp = httptest.NewRecorder()
	defer func() {
		if recover() != nil {
			err = errReached
		}
	}()
	c.handler.ServeHTTP(resp, r)
	for _, cookie := range resp.Result().Cookies() {
		if cookie.MaxAge < 0 {
			delete(c.cookies, cookie.Name)
		} else {
			c.cookies[cookie.Name] = cookie.Value
		}
	}
	return resp, nil
}

// get is a GET that must not panic.
func (c *client) get(path string) *httptest.ResponseRecorder {
	c.t.Helper()
	r, err := c.send("GET", path, "")
	must(c.t, err)
	return r
}

func (c *client) post(path string, form url.Values) *httptest.ResponseRecorder {
	c.t.Helper()
	r, err := c.send("POST", path, form.Encode())
	must(c.t, err)
	return r
}

// field is the value of a hidden field of a page.
func field(page, name string) string {
	_, rest, ok := strings.Cut(page, `name="`+name+`" value="`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// login logs in by the form.
func (c *client) login(name, password string) *httptest.ResponseRecorder {
	c.t.Helper()
	page := c.get("/login")
	return c.post("/login", url.Values{"csrf": {field(page.Body.String(), "csrf")}, "name": {name}, "password": {password}})
}

// The letters of the roles in testdata/matrix.
var letters = map[accounts.Role]string{
	accounts.Administrator: "a", accounts.Operator: "o", accounts.Viewer: "v", accounts.DomainAdministrator: "d", accounts.EndUser: "e",
}

// matrix reads who may what: METHOD PATH LETTERS, with n for nobody.
func matrix(t testing.TB) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/matrix")
	must(t, err)
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) != 3 {
			t.Fatalf("testdata/matrix: %q", line)
		}
		m[f[0]+" "+f[1]] = f[2]
	}
	return m
}

// fill puts something into the places of a path.
func fill(path string) string {
	path = strings.TrimSuffix(path, "{$}")
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(part, "{") {
			part = "x"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "/")
}

func TestEveryRoleReachesWhatTheMatrixSaysAndNothingElse(t *testing.T) {
	w := open(t)
	want := matrix(t)
	seen := map[string]bool{}
	clients := map[string]*client{"n": w.client()}
	for _, role := range accounts.Roles() {
		clients[letters[role]] = w.as(role)
	}
	for _, route := range w.server.Routes() {
		key := route.Method + " " + route.Path
		seen[key] = true
		allowed, ok := want[key]
		if !ok {
			t.Errorf("testdata/matrix does not say who may %s", key)
			continue
		}
		for letter, c := range clients {
			if key == "POST /logout" || strings.HasPrefix(route.Path, "/account") && route.Method == "POST" || strings.HasPrefix(route.Path, "/login") || route.Path == "/setup/{token}" {
				continue // they would log the browser out, or mind the token of a form
			}
			body := ""
			if route.Method != "GET" && strings.HasPrefix(route.Path, "/api/") {
				body = "{"
			}
			r, err := c.send(route.Method, fill(route.Path), body)
			reached := err == errReached || r.Code != 403 && r.Code != 401 && !(r.Code == 303 && strings.HasPrefix(r.Header().Get("Location"), "/login?") || r.Header().Get("Location") == "/login")
			if may := strings.Contains(allowed, letter); reached != may {
				t.Errorf("%s as %s: reached %v, want %v (%v)", key, letter, reached, may, r.Code)
			}
		}
	}
	for key := range want {
		if !seen[key] {
			t.Errorf("testdata/matrix has %s, which is not served", key)
		}
	}
}

// WEB-01.
func TestNothingChangesWithoutATokenOrFromAnotherSite(t *testing.T) {
	w := open(t)
	for _, route := range w.server.Routes() {
		if route.Method == "GET" || route.Capability {
			continue
		}
		for name, forge := range map[string]func(c *client){
			"no token":             func(c *client) { c.csrf = "" },
			"a wrong token":        func(c *client) { c.csrf += "x" },
			"another origin":       func(c *client) { c.header.Set("Origin", "https://evil.example") },
			"no origin":            func(c *client) { c.header.Set("Origin", "null") },
			"a cross-site request": func(c *client) { c.header.Set("Sec-Fetch-Site", "cross-site") },
			"a sibling host":       func(c *client) { c.header.Set("Sec-Fetch-Site", "same-site") },
			"a session in a token": func(c *client) { c.bearer, c.csrf = c.cookies["gatepost-session"], "" },
		} {
			c := w.as(accounts.Administrator)
			forge(c)
			r, err := c.send(route.Method, fill(route.Path), "")
			if err != nil || r.Code != http.StatusForbidden && r.Code != http.StatusUnauthorized && r.Header().Get("Location") != "/login" {
				t.Errorf("%s %s with %s: %d %v", route.Method, route.Path, name, r.Code, err)
			}
		}
	}
}

// WEB-01: what changes something is no GET, and a GET of it changes nothing.
func TestWhatChangesSomethingIsNeitherGotNorPreviewed(t *testing.T) {
	w := open(t)
	got := map[string]bool{}
	for _, route := range w.server.Routes() {
		if route.Method == http.MethodGet {
			got[route.Path] = true
		}
	}
	c := w.as(accounts.Administrator)
	for _, route := range w.server.Routes() {
		// A path with a place in it may be what a GET of another pattern answers.
		if got[route.Path] || strings.HasPrefix(route.Path, "/api/v1/queue/") || strings.Contains(route.Path, "{") {
			continue
		}
		for _, method := range []string{"GET", "HEAD"} {
			// One that is fallen through to another pattern's handler finds no such thing there.
			if r, err := c.send(method, route.Path, ""); err != nil && err != errReached || err == nil && r.Code < 300 {
				t.Errorf("%s %s: %d", method, route.Path, r.Code)
			}
		}
	}
	list, _, err := w.accounts.Audit(t.Context(), store.AuditQuery{Limit: 100})
	must(t, err)
	if len(list) != 0 {
		t.Errorf("GET is in the audit log: %+v", list)
	}
}

func TestJSONAsTextAndMethodsInHeadersChangeNothing(t *testing.T) {
	w := open(t)
	c := w.as(accounts.Administrator)
	c.header.Set("Content-Type", "text/plain")
	if r, err := c.send("POST", "/api/v1/users", `{"name":"eve","role":"administrator","password":"`+password+`"}`); err != nil || r.Code != http.StatusUnsupportedMediaType {
		t.Errorf("text/plain: %d %v", r.Code, err)
	}
	c = w.as(accounts.Administrator)
	for _, h := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		c.header.Set(h, "DELETE")
	}
	if r := c.get("/api/v1/users/the-administrator?_method=DELETE"); r.Code != 200 {
		t.Errorf("GET with an override: %d", r.Code)
	}
	c.post("/users/the-viewer?_method=DELETE", url.Values{"_method": {"DELETE"}})
	if all, err := w.accounts.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("accounts: %d %v", len(all), err)
	}
}

// WEB-02.
func TestLoggingInGivesANewSessionAndACookieThatStaysHere(t *testing.T) {
	w := open(t, func(c *admin.GateConfig) { c.BaseURL = "https://gw.example.com" })
	must(t, w.accounts.Create(t.Context(), accounts.Account{Name: "ada", Role: accounts.Administrator}, password))
	c := w.client()
	c.cookies["__Host-gatepost-session"] = "chosen-by-somebody-else"
	r := c.login("ada", password)
	if r.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", r.Code, r.Body)
	}
	first := c.cookies["__Host-gatepost-session"]
	if first == "chosen-by-somebody-else" || len(first) < 40 {
		t.Errorf("the session is %q", first)
	}
	set := strings.Join(r.Header().Values("Set-Cookie"), "\n")
	for _, want := range []string{"__Host-gatepost-session=", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"} {
		if !strings.Contains(set, want) {
			t.Errorf("the cookie has no %s: %s", want, set)
		}
	}
	page := c.get("/account").Body.String()
	if r := c.post("/logout", url.Values{"csrf": {field(page, "csrf")}}); r.Code != http.StatusSeeOther {
		t.Fatalf("log out: %d", r.Code)
	}
	c.cookies["__Host-gatepost-session"] = first
	if r := c.get("/account"); r.Code != http.StatusSeeOther || !strings.HasPrefix(r.Header().Get("Location"), "/login") {
		t.Errorf("after logging out the session works: %d", r.Code)
	}
}

func TestPagesGoBackToPagesOnly(t *testing.T) {
	w := open(t)
	must(t, w.accounts.Create(t.Context(), accounts.Account{Name: "ada", Role: accounts.Administrator}, password))
	for next, want := range map[string]string{
		"/users?x=1": "/users?x=1", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/", "/\tx": "/", "javascript:alert(1)": "/", "": "/",
	} {
		c := w.client()
		page := c.get("/login?next=" + url.QueryEscape(next)).Body.String()
		r := c.post("/login", url.Values{"csrf": {field(page, "csrf")}, "name": {"ada"}, "password": {password}, "next": {next}})
		if got := r.Header().Get("Location"); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

// WEB-14, WEB-15: what every page promises.
func TestEveryAnswerIsHardened(t *testing.T) {
	w := open(t)
	admin := w.as(accounts.Administrator)
	for _, route := range w.server.Routes() {
		if route.Method != "GET" {
			continue
		}
		r, err := admin.send("GET", fill(route.Path), "")
		if err != nil {
			continue
		}
		h := r.Header()
		policy := h.Get("Content-Security-Policy")
		for _, bad := range []string{"unsafe-inline", "unsafe-eval", "*", "http:", "https:"} {
			if strings.Contains(policy, bad) {
				t.Errorf("%s: the policy has %s", route.Path, bad)
			}
		}
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", route.Path, h)
		}
		body := r.Body.String()
		if strings.Contains(h.Get("Content-Type"), "text/html") {
			for _, bad := range []string{" style=", "<style", " onclick=", "javascript:", "<script>", "//cdn"} {
				if strings.Contains(body, bad) {
					t.Errorf("%s: the page has %s", route.Path, bad)
				}
			}
		}
		if strings.Contains(body, "$argon2id$") {
			t.Errorf("%s shows the hash of a password", route.Path)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/metrics/../debug/pprof", "/.git/config"} {
		if r := w.client().get(path); r.Code == http.StatusOK {
			t.Errorf("%s is open", path)
		}
	}
	c := w.client()
	c.header.Set("X-Forwarded-For", "192.0.2.1") // somebody behind a proxy on this host
	if r := c.get("/metrics"); r.Code == http.StatusOK {
		t.Error("/metrics is open")
	}
}

func TestTokensReachTheAPIAndNoPages(t *testing.T) {
	w := open(t)
	must(t, w.accounts.Create(t.Context(), accounts.Account{Name: "ada", Role: accounts.Administrator}, password))
	secret, made, err := w.accounts.CreateToken(t.Context(), accounts.Token{Account: "ada", Name: "audit", Scopes: []accounts.Permission{accounts.AuditRead}})
	must(t, err)
	c := w.client()
	c.bearer = secret
	for path, want := range map[string]int{"/api/v1/audit": 200, "/api/v1/whoami": 200, "/api/v1/users": 403, "/users": 303, "/audit": 303} {
		if r := c.get(path); r.Code != want {
			t.Errorf("%s: %d, want %d", path, r.Code, want)
		}
	}
	must(t, w.accounts.DeleteToken(t.Context(), "ada", made.ID))
	if r := c.get("/api/v1/audit"); r.Code != http.StatusUnauthorized {
		t.Errorf("an ended token: %d", r.Code)
	}
}

// WEB-06.
func TestOddPathsAreNotFound(t *testing.T) {
	c := open(t).as(accounts.Administrator)
	for _, name := range []string{"..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "..%5c", "%00", "%2Fetc%2Fpasswd", strings.Repeat("x", 10_000)} {
		for _, path := range []string{"/users/", "/static/x/", "/api/v1/users/"} {
			if r := c.get(path + name); r.Code != http.StatusNotFound && r.Code != http.StatusMovedPermanently && r.Code != http.StatusTemporaryRedirect {
				t.Errorf("%s%.40s: %d %.200s", path, name, r.Code, r.Body)
			}
		}
	}
}

func TestEveryActionIsInTheAuditLog(t *testing.T) {
	w := open(t)
	c := w.as(accounts.Administrator)
	c.post("/users", url.Values{"name": {"bob"}, "role": {"viewer"}, "password": {password}, "again": {password}})
	c.post("/users", url.Values{"name": {"bob"}, "role": {"viewer"}, "password": {password}, "again": {password}})
	viewer := w.as(accounts.Viewer)
	viewer.post("/users/bob/delete", nil)
	must(t, func() error { _, err := c.send("DELETE", "/api/v1/users/bob", ""); return err }())
	list, _, err := w.accounts.Audit(t.Context(), store.AuditQuery{Limit: 100})
	must(t, err)
	got := ""
	for _, e := range list {
		got += fmt.Sprintf("%s: %s: %s (%s)\n", e.Actor, e.Action, e.Outcome, e.Detail)
	}
	for _, want := range []string{"the-administrator: add user: done (bob as viewer)", "the-administrator: add user: failed", "the-administrator: Delete an account with its sessions and tokens: done (bob)"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, password) {
		t.Error("the audit log has a password")
	}
}

func TestTheOpenAPIDocumentHasEveryRouteOfTheAPI(t *testing.T) {
	w := open(t)
	doc := w.client().get("/api/v1/openapi.json").Body.String()
	for _, route := range w.server.Routes() {
		if !strings.HasPrefix(route.Path, "/api/") {
			continue
		}
		if route.Doc == nil || route.Doc.Summary == "" {
			t.Errorf("%s %s is not described", route.Method, route.Path)
		} else if !strings.Contains(doc, `"`+route.Path+`":`) || !strings.Contains(doc, `"summary":"`+route.Doc.Summary+`"`) {
			t.Errorf("%s %s is not in the document", route.Method, route.Path)
		}
	}
}

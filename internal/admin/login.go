package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/smtp"
)

// Names of cookies. With HTTPS they begin with __Host-, so that no other host of the
// domain can set them (draft-ietf-httpbis-rfc6265bis).
const (
	sessionCookie = "gatepost-session"
	formCookie    = "gatepost-form"
	// elsewhereCookie is what belongs to a login with a provider that is under way.
	elsewhereCookie = "gatepost-elsewhere"
	securePrefix    = "__Host-"
)

// Errors of logging in. Their texts are shown; they do not say whether a name is
// there.
var (
	ErrLogin      = errors.New("name or password is not right")
	ErrLoginBusy  = errors.New("too many try to log in now, or too many tries were wrong: wait some minutes and try again")
	ErrLoginLater = errors.New("nobody can tell now whether this is right: try again later")
	// ErrNoAddress is for end users who were let in and own no address.
	ErrNoAddress = errors.New("no address is known for this name: ask your administrator")
)

// LocalUsers asks the accounts of the administration; in a flow of package auth its
// block is called LocalBlock.
type LocalUsers struct{ Accounts *accounts.Accounts }

// LocalBlock is what the block of LocalUsers is called.
const LocalBlock = "accounts"

// Authenticate implements policy.AuthBackend.
func (l LocalUsers) Authenticate(ctx context.Context, _ *mail.Session, user, password string) (policy.AuthAnswer, error) {
	a, err := l.Accounts.Verify(ctx, user, password)
	switch {
	case err == nil:
		return policy.AuthAnswer{Result: policy.AuthYes, User: a.Name, Senders: a.Addresses}, nil
	case errors.Is(err, accounts.ErrNotFound):
		return policy.AuthAnswer{Result: policy.AuthNobody}, nil
	case errors.Is(err, accounts.ErrWrong):
		return policy.AuthAnswer{Result: policy.AuthNo}, nil
	}
	return policy.AuthAnswer{}, err
}

// Login lets somebody in who knows a name and its password. Where the account has a
// second factor the session is pending, which it reports, until Complete.
func (g *Gate) Login(w http.ResponseWriter, r *http.Request, name, password string) (pending bool, err error) {
	select {
	case g.logins <- struct{}{}:
		defer func() { <-g.logins }()
	default:
		return false, ErrLoginBusy
	}
	client := g.Client(r)
	s := &mail.Session{ID: mail.NewID(), Client: netip.AddrPortFrom(client, 0), Listener: "admin"}
	d := g.check.Authenticate(r.Context(), s, name, password)
	if err := wait(r.Context(), d.Delay); err != nil {
		return false, err
	}
	switch {
	case d.Act == mail.Reject:
		return false, ErrLogin
	case d.Act != mail.Accept && len(d.Findings) == 0:
		return false, ErrLoginBusy
	case d.Act != mail.Accept:
		return false, ErrLoginLater
	}
	v, err := g.sessionOf(r.Context(), &d, name)
	if err != nil {
		return false, err
	}
	return v.Pending, g.open(w, r, *v)
}

// sessionOf is the session for what the check found out.
func (g *Gate) sessionOf(ctx context.Context, d *mail.Decision, name string) (*accounts.Session, error) {
	if d.User != "" {
		name = d.User
	}
	name = strings.ToLower(name)
	local := slices.ContainsFunc(d.Findings, func(f mail.Finding) bool { return f.Module == LocalBlock && f.Symbol == "yes" })
	if local {
		a, err := g.accounts.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		return &accounts.Session{Account: a.Name, Kind: accounts.Local, Role: a.Role, Pending: a.HasTOTP}, nil
	}
	v := &accounts.Session{Account: name, Kind: accounts.Mail, Role: accounts.EndUser}
	for _, sender := range append([]string{name}, d.Senders...) {
		sender = strings.ToLower(sender)
		if _, err := smtp.ParseAddress(sender); err == nil && !strings.HasPrefix(sender, "@") && !slices.Contains(v.Addresses, sender) {
			v.Addresses = append(v.Addresses, sender)
		}
	}
	if len(v.Addresses) == 0 {
		return nil, ErrNoAddress
	}
	return v, nil
}

// open makes a session, always a new one, and ends the one that the browser had.
func (g *Gate) open(w http.ResponseWriter, r *http.Request, v accounts.Session) error {
	if old, err := g.accounts.Session(r.Context(), g.cookie(r)); err == nil {
		if err := g.accounts.Close(r.Context(), old.Account, old.ID); err != nil {
			return err
		}
	}
	v.Client, v.Agent = g.Client(r).String(), r.UserAgent()
	secret, _, err := g.accounts.Open(r.Context(), v)
	if err != nil {
		return err
	}
	g.setCookie(w, r, sessionCookie, secret)
	return nil
}

// Pending reports whether the browser has sent a password and owes a code.
func (g *Gate) Pending(r *http.Request) bool {
	v, err := g.accounts.Session(r.Context(), g.cookie(r))
	return err == nil && v.Pending
}

// Complete lets somebody in who owed a code. accounts.ErrWrong may be tried again,
// accounts.ErrNotFound begins with the password.
func (g *Gate) Complete(w http.ResponseWriter, r *http.Request, code string) error {
	secret, _, err := g.accounts.Complete(r.Context(), g.cookie(r), code)
	if err != nil {
		return err
	}
	g.setCookie(w, r, sessionCookie, secret)
	return nil
}

// Logout ends the session.
func (g *Gate) Logout(w http.ResponseWriter, r *http.Request, a *Actor) error {
	g.setCookie(w, r, sessionCookie, "")
	if a.Session == "" {
		return nil
	}
	return g.accounts.Close(r.Context(), a.Account, a.Session)
}

// FormToken is what a form that nobody is logged in for must send back in the field
// "csrf". It belongs to a cookie, which is set if there is none.
func (g *Gate) FormToken(w http.ResponseWriter, r *http.Request) string {
	c := g.formCookie(r)
	if c == "" {
		c = rand.Text()
		g.setCookie(w, r, formCookie, c)
	}
	return formToken(c)
}

// formToken is the token that belongs to a cookie.
func formToken(cookie string) string {
	if cookie == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("form\x00" + cookie))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (g *Gate) cookieName(r *http.Request, name string) string {
	if g.secureRequest(r) {
		return securePrefix + name
	}
	return name
}

// cookie is the secret of the session that the browser sends.
func (g *Gate) cookie(r *http.Request) string { return g.readCookie(r, sessionCookie) }

func (g *Gate) formCookie(r *http.Request) string { return g.readCookie(r, formCookie) }

func (g *Gate) readCookie(r *http.Request, name string) string {
	c, err := r.Cookie(g.cookieName(r, name))
	if err != nil || len(c.Value) > 2000 {
		return ""
	}
	return c.Value
}

// setCookie sets a cookie for as long as the browser runs; "" takes it away. How long
// a session lasts, the store knows.
func (g *Gate) setCookie(w http.ResponseWriter, r *http.Request, name, value string) {
	c := &http.Cookie{
		Name: g.cookieName(r, name), Value: value, Path: "/", HttpOnly: true,
		Secure: g.secureRequest(r), SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// Accounts are what the gate knows people by.
func (g *Gate) Accounts() *accounts.Accounts { return g.accounts }

// wait waits for d or the end of ctx.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Recheck checks the password of who is logged in already, as slowly as a login:
// ErrLogin where it is wrong.
func (g *Gate) Recheck(r *http.Request, a *Actor, password string) error {
	s := &mail.Session{ID: mail.NewID(), Client: netip.AddrPortFrom(g.Client(r), 0), Listener: "admin"}
	d := g.check.Authenticate(r.Context(), s, a.Account, password)
	if err := wait(r.Context(), d.Delay); err != nil {
		return err
	}
	switch {
	case d.Act == mail.Accept:
		return nil
	case d.Act == mail.Reject:
		return errors.New("the present password is not right")
	case len(d.Findings) == 0:
		return ErrLoginBusy
	}
	return ErrLoginLater
}

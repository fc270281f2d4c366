package admin

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/store"
)

// Provider vouches for people with OpenID Connect.
type Provider interface {
	// Name stands in paths: /login/oidc/NAME. Label is on the button.
	Name() string
	Label() string
	// Begin returns where to send the browser, and what to remember until it is back.
	Begin(ctx context.Context, callback string) (address string, memory string, err error)
	// Finish checks what the browser brings back and says who it is.
	Finish(ctx context.Context, callback, memory, state, code string) (accounts.Session, error)
}

// Callback is where a provider sends people back.
func (g *Gate) callback(p Provider) (string, error) {
	if g.base == nil {
		return "", errors.New("log in elsewhere: no base_url in [admin]")
	}
	return g.base.JoinPath("/login/oidc", p.Name(), "back").String(), nil
}

// provider finds a provider by its name.
func (g *Gate) provider(name string) Provider {
	for _, p := range g.providers {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// ErrNoProvider says that there is none of that name.
var ErrNoProvider = errors.New("there is no such way to log in")

// BeginElsewhere returns where to send a browser to log in with a provider, and next to
// come back to; the browser keeps what belongs to it in a cookie.
func (g *Gate) BeginElsewhere(w http.ResponseWriter, r *http.Request, name, next string) (string, error) {
	p := g.provider(name)
	if p == nil {
		return "", ErrNoProvider
	}
	callback, err := g.callback(p)
	if err != nil {
		return "", err
	}
	address, memory, err := p.Begin(r.Context(), callback)
	if err != nil {
		return "", err
	}
	g.setCookie(w, r, elsewhereCookie, name+"|"+memory+"|"+base64.RawURLEncoding.EncodeToString([]byte(next)))
	return address, nil
}

// FinishElsewhere lets somebody in whom a provider vouches for, and returns where to
// go then.
func (g *Gate) FinishElsewhere(w http.ResponseWriter, r *http.Request, name string) (next string, err error) {
	p := g.provider(name)
	kept := strings.Split(g.readCookie(r, elsewhereCookie), "|")
	g.setCookie(w, r, elsewhereCookie, "")
	if p == nil || len(kept) != 3 || kept[0] != name {
		return "", ErrNoProvider
	}
	callback, err := g.callback(p)
	if err != nil {
		return "", err
	}
	q := r.URL.Query()
	v, err := p.Finish(r.Context(), callback, kept[1], q.Get("state"), q.Get("code"))
	if err != nil {
		return "", err
	}
	b, err := base64.RawURLEncoding.DecodeString(kept[2])
	if err != nil {
		return "", ErrNoProvider
	}
	if err := g.open(w, r, v); err != nil {
		return "", err
	}
	return string(b), g.accounts.Note(r.Context(), store.AuditEntry{
		Actor: v.Account, Client: g.Client(r).String(), Action: "login with " + name, Outcome: "done", Detail: string(v.Role),
	})
}

// Providers are those that people may log in with.
func (g *Gate) Providers() []Provider { return g.providers }

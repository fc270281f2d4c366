// Package oidc lets people log in with OpenID Connect Core 1.0: the code flow with
// PKCE (RFC 7636), state and nonce.
//
//	p, err := oidc.New(oidc.Config{Issuer: "https://login.example.com", ClientID: "gatepost", Client: httpClient})
//	address, memory, err := p.Begin(ctx, "https://gw.example.com/login/oidc/company/back")
//	claims, err := p.Finish(ctx, callback, memory, state, code)
//
// Invariants:
//   - The token's signature, issuer, audience, times and nonce are checked before
//     anything in it is looked at; the library does the first four.
//   - What must not be guessed is random, and is kept by the browser only, in what
//     Begin returns as memory.
//   - The provider is asked through the client that it is given, whose limits and
//     guard hold; it is looked for when somebody logs in first, so that one that is
//     down keeps nothing from starting.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Config is a provider. Issuer, ClientID and Client are required.
type Config struct {
	Issuer, ClientID string
	// Secret returns the client's secret, "" for none.
	Secret func() (string, error)
	Scopes []string
	// Client asks the provider.
	Client *http.Client
	// Timeout bounds a login's questions; default 15 s.
	Timeout time.Duration
}

// Provider is a provider of OpenID Connect.
type Provider struct {
	cfg Config

	mu    sync.Mutex // guards found
	found *oidc.Provider
}

// Errors of Finish that callers tell apart.
var (
	// ErrState says that the browser brought back what was not begun here.
	ErrState = errors.New("the login was not begun in this browser, or too long ago")
	// ErrToken says that the provider's answer cannot be believed.
	ErrToken = errors.New("the provider's answer is not right")
)

// New checks the configuration.
func New(cfg Config) (*Provider, error) {
	if cfg.Issuer == "" || cfg.ClientID == "" || cfg.Client == nil {
		return nil, errors.New("make OpenID Connect provider: issuer, client_id and client are required")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 15 * time.Second
	}
	if len(cfg.Scopes) == 0 {
		cfg.Scopes = []string{oidc.ScopeOpenID}
	}
	return &Provider{cfg: cfg}, nil
}

// discover reads what the issuer says of itself, once.
func (p *Provider) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	found := p.found
	p.mu.Unlock()
	if found != nil {
		return found, nil
	}
	// Keys are fetched later with the client of this context: it must not end with
	// the request.
	found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.cfg.Client), p.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask %s about itself: %w", p.cfg.Issuer, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = found
	return found, nil
}

func (p *Provider) client(found *oidc.Provider, callback string) (*oauth2.Config, error) {
	c := &oauth2.Config{ClientID: p.cfg.ClientID, Endpoint: found.Endpoint(), RedirectURL: callback, Scopes: p.cfg.Scopes}
	if p.cfg.Secret == nil {
		return c, nil
	}
	var err error
	c.ClientSecret, err = p.cfg.Secret()
	return c, err
}

// Begin returns where to send the browser, and what it must keep until it is back.
func (p *Provider) Begin(ctx context.Context, callback string) (address, memory string, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	found, err := p.discover(ctx)
	if err != nil {
		return "", "", err
	}
	c, err := p.client(found, callback)
	if err != nil {
		return "", "", err
	}
	state, nonce, verifier := rand.Text(), rand.Text(), oauth2.GenerateVerifier()
	address = c.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier))
	return address, strings.Join([]string{state, nonce, verifier}, "."), nil
}

// Finish trades the code that the browser brought back for what the provider says
// about who logged in.
func (p *Provider) Finish(ctx context.Context, callback, memory, state, code string) (map[string]any, error) {
	kept := strings.Split(memory, ".")
	if len(kept) != 3 || kept[0] == "" || code == "" || subtle.ConstantTimeCompare([]byte(kept[0]), []byte(state)) != 1 {
		return nil, ErrState
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.cfg.Client), p.cfg.Timeout)
	defer cancel()
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	c, err := p.client(found, callback)
	if err != nil {
		return nil, err
	}
	token, err := c.Exchange(ctx, code, oauth2.VerifierOption(kept[2]))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return nil, fmt.Errorf("%w: it has no id_token", ErrToken)
	}
	id, err := found.Verifier(&oidc.Config{ClientID: p.cfg.ClientID}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(kept[1])) != 1 {
		return nil, fmt.Errorf("%w: it is for another login", ErrToken)
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	}
	return claims, nil
}

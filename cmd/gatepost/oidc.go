package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/config"
	"gatepost/internal/oidc"
	"gatepost/internal/smtp"
	"gatepost/internal/weblookup"
)

// makeProviders makes the [[admin.oidc]].
func (a *app) makeProviders(cfg *config.Config) ([]admin.Provider, error) {
	var all []admin.Provider
	for i := range cfg.Admin.OIDC {
		c := &cfg.Admin.OIDC[i]
		web, err := weblookup.New(weblookup.Config{AllowPrivate: c.AllowPrivate, MaxBody: 1 << 20})
		if err != nil {
			return nil, fmt.Errorf("make [[admin.oidc]] %s: %w", c.Name, err)
		}
		oc := oidc.Config{Issuer: c.Issuer, ClientID: c.ClientID, Scopes: c.Scopes, Client: web.Guarded()}
		if c.ClientSecretFile != "" {
			oc.Secret = func() (string, error) { return firstLine(c.ClientSecretFile) }
		}
		p, err := oidc.New(oc)
		if err != nil {
			return nil, fmt.Errorf("make [[admin.oidc]] %s: %w", c.Name, err)
		}
		all = append(all, provider{p, c})
	}
	return all, nil
}

// provider says who the people are that a provider vouches for.
type provider struct {
	*oidc.Provider
	c *config.AdminOIDC
}

// Name and Label implement admin.Provider.
func (p provider) Name() string { return string(p.c.Name) }

// Label implements admin.Provider.
func (p provider) Label() string {
	if p.c.Label != "" {
		return p.c.Label
	}
	return string(p.c.Name)
}

// Finish implements admin.Provider.
func (p provider) Finish(ctx context.Context, callback, memory, state, code string) (accounts.Session, error) {
	claims, err := p.Provider.Finish(ctx, callback, memory, state, code)
	if err != nil {
		return accounts.Session{}, err
	}
	return sessionOf(p.c, claims)
}

// errNoRole says that the provider knows somebody who is nothing here.
var errNoRole = errors.New("you are known there, and have no role here: ask your administrator")

// sessionOf is what the claims of a provider make of somebody.
func sessionOf(c *config.AdminOIDC, claims map[string]any) (accounts.Session, error) {
	name := first(texts(claims[c.NameClaim]))
	// An address that nobody verified may be anybody's.
	verified, _ := claims["email_verified"].(bool)
	if c.NameClaim == "email" && !verified {
		name = ""
	}
	if name == "" {
		name = first(texts(claims["sub"]))
	}
	if name == "" || len(name) > 255 {
		return accounts.Session{}, fmt.Errorf("the provider does not say who this is (claim %s)", c.NameClaim)
	}
	v := accounts.Session{Account: strings.ToLower(name), Kind: accounts.OIDC, Provider: string(c.Name), Role: accounts.Role(c.DefaultRole)}
	given := texts(claims[c.RoleClaim])
	for _, role := range slices.Backward(accounts.Roles()) {
		for value, r := range c.Roles {
			if r == string(role) && slices.Contains(given, value) {
				v.Role = role // the last one may most
			}
		}
	}
	switch v.Role {
	case "":
		return accounts.Session{}, errNoRole
	case accounts.DomainAdministrator:
		if v.Domains = lower(texts(claims[c.DomainsClaim])); len(v.Domains) == 0 {
			return accounts.Session{}, errNoRole
		}
	case accounts.EndUser:
		list := texts(claims[c.AddressesClaim])
		if verified {
			list = append(list, texts(claims["email"])...)
		}
		for _, addr := range lower(list) {
			if _, err := smtp.ParseAddress(addr); err == nil {
				v.Addresses = append(v.Addresses, addr)
			}
		}
		if len(v.Addresses) == 0 {
			return accounts.Session{}, admin.ErrNoAddress
		}
	}
	return v, nil
}

// texts is a claim that is a text or a list of them.
func texts(claim any) []string {
	switch c := claim.(type) {
	case string:
		return []string{c}
	case []any:
		var all []string
		for _, v := range c {
			if s, ok := v.(string); ok {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func lower(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.ToLower(strings.TrimSpace(s)); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

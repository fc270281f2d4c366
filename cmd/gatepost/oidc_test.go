package main

import (
	"strings"
	"testing"

	"gatepost/internal/config"
)

func TestClaimsGiveRoles(t *testing.T) {
	c := &config.AdminOIDC{
		Name: "x", NameClaim: "email", RoleClaim: "groups", DomainsClaim: "domains", AddressesClaim: "aliases",
		Roles: config.Texts{"admins": "administrator", "help": "operator", "owners": "domain-administrator", "people": "end-user"},
	}
	verified := func(more map[string]any) map[string]any {
		more["email"], more["email_verified"], more["sub"] = "Ada@Example.com", true, "4711"
		return more
	}
	for name, k := range map[string]struct {
		claims        map[string]any
		fallback      string
		account, role string // "": not let in
		scope         string
	}{
		"one group":                     {verified(map[string]any{"groups": "admins"}), "", "ada@example.com", "administrator", ""},
		"of several the greatest":       {verified(map[string]any{"groups": []any{"people", "help", 7, "admins"}}), "", "ada@example.com", "administrator", ""},
		"a domain administrator":        {verified(map[string]any{"groups": []any{"owners"}, "domains": []any{"A.example", "a.example"}}), "", "ada@example.com", "domain-administrator", "a.example"},
		"a domain administrator of nil": {verified(map[string]any{"groups": []any{"owners"}}), "", "", "", ""},
		"an end user":                   {verified(map[string]any{"groups": "people", "aliases": []any{"a@example.com", "no address"}}), "", "ada@example.com", "end-user", "a@example.com ada@example.com"},
		"nobody here":                   {verified(map[string]any{"groups": "others"}), "", "", "", ""},
		"no claim at all":               {verified(map[string]any{}), "viewer", "ada@example.com", "viewer", ""},
		"a role that is a claim":        {verified(map[string]any{"groups": "administrator"}), "", "", "", ""},
		"an address nobody verified":    {map[string]any{"email": "boss@example.com", "sub": "4711", "groups": "people"}, "", "", "", ""},
		"a name nobody verified":        {map[string]any{"email": "boss@example.com", "sub": "4711", "groups": "help"}, "", "4711", "operator", ""},
		"nobody":                        {map[string]any{"groups": "admins"}, "", "", "", ""},
	} {
		c.DefaultRole = k.fallback
		v, err := sessionOf(c, k.claims)
		if k.role == "" {
			if err == nil {
				t.Errorf("%s: let in as %+v", name, v)
			}
			continue
		}
		if got := strings.Join(append(v.Domains, v.Addresses...), " "); err != nil || v.Account != k.account || string(v.Role) != k.role || got != k.scope {
			t.Errorf("%s: %+v %v", name, v, err)
		}
	}
}

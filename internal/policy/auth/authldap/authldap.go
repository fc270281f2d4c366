// Package authldap knows users from a directory, which says yes or no to a bind
// with their name and password. Either the name to bind as is made of the user's
// by a template, or a search finds the entry first.
//
// Invariants:
//   - An empty password is always no, whatever the directory would say.
//   - A search that finds nobody means that there is no such user; one that finds
//     several, that nobody can tell.
//   - What the user gave is escaped wherever it goes.
package authldap

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gatepost/internal/ldap"
	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Name is how the block is named in flows.
const Name = "auth-ldap"

// Config is one backend.
type Config struct {
	Directory *ldap.Directory
	// BindAs is the template of the name to bind as: "uid=%u,ou=people,dc=example,dc=com",
	// "%u@ad.example.com", "%s".
	BindAs string
	// Filter, where BindAs is "", finds the entry to bind as:
	// "(&(objectClass=person)(mail=%s))".
	Filter string
	// UserAttribute is the attribute of the entry with the canonical name of the user;
	// "" for the name that was given.
	UserAttribute string
	// SenderAttributes are those with the addresses that the user may send as;
	// default mail, mailAlternateAddress and proxyAddresses. A value may begin with
	// "smtp:", values with another prefix are not mail addresses. Searched for only.
	SenderAttributes []string
}

// Backend asks the directory. It may be used by any number of goroutines.
type Backend struct {
	cfg    Config
	name   ldap.Template
	filter ldap.Template
	search bool
	wanted []string
}

// maxSenders is how many addresses of a user are taken over.
const maxSenders = 500

// New makes a backend.
func New(cfg Config) (*Backend, error) {
	b := &Backend{cfg: cfg, search: cfg.BindAs == ""}
	if cfg.Directory == nil {
		return nil, errors.New("ldap: there is no directory")
	}
	if (cfg.BindAs == "") == (cfg.Filter == "") {
		return nil, errors.New("bind_as: want it or filter, one of both")
	}
	var err error
	if !b.search {
		if b.name, err = ldap.ParseName(cfg.BindAs); err != nil {
			return nil, fmt.Errorf("bind_as: %w", err)
		}
		return b, nil
	}
	if b.filter, err = ldap.ParseFilter(cfg.Filter); err != nil {
		return nil, err
	}
	if b.cfg.SenderAttributes == nil {
		b.cfg.SenderAttributes = []string{"mail", "mailAlternateAddress", "proxyAddresses"}
	}
	b.wanted = append(b.wanted, b.cfg.SenderAttributes...)
	if cfg.UserAttribute != "" {
		b.wanted = append(b.wanted, cfg.UserAttribute)
	}
	if len(b.wanted) == 0 {
		b.wanted = []string{"1.1"} // RFC 4511 §4.5.1.8: no attributes
	}
	return b, nil
}

// Authenticate implements policy.AuthBackend.
func (b *Backend) Authenticate(ctx context.Context, _ *mail.Session, user, password string) (policy.AuthAnswer, error) {
	if password == "" {
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "empty password"}, nil
	}
	answer := policy.AuthAnswer{Result: policy.AuthYes, Reason: "the directory says yes"}
	name := ""
	if !b.search {
		name = b.name.Fill(user)
	} else {
		found, err := b.cfg.Directory.Find(ctx, b.filter, user, b.wanted...)
		switch {
		case err != nil:
			return policy.AuthAnswer{}, err
		case len(found) > 1:
			return policy.AuthAnswer{Reason: fmt.Sprintf("the directory has %d such users", len(found))}, nil
		case len(found) == 1:
			name = found[0].DN
			answer.User, answer.Senders = b.canonical(&found[0]), b.senders(&found[0])
		}
	}
	if name == "" {
		return policy.AuthAnswer{Result: policy.AuthNobody, Reason: "the directory has no such user"}, nil
	}
	switch err := b.cfg.Directory.Bind(ctx, name, password); {
	case err == nil:
		return answer, nil
	case errors.Is(err, ldap.ErrCredentials):
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "the directory says no"}, nil
	default:
		return policy.AuthAnswer{}, err
	}
}

// canonical is the user's name as the entry has it.
func (b *Backend) canonical(e *ldap.Entry) string {
	if values := e.Get(b.cfg.UserAttribute); len(values) > 0 && b.cfg.UserAttribute != "" {
		return values[0]
	}
	return ""
}

// senders are the mail addresses of the entry.
func (b *Backend) senders(e *ldap.Entry) []string {
	var all []string
	for _, name := range b.cfg.SenderAttributes {
		for _, value := range e.Get(name) {
			value = strings.ToLower(value)
			if prefix, rest, ok := strings.Cut(value, ":"); ok {
				if prefix != "smtp" {
					continue
				}
				value = rest
			}
			if strings.Contains(value, "@") && len(all) < maxSenders {
				all = append(all, value)
			}
		}
	}
	return all
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/dkim"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan/authres"
	"gatepost/internal/transport"
)

// addSigning gives a transport its keys.
func addSigning(deps *transport.Deps, cfg *config.Config, t *config.Transport) error {
	signers, err := signersOf(cfg, t)
	if err != nil {
		return err
	}
	deps.Signers = signers
	if t.ARC == "" {
		return nil
	}
	key := keyNamed(cfg, t.ARC)
	if key == nil {
		return fmt.Errorf("arc: no dkim %s", t.ARC)
	}
	all, err := signersWith(key, []config.DomainName{key.Domain}, dkim.Options{})
	if err != nil {
		return err
	}
	deps.Sealer = &sealer{signer: all[0], host: string(cfg.Hostname)}
	return nil
}

// keyNamed is the [[dkim]] of that name.
func keyNamed(cfg *config.Config, name config.Name) *config.DKIM {
	for i := range cfg.DKIM {
		if cfg.DKIM[i].Name == name {
			return &cfg.DKIM[i]
		}
	}
	return nil
}

// keysOfTransport are the [[dkim]] entries that a transport signs and seals with.
func keysOfTransport(cfg *config.Config, t *config.Transport) []*config.DKIM {
	var keys []*config.DKIM
	for _, name := range append(slices.Clone(t.DKIM), t.ARC) {
		if key := keyNamed(cfg, name); key != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// signersOf returns one signer for all keys of a transport: the message is read
// once for all of them.
func signersOf(cfg *config.Config, t *config.Transport) ([]transport.Signer, error) {
	var group dkim.Group
	for _, name := range t.DKIM {
		key := keyNamed(cfg, name)
		if key == nil {
			return nil, fmt.Errorf("no dkim %s", name)
		}
		signers, err := signersWith(key, domainsOfKey(key), dkim.Options{OnlyAuthor: true})
		if err != nil {
			return nil, err
		}
		group = append(group, signers...)
	}
	if len(group) == 0 {
		return nil, nil
	}
	return []transport.Signer{group}, nil
}

// domainsOfKey are all domains that a key signs for.
func domainsOfKey(key *config.DKIM) []config.DomainName {
	return append([]config.DomainName{key.Domain}, key.AlsoFor...)
}

// signersWith returns a signer for each of the domains, with one key.
func signersWith(key *config.DKIM, domains []config.DomainName, o dkim.Options) (dkim.Group, error) {
	private, err := dkim.LoadKey(string(key.KeyFile))
	if err != nil {
		return nil, fmt.Errorf("dkim %s: %w", key.Name, err)
	}
	var group dkim.Group
	for _, domain := range domains {
		signer, err := dkim.NewSigner(string(domain), key.Selector, private, o)
		if err != nil {
			return nil, fmt.Errorf("dkim %s: %w", key.Name, err)
		}
		group = append(group, signer)
	}
	return group, nil
}

// sealer makes ARC sets of what the block authres found when the message came.
type sealer struct {
	signer *dkim.Signer
	host   string // our name in the results
}

// What is not sealed, and why.
const (
	notPassedOn  = "the message is our own people's"
	notChecked   = "no block authres looked at the message"
	notNow       = "a key of the chain could not be looked up"
	nothingToAdd = "the chain takes no further set"
)

// Seal implements transport.Sealer. Sealed is what strangers sent and we pass on,
// and what comes back from within with a chain on it: RFC 8617 §1.1 is about those
// who handle mail on its way, not about its author.
func (s *sealer) Seal(ctx context.Context, env *mail.Envelope, c *message.Content) ([]byte, string, error) {
	chain, temporary, checked := arcStatus(env.Findings)
	switch {
	case env.Session.MayRelay() && chain == dkim.None, !env.Session.Client.IsValid():
		return nil, notPassedOn, nil
	case !checked:
		return nil, notChecked, nil
	case temporary:
		// cv=fail is for ever (RFC 8617 §5.1.1); this failure is over in a minute.
		return nil, notNow, nil
	}
	results, err := s.results(env.Findings)
	if err != nil {
		return nil, "", err
	}
	fields, err := s.signer.Seal(ctx, c, chain, results)
	if err == nil && fields == nil {
		return nil, nothingToAdd, nil
	}
	return fields, string(chain), err
}

// arcStatus is what authres said of the chain. checked says that it looked at the
// message at all.
func arcStatus(findings []mail.Finding) (chain dkim.Status, temporary, checked bool) {
	chain = dkim.None
	for i := range findings {
		f := &findings[i]
		if f.Module != authres.Name {
			continue
		}
		checked = true
		if status, ok := strings.CutPrefix(f.Symbol, "arc:"); ok {
			chain = dkim.Status(status)
			temporary = slices.ContainsFunc(f.Properties, func(p mail.Property) bool { return p.Name == authres.Temporary })
		}
	}
	return chain, temporary, checked
}

var errNoResults = errors.New("nothing can be said of the message")

// results is the value of Authentication-Results, unfolded.
func (s *sealer) results(findings []mail.Finding) (string, error) {
	field := authres.Field(s.host, findings)
	_, value, ok := bytes.Cut(field, []byte(":"))
	if !ok {
		return "", errNoResults
	}
	value = bytes.ReplaceAll(value, []byte("\r\n"), nil)
	return strings.Join(strings.Fields(string(value)), " "), nil
}

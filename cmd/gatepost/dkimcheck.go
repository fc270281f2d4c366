package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/dkim"
	"gatepost/internal/dns"
)

// dkimCheckCmd looks for the keys of a configuration in the DNS.
type dkimCheckCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file."`
	JSON   bool   `help:"Print an array of objects."`
}

// Help is the long help text.
func (*dkimCheckCmd) Help() string {
	return `Lists the [[dkim]] keys of the configuration with the transports that use them, and
asks the name servers of [dns] whether receivers find each of them: under its
selector, with this very key. The exit status is 1 if one is not found as it should
be; then the record that belongs there is printed, to be copied into the zone.`
}

// keyState is one key for one domain.
type keyState struct {
	Name       string   `json:"name"`
	Domain     string   `json:"domain"`
	Selector   string   `json:"selector"`
	Algorithm  string   `json:"algorithm"`
	Transports []string `json:"transports"`
	Published  bool     `json:"published"`
	Problem    string   `json:"problem,omitempty"`
	Record     string   `json:"record"`
	known      bool     // the DNS has answered
}

// Run implements the subcommand.
func (c *dkimCheckCmd) Run(t *terminal) error {
	cfg, err := loadConfig(c.Config, func(string) {})
	if err != nil {
		return err
	}
	resolver, err := dns.New(dns.Config{Servers: hostPorts(cfg.DNS.Servers), Timeout: cfg.DNS.Timeout})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	states := []keyState{}
	for i := range cfg.DKIM {
		more, err := checkKey(ctx, resolver, cfg, &cfg.DKIM[i])
		if err != nil {
			return err
		}
		states = append(states, more...)
	}
	if c.JSON {
		err = t.json(states)
	} else {
		err = t.print(keyTable(states))
	}
	if err == nil && slices.ContainsFunc(states, func(s keyState) bool { return !s.Published }) {
		return errSaid
	}
	return err
}

// checkKey looks for one key, in all of its domains.
func checkKey(ctx context.Context, r dkim.Resolver, cfg *config.Config, d *config.DKIM) ([]keyState, error) {
	key, err := dkim.LoadKey(string(d.KeyFile))
	if err != nil {
		return nil, fmt.Errorf("dkim %s: %w", d.Name, err)
	}
	var states []keyState
	for _, domain := range domainsOfKey(d) {
		record, err := dkim.DNSRecord(d.Selector, string(domain), key.Public())
		if err != nil {
			return nil, fmt.Errorf("dkim %s: %w", d.Name, err)
		}
		s := keyState{Name: string(d.Name), Domain: string(domain), Selector: d.Selector, Algorithm: algorithmOf(key.Public()),
			Transports: transportsWith(cfg, d.Name), Published: true, Record: record.String(), known: true}
		if err := dkim.Published(ctx, r, d.Selector, string(domain), key.Public()); err != nil {
			// A record that only says that somebody still tries it out is the right one.
			s.Published, s.Problem, s.known = errors.Is(err, dkim.ErrTesting), err.Error(), !errors.Is(err, dkim.ErrNoAnswer)
		}
		states = append(states, s)
	}
	return states, nil
}

func algorithmOf(key crypto.PublicKey) string {
	if k, ok := key.(*rsa.PublicKey); ok {
		return fmt.Sprintf("rsa %d", k.N.BitLen())
	}
	return "ed25519"
}

// transportsWith are the transports that sign or seal with a key.
func transportsWith(cfg *config.Config, key config.Name) []string {
	names := []string{}
	for i := range cfg.Transports {
		t := &cfg.Transports[i]
		if slices.Contains(t.DKIM, key) {
			names = append(names, string(t.Name))
		}
		if t.ARC == key {
			names = append(names, string(t.Name)+" (arc)")
		}
	}
	return names
}

// keyTable shows keys to people, and behind them the records that are missing.
func keyTable(states []keyState) string {
	if len(states) == 0 {
		return "There is no [[dkim]] key.\n"
	}
	var tab table
	missing := ""
	tab.add("NAME", "DOMAIN", "SELECTOR", "KEY", "TRANSPORTS", "IN DNS")
	for _, s := range states {
		state := "yes"
		switch {
		case !s.known:
			state = "not known: " + clean(s.Problem)
		case !s.Published:
			state = "NO: " + clean(s.Problem)
			missing += s.Record + "\n"
		case s.Problem != "":
			state = "yes, but " + clean(s.Problem)
		}
		used := strings.Join(s.Transports, ", ")
		if used == "" {
			used = "-"
		}
		tab.add(s.Name, s.Domain, s.Selector, s.Algorithm, used, state)
	}
	if missing != "" {
		missing = "\nThese records belong into the DNS:\n\n" + missing
	}
	return tab.text() + missing
}

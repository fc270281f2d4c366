// Package access is the check that knows clients by lists of the administrator:
// networks and addresses, host names, numbers of networks (ASNs), and countries.
//
//	check, err := access.New(access.Config{Allow: []string{"192.0.2.0/24"}, DenyFile: "denied.txt"})
//	findings, err := check.Check(ctx, in)
//
// Invariants:
//   - What is more specific decides: a network before a name, a name before an ASN,
//     an ASN before a country; of networks and names the longest; of equals the
//     allow list.
//   - A host name counts only where its own addresses confirm it.
//   - A file is read anew when it changes, beside the old list, which serves until
//     the new one is complete. A file with a line that cannot be read changes
//     nothing.
//   - A look-up in networks takes no lock and no memory, and less than a microsecond.
package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/policy"
)

// Use is how the block is named in flows, and the module in findings.
const Use = "access"

// SymbolDeny is the finding of a client on a deny list; that of one on an allow
// list is policy.SymbolAllow.
const SymbolDeny = "deny"

// Config is which lists there are. Zero values stand for the defaults.
type Config struct {
	// Allow and Deny are entries: a network, an address, ".example.com" (the hosts
	// below the domain) or "mail.example.com" (the host).
	Allow, Deny []string
	// AllowFile and DenyFile hold one entry a line, perhaps with a reason behind it;
	// what follows a # is a comment.
	AllowFile, DenyFile string
	// AllowASNs and DenyASNs, AllowCountries and DenyCountries ("DE", ISO 3166-1)
	// need Databases: MaxMind DB files, the first that knows a client counts.
	AllowASNs, DenyASNs           []uint32
	AllowCountries, DenyCountries []string
	Databases                     []string
	// Resolver looks host names up; without it entries with names are refused.
	Resolver Resolver
	// Timeout bounds the look-ups of a client's name; default 3 s.
	Timeout time.Duration
	// CheckEvery is how often at most a file is looked at; default 5 s.
	CheckEvery time.Duration
	// MaxEntries bounds a file, in lines; default 2,000,000 (about 100 MB of memory
	// in the worst case). MaxFileSize bounds it in bytes, databases too; default 256 MiB.
	MaxEntries  int
	MaxFileSize int64
	Log         *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(max(c.Timeout, 0), 3*time.Second)
	c.CheckEvery = cmp.Or(max(c.CheckEvery, 0), 5*time.Second)
	c.MaxEntries = cmp.Or(max(c.MaxEntries, 0), 2_000_000)
	c.MaxFileSize = cmp.Or(max(c.MaxFileSize, 0), 256<<20)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Check looks clients up.
type Check struct {
	cfg   Config
	lists []source // allow lists first: of equals they win
	geo   *geo     // nil: no databases
}

// source is one list: fixed, or from a file.
type source struct {
	allow bool
	name  string // how a reason names it
	get   func() *list
}

// New reads all lists. The errors name the parameter, and for files the lines.
func New(cfg Config) (*Check, error) {
	cfg = cfg.withDefaults()
	c := &Check{cfg: cfg}
	for _, s := range []struct {
		param   string
		allow   bool
		entries []string
		file    string
	}{{"allow", true, cfg.Allow, cfg.AllowFile}, {"deny", false, cfg.Deny, cfg.DenyFile}} {
		if err := c.add(s.param, s.allow, s.entries, s.file); err != nil {
			return nil, err
		}
	}
	if err := c.addGeo(); err != nil {
		return nil, err
	}
	if len(c.lists) == 0 && c.geo == nil {
		return nil, errors.New("access: it needs a list: allow, deny, allow_file, deny_file, or countries or ASNs")
	}
	return c, nil
}

// add makes the fixed list and that of the file.
func (c *Check) add(param string, allow bool, entries []string, file string) error {
	if len(entries) > 0 {
		fixed := newList()
		for _, s := range entries {
			if err := fixed.add(s, ""); err != nil {
				return fmt.Errorf("access: %s: %w", param, err)
			}
		}
		if err := c.resolvable(fixed); err != nil {
			return fmt.Errorf("access: %s: %w", param, err)
		}
		c.lists = append(c.lists, source{allow: allow, name: param, get: func() *list { return fixed }})
	}
	if file == "" {
		return nil
	}
	w := newWatched(file, c.cfg, func(b []byte) (*list, error) {
		l, err := readList(b, c.cfg.MaxEntries)
		if err != nil {
			return nil, err
		}
		return l, c.resolvable(l)
	})
	if err := w.first(); err != nil {
		return fmt.Errorf("access: %s_file: %w", param, err)
	}
	c.lists = append(c.lists, source{allow: allow, name: file, get: w.get})
	return nil
}

// resolvable refuses names where nobody could look them up.
func (c *Check) resolvable(l *list) error {
	if len(l.names) > 0 && c.cfg.Resolver == nil {
		return errors.New("it has host names, and there is no resolver")
	}
	return nil
}

// Check implements policy.Check: one finding at most for what the lists say, and
// one for what could not be looked up.
func (c *Check) Check(ctx context.Context, in *policy.Input) ([]mail.Finding, error) {
	client := in.Session.Client.Addr().Unmap().WithZone("")
	if !client.IsValid() {
		return nil, nil
	}
	var current [4]*list // allow, allow_file, deny, deny_file
	for i := range c.lists {
		current[i] = c.lists[i].get()
	}
	if h := c.byNetwork(current[:len(c.lists)], client); h.found {
		return c.report(client, h), nil
	}
	h, unknown := c.byName(ctx, current[:len(c.lists)], in.Session)
	if !h.found && c.geo != nil {
		h = c.geo.lookup(client)
	}
	if h.found {
		return append(unknown, c.report(client, h)...), nil
	}
	return unknown, ctx.Err()
}

// hit is an entry that has the client.
type hit struct {
	found, allow bool
	entry        string // "192.0.2.0/24"
	list         string // where it stands
	text         string // the administrator's reason
	what         string // what of the client it has, "" for its address
	length       int    // how specific it is
}

// byNetwork returns the most specific network that has the client.
func (c *Check) byNetwork(lists []*list, client netip.Addr) hit {
	best, bits := -1, -1
	for i, l := range lists {
		if _, ok := l.nets.Lookup(client); !ok {
			continue
		}
		prefix, _, _ := l.nets.LookupPrefixLPM(netip.PrefixFrom(client, client.BitLen()))
		// Allow lists come first, so that they win where networks are equal.
		if prefix.Bits() > bits {
			best, bits = i, prefix.Bits()
		}
	}
	if best < 0 {
		return hit{}
	}
	prefix, reason, _ := lists[best].nets.LookupPrefixLPM(netip.PrefixFrom(client, client.BitLen()))
	s := c.lists[best]
	return hit{found: true, allow: s.allow, entry: prefixText(prefix), list: s.name, text: lists[best].reason(reason)}
}

func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// report makes a finding of a hit.
func (c *Check) report(client netip.Addr, h hit) []mail.Finding {
	f := mail.Finding{Module: Use, Symbol: SymbolDeny, Result: mail.Match, Name: h.entry}
	verb := "denied"
	if h.allow {
		f.Symbol, f.Result, verb = policy.SymbolAllow, mail.Clean, "allowed"
	}
	var b strings.Builder
	b.WriteString(client.String())
	if h.what != "" {
		b.WriteString(" (" + h.what + ")")
	}
	fmt.Fprintf(&b, " is %s by %s", verb, h.entry)
	if h.list != "" {
		b.WriteString(" in " + h.list)
	}
	if h.text != "" {
		b.WriteString(": " + h.text)
	}
	const maxReason = 300
	f.Reason = message.SafeText(b.String(), maxReason)
	return []mail.Finding{f}
}

package route

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
)

// Table is the routing of one configuration. It is safe for concurrent use.
type Table struct {
	hostname   string
	postmaster mail.Address
	flows      map[string]string // content flows by listener
	// listeners holds the entries of each listener that has some of its own;
	// everywhere those for all listeners.
	listeners  map[string]*domains
	everywhere *domains
	// entries are in the order of the configuration.
	entries []*entry

	rewrite *rewrite.Engine // nil: addresses stay as they are
	srs     *srs.Rewriter   // nil: there are no such addresses
	asksMX  map[string]bool
	log     *slog.Logger
	budget  time.Duration
}

// defaultBudget is well below the five minutes that a client has to wait for the
// answer to RCPT (RFC 5321 §4.5.3.2.3).
const defaultBudget = 30 * time.Second

// domains finds the entry of a domain: by name, or the one for any other.
type domains struct {
	named map[string]*entry
	any   *entry
}

// New returns the table of a configuration, or everything that is wrong with it.
func New(cfg Config) (*Table, []error) {
	t := &Table{
		hostname:   cfg.Hostname,
		flows:      cfg.ContentFlows,
		postmaster: cfg.Postmaster,
		listeners:  map[string]*domains{},
		everywhere: &domains{named: map[string]*entry{}},
		rewrite:    cfg.Rewrite,
		srs:        cfg.SRS,
		asksMX:     cfg.AsksMX,
		log:        cfg.Log,
		budget:     cfg.LookupTimeout,
	}
	if t.budget <= 0 {
		t.budget = defaultBudget
	}
	if t.log == nil {
		t.log = discard()
	}
	var errs []error
	sources := newSources(cfg)
	for _, d := range cfg.Domains {
		e := &entry{Domain: d}
		for _, path := range d.RecipientFiles {
			s, err := sources.get(path)
			if err != nil {
				errs = append(errs, fmt.Errorf("domain %s: %w", d.Name, err))
				continue
			}
			e.lists = append(e.lists, s)
		}
		if err := t.add(e); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if t.postmaster.IsNull() {
		t.postmaster = t.firstPostmaster("")
	}
	return t, nil
}

func (t *Table) add(e *entry) error {
	if e.Transport == "" {
		return fmt.Errorf("domain %s: no transport", e.Name)
	}
	at := t.everywhere
	if e.Listener != "" && e.Listener != AnyListener {
		if at = t.listeners[e.Listener]; at == nil {
			at = &domains{named: map[string]*entry{}}
			t.listeners[e.Listener] = at
		}
	}
	t.entries = append(t.entries, e)
	if e.Name == AnyDomain {
		if at.any != nil {
			return errors.New("domain *: configured twice for one listener")
		}
		at.any = e
		return nil
	}
	for _, name := range append([]string{e.Name}, e.Aliases...) {
		if name == "" || name == AnyDomain {
			return fmt.Errorf("domain %s: the alias %q is no domain", e.Name, name)
		}
		if at.named[name] != nil {
			return fmt.Errorf("domain %s: %s is configured twice for one listener", e.Name, name)
		}
		at.named[name] = e
	}
	return nil
}

// scopes lists where a domain is looked for, the most specific listener first.
func (t *Table) scopes(listener string) []*domains {
	if own := t.listeners[listener]; own != nil {
		return []*domains{own, t.everywhere}
	}
	return []*domains{t.everywhere}
}

// find returns the entry for a domain: the most specific listener first, then
// the most specific domain. Entries for any domain count only with anyDomain.
func (t *Table) find(listener, domain string, anyDomain bool) *entry {
	for _, d := range t.scopes(listener) {
		if e := d.named[domain]; e != nil {
			return e
		}
		if anyDomain && d.any != nil {
			return d.any
		}
	}
	return nil
}

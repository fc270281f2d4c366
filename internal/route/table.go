package route

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
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
}

// domains finds the entry of a domain: by name, or the one for any other.
type domains struct {
	named map[string]*entry
	any   *entry
}

// entry is a configured domain.
type entry struct {
	Domain
	lists []*source
}

// New returns the table of a configuration, or everything that is wrong with it.
func New(cfg Config) (*Table, []error) {
	t := &Table{
		hostname:   cfg.Hostname,
		flows:      cfg.ContentFlows,
		postmaster: cfg.Postmaster,
		listeners:  map[string]*domains{},
		everywhere: &domains{named: map[string]*entry{}},
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

// Route decides about one RCPT on a listener: it fills in r.Route, or says why
// the recipient is refused. For <postmaster> it sets r.Address, too.
func (t *Table) Route(listener string, s *mail.Session, r *mail.Recipient) mail.Decision {
	a := r.Address
	switch {
	case a.IsNull() || a.Local == "":
		return reject(mail.ReplyBadAddress, "no recipient")
	case strings.HasPrefix(a.Domain, "["):
		return reject(mail.ReplyAddressLiteral, "the recipient's domain is an address literal")
	case a.Domain == "":
		return t.toPostmaster(listener, s, r)
	}
	e := t.find(listener, a.Domain, s.MayRelay() && a.Domain != t.hostname)
	switch {
	case e == nil:
		return t.nobody(listener, s, r)
	// Another mail server may read these as a further destination; Postfix and
	// Sendmail do, by default or by configuration. Behind us, our own would
	// then relay for a stranger because it trusts this host.
	case !s.MayRelay() && strings.ContainsAny(a.Local, "%!@"):
		return reject(mail.ReplyRelayDenied, "the local part has a route in it")
	case !e.knows(a):
		if isPostmaster(a) {
			return t.toPostmaster(listener, s, r)
		}
		return reject(mail.ReplyNoSuchUser, "no recipient file of "+e.Name+" lists the recipient")
	}
	t.send(e, listener, r)
	return mail.Decision{}
}

// send fills in the route of a recipient that the entry takes.
func (t *Table) send(e *entry, listener string, r *mail.Recipient) {
	r.Route = e.route(r.Address)
	if r.Route.Flow = e.ContentFlow; r.Route.Flow == "" {
		r.Route.Flow = t.flows[listener]
	}
}

// nobody decides about a recipient whose domain has no entry that this client may use.
func (t *Table) nobody(listener string, s *mail.Session, r *mail.Recipient) mail.Decision {
	switch {
	case r.Address.Domain == t.hostname && isPostmaster(r.Address):
		return t.toPostmaster(listener, s, r)
	case !s.MayRelay():
		return reject(mail.ReplyRelayDenied, "not one of our domains, and not a client that may relay")
	case r.Address.Domain == t.hostname:
		// Relaying to ourselves would be a loop.
		return reject(mail.ReplyNoSuchUser, "this host has no mailboxes")
	}
	return reject(mail.ReplyRelayDenied, "no domain entry says where this mail goes")
}

// toPostmaster accepts mail for the postmaster whether some list knows it or
// not: RFC 5321 §4.5.1 wants that of everyone who takes in mail.
func (t *Table) toPostmaster(listener string, s *mail.Session, r *mail.Recipient) mail.Decision {
	to := t.postmaster
	e := t.find(listener, to.Domain, s.MayRelay() && to.Domain != t.hostname)
	if e == nil {
		// The configured one is not ours, and a stranger's mail must not leave.
		if to = t.firstPostmaster(listener); !to.IsNull() {
			e = t.find(listener, to.Domain, false)
		}
	}
	if e == nil {
		return reject(mail.ReplyNoSuchUser, "there is no domain whose postmaster could get this")
	}
	r.Address = to
	t.send(e, listener, r)
	return mail.Decision{}
}

// firstPostmaster is the postmaster at the first domain that the listener
// serves; of any listener for "".
func (t *Table) firstPostmaster(listener string) mail.Address {
	for _, e := range t.entries {
		if e.Name == AnyDomain || listener != "" && t.find(listener, e.Name, false) != e {
			continue
		}
		return mail.Address{Local: "postmaster", Domain: e.Name, Raw: "postmaster@" + e.Name}
	}
	return mail.Address{}
}

// RouteInternal is the route of mail that Gatepost itself writes. It is not
// checked against recipient files: what it is sent for was accepted before.
func (t *Table) RouteInternal(to mail.Address) (mail.Route, error) {
	if to.Domain == "" || strings.HasPrefix(to.Domain, "[") {
		return mail.Route{}, fmt.Errorf("route %q: no domain", to)
	}
	if e := t.internal(to.Domain); e != nil {
		return e.route(to), nil
	}
	if to.Domain == t.hostname {
		return mail.Route{}, fmt.Errorf("route %s: %w", to, ErrLoop)
	}
	return mail.Route{Domain: AnyDomain, Transport: BuiltinInternet, NextHop: to.Domain}, nil
}

// internal finds an entry without a listener: one for all listeners before one
// for some, a name before "*".
func (t *Table) internal(domain string) *entry {
	if e := t.everywhere.named[domain]; e != nil {
		return e
	}
	i := slices.IndexFunc(t.entries, func(e *entry) bool { return e.Name == domain || slices.Contains(e.Aliases, domain) })
	if i < 0 && domain != t.hostname {
		if t.everywhere.any != nil {
			return t.everywhere.any
		}
		i = slices.IndexFunc(t.entries, func(e *entry) bool { return e.Name == AnyDomain })
	}
	if i < 0 {
		return nil
	}
	return t.entries[i]
}

// route is where the entry sends an address.
func (e *entry) route(to mail.Address) mail.Route {
	r := mail.Route{Domain: e.Name, Transport: e.Transport}
	if e.AsksMX {
		r.NextHop = to.Domain
	}
	return r
}

// knows reports whether the recipient is listed. An alias has the recipients of
// its parent, and may have some of its own.
func (e *entry) knows(a mail.Address) bool {
	if len(e.lists) == 0 {
		return true
	}
	local := strings.ToLower(a.Local)
	if e.listed(local, a.Domain) || a.Domain != e.Name && e.listed(local, e.Name) {
		return true
	}
	i := strings.Index(local, e.Delimiter)
	if e.Delimiter == "" || i <= 0 {
		return false
	}
	return e.listed(local[:i], a.Domain) || a.Domain != e.Name && e.listed(local[:i], e.Name)
}

func (e *entry) listed(local, domain string) bool {
	key := local + "@" + domain
	for _, s := range e.lists {
		if l := s.current(); l.Has(key) || l.Has(key[:len(local)]) || l.Has(key[len(local):]) {
			return true
		}
	}
	return false
}

func isPostmaster(a mail.Address) bool { return strings.EqualFold(a.Local, "postmaster") }

func reject(key mail.ReplyKey, reason string) mail.Decision {
	return mail.Decision{Act: mail.Reject, Reply: key.Reply(), Reason: reason}
}

// discard is the logger of a Config without one.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// defaultInterval is how often a recipient file is looked at.
const defaultInterval = 10 * time.Second

package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// scopes are the values of Config.Scope.
var scopes = map[string]int{"sub": ldap.ScopeWholeSubtree, "one": ldap.ScopeSingleLevel, "base": ldap.ScopeBaseObject}

// Directory is a directory. It may be used by any number of goroutines.
type Directory struct {
	cfg     Config
	tls     *tls.Config
	servers []server
	pool    *pool
}

// Entry is what a search found.
type Entry struct {
	DN         string
	Attributes []Attribute
}

// Attribute is an attribute of an entry with its values as they are: text of
// whoever may write the directory.
type Attribute struct {
	Name   string
	Values []string
}

// Get returns the values of an attribute, whatever the case of its name.
func (e *Entry) Get(name string) []string {
	for _, a := range e.Attributes {
		if strings.EqualFold(a.Name, name) {
			return a.Values
		}
	}
	return nil
}

// New makes a directory; it connects when it is first asked. The error names
// everything that is wrong with cfg.
func New(cfg Config) (*Directory, error) {
	cfg = cfg.withDefaults()
	servers, err := cfg.servers()
	tlsCfg, tlsErr := cfg.tlsConfig()
	if err := errors.Join(cfg.check(), err, tlsErr); err != nil {
		return nil, err
	}
	return &Directory{cfg: cfg, tls: tlsCfg, servers: servers, pool: newPool(cfg.Sessions, cfg.Idle)}, nil
}

// Close ends idle connections; those in use end with what they are used for.
func (d *Directory) Close() error {
	d.pool.close()
	return nil
}

// Cleartext names the servers to which passwords go unencrypted over a network.
func (d *Directory) Cleartext() []string {
	var names []string
	for _, s := range d.servers {
		if s.clear(d.cfg.StartTLS) {
			names = append(names, s.url)
		}
	}
	return names
}

// Search returns the entries below Config.Base for which the filter holds, with
// the attributes that are named, or all of a user's. The value is escaped into the
// template, see ParseFilter. Nothing found is no error.
func (d *Directory) Search(ctx context.Context, filter, value string, attributes ...string) ([]Entry, error) {
	t, err := ParseFilter(filter)
	if err != nil {
		return nil, err
	}
	return d.Find(ctx, t, value, attributes...)
}

// Find is Search with a template that was read before.
func (d *Directory) Find(ctx context.Context, filter Template, value string, attributes ...string) ([]Entry, error) {
	text := filter.Fill(value)
	if text == "" {
		return nil, nil
	}
	return d.search(ctx, text, attributes)
}

// SearchText is Search with a filter that is complete: whoever made it has escaped the
// values in it (RFC 4515 §3).
func (d *Directory) SearchText(ctx context.Context, filter string, attributes ...string) ([]Entry, error) {
	if _, err := ldap.CompileFilter(filter); err != nil {
		return nil, errors.New("search: it is no filter") // the error would hold the values
	}
	return d.search(ctx, filter, attributes)
}

func (d *Directory) search(ctx context.Context, text string, attributes []string) ([]Entry, error) {
	req := &ldap.SearchRequest{BaseDN: d.cfg.Base, Scope: scopes[d.cfg.Scope], DerefAliases: ldap.NeverDerefAliases,
		// One more than allowed, so that a server which cuts its answer there has said
		// too much already.
		SizeLimit: d.cfg.MaxEntries + 1, TimeLimit: int(d.cfg.Timeout.Seconds()), Filter: text, Attributes: attributes}
	var result *ldap.SearchResult
	err := d.do(ctx, true, func(c *conn) error {
		var err error
		result, err = c.Conn.Search(req)
		return err
	})
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return nil, fmt.Errorf("search: base %q does not exist", d.cfg.Base)
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded), err == nil && len(result.Entries) > d.cfg.MaxEntries:
		return nil, fmt.Errorf("search: %w", ErrTooMany)
	case err != nil:
		return nil, refused("search", err)
	}
	return entries(result), nil
}

func entries(r *ldap.SearchResult) []Entry {
	found := make([]Entry, 0, len(r.Entries))
	for _, e := range r.Entries {
		one := Entry{DN: e.DN}
		for _, a := range e.Attributes {
			one.Attributes = append(one.Attributes, Attribute{Name: a.Name, Values: a.Values})
		}
		found = append(found, one)
	}
	return found
}

// Bind tries a name with a password. ErrCredentials says that they are wrong; so
// are an empty name and an empty password, without asking.
func (d *Directory) Bind(ctx context.Context, name, password string) error {
	if name == "" || password == "" {
		return ErrCredentials
	}
	err := d.do(ctx, false, func(c *conn) error { return c.Conn.Bind(name, password) })
	if wrongCredentials(err) {
		return ErrCredentials
	}
	if err != nil {
		return refused("bind", err)
	}
	return nil
}

// do runs a question on a connection. One that waited in the pool may be dead: the
// question is asked again on a new one, once.
func (d *Directory) do(ctx context.Context, admin bool, question func(*conn) error) error {
	if err := d.pool.enter(ctx); err != nil {
		return err
	}
	defer d.pool.leave()
	c, err := d.pool.take(admin)
	if err != nil {
		return err
	}
	if c != nil {
		err := d.on(ctx, c, admin, question)
		if !broken(err) || ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errTooLarge) {
			return err
		}
	}
	if c, err = d.connect(ctx, admin); err != nil {
		return err
	}
	return d.on(ctx, c, admin, question)
}

// on asks on this connection and gives it back.
func (d *Directory) on(ctx context.Context, c *conn, admin bool, question func(*conn) error) error {
	err := c.ask(ctx, d.cfg.Timeout, d.cfg.MaxBytes, func() error { return question(c) })
	if broken(err) {
		c.shut()
		return err
	}
	d.pool.put(c, admin)
	return err
}

// connect opens a connection to the first server that can be spoken to.
func (d *Directory) connect(ctx context.Context, admin bool) (*conn, error) {
	var errs []error
	for _, s := range d.pool.order(d.servers) {
		c, err := d.open(ctx, s, admin)
		if ctx.Err() == nil {
			d.pool.note(s, d.cfg.Rest, err)
		}
		if err == nil {
			return c, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s.url, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

package script

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"gatepost/internal/message"
)

// Lookups is what scripts can ask. Every member is used by many goroutines at
// once, honours the end of ctx, and has its own protections: caches, caps, and
// where it may connect to. An error of it means that nobody can say.
type Lookups struct {
	DNS       DNS
	DNSBL     DNSBL
	LDAP      LDAP
	SMTP      SMTP
	HTTP      HTTP
	Files     Files // Lists is one
	Rates     Rates
	Cache     Cache // MemoryCache is one
	Countries Countries
	// Now is the clock of now(); nil: the real one, in the local time zone.
	Now func() time.Time
}

// DNS asks name servers.
type DNS interface {
	// Lookup returns the records of a name as text: addresses for "A" and "AAAA",
	// hosts for "MX" (best first) and "PTR", texts for "TXT". None is no error.
	Lookup(ctx context.Context, name, kind string) ([]string, error)
}

// DNSBL asks a list about an address.
type DNSBL interface {
	// Listed returns the list's answers that count as listings, none for an address
	// that is not listed.
	Listed(ctx context.Context, zone string, addr netip.Addr) ([]string, error)
}

// LDAP asks configured directory servers by name.
type LDAP interface {
	// Bind reports whether the password is that of the name, which is a DN or
	// user@domain. The password is never empty.
	Bind(ctx context.Context, server, name, password string) (bool, error)
	// Search returns the entries that match the filter, each with the attributes
	// that are asked for and "dn".
	Search(ctx context.Context, server, filter string, attributes []string) ([]map[string][]string, error)
}

// SMTP asks the servers behind configured transports.
type SMTP interface {
	// Auth reports whether the server takes name and password.
	Auth(ctx context.Context, transport, user, password string) (bool, error)
	// Rcpt reports whether the server takes the recipient.
	Rcpt(ctx context.Context, transport, address string) (bool, error)
}

// HTTP asks web services.
type HTTP interface {
	// Get fetches a URL. The body is cut at 64 KiB.
	Get(ctx context.Context, url string) (status int, body string, err error)
}

// Files looks into lists in files.
type Files interface {
	// Has reports whether a list has the value, Value returns what stands behind the
	// key in a list of pairs, InNetwork reports whether the address is in a network of
	// the list.
	Has(ctx context.Context, path, value string) (bool, error)
	Value(ctx context.Context, path, key string) (string, bool, error)
	InNetwork(ctx context.Context, path string, addr netip.Addr) (bool, error)
}

// Rates counts events.
type Rates interface {
	// Over counts one event for the key and reports whether that makes more than n in
	// the time per.
	Over(ctx context.Context, key string, n int, per time.Duration) (bool, error)
}

// Cache remembers texts.
type Cache interface {
	Get(ctx context.Context, key string) (value string, ok bool, err error)
	Set(ctx context.Context, key, value string, ttl time.Duration) error
}

// Countries knows where an address is, as "DE", "" if it does not.
type Countries interface {
	Country(addr netip.Addr) string
}

// sources returns what the call asks: the fakes of a test, or the real ones.
func (c *call) sources() *Lookups {
	if c.test != nil {
		return &c.test.fakes.lookups
	}
	return &c.prog.lookups
}

// errNotConfigured says that a look-up is not there.
func errNotConfigured(name string) error { return fmt.Errorf("%s: not configured", name) }

// ask does one look-up: it has its own time, its waiting does not count as
// computing, and its error is one of the script.
func ask[T any](c *call, name string, f func(ctx context.Context) (T, error)) (T, error) {
	var zero T
	if c.in == nil {
		return zero, fmt.Errorf("%s: look-ups are possible in functions only, not when the script is loaded", name)
	}
	if c.lookups++; c.lookups > c.limits().Lookups {
		return zero, fmt.Errorf("%s: more than %d look-ups", name, c.limits().Lookups)
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.limits().Lookup)
	defer cancel()
	begun := time.Now()
	v, err := f(ctx)
	c.waited += time.Since(begun)
	if err != nil {
		return zero, fmt.Errorf("%s: %s", name, message.SafeText(err.Error(), maxReason))
	}
	return v, nil
}

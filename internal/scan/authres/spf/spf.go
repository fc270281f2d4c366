package spf

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Status is the result of a check, in the words of RFC 7208 §2.6.
type Status string

// The results.
const (
	None      Status = "none"     // there is nothing to check or no record
	Neutral   Status = "neutral"  // the domain says that it does not say
	Pass      Status = "pass"     // the domain permits the client
	Fail      Status = "fail"     // the domain forbids it
	SoftFail  Status = "softfail" // the domain says: probably not
	TempError Status = "temperror"
	PermError Status = "permerror" // the record cannot be used
)

// Resolver looks things up. An error with a method NotFound() bool that returns
// true says that there certainly is none; every other one counts as temporary.
// Exchangers are the hosts of MX records; a domain without such records has none,
// and a null MX (RFC 7505) is ".".
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	IPv4(ctx context.Context, name string) ([]netip.Addr, error)
	Addrs(ctx context.Context, name string) ([]netip.Addr, error)
	Exchangers(ctx context.Context, name string) ([]string, error)
	PTR(ctx context.Context, addr netip.Addr) ([]string, error)
}

// Config is how records are evaluated. Only Resolver is needed.
type Config struct {
	Resolver Resolver
	// MaxLookups bounds the terms that ask the DNS; default 10. MaxVoid bounds
	// those whose name has no answer; default 2, below 0 none may (RFC 7208
	// §4.6.4).
	MaxLookups, MaxVoid int
	// MaxHosts bounds the exchangers of an mx term, more of which are an error,
	// and the names of a client, more of which are ignored; default 10.
	MaxHosts int
	// MaxRecord bounds a record in bytes; default 4096.
	MaxRecord int
	// Timeout bounds a check; default 20 s.
	Timeout time.Duration
}

// Query is what is asked.
type Query struct {
	// Client is the address of the client.
	Client netip.Addr
	// Sender is the address of MAIL. For the null sender Helo is checked instead
	// (RFC 7208 §2.4).
	Sender mail.Address
	Helo   string
}

// Identity is the domain that is checked, in lower case, and whether it is that
// of HELO.
func (q *Query) Identity() (domain string, helo bool) {
	if q.Sender.Domain == "" {
		return strings.ToLower(strings.TrimSuffix(q.Helo, ".")), true
	}
	return q.Sender.Domain, false
}

// Result is what a check found.
type Result struct {
	Status Status
	// Domain is the domain that was checked; Helo says that it came from HELO.
	Domain string
	Helo   bool
	// Term is the term that decided, as it stands in a record: "-all", "mx". ""
	// where none did.
	Term string
	// Reason is one sentence.
	Reason string
}

// Checker checks clients. It is safe for many goroutines.
type Checker struct{ cfg Config }

// New returns a checker.
func New(cfg Config) *Checker {
	cfg.MaxLookups = cmp.Or(cfg.MaxLookups, 10)
	cfg.MaxVoid = cmp.Or(cfg.MaxVoid, 2)
	cfg.MaxHosts = cmp.Or(cfg.MaxHosts, 10)
	cfg.MaxRecord = cmp.Or(cfg.MaxRecord, 4096)
	cfg.Timeout = cmp.Or(cfg.Timeout, 20*time.Second)
	return &Checker{cfg: cfg}
}

// Check evaluates the record of the sender's domain.
func (c *Checker) Check(ctx context.Context, q Query) Result {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	domain, helo := q.Identity()
	r := Result{Domain: message.SafeText(domain, maxName), Helo: helo}
	// RFC 7208 §4.3: a domain that cannot be one has no record.
	if !isName(domain) || !strings.Contains(domain, ".") {
		r.Status, r.Reason = None, "there is no domain name to check"
		return r
	}
	if !q.Client.IsValid() {
		r.Status, r.Reason = None, "the client's address is not known"
		return r
	}
	e := &evaluation{cfg: &c.cfg, client: q.Client.Unmap().WithZone(""), helo: q.Helo, local: localPart(q.Sender), sender: domain}
	v := e.checkHost(ctx, domain)
	r.Status, r.Term = v.status, message.SafeText(v.term, 128)
	r.Reason = message.SafeText(v.reason, 256)
	return r
}

// localPart is what %{l} stands for (RFC 7208 §4.3).
func localPart(a mail.Address) string {
	if a.Domain == "" {
		return "postmaster"
	}
	return cmp.Or(a.Local, "postmaster")
}

// maxName is the length of a domain name in its text form (RFC 7208 §7.3).
const maxName = 253

// isName reports whether a name can be asked for. What characters are in it is
// left open: the wire has no opinion, and macros make names of local parts.
func isName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if label[i] < ' ' || label[i] >= 0x7f {
				return false
			}
		}
	}
	// "[192.0.2.1]" is an address.
	return name[0] != '['
}

// notFound reports that the DNS has an answer, and it is that there is none.
func notFound(err error) bool {
	var e interface{ NotFound() bool }
	return errors.As(err, &e) && e.NotFound()
}

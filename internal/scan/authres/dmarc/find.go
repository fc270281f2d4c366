package dmarc

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/net/publicsuffix"
)

// Resolver looks things up. An error with a method NotFound() bool that returns
// true says that there certainly is none; every other one counts as temporary.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	Addrs(ctx context.Context, name string) ([]netip.Addr, error)
	Exchangers(ctx context.Context, name string) ([]string, error)
}

// OrgDomain is the organizational domain of a name (RFC 7489 §3.2): one label
// below its public suffix, or the name itself where that is one.
func OrgDomain(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(domain)
	if err != nil {
		return domain
	}
	return org
}

// Published is what the domain of an author has to say.
type Published struct {
	// Domain is that of the author, At the one whose record counts, "" for none.
	Domain, At string
	Record     *Record
	// Policy is that of the record for this domain.
	Policy Policy
	// Status is None, TempError or PermError where there is no Record, and Reason
	// says why.
	Status Status
	Reason string
}

// Finder finds policies. It is safe for many goroutines.
type Finder struct{ resolver Resolver }

// NewFinder returns a finder.
func NewFinder(r Resolver) *Finder { return &Finder{resolver: r} }

// Find looks for the policy of each domain.
func (f *Finder) Find(ctx context.Context, domains []string) []Published {
	list := make([]Published, len(domains))
	var wg sync.WaitGroup
	for i, domain := range domains {
		wg.Go(func() { list[i] = f.find(ctx, domain) })
	}
	wg.Wait()
	return list
}

// find is RFC 7489 §6.6.3: the domain's own record, or that of its organization.
func (f *Finder) find(ctx context.Context, domain string) Published {
	p := Published{Domain: domain, Status: None}
	if strings.HasPrefix(domain, "[") {
		p.Reason = "the author's address has no domain name"
		return p
	}
	if f.fetch(ctx, &p, domain) {
		if p.Record != nil {
			p.Policy = p.Record.Policy
		}
		return p
	}
	org := OrgDomain(domain)
	if org == domain || !f.fetch(ctx, &p, org) || p.Record == nil {
		return p
	}
	p.Policy = p.Record.Subdomain
	if p.Record.Missing != p.Policy && !f.exists(ctx, domain) {
		p.Policy = p.Record.Missing
	}
	return p
}

// fetch looks for a record at one domain and reports whether the search ends here.
func (f *Finder) fetch(ctx context.Context, p *Published, at string) bool {
	texts, err := f.resolver.TXT(ctx, "_dmarc."+at)
	if err != nil && !notFound(err) {
		p.Status, p.Reason = TempError, "the policy of "+at+" cannot be looked up now"
		return true
	}
	var found []string
	for _, text := range texts {
		if IsRecord(text) {
			found = append(found, text)
		}
	}
	switch len(found) {
	case 0:
		p.Reason = at + " has no policy"
		return false
	case 1:
	default: // RFC 7489 §6.6.3: not even the organization's counts then
		p.Reason = at + " has several policies"
		return true
	}
	p.Record, err = Parse(found[0])
	if err != nil {
		p.Status, p.Reason = PermError, at+": "+err.Error()
		return true
	}
	p.At, p.Status, p.Reason = at, "", ""
	return true
}

// exists reports whether a domain has addresses or exchangers (RFC 9091 §2.7).
// One that cannot be looked up now does.
func (f *Finder) exists(ctx context.Context, domain string) bool {
	if _, err := f.resolver.Exchangers(ctx, domain); err == nil || !notFound(err) {
		return true
	}
	_, err := f.resolver.Addrs(ctx, domain)
	return err == nil || !notFound(err)
}

func notFound(err error) bool {
	var e interface{ NotFound() bool }
	return errors.As(err, &e) && e.NotFound()
}

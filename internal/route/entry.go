package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/rewrite"
)

// entry is a configured domain.
type entry struct {
	Domain
	lists []*source
}

// errNotAsked says that a source was left out because there is no time to ask it.
var errNotAsked = errors.New("it is not asked here")

// route is where the entry sends an address.
func (e *entry) route(to mail.Address) mail.Route {
	r := mail.Route{Domain: e.Name, Transport: e.Transport}
	if e.AsksMX {
		r.NextHop = to.Domain
	}
	return r
}

// knowledge is what the sources of a domain say about a recipient.
type knowledge struct {
	known bool
	by    string // the source that said yes
	err   error  // of the sources that could not say
}

// knows asks the sources whether the recipient exists: the files, then the others
// in their order, until one says yes. An alias has the recipients of its parent,
// and may have some of its own.
func (e *entry) knows(ctx context.Context, r *mail.Recipient, network bool) knowledge {
	if len(e.lists)+len(e.Sources) == 0 {
		return knowledge{known: true, by: "no source: every recipient"}
	}
	if len(e.lists) > 0 && e.inFile(r.Address) {
		return knowledge{known: true, by: "file"}
	}
	var failed []error
	asked := *r
	for i := range e.Sources {
		s := &e.Sources[i]
		if !network {
			failed = append(failed, fmt.Errorf("%s: %w", s.Name, errNotAsked))
			continue
		}
		forms := []mail.Address{r.Address}
		if !s.Exact {
			forms = e.forms(r.Address)
		}
		for _, asked.Address = range forms {
			known, err := s.Knows(ctx, &asked)
			if known && err == nil {
				return knowledge{known: true, by: s.Name}
			}
			if err != nil {
				// The other forms would not fare better, and cost as much time again.
				failed = append(failed, fmt.Errorf("%s: %s", s.Name, message.SafeText(err.Error(), 200)))
				break
			}
		}
	}
	return knowledge{err: errors.Join(failed...)}
}

// forms are the addresses under which a recipient may be known: his own, that in
// the parent of an alias, and both without the extension.
func (e *entry) forms(a mail.Address) []mail.Address {
	forms := []mail.Address{a}
	add := func(local, domain string) {
		form, err := rewrite.Address(local, domain)
		if err == nil && !slices.ContainsFunc(forms, func(f mail.Address) bool { return f.Key() == form.Key() }) {
			forms = append(forms, form)
		}
	}
	add(a.Local, e.Name)
	if i := strings.Index(a.Local, e.Delimiter); e.Delimiter != "" && i > 0 {
		add(a.Local[:i], a.Domain)
		add(a.Local[:i], e.Name)
	}
	return forms
}

// inFile reports whether a file lists the recipient.
func (e *entry) inFile(a mail.Address) bool {
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
		if l := s.Current(); l.Has(key) || l.Has(key[:len(local)]) || l.Has(key[len(local):]) {
			return true
		}
	}
	return false
}

// Names tells which domains are ours by name, and of which domain an alias is one,
// as a rewrite.Config wants to know it. Entries of all listeners count.
func Names(all []Domain) (ours func(domain string) bool, parent func(domain string) string) {
	named, parents := map[string]bool{}, map[string]string{}
	for _, d := range all {
		if d.Name == AnyDomain {
			continue
		}
		named[d.Name] = true
		for _, alias := range d.Aliases {
			named[alias] = true
			if parents[alias] == "" {
				parents[alias] = d.Name
			}
		}
	}
	return func(domain string) bool { return named[domain] }, func(domain string) string { return parents[domain] }
}

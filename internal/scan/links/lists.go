package links

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnslist"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/textview"
)

// name is a domain to ask about.
type name struct {
	name string
	part string
}

// rank orders links by how likely a reader follows them.
func rank(u *textview.URL) int {
	switch u.From {
	case "href", "form", "base", "refresh", "document":
		return 0
	case "text", "subject", "nested", "comment", "script":
		return 1
	}
	return 2
}

// names lists what is asked about: the registered domains of all links, then
// their hosts, the most dangerous first. Addresses are for other lists.
func names(urls []textview.URL) []name {
	var list []name
	seen := map[string]bool{}
	add := func(u *textview.URL, s string) {
		if s != "" && !seen[s] {
			seen[s] = true
			list = append(list, name{s, u.Part})
		}
	}
	for _, host := range [...]bool{false, true} {
		for r := range 3 {
			for i := range urls {
				u := &urls[i]
				if u.Domain == "" || u.Scheme == "mailto" || rank(u) != r {
					continue
				}
				if host {
					add(u, trimWWW(u.Host))
				} else {
					add(u, u.Domain)
				}
			}
		}
	}
	return list
}

// trimWWW drops the label that means nothing; lists do not have it.
func trimWWW(host string) string {
	if len(host) > 4 && host[:4] == "www." {
		return host[4:]
	}
	return host
}

// tooManyErrors is after how many failures a zone is not asked again about the
// same message: it is down, and waiting for it costs the message its time.
const tooManyErrors = 3

// standing is what came of a zone for one message.
type standing struct {
	hit    *listing // the first, in the order of the names
	order  int
	errors int
	err    error
}

type listing struct {
	name name
	addr netip.Addr
}

// round asks all zones about one message.
type round struct {
	m  *Module
	mu sync.Mutex
	by []standing // one for each zone
}

// ask returns what the lists say.
func (m *Module) ask(ctx context.Context, urls []textview.URL) []mail.Finding {
	all := names(urls)
	list := all[:min(len(all), m.cfg.MaxLookups/len(m.cfg.Zones))]
	r := &round{m: m, by: make([]standing, len(m.cfg.Zones))}
	r.run(ctx, list)
	var findings []mail.Finding
	for i, z := range m.cfg.Zones {
		findings = append(findings, r.by[i].findings(z)...)
	}
	if left := len(all) - len(list); left > 0 {
		findings = append(findings, mail.Finding{
			Module: use, Symbol: "many-domains", Result: mail.Match,
			Reason: fmt.Sprintf("the links lead to %d domains and hosts; the lists were asked about the first %d (max_lookups)", len(all), len(list)),
		})
	}
	return findings
}

// run puts the questions to a few workers.
func (r *round) run(ctx context.Context, list []name) {
	type question struct{ order, zone int }
	questions := make(chan question)
	var wg sync.WaitGroup
	for range min(r.m.cfg.Parallel, len(list)*len(r.by)) {
		wg.Go(func() {
			for q := range questions {
				r.one(ctx, q.order, list[q.order], q.zone)
			}
		})
	}
	for i := range list {
		for z := range r.by {
			questions <- question{i, z}
		}
	}
	close(questions)
	wg.Wait()
}

// one asks a zone about a name.
func (r *round) one(ctx context.Context, order int, n name, zone int) {
	s, z := &r.by[zone], r.m.cfg.Zones[zone]
	r.mu.Lock()
	down := s.errors >= tooManyErrors
	r.mu.Unlock()
	if down || len(n.name)+1+len(z.Name) > 253 {
		return
	}
	addrs, err := r.m.cfg.Resolver.IPv4(ctx, n.name+"."+z.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if dns.IsNotFound(err) {
		return
	}
	if err != nil {
		s.fail(err)
		return
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range addrs {
		switch z.Meaning(a) {
		case dnslist.Refused:
			s.fail(fmt.Errorf("it answers %s for %s", a, n.name))
			return
		case dnslist.Listed:
			if s.hit == nil || order < s.order {
				s.hit, s.order = &listing{n, a}, order
			}
			return
		}
	}
}

func (s *standing) fail(err error) {
	s.errors++
	if s.err == nil {
		s.err = err
	}
}

// findings says what a zone told.
func (s *standing) findings(z Zone) []mail.Finding {
	var list []mail.Finding
	if s.hit != nil {
		list = append(list, mail.Finding{
			Module: use, Symbol: z.Name, Result: mail.Match, Score: z.Weight(), Part: s.hit.name.part,
			Reason: fmt.Sprintf("%s is listed by %s (%s)", s.hit.name.name, z.Name, s.hit.addr),
		})
	}
	if s.err != nil {
		reason := s.err.Error()
		if errors.Is(s.err, context.DeadlineExceeded) || errors.Is(s.err, context.Canceled) {
			reason = "it did not answer in time"
		}
		list = append(list, mail.Finding{
			Module: use, Symbol: "list-error", Result: mail.Unknown,
			Reason: message.SafeText(fmt.Sprintf("the list %s cannot be asked: %s", z.Name, reason), 300),
		})
	}
	return list
}

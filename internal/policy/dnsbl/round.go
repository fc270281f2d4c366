package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnslist"
	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Limits of what a finding tells, in bytes.
const (
	maxReason = 300
	maxText   = 200
)

// round asks all lists about one client.
type round struct {
	check  *Check
	client netip.Addr

	mu      sync.Mutex
	answers []answer // one for each zone
	// certain says that the threshold is reached whatever is still to come.
	certain bool
}

// answer is what a list said.
type answer struct {
	state state
	addr  netip.Addr // the listing
	text  string
	err   error
}

type state uint8

const (
	pending state = iota
	unlisted
	listed
	failed
	off // switched off, or does not list this family
)

func newRound(c *Check, client netip.Addr) *round {
	return &round{check: c, client: client, answers: make([]answer, len(c.zones))}
}

// run asks all lists at the same time, and returns when all have answered, the
// outcome is certain, or ctx ends.
func (r *round) run(ctx context.Context) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	for i, z := range r.check.zones {
		if asks, why := z.health.asks(r.client.Is4()); !asks {
			r.answers[i] = answer{state: off, err: why}
		}
	}
	var wg sync.WaitGroup
	for i, z := range r.check.zones {
		if r.is(i, off) {
			continue
		}
		wg.Go(func() {
			a := ask(ctx, r.check.cfg.Resolver, z.Zone, r.client)
			if r.note(i, a) {
				enough()
			}
		})
	}
	wg.Wait()
}

func (r *round) is(i int, s state) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers[i].state == s
}

// ask asks one list.
func ask(ctx context.Context, resolver Resolver, z dnslist.Zone, client netip.Addr) answer {
	addrs, err := resolver.IPv4(ctx, z.Query(client))
	switch {
	case dns.IsNotFound(err):
		return answer{state: unlisted}
	case err != nil:
		return answer{state: failed, err: err}
	}
	return judge(z, addrs)
}

// judge reads the answers of a list. One that is an error spoils the others: who
// answers so is no list at the moment.
func judge(z dnslist.Zone, addrs []netip.Addr) answer {
	a := answer{state: unlisted}
	for _, addr := range addrs {
		switch z.Meaning(addr) {
		case dnslist.Refused:
			return answer{state: failed, err: fmt.Errorf("it answers %s", addr)}
		case dnslist.Listed:
			if a.state != listed || addr.Less(a.addr) {
				a = answer{state: listed, addr: addr}
			}
		}
	}
	return a
}

// note keeps an answer and reports whether no more are needed.
func (r *round) note(i int, a answer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.certain && a.state == failed {
		return true // it was us who stopped it
	}
	r.answers[i] = a
	r.certain = r.certain || r.reached()
	return r.certain
}

// reached reports that the threshold is reached even if every list of the good
// that is still to answer has the client.
func (r *round) reached() bool {
	if r.check.cfg.Threshold == nil {
		return false
	}
	least, any := 0.0, false
	for i, z := range r.check.zones {
		switch w := z.Weight(); r.answers[i].state {
		case listed:
			least += w
			any = any || w > 0
		case pending:
			least += min(w, 0)
		}
	}
	return any && least >= *r.check.cfg.Threshold
}

// texts asks the lists that have the client why.
func (r *round) texts(ctx context.Context) {
	var wg sync.WaitGroup
	for i, z := range r.check.zones {
		if r.answers[i].state != listed {
			continue
		}
		wg.Go(func() {
			// That there is none, or none in time, takes nothing from the listing.
			texts, err := r.check.cfg.Resolver.TXT(ctx, z.Query(r.client))
			if err == nil && len(texts) > 0 {
				r.answers[i].text = message.SafeText(texts[0], maxText)
			}
		})
	}
	wg.Wait()
}

// findings says what came of it, in the order of the zones.
func (r *round) findings() []mail.Finding {
	var list []mail.Finding
	for i, z := range r.check.zones {
		switch a := &r.answers[i]; a.state {
		case listed:
			list = append(list, r.listing(z, a))
		case failed:
			list = append(list, mail.Finding{Module: Use, Symbol: SymbolError, Name: z.Name, Result: mail.Unknown,
				Reason: message.SafeText(fmt.Sprintf("the list %s cannot be asked: %s", z.Name, cause(a.err)), maxReason)})
		case off:
			if a.err != nil {
				list = append(list, mail.Finding{Module: Use, Symbol: SymbolOff, Name: z.Name, Result: mail.Unknown,
					Reason: message.SafeText(fmt.Sprintf("the list %s is switched off: %s", z.Name, cause(a.err)), maxReason)})
			}
		}
	}
	return list
}

func (r *round) listing(z *zone, a *answer) mail.Finding {
	f := mail.Finding{
		Module: Use, Symbol: z.Name, Result: mail.Match, Score: z.Weight(),
		Reason:     fmt.Sprintf("%s is listed by %s (%s)", r.client, z.Name, a.addr),
		Properties: []mail.Property{{Name: "answer", Value: a.addr.String()}},
	}
	if f.Score < 0 {
		f.Result = mail.Clean
	}
	if a.text != "" {
		f.Properties = append(f.Properties, mail.Property{Name: "text", Value: a.text})
		f.Reason = message.SafeText(f.Reason+": "+a.text, maxReason)
	}
	return f
}

// cause is an error of a look-up in words.
func cause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "it did not answer in time"
	}
	return strings.TrimSpace(err.Error())
}

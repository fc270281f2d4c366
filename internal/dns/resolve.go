package dns

import (
	"context"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAME records.
const maxAliases = 8

// answer is the result of a lookup: records, or err. It is shared by callers and
// never changed.
type answer struct {
	records   []dns.RR // all of the type that was asked for
	authentic bool
	err       *Error
	ttl       time.Duration
	cost      int // bytes, about
}

// lookup returns the answer from the cache or from the servers.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) *answer {
	q := question{name: name, qtype: qtype}
	switch {
	case r.broken != nil:
		return r.failed(q, &Error{Temporary: true, Err: r.broken})
	case !isDomainName(name):
		return r.failed(q, &Error{NXDomain: true, Err: errBadName})
	}
	if a := r.cache.get(q); a != nil {
		return a
	}
	a, err := r.flight.do(ctx, q, func(ctx context.Context) *answer {
		ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
		defer cancel()
		a := r.resolve(ctx, q)
		if ctx.Err() != context.Canceled {
			r.cache.put(q, a)
		}
		return a
	})
	if err != nil {
		return r.failed(q, &Error{Temporary: true, Err: err})
	}
	return a
}

// failed makes an answer of an error.
func (r *Resolver) failed(q question, e *Error) *answer {
	e.Name, e.Type = trimDot(q.name), q.typeName()
	return &answer{err: e, ttl: r.cfg.FailureTTL}
}

// resolve asks the servers and follows aliases over as many queries as needed.
func (r *Resolver) resolve(ctx context.Context, q question) *answer {
	a := &answer{authentic: true, ttl: r.cfg.MaxTTL}
	asked := question{name: q.name, qtype: q.qtype}
	for hops := 0; hops <= maxAliases; {
		rep, failure := r.wire.exchange(ctx, asked)
		if failure != nil {
			return r.failed(q, failure)
		}
		a.authentic = a.authentic && rep.trusted && rep.msg.AuthenticatedData
		a.cost += rep.msg.Len()
		target, n := r.follow(rep.msg, asked, a)
		hops += n
		if len(a.records) > 0 {
			return a
		}
		if n == 0 || rep.msg.Rcode == dns.RcodeNameError || zoneOf(rep.msg) != nil {
			return r.negative(q, rep.msg, a)
		}
		if !isDomainName(target) {
			return r.failed(q, &Error{Err: errBadName})
		}
		// The server gave an alias without what it stands for.
		asked.name = target
	}
	return r.failed(q, &Error{Err: errLoop})
}

// follow collects the records that answer asked from msg, through aliases within
// the message. It returns the name at the chain's end and the chain's length.
func (r *Resolver) follow(msg *dns.Msg, asked question, a *answer) (target string, hops int) {
	target = asked.name
	for hops <= maxAliases {
		next := ""
		for _, rr := range msg.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, target) {
				continue
			}
			switch {
			case h.Rrtype == asked.qtype && len(a.records) < r.cfg.MaxRecords:
				a.records = append(a.records, rr)
				a.limitTTL(h.Ttl)
			case h.Rrtype == dns.TypeCNAME && next == "":
				next = strings.ToLower(rr.(*dns.CNAME).Target)
				a.limitTTL(h.Ttl)
			}
		}
		if len(a.records) > 0 || next == "" {
			return target, hops
		}
		target = next
		hops++
	}
	return target, hops
}

func (a *answer) limitTTL(seconds uint32) {
	a.ttl = min(a.ttl, time.Duration(seconds)*time.Second)
}

// negative is the answer "there is none", cached as long as the zone's SOA record
// lets it (RFC 2308 §5); without one it is not cached.
func (r *Resolver) negative(q question, msg *dns.Msg, a *answer) *answer {
	nx := msg.Rcode == dns.RcodeNameError
	a.err = &Error{
		Name: trimDot(q.name), Type: q.typeName(), Rcode: dns.RcodeToString[msg.Rcode],
		NXDomain: nx, NoData: !nx,
	}
	soaTTL := uint32(0)
	if soa := zoneOf(msg); soa != nil {
		soaTTL = min(soa.Hdr.Ttl, soa.Minttl)
	}
	a.limitTTL(soaTTL)
	a.ttl = min(a.ttl, r.cfg.MaxNegativeTTL)
	return a
}

// zoneOf returns the SOA record that makes an answer a negative one (RFC 2308
// §2), nil for none.
func zoneOf(msg *dns.Msg) *dns.SOA {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}

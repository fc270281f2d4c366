package transport

import (
	"context"
	"crypto/sha512"
	"fmt"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dane"
	"gatepost/internal/tlsrpt"
)

// dane makes the plan for a hop from its TLSA records, RFC 7672 §2.2. A plan that
// is not mandatory means that DANE has nothing to say about the hop.
func (p *policy) dane(ctx context.Context, h hop) (plan, error) {
	if !h.secure || h.target.Name == "" {
		return plan{}, nil
	}
	records, err := dane.Lookup(ctx, p.resolver, h.target.Name, h.port)
	if err != nil {
		return plan{by: string(TLSDANE), why: "the TLSA records of " + h.target.Name, policy: tlsrpt.Policy{Type: tlsrpt.TLSA, MXHosts: []string{h.target.Name}}},
			tlsError(err)
	}
	if len(records) == 0 {
		return plan{}, nil
	}
	found := plan{mandatory: true, by: string(TLSDANE), why: "DANE, by the TLSA records of " + h.target.Name, cfg: p.unverified(h),
		policy: tlsrpt.Policy{Type: tlsrpt.TLSA, Strings: recordTexts(records), MXHosts: []string{h.target.Name}}}
	usable := dane.Usable(records)
	if len(usable) == 0 {
		return found, nil
	}
	var others []string
	if h.domain != "" {
		others = append(others, h.domain)
	}
	dane.Require(found.cfg, usable, h.target.Name, others...)
	found.verified = true
	return found, nil
}

// recordTexts are records as a report shows them.
func recordTexts(records []dns.TLSA) []string {
	var texts []string
	for _, r := range records[:min(len(records), maxReported)] {
		texts = append(texts, fmt.Sprintf("%d %d %d %X", r.Usage, r.Selector, r.Matching, r.Data[:min(len(r.Data), sha512.Size)]))
	}
	return texts
}

// maxReported is how many records of one host a report shows.
const maxReported = 10

package main

import (
	"context"

	"gatepost/internal/mail"
	"gatepost/internal/policy/callout"
	"gatepost/internal/transport"
)

// calloutTargets are the hosts of a generation's transports, for those who ask them
// about recipients.
type calloutTargets map[string]builtTransport

// Target implements callout.Targets.
func (t calloutTargets) Target(ctx context.Context, route mail.Route) ([]callout.Hop, error) {
	built, ok := t[route.Transport]
	switch {
	case !ok:
		return nil, callout.ErrNoCallout
	case built.queued.ByDomain:
		return nil, nil // the exchangers of the domain
	}
	asked, ok := built.Transport.(transport.Callout)
	if !ok {
		return nil, callout.ErrNoCallout
	}
	hosts, err := asked.Hops(ctx)
	if err != nil {
		return nil, err
	}
	hops := make([]callout.Hop, len(hosts))
	for i, h := range hosts {
		hops[i] = callout.Hop(h)
	}
	return hops, nil
}

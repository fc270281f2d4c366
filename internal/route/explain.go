package route

import (
	"context"

	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
)

// Explanation tells what happens to an address, step by step, and where its mail
// goes.
type Explanation struct {
	Address  string `json:"address"`
	Listener string `json:"listener"`
	// Action is accept, reject or defer; Reply what the client is told for the last
	// two, Reason why.
	Action     string         `json:"action"`
	Reply      string         `json:"reply,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Steps      []rewrite.Step `json:"steps"`
	Recipients []Destination  `json:"recipients"`
}

// Destination is one who gets the mail.
type Destination struct {
	Address string `json:"address"`
	// Sent is the address as it leaves, where that is another one.
	Sent string `json:"sent,omitempty"`
	// From is the sender that it leaves with, where a sender was given.
	From      string `json:"from,omitempty"`
	Domain    string `json:"domain"`
	Transport string `json:"transport"`
	NextHop   string `json:"next_hop,omitempty"`
	Flow      string `json:"flow,omitempty"`
	// Original says that the mail goes to the server that a diverted connection was
	// meant for, and to the mail exchangers of NextHop only where there was none.
	Original bool `json:"original,omitempty"`
	// Proxy says that it is passed through while the client waits.
	Proxy bool `json:"proxy,omitempty"`
	// Copy says that it is an automatic BCC.
	Copy bool `json:"copy,omitempty"`
}

// Explain resolves an address as Resolve does for that client, and takes every
// step down. It asks tables and sources, and changes nothing.
func (t *Table) Explain(ctx context.Context, listener string, s *mail.Session, a mail.Address) Explanation {
	trace := &rewrite.Trace{Steps: []rewrite.Step{}}
	q := query{Table: t, listener: listener, session: s, trace: trace, network: true}
	ctx, cancel := context.WithTimeout(ctx, t.budget)
	defer cancel()
	all, d := q.resolve(ctx, mail.Recipient{Address: a, Original: a})
	x := Explanation{Address: a.String(), Listener: listener, Action: d.Act.String(), Reason: d.Reason, Recipients: []Destination{}}
	if d.Act != mail.Accept {
		x.Reply, x.Steps = d.Reply.String(), trace.Steps
		return x
	}
	for i := range all {
		r := &all[i]
		to := Destination{
			Address: r.Address.String(), Domain: r.Route.Domain, Transport: r.Route.Transport,
			NextHop: r.Route.NextHop, Flow: r.Route.Flow, Proxy: r.Route.Proxy, Copy: r.Original.Key() != a.Key(),
		}
		if t.rewrite != nil && t.rewrite.Leaves(to.Transport) {
			sent, err := t.rewrite.Outgoing(ctx, r.Address, trace)
			if err != nil {
				trace.Add(rewrite.Step{Stage: string(rewrite.Generic), Address: to.Address, Text: "the mail waits: " + err.Error()})
			} else if sent.Raw != r.Address.Raw {
				to.Sent = sent.String()
			}
		}
		x.Recipients = append(x.Recipients, to)
	}
	x.Steps = trace.Steps
	return x
}

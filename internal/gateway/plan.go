package gateway

import (
	"slices"
	"strings"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// The transports that every Gatepost has. No [[transport]] may have these names.
const (
	// QuarantineTransport takes messages into the quarantine. It is a transport so
	// that a message on its way there is as durable as any other, and waits in the
	// queue while the database is away.
	QuarantineTransport = "quarantine"
	// ScannerTransport scans messages that were accepted first.
	ScannerTransport = "scanner"
)

// plan makes the queue items of a message from the verdicts: one for each
// destination and each way in which the message is changed on the way there.
// Numbers begin with first. It may be empty: every recipient's copy is discarded.
func (g *Gateway) plan(m mail.Message, header *message.Header, seen *inspection, first uint16) []*mail.QueueItem {
	p := planner{env: m.Envelope, next: first}
	for i := range m.Envelope.Recipients {
		g.planOne(&p, &m.Envelope.Recipients[i], header, seen)
	}
	p.addOthers()
	return p.items
}

// planOne plans what becomes of the message for one recipient.
func (g *Gateway) planOne(p *planner, r *mail.Recipient, header *message.Header, seen *inspection) {
	if r.Verdict == nil {
		g.planDelivery(p, r, header, seen)
		return
	}
	switch r.Verdict.Action {
	case mail.ActionDiscard:
		g.planCopies(p, r, header, seen)
	case mail.ActionReject, mail.ActionDefer:
		// Only with PRDR: the client was told about this recipient alone.
	case mail.ActionQuarantine:
		p.addQuarantine(*r)
		g.planCopies(p, r, header, seen)
	default:
		g.planDelivery(p, r, header, seen)
	}
}

// planCopies plans what others get of a message that its recipient does not get.
func (g *Gateway) planCopies(p *planner, r *mail.Recipient, header *message.Header, seen *inspection) {
	if len(r.Verdict.Copy) > 0 {
		p.addAll(*r, g.others(p.env, r.Verdict.Copy, r.Verdict), g.editsFor(p.env, r.Verdict, header, seen))
	}
}

// planDelivery plans what a recipient gets, and who else gets it.
func (g *Gateway) planDelivery(p *planner, r *mail.Recipient, header *message.Header, seen *inspection) {
	v := r.Verdict
	if v == nil {
		p.add(*r, nil)
		return
	}
	if len(v.Redirect) == 0 {
		to := *r
		if v.Transport != "" {
			g.reroute(&to, v.Transport)
			g.toOriginal(&p.env.Session, &to)
		}
		p.add(to, g.editsFor(p.env, v, header, seen))
	}
	g.planRest(p, r, header, seen)
}

// planRest plans what a message leaves behind that its recipient gets: the original
// of what he gets less of, and copies for others.
func (g *Gateway) planRest(p *planner, r *mail.Recipient, header *message.Header, seen *inspection) {
	v := r.Verdict
	if v == nil {
		return
	}
	if seen != nil && len(v.Strip) > 0 {
		whole := *r
		whole.Verdict = originalOf(v, seen)
		p.addQuarantine(whole)
	}
	if to := append(slices.Clone(v.Redirect), v.Copy...); len(to) > 0 {
		p.addAll(*r, g.others(p.env, to, v), g.editsFor(p.env, v, header, seen))
	}
}

// originalOf is the verdict about the message as it came, of which a recipient gets
// what is left after an attachment was taken out.
func originalOf(v *mail.Verdict, seen *inspection) *mail.Verdict {
	kept := *v
	kept.Action, kept.Threat, kept.Block = mail.ActionQuarantine, mail.ThreatFilter, "filters"
	var rules []string
	for _, path := range v.Strip {
		rules = append(rules, seen.rulesAbout(path)...)
	}
	slices.Sort(rules)
	kept.Rule = strings.Join(slices.Compact(rules), ", ")
	kept.Reason = "delivered without an attachment; this is the message as it came"
	return &kept
}

// others are recipients that a verdict names. They were not asked for by the
// sender, who gets no report about them.
func (g *Gateway) others(env *mail.Envelope, to []mail.Address, v *mail.Verdict) []mail.Recipient {
	var all []mail.Recipient
	for _, a := range to {
		r := mail.Recipient{Address: a, Original: a, Notify: mail.NotifyNever, Verdict: v}
		route, err := g.cfg.Router.RouteInternal(a)
		if err != nil {
			g.cfg.Log.Error("no way to a filter's address; the message is quarantined", "id", env.ID.String(), "to", a.String(), "error", err)
		}
		r.Route = route
		all = append(all, r)
	}
	return all
}

// planner collects queue items.
type planner struct {
	env   *mail.Envelope
	next  uint16
	items []*mail.QueueItem
	// others are recipients that nobody asked for but a filter.
	others []other
}

// other is a recipient that the verdict about another one names.
type other struct {
	of, to mail.Recipient
	edits  *mail.Edits
}

// add puts a recipient into the item for its destination and edits; nil edits are
// the envelope's.
func (p *planner) add(r mail.Recipient, edits *mail.Edits) {
	dest := mail.Destination{Transport: r.Route.Transport, NextHop: r.Route.NextHop}
	for _, item := range p.items {
		if item.Destination() == dest && sameEdits(item.Edits, edits) {
			addOnce(item, r)
			return
		}
	}
	p.items = append(p.items, &mail.QueueItem{
		ID:          mail.QueueID{Message: p.env.ID, N: p.next},
		State:       mail.QueueDeferred,
		Transport:   dest.Transport,
		NextHop:     dest.NextHop,
		Created:     p.env.Received,
		NextAttempt: p.env.Received,
		Edits:       edits,
		Recipients:  []mail.QueuedRecipient{{Recipient: r}},
	})
	p.next++
}

// addOnce puts a recipient into an item. Whoever is named twice, or is a member of two
// aliases, gets one mail; the one whom the client asked about goes before a copy.
func addOnce(item *mail.QueueItem, r mail.Recipient) {
	i := slices.IndexFunc(item.Recipients, func(q mail.QueuedRecipient) bool { return q.Address.Key() == r.Address.Key() })
	switch {
	case i < 0:
		item.Recipients = append(item.Recipients, mail.QueuedRecipient{Recipient: r})
	case item.Recipients[i].Copy && !r.Copy:
		item.Recipients[i].Recipient = r
	}
}

// addAll notes the recipients that a verdict about r names.
func (p *planner) addAll(r mail.Recipient, others []mail.Recipient, edits *mail.Edits) {
	for _, t := range others {
		p.others = append(p.others, other{r, t, edits})
	}
}

// addOthers puts them into the items for their destinations, when those who were
// asked for have theirs: each gets one copy, for however many recipients of the
// message a filter names it. One to whom there is no way is made up for by the
// quarantine.
func (p *planner) addOthers() {
	for _, o := range p.others {
		switch {
		case o.to.Route.Transport == "":
			p.addQuarantine(o.of)
		case !p.has(o.to, o.edits):
			p.add(o.to, o.edits)
		}
	}
}

// has reports whether a recipient gets the message in this form already.
func (p *planner) has(r mail.Recipient, edits *mail.Edits) bool {
	dest := mail.Destination{Transport: r.Route.Transport, NextHop: r.Route.NextHop}
	return slices.ContainsFunc(p.items, func(item *mail.QueueItem) bool {
		return item.Destination() == dest && sameEdits(item.Edits, edits) && slices.ContainsFunc(item.Recipients, func(q mail.QueuedRecipient) bool {
			return q.Address.Key() == r.Address.Key()
		})
	})
}

// addQuarantine keeps the message, as it came, for a recipient. Nobody is told:
// reports about spam and viruses go to people who never sent them.
func (p *planner) addQuarantine(r mail.Recipient) {
	r.Route.Transport, r.Route.NextHop, r.Notify = QuarantineTransport, "", mail.NotifyNever
	p.add(r, nil)
}

func sameEdits(a, b *mail.Edits) bool {
	if a == nil || b == nil {
		return a == b
	}
	return string(a.Prepend) == string(b.Prepend) && slices.Equal(a.Cut, b.Cut) &&
		slices.EqualFunc(a.Replace, b.Replace, func(x, y mail.Replacement) bool {
			return x.Span == y.Span && string(x.Text) == string(y.Text)
		})
}

// editsFor is what a recipient's copy of a scanned message looks like: the trace
// fields of the envelope, what the scan found, and what the verdict asks for.
func (g *Gateway) editsFor(env *mail.Envelope, v *mail.Verdict, header *message.Header, seen *inspection) *mail.Edits {
	var b strings.Builder
	if g.cfg.Content.Fields != nil {
		b.Write(g.cfg.Content.Fields(env))
	}
	for _, field := range flow.Fields(*v, env.ID) {
		b.WriteString(field)
		b.WriteString("\r\n")
	}
	edits := &mail.Edits{Cut: env.Edits.Cut, Replace: slices.Clone(env.Edits.Replace)}
	if g.cfg.Content.Edits != nil && seen != nil {
		prepend, cut := g.cfg.Content.Edits(seen.findingsFor(g.cfg.Content.Flows[v.Flow]), header)
		for _, field := range prepend {
			b.WriteString(field)
			b.WriteString("\r\n")
		}
		edits.Cut = withSpans(edits.Cut, cut)
		edits.Replace = without(edits.Replace, cut)
	}
	if len(v.Remove) > 0 {
		cut := fieldsNamed(header, v.Remove)
		edits.Cut = withSpans(edits.Cut, cut)
		edits.Replace = without(edits.Replace, cut)
	}
	b.Write(env.Edits.Prepend)
	if v.SubjectTag != "" {
		tagged := tagSubject(&b, header, edits.Cut, v.SubjectTag)
		edits.Replace = append(edits.Replace, tagged...)
	}
	if seen != nil && len(v.Strip) > 0 {
		stripParts(&b, edits, header, seen, v.Strip)
	}
	if seen != nil && v.Disclaimer != "" {
		g.addDisclaimer(edits, env, v.Disclaimer, header, seen)
	}
	edits.Prepend = []byte(b.String())
	slices.SortFunc(edits.Replace, func(x, y mail.Replacement) int { return int(x.Start - y.Start) })
	return edits
}

// fieldsNamed are all fields with one of the names.
func fieldsNamed(header *message.Header, names []string) []mail.Span {
	var spans []mail.Span
	for _, f := range header.Fields() {
		if slices.ContainsFunc(names, f.Is) {
			spans = append(spans, f.Span)
		}
	}
	return spans
}

// tagSubject puts the tag in front of the first Subject, or adds a field where
// there is none.
func tagSubject(b *strings.Builder, header *message.Header, cut []mail.Span, tag string) []mail.Replacement {
	for _, f := range header.Fields() {
		if !f.Is("Subject") || slices.Contains(cut, f.Span) {
			continue
		}
		raw := f.Raw()
		colon := strings.IndexByte(raw, ':') + 1
		at := f.Span.Start + int64(colon)
		rest := raw[colon:]
		if strings.HasPrefix(strings.TrimSpace(rest), strings.TrimSpace(tag)) {
			return nil // it came back to us
		}
		text := " " + strings.TrimSpace(tag)
		if rest != "" && !strings.ContainsAny(rest[:1], " \t\r") {
			text += " " // an encoded word stands between blanks (RFC 2047 §5)
		}
		return []mail.Replacement{{Span: mail.Span{Start: at, End: at}, Text: []byte(text)}}
	}
	b.WriteString("Subject: " + strings.TrimSpace(tag) + "\r\n")
	return nil
}

package route

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
)

// query is one RCPT on its way.
type query struct {
	*Table
	listener string
	session  *mail.Session
	trace    *rewrite.Trace
	// network says that sources and tables elsewhere may be asked.
	network bool
	// origin is the entry for the address that the client gave; its content flow
	// goes with what becomes of it.
	origin *entry
}

// Resolve decides about one RCPT on a listener. On Accept it returns those who get
// the mail, each with his route: one, or several where an alias has several
// members or somebody gets a copy. The first of them stands in *r, too. Otherwise
// *r stays as it was, and the decision says why the recipient is refused or has to
// wait.
func (t *Table) Resolve(ctx context.Context, listener string, s *mail.Session, r *mail.Recipient) ([]mail.Recipient, mail.Decision) {
	q := query{Table: t, listener: listener, session: s, network: true}
	ctx, cancel := context.WithTimeout(ctx, t.budget)
	defer cancel()
	all, d := q.resolve(ctx, *r)
	if d.Act == mail.Accept {
		for i := range all {
			// One answer of a next hop can't stand for several recipients.
			all[i].Route.Proxy = all[i].Route.Proxy && len(all) == 1
		}
		*r = all[0]
		for i := range all[1:] {
			all[1+i].Member = !all[1+i].Copy
		}
	}
	return all, d
}

// Route decides about one RCPT on a listener as far as that is possible without
// rewriting and without a network: it fills in r.Route, or says why the recipient
// is refused. For <postmaster> it sets r.Address, too. A recipient that a source
// elsewhere may know has to wait.
func (t *Table) Route(listener string, s *mail.Session, r *mail.Recipient) mail.Decision {
	q := query{Table: t, listener: listener, session: s}
	ctx := context.Background()
	all, d := q.admit(ctx, *r)
	if d.Act == mail.Accept && all == nil {
		all, d = q.place(ctx, q.origin, *r)
	}
	if d.Act == mail.Accept {
		*r = all[0]
	}
	return d
}

func (q *query) resolve(ctx context.Context, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	all, d := q.admit(ctx, r)
	switch {
	case d.Act != mail.Accept || all != nil:
		return all, d
	case q.rewrite == nil:
		return q.place(ctx, q.origin, r)
	}
	x, err := q.rewrite.Recipient(ctx, r.Address, q.trace)
	if err != nil {
		return nil, later(err)
	}
	all, d = q.members(ctx, r, x.To)
	if d.Act != mail.Accept {
		return nil, d
	}
	for _, c := range x.Copies {
		// The administrator asked for it, not the sender: no report, no check.
		copied := mail.Recipient{Address: c, Original: c, Notify: mail.NotifyNever, Copy: true}
		if d := q.direct(ctx, &copied); d.Act == mail.Defer {
			return nil, d
		} else if d.Act != mail.Accept {
			q.log.Warn("no way to the address of an automatic copy", "address", c.String(), "reason", d.Reason)
			continue
		}
		all = Join(all, copied)
	}
	return all, d
}

// admit is relay control. It returns recipients where nothing more is to be done,
// or sets q.origin.
func (q *query) admit(ctx context.Context, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	a := r.Address
	switch {
	case a.IsNull() || a.Local == "":
		return nil, reject(mail.ReplyBadAddress, "no recipient")
	case strings.HasPrefix(a.Domain, "["):
		return nil, reject(mail.ReplyAddressLiteral, "the recipient's domain is an address literal")
	case a.Domain == "":
		return q.toPostmaster(ctx, r)
	case q.srs != nil && a.Domain == q.srs.Domain() && srs.Is(a.Local):
		return q.unwrap(ctx, r)
	}
	e := q.find(q.listener, a.Domain, q.session.MayRelay() && a.Domain != q.hostname)
	switch {
	case e == nil:
		return q.nobody(ctx, r)
	// Another mail server may read these as a further destination; Postfix and
	// Sendmail do, by default or by configuration. Behind us, our own would
	// then relay for a stranger because it trusts this host.
	case !q.session.MayRelay() && strings.ContainsAny(a.Local, "%!@"):
		return nil, reject(mail.ReplyRelayDenied, "the local part has a route in it")
	}
	q.origin = e
	if q.trace != nil {
		text := "the domain entry " + e.Name
		if e.Name != a.Domain && e.Name != AnyDomain {
			text += ", of which " + a.Domain + " is an alias"
		}
		q.step("domain", a, text)
	}
	return nil, mail.Decision{}
}

// members places what became of a recipient. Members that do not exist are left
// out as long as there is another one; if one can't be decided about now, all wait,
// so that the mail is not sent twice to the others.
func (q *query) members(ctx context.Context, r mail.Recipient, to []mail.Address) ([]mail.Recipient, mail.Decision) {
	var all []mail.Recipient
	var refusal mail.Decision
	for _, a := range to {
		m := r
		e := q.origin
		if a.Key() != r.Address.Key() {
			// The tables are the administrator's: what they name needs no permission.
			e = q.find(q.listener, a.Domain, a.Domain != q.hostname)
		}
		if m.Original.IsNull() {
			m.Original = r.Address
		}
		m.Address = a
		placed, d := q.place(ctx, e, m)
		switch {
		case d.Act == mail.Accept:
			all = Join(all, placed...)
		case d.Act == mail.Defer:
			return nil, d
		case len(to) == 1:
			return nil, d
		default:
			q.log.Warn("an alias has a member that gets no mail", "alias", r.Address.String(), "member", a.String(), "reason", d.Reason)
			if refusal.Act == mail.Accept {
				refusal = d
			}
		}
	}
	if len(all) == 0 {
		return nil, refusal
	}
	return all, mail.Decision{}
}

// place finds the transport of one recipient, and whether he exists.
func (q *query) place(ctx context.Context, e *entry, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	if e == nil || strings.HasPrefix(r.Address.Domain, "[") {
		if r.Address.Domain == q.hostname && isPostmaster(r.Address) {
			return q.toPostmaster(ctx, r)
		}
		if d := q.direct(ctx, &r); d.Act != mail.Accept {
			return nil, d
		}
		return []mail.Recipient{r}, mail.Decision{}
	}
	if d := q.send(ctx, e, &r); d.Act != mail.Accept {
		return nil, d
	}
	if q.rewrite != nil {
		text, moved, err := q.rewrite.Moved(ctx, r.Address, q.trace)
		switch {
		case err != nil:
			return nil, later(err)
		case moved:
			return nil, relocated(text)
		}
	}
	k := e.knows(ctx, &r, q.network)
	if q.trace != nil {
		q.step("recipients", r.Address, k.text())
	}
	switch {
	case k.known:
		return []mail.Recipient{r}, mail.Decision{}
	case k.err != nil:
		return nil, later(fmt.Errorf("recipients of %s: %w", e.Name, k.err))
	case isPostmaster(r.Address):
		return q.toPostmaster(ctx, r)
	case !e.CatchAll.IsNull():
		return q.catchAll(ctx, e, r)
	}
	return nil, reject(mail.ReplyNoSuchUser, "no source of "+e.Name+" knows the recipient")
}

func (k knowledge) text() string {
	switch {
	case k.known:
		return "known (" + k.by + ")"
	case k.err != nil:
		return "not known so far: " + strings.ReplaceAll(k.err.Error(), "\n", "; ")
	}
	return "unknown to all sources"
}

// catchAll sends an unknown recipient's mail to the address that the domain has
// for that. Nobody checks whether that one exists.
func (q *query) catchAll(ctx context.Context, e *entry, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	q.step("catch_all", r.Address, "goes to "+e.CatchAll.String())
	to := []mail.Address{e.CatchAll}
	if q.rewrite != nil {
		x, err := q.rewrite.Recipient(ctx, e.CatchAll, q.trace)
		if err != nil {
			return nil, later(err)
		}
		to = x.To
	}
	var all []mail.Recipient
	for _, a := range to {
		m := r
		if m.Original.IsNull() {
			m.Original = r.Address
		}
		m.Address = a
		if d := q.direct(ctx, &m); d.Act != mail.Accept {
			return nil, d
		}
		all = Join(all, m)
	}
	return all, mail.Decision{}
}

// send fills in the route of a recipient that the entry takes.
func (q *query) send(ctx context.Context, e *entry, r *mail.Recipient) mail.Decision {
	r.Route = e.route(r.Address)
	r.Route.Flow, r.Route.Proxy = q.flow(e), e.Proxy
	if err := q.mapTransport(ctx, r); err != nil {
		return later(err)
	}
	return mail.Decision{}
}

// flow is the content flow for mail that the entry takes: its own; for mail that
// was forwarded, that of the domain that it was sent to; or the listener's.
func (q *query) flow(e *entry) string {
	for _, e := range []*entry{e, q.origin} {
		if e != nil && e.ContentFlow != "" {
			return e.ContentFlow
		}
	}
	return q.flows[q.listener]
}

// direct routes mail to an address that the administrator named.
func (q *query) direct(ctx context.Context, r *mail.Recipient) mail.Decision {
	if strings.HasPrefix(r.Address.Domain, "[") {
		return reject(mail.ReplyAddressLiteral, "a table leads to an address literal")
	}
	if e := q.find(q.listener, r.Address.Domain, r.Address.Domain != q.hostname); e != nil {
		return q.send(ctx, e, r)
	}
	if r.Address.Domain == q.hostname {
		return reject(mail.ReplyNoSuchUser, "this host has no mailboxes")
	}
	r.Route = mail.Route{Domain: AnyDomain, Transport: BuiltinInternet, NextHop: r.Address.Domain, Flow: q.flow(nil)}
	if err := q.mapTransport(ctx, r); err != nil {
		return later(err)
	}
	return mail.Decision{}
}

// mapTransport lets the transport map have its say.
func (q *query) mapTransport(ctx context.Context, r *mail.Recipient) error {
	if q.rewrite == nil {
		return nil
	}
	return q.mapRoute(ctx, q.rewrite, r.Address, &r.Route, q.trace)
}

// unwrap sends a bounce to whom SRS says. What a secret of ours signed needs no
// other permission.
func (q *query) unwrap(ctx context.Context, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	user, domain, err := q.srs.Reverse(r.Address.Local, time.Now())
	if err != nil {
		return nil, reject(mail.ReplyNoSuchUser, err.Error())
	}
	to, err := rewrite.Address(user, domain)
	if err != nil {
		return nil, reject(mail.ReplyNoSuchUser, err.Error())
	}
	if q.trace != nil {
		q.step("srs", r.Address, "stands for "+to.String())
	}
	if r.Original.IsNull() {
		r.Original = r.Address
	}
	r.Address = to
	if d := q.direct(ctx, &r); d.Act != mail.Accept {
		return nil, d
	}
	return []mail.Recipient{r}, mail.Decision{}
}

// nobody decides about a recipient whose domain has no entry that this client may use.
func (q *query) nobody(ctx context.Context, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	switch {
	case r.Address.Domain == q.hostname && isPostmaster(r.Address):
		return q.toPostmaster(ctx, r)
	case !q.session.MayRelay():
		return nil, reject(mail.ReplyRelayDenied, "not one of our domains, and not a client that may relay")
	case r.Address.Domain == q.hostname:
		// Relaying to ourselves would be a loop.
		return nil, reject(mail.ReplyNoSuchUser, "this host has no mailboxes")
	}
	return nil, reject(mail.ReplyRelayDenied, "no domain entry says where this mail goes")
}

// toPostmaster accepts mail for the postmaster whether some list knows it or
// not: RFC 5321 §4.5.1 wants that of everyone who takes in mail.
func (q *query) toPostmaster(ctx context.Context, r mail.Recipient) ([]mail.Recipient, mail.Decision) {
	to := q.postmaster
	e := q.find(q.listener, to.Domain, q.session.MayRelay() && to.Domain != q.hostname)
	if e == nil {
		// The configured one is not ours, and a stranger's mail must not leave.
		if to = q.firstPostmaster(q.listener); !to.IsNull() {
			e = q.find(q.listener, to.Domain, false)
		}
	}
	if e == nil {
		return nil, reject(mail.ReplyNoSuchUser, "there is no domain whose postmaster could get this")
	}
	q.step("postmaster", r.Address, "goes to "+to.String())
	r.Address = to
	if d := q.send(ctx, e, &r); d.Act != mail.Accept {
		return nil, d
	}
	return []mail.Recipient{r}, mail.Decision{}
}

func (q *query) step(stage string, a mail.Address, text string) {
	q.trace.Add(rewrite.Step{Stage: stage, Address: a.String(), Text: text})
}

// Join adds recipients to others. Nobody gets the same mail twice: of two with one
// address the first stays.
func Join(all []mail.Recipient, more ...mail.Recipient) []mail.Recipient {
	for _, m := range more {
		if !slices.ContainsFunc(all, func(r mail.Recipient) bool { return r.Address.Key() == m.Address.Key() }) {
			all = append(all, m)
		}
	}
	return all
}

func isPostmaster(a mail.Address) bool { return strings.EqualFold(a.Local, "postmaster") }

func reject(key mail.ReplyKey, reason string) mail.Decision {
	return mail.Decision{Act: mail.Reject, Reply: key.Reply(), Reason: reason}
}

// relocated tells the sender where the recipient is now.
func relocated(text string) mail.Decision {
	d := reject(mail.ReplyRelocated, "relocated to "+text)
	if mail.IsASCII(text) && len(text) <= 200 {
		d.Reply = d.Reply.WithText(d.Reply.Lines[0] + " to " + text)
	}
	return d
}

// later is the answer while something can't be looked up.
func later(err error) mail.Decision {
	return mail.Decision{Act: mail.Defer, Reply: mail.ReplyLookupFailed.Reply(), Reason: strings.ReplaceAll(err.Error(), "\n", "; ")}
}

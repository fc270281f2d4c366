package quarantine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// Store is what the quarantine needs of package store.
type Store interface {
	Records
	Settings
}

// Records keeps messages and what became of them.
type Records interface {
	PutQuarantined(ctx context.Context, m *store.QuarantinedMessage, body mail.Body) error
	Quarantined(ctx context.Context, id mail.ID) (*store.QuarantinedMessage, error)
	QuarantinedBody(ctx context.Context, id mail.ID) (mail.Body, error)
	FindQuarantined(ctx context.Context, q store.QuarantineQuery) (found []store.QuarantinedMessage, more bool, err error)
	SetQuarantineState(ctx context.Context, id mail.ID, recipients []string, change store.QuarantineChange) ([]store.QuarantineEntry, error)
	DeleteQuarantined(ctx context.Context, id mail.ID) error
	ExpireQuarantine(ctx context.Context, before time.Time) (int, error)
	QuarantineStats(ctx context.Context) (store.QuarantineStats, error)
	QuarantineRecipients(ctx context.Context, since, until time.Time, after string, limit int) ([]string, error)
}

// Settings are small values that all nodes share.
type Settings interface {
	Setting(ctx context.Context, name string) ([]byte, error)
	Settings(ctx context.Context, prefix string) (map[string][]byte, error)
	InitSetting(ctx context.Context, name string, value []byte) ([]byte, error)
	SwapSetting(ctx context.Context, name string, old, value []byte) (bool, error)
	DeleteSetting(ctx context.Context, name string) error
}

// known turns the store's errors into ours; the cause stays in the text.
func known(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, store.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// record is one message as the store keeps it.
type record struct {
	Row
	envelope *mail.Envelope
}

func (q *Quarantine) record(ctx context.Context, id mail.ID) (*record, error) {
	m, err := q.cfg.Store.Quarantined(ctx, id)
	if err != nil {
		if errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
		}
		return nil, known(err)
	}
	if m.Envelope == nil {
		return nil, fmt.Errorf("read quarantined message %s: it has no envelope", id)
	}
	return &record{Row: rowOf(m), envelope: m.Envelope}, nil
}

// Body returns the message as the client sent it, byte for byte. ctx bounds the
// reading of it too.
func (q *Quarantine) Body(ctx context.Context, id mail.ID) (mail.Body, error) {
	body, err := q.cfg.Store.QuarantinedBody(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return body, known(err)
}

// List returns one page of what fits, the latest message first.
func (q *Quarantine) List(ctx context.Context, f Filter) (Page, error) {
	query, err := f.query()
	if err != nil {
		return Page{}, err
	}
	page := Page{}
	for {
		found, more, err := q.cfg.Store.FindQuarantined(ctx, query)
		if err != nil {
			return Page{}, known(err)
		}
		for i := range found {
			row := rowOf(&found[i])
			if f.State != "" {
				row.State = f.State
			}
			if f.fits(&row) {
				page.Items = append(page.Items, row)
			}
			query.Before = found[i].ID
			if len(page.Items) == f.Limit {
				if more || i < len(found)-1 {
					page.Next = query.Before.String()
				}
				return page, nil
			}
		}
		if !more {
			return page, nil
		}
	}
}

// query is the filter in the store's terms.
func (f *Filter) query() (store.QuarantineQuery, error) {
	q := store.QuarantineQuery{
		Sender: f.Sender, Recipient: f.Recipient, Text: f.Text, Threat: f.Threat, State: store.QuarantineState(f.State),
		Since: f.Since, Until: f.Before, Limit: f.Limit, Domains: f.Domains, Recipients: f.Recipients, Asked: f.Asked,
	}
	if f.Limit < 1 || f.Limit > maxPage {
		return q, fmt.Errorf("%w: limit %d", ErrRequest, f.Limit)
	}
	if f.Domain != "" {
		domain, err := smtp.CanonicalDomain(f.Domain)
		if err != nil {
			return q, fmt.Errorf("%w: domain %q", ErrRequest, f.Domain)
		}
		if len(f.Domains) > 0 && !slices.Contains(f.Domains, domain) {
			return q, fmt.Errorf("%w: domain %q is not one of yours", ErrRequest, f.Domain)
		}
		q.Domains = []string{domain}
	}
	if f.Cursor != "" {
		var err error
		if q.Before, err = mail.ParseID(f.Cursor); err != nil {
			return q, fmt.Errorf("%w: cursor %q", ErrRequest, f.Cursor)
		}
	}
	return q, nil
}

// fits checks what the store cannot.
func (f *Filter) fits(r *Row) bool {
	return f.State != "" || r.State != Deleted
}

// maxPage bounds a page, in messages.
const maxPage = 1000

// nullSender is how people write the sender that is none.
const nullSender = "<>"

func rowOf(m *store.QuarantinedMessage) Row {
	r := Row{
		ID: m.ID, State: Deleted, Received: m.Received, Sender: safe(m.Sender), Subject: safe(m.Subject), MessageID: safe(m.MessageID),
		Size: m.Size, Direction: m.Direction, Threat: m.Threat, Reason: safe(m.Reason), Block: safe(m.Block), Rule: safe(m.Rule),
		Score: m.Score, Client: m.Client, Helo: safe(m.Helo), Listener: safe(m.Listener), Node: safe(m.Node),
	}
	if r.Sender == "" {
		r.Sender = nullSender
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		entry := Entry{
			Key: e.Recipient.Key(), Recipient: safe(e.Recipient.Raw), State: State(e.State),
			Threat: e.Threat, Reason: safe(e.Reason), Score: e.Score, By: safe(e.By), Changed: e.Changed, address: e.Recipient,
		}
		entry.Asked = entry.State == Held && !e.Changed.IsZero()
		if entry.State == Held || entry.State == Released && r.State == Deleted {
			r.State = entry.State
		}
		r.Recipients = append(r.Recipients, entry.Recipient)
		r.Entries = append(r.Entries, entry)
	}
	return r
}

// messageOf is what is kept of a delivery.
func messageOf(d *mail.Delivery) *store.QuarantinedMessage {
	env := *d.Message.Envelope
	// The edits are for those who get the message: the quarantine keeps it as it
	// came, and a release makes edits of its own.
	env.Edits = mail.Edits{}
	env.Recipients = slices.Clone(env.Recipients)
	m := &store.QuarantinedMessage{
		ID: env.ID, Received: env.Received, Sender: env.Sender.Raw, Helo: env.Session.Helo, Listener: env.Session.Listener,
		Direction: directionOf(d.Recipients), Subject: env.Subject, MessageID: env.MessageID, Envelope: &env,
	}
	if env.Session.Client.IsValid() {
		m.Client = env.Session.Client.Addr().Unmap().String()
	}
	fetched := env.Session.Protocol == mail.POP3
	if fetched {
		m.Direction = "pop3"
	}
	for _, r := range d.Recipients {
		e := store.QuarantineEntry{Recipient: r.Address, Domain: r.Route.Domain, QuarantineCause: causeOf(r.Verdict)}
		if fetched || !configured(r.Route) {
			e.Domain = r.Address.Domain
		}
		m.Entries = append(m.Entries, e)
		keepRecipient(&env, r)
		// The gravest cause stands for the message.
		if len(m.Entries) == 1 || e.Threat == mail.ThreatVirus && m.Threat != mail.ThreatVirus {
			m.QuarantineCause = e.QuarantineCause
		}
	}
	return m
}

// keepRecipient puts what the queue item knows of a recipient, its verdict above
// all, into the envelope.
func keepRecipient(env *mail.Envelope, r mail.Recipient) {
	i := slices.IndexFunc(env.Recipients, func(have mail.Recipient) bool {
		return have.Address.Key() == r.Address.Key() && have.Original.Key() == r.Original.Key()
	})
	switch {
	case i < 0:
		env.Recipients = append(env.Recipients, r)
	case r.Verdict != nil:
		env.Recipients[i].Verdict = r.Verdict
	}
}

func causeOf(v *mail.Verdict) store.QuarantineCause {
	if v == nil {
		return store.QuarantineCause{}
	}
	return store.QuarantineCause{Threat: v.Threat, Reason: v.Reason, Block: v.Block, Rule: v.Rule, Flow: v.Flow, Score: v.Score}
}

// configured reports whether a recipient belongs to a domain of ours.
func configured(r mail.Route) bool { return r.Domain != "" && r.Domain != "*" }

// directionOf tells whether a message was on its way to one of our domains.
func directionOf(recipients []mail.Recipient) string {
	if slices.ContainsFunc(recipients, func(r mail.Recipient) bool { return configured(r.Route) }) {
		return "inbound"
	}
	return "outbound"
}

// addressKey is the key of an address as people write it, or of one that is a key.
func addressKey(s string) string {
	if a, err := smtp.ParseAddress(s); err == nil {
		return a.Key()
	}
	return strings.ToLower(s)
}

package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// QuarantineQuery says which messages are looked for. Zero fields ask nothing;
// the others must all hold. Recipients to State must hold for one and the same
// entry.
type QuarantineQuery struct {
	ID mail.ID
	// Sender is a whole address, "@domain", "<>" for the null sender, or a part of an
	// address.
	Sender string
	// Subject is a part of the subject, Text words that all stand somewhere in
	// addresses, subject, message ID, client, HELO name, reason or rule. Neither
	// minds case.
	Subject string
	Text    string
	// Client is an IP address or the beginning of one: "192.0.2.".
	Client string
	// Since and Until bound the time of reception, to the ID's millisecond; Until
	// itself is out.
	Since time.Time
	Until time.Time

	// Recipients are address keys, Domains configured domains: one of them.
	Recipients []string
	Domains    []string
	// Recipient is a whole address, "@domain", or a part of an address.
	Recipient string
	Threat    mail.Threat
	State     QuarantineState
	// Asked are the entries that are held and whose release was asked for.
	Asked bool
	// StoredSince and StoredUntil bound the time at which the entry was stored,
	// for digests: it is later than the reception where the database was away.
	StoredSince time.Time
	StoredUntil time.Time

	// Limit is how many are returned; default 50, at most 1000.
	Limit int
	// Before continues a list: the ID of the last message of the page before.
	Before mail.ID
}

const (
	defaultFind = 50
	maxFind     = 1000
)

// conditions collects the parts of a WHERE clause.
type conditions struct {
	parts []string
	args  []any
}

func (w *conditions) add(part string, args ...any) {
	w.parts = append(w.parts, part)
	w.args = append(w.args, args...)
}

func (w *conditions) String() string { return strings.Join(w.parts, " AND ") }

// FindQuarantined returns the messages that the query asks for with all their
// entries, newest first, and whether there are more.
func (s *Store) FindQuarantined(ctx context.Context, q QuarantineQuery) (found []QuarantinedMessage, more bool, err error) {
	limit := defaultFind
	if q.Limit > 0 {
		limit = min(q.Limit, maxFind)
	}
	err = s.read(ctx, func(ctx context.Context, c *conn) error {
		ids, err := findIDs(ctx, c, q, limit+1)
		if err != nil {
			return err
		}
		if more = len(ids) > limit; more {
			ids = ids[:limit]
		}
		found, err = loadQuarantined(ctx, c, ids)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("search quarantine: %w", err)
	}
	return found, more, nil
}

// findIDs returns at most limit IDs, the newest first.
func findIDs(ctx context.Context, c *conn, q QuarantineQuery, limit int) ([]any, error) {
	if q.signature() != (signature{}) {
		return findSigned(ctx, c, q, limit)
	}
	query, args := findStatement(q, limit, c.dialect)
	return selectIDs(ctx, c, query, args)
}

// findStatement selects IDs. Where entries are asked for it begins with them:
// each of their indexes is in the order of the IDs, so the newest come first and
// the rest is not looked at. CROSS JOIN keeps SQLite to that order. A message is
// complete where it has entries, so that it is joined only for what is asked of it.
func findStatement(q QuarantineQuery, limit int, d dialect) (string, []any) {
	id, from := "m.id", "quarantine_messages m"
	entry := q.onEntry()
	message := q.onColumns()
	message.and(q.onText())
	if len(entry.parts) > 0 {
		id, from = "e.message_id", "quarantine_entries e"
		if len(message.parts) > 0 {
			from += joinInOrder(d) + "quarantine_messages m ON m.id = e.message_id"
		}
	} else {
		message.add("m.complete = 1")
	}
	where := q.onID(id)
	where.and(message)
	where.and(entry)
	where.args = append(where.args, limit)
	return "SELECT DISTINCT " + id + " FROM " + from + " WHERE " + where.String() + " ORDER BY " + id + " DESC LIMIT ?", where.args
}

// joinInOrder joins in the order of the tables, where that can be said.
func joinInOrder(d dialect) string {
	if d == dialectSQLite {
		return " CROSS JOIN "
	}
	return " JOIN "
}

func (w *conditions) and(other conditions) {
	w.parts = append(w.parts, other.parts...)
	w.args = append(w.args, other.args...)
}

// onID are the conditions on the ID.
func (q *QuarantineQuery) onID(id string) conditions {
	var w conditions
	if !q.ID.IsZero() {
		w.add(id+" = ?", q.ID.String())
	}
	if !q.Before.IsZero() {
		w.add(id+" < ?", q.Before.String())
	}
	if !q.Since.IsZero() {
		w.add(id+" >= ?", mail.FirstID(q.Since).String())
	}
	if !q.Until.IsZero() {
		w.add(id+" < ?", mail.FirstID(q.Until).String())
	}
	return w
}

// onColumns are the conditions on columns of the message that an index helps with.
func (q *QuarantineQuery) onColumns() conditions {
	var w conditions
	if !isPart(q.Sender) {
		w.address(q.Sender, "m.sender_key", "m.sender_domain")
	}
	switch client, err := netip.ParseAddr(q.Client); {
	case q.Client == "":
	case err == nil:
		w.add("m.client = ?", client.Unmap().String())
	default:
		w.add("m.client LIKE ? ESCAPE '!'", contains(q.Client)[1:])
	}
	return w
}

// onText are the conditions on texts: all of these stand in the column search, too.
func (q *QuarantineQuery) onText() conditions {
	var w conditions
	if isPart(q.Sender) {
		w.address(q.Sender, "m.sender_key", "m.sender_domain")
	}
	if q.Subject != "" {
		w.add("m.subject_key LIKE ? ESCAPE '!'", contains(q.Subject))
	}
	for _, word := range strings.Fields(q.Text) {
		w.add("m.search LIKE ? ESCAPE '!'", contains(word))
	}
	return w
}

// onEntry are the conditions on an entry.
func (q *QuarantineQuery) onEntry() conditions {
	var w conditions
	w.oneOf("e.recipient_key", q.Recipients)
	w.oneOf("e.domain", q.Domains)
	w.address(q.Recipient, "e.recipient_key", "e.domain")
	if q.Threat != "" {
		w.add("e.threat = ?", string(q.Threat))
	}
	switch {
	case q.State == "":
	case len(q.Recipients) > 0:
		// Not by the index of states: SQLite would read all that are held for somebody's few.
		w.add("e.state || '' = ?", string(q.State))
	default:
		w.add("e.state = ?", string(q.State))
	}
	if q.Asked {
		w.add("e.state = ? AND e.changed > 0", string(QuarantineHeld))
	}
	if !q.StoredSince.IsZero() {
		w.add("e.stored >= ?", millis(q.StoredSince))
	}
	if !q.StoredUntil.IsZero() {
		w.add("e.stored < ?", millis(q.StoredUntil))
	}
	return w
}

func (w *conditions) oneOf(column string, values []string) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = fold(v)
	}
	w.add(column+" IN ("+places(len(args))+")", args...)
}

// isPart reports whether what is typed for an address is a part of one.
func isPart(text string) bool {
	at := strings.LastIndexByte(text, '@')
	return text != "" && text != "<>" && at != 0 && (at < 0 || at == len(text)-1)
}

// address is the condition for what an administrator types for an address.
func (w *conditions) address(text, key, domain string) {
	switch at := strings.LastIndexByte(text, '@'); {
	case text == "":
	case text == "<>":
		w.add(key+" = ?", "")
	case at == 0:
		w.add(domain+" = ?", fold(text[1:]))
	case at > 0 && at < len(text)-1:
		w.add(key+" = ?", fold(text))
	default:
		w.add(key+" LIKE ? ESCAPE '!'", contains(text))
	}
}

const messageColumns = `id, received, stored, size, node, sender, client, helo, listener, direction,
	subject, message_id, threat, reason, block, rule, flow, score`

func scanMessage(rows *sql.Rows) (m QuarantinedMessage, err error) {
	var id string
	var received, stored int64
	err = rows.Scan(&id, &received, &stored, &m.Size, &m.Node, &m.Sender, &m.Client, &m.Helo, &m.Listener, &m.Direction,
		&m.Subject, &m.MessageID, &m.Threat, &m.Reason, &m.Block, &m.Rule, &m.Flow, &m.Score)
	if err != nil {
		return m, err
	}
	m.Received, m.Stored = fromMillis(received), fromMillis(stored)
	m.ID, err = mail.ParseID(id)
	return m, err
}

// loadQuarantined reads the messages with these IDs and their entries, newest
// first.
func loadQuarantined(ctx context.Context, c *conn, ids []any) ([]QuarantinedMessage, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ids = padded(ids)
	var found []QuarantinedMessage
	index := map[mail.ID]int{}
	err := c.query(ctx, func(rows *sql.Rows) error {
		m, err := scanMessage(rows)
		if err != nil {
			return err
		}
		index[m.ID] = len(found)
		found = append(found, m)
		return nil
	}, "SELECT "+messageColumns+" FROM quarantine_messages WHERE complete = 1 AND id IN ("+places(len(ids))+") ORDER BY id DESC", ids...)
	if err != nil {
		return nil, err
	}
	err = c.query(ctx, func(rows *sql.Rows) error {
		id, e, err := scanEntry(rows)
		if err != nil {
			return err
		}
		if i, ok := index[id]; ok {
			found[i].Entries = append(found[i].Entries, e)
		}
		return nil
	}, "SELECT "+entryColumns+" FROM quarantine_entries WHERE message_id IN ("+places(len(ids))+") ORDER BY message_id, recipient_key", ids...)
	return found, err
}

// padded repeats the last of the values up to a power of two, so that there are
// few different statements.
func padded(values []any) []any {
	n := 1
	for n < len(values) {
		n *= 2
	}
	for len(values) < n {
		values = append(values, values[len(values)-1])
	}
	return values
}

const entryColumns = `message_id, recipient_key, recipient, domain, state,
	threat, reason, block, rule, flow, score, stored, changed, changed_by, change_reason`

func scanEntry(rows *sql.Rows) (id mail.ID, e QuarantineEntry, err error) {
	var message, key, raw string
	var stored, changed int64
	err = rows.Scan(&message, &key, &raw, &e.Domain, &e.State,
		&e.Threat, &e.Reason, &e.Block, &e.Rule, &e.Flow, &e.Score, &stored, &changed, &e.By, &e.Note)
	if err != nil {
		return id, e, err
	}
	e.Stored, e.Changed = fromMillis(stored), fromMillis(changed)
	e.Recipient = addressFrom(key, raw)
	id, err = mail.ParseID(message)
	return id, e, err
}

// addressFrom makes an address again. Its local part is in lower case: that of
// the exact spelling is in the envelope.
func addressFrom(key, raw string) mail.Address {
	local, domain := key, ""
	if at := strings.LastIndexByte(key, '@'); at >= 0 {
		local, domain = key[:at], key[at+1:]
	}
	return mail.Address{Local: local, Domain: domain, Raw: raw}
}

// Quarantined returns one message with its entries and its envelope, or
// ErrNotFound.
func (s *Store) Quarantined(ctx context.Context, id mail.ID) (*QuarantinedMessage, error) {
	var m *QuarantinedMessage
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		found, err := loadQuarantined(ctx, c, []any{id.String()})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return sql.ErrNoRows
		}
		m = &found[0]
		var envelope, scan string
		err = c.row(ctx, "SELECT envelope, scan FROM quarantine_envelopes WHERE message_id = ?", id.String()).Scan(&envelope, &scan)
		if err != nil {
			return err
		}
		if scan != "null" {
			m.Scan = json.RawMessage(scan)
		}
		return json.Unmarshal([]byte(envelope), &m.Envelope)
	})
	if err != nil {
		return nil, fmt.Errorf("read quarantined message %s: %w", id, err)
	}
	return m, nil
}

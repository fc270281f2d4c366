package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// QuarantineState is where one recipient's entry of a quarantined message stands.
type QuarantineState string

// The states of an entry.
const (
	QuarantineHeld     QuarantineState = "held"
	QuarantineReleased QuarantineState = "released" // put into the queue again
	QuarantineDeleted  QuarantineState = "deleted"  // gone for this recipient
)

// QuarantinedMessage is a message in the quarantine: one copy, with an entry for
// each recipient.
type QuarantinedMessage struct {
	ID       mail.ID   `json:"id"`
	Received time.Time `json:"received"`
	// Stored is when the store got it; that is later than Received where the
	// database was away. PutQuarantined sets it, and Node where that is "".
	Stored time.Time `json:"stored"`
	Node   string    `json:"node"`
	// Sender is the address as text, "" for the null sender.
	Sender    string `json:"sender"`
	Client    string `json:"client"` // IP address
	Helo      string `json:"helo,omitempty"`
	Listener  string `json:"listener"`
	Direction string `json:"direction"`
	Size      int64  `json:"size"` // bytes of the body; PutQuarantined sets it
	Subject   string `json:"subject,omitempty"`
	MessageID string `json:"message_id,omitempty"`
	// What decided first; each entry has its own.
	QuarantineCause
	Entries []QuarantineEntry `json:"entries"`

	// Envelope is the original one, with the findings. Scan is what else is kept
	// of the scan, opaque to the store. Only Quarantined fills them.
	Envelope *mail.Envelope  `json:"envelope,omitempty"`
	Scan     json.RawMessage `json:"scan,omitempty"`
}

// QuarantineCause is why a message is in the quarantine.
type QuarantineCause struct {
	Threat mail.Threat `json:"threat"`
	Reason string      `json:"reason"`
	Block  string      `json:"block,omitempty"`
	Rule   string      `json:"rule,omitempty"`
	Flow   string      `json:"flow,omitempty"`
	Score  float64     `json:"score"`
}

// QuarantineEntry is a quarantined message as it concerns one recipient.
type QuarantineEntry struct {
	// Recipient is the address; its Key tells the entries of a message apart.
	Recipient mail.Address `json:"recipient"`
	// Domain is the configured domain of the recipient, "" for none.
	Domain string          `json:"domain,omitempty"`
	State  QuarantineState `json:"state"`
	QuarantineCause
	Stored time.Time `json:"stored"` // set by PutQuarantined
	// Changed, By and Note tell when, by whom and why State was set; the zero
	// time while it never was.
	Changed time.Time `json:"changed,omitzero"`
	By      string    `json:"by,omitempty"`
	Note    string    `json:"note,omitempty"`
}

// bodyChunk is how many bytes of a body stand in one row. It is part of the
// format: every chunk of a body but the last has this size.
const bodyChunk = 256 << 10

// putGroup is how many chunks are written in one transaction. A message of no
// more is written in a single one.
const putGroup = 4

var errSizeDiffers = errors.New("a message with this ID and another size is in the quarantine")

// PutQuarantined puts a message with its body into the quarantine, or adds the
// entries of further recipients to the one that is there; entries that are there
// stay as they are. When it returns nil all of it is durable, and Find sees it
// only then. It can be repeated after any error and goes on where it was.
func (s *Store) PutQuarantined(ctx context.Context, m *QuarantinedMessage, body mail.Body) error {
	if m.ID.IsZero() || len(m.Entries) == 0 {
		return errors.New("quarantine message: it has no ID or no recipient")
	}
	p := put{s: s, m: *m, body: body, chunks: int((body.Size() + bodyChunk - 1) / bodyChunk)}
	p.m.Size = body.Size()
	if p.m.Node == "" {
		p.m.Node = s.options.Node
	}
	if err := p.encode(); err != nil {
		return fmt.Errorf("quarantine message %s: %w", m.ID, err)
	}
	run := p.whole
	if p.chunks > putGroup {
		run = p.piecemeal
	}
	if err := run(ctx); err != nil {
		return fmt.Errorf("quarantine message %s: %w", m.ID, err)
	}
	return nil
}

// put is one call of PutQuarantined.
type put struct {
	s        *Store
	m        QuarantinedMessage
	body     mail.Body
	chunks   int
	envelope string
	scan     string
}

func (p *put) encode() error {
	p.envelope, p.scan = "null", "null"
	if p.m.Envelope != nil {
		b, err := json.Marshal(p.m.Envelope)
		if err != nil {
			return err
		}
		p.envelope = string(b)
	}
	if len(p.m.Scan) > 0 {
		p.scan = clean(string(p.m.Scan))
	}
	return nil
}

// whole puts a small message in one transaction.
func (p *put) whole(ctx context.Context) error {
	data, err := p.read(0, p.chunks)
	if err != nil {
		return err
	}
	return p.s.write(ctx, func(ctx context.Context, c *conn) error {
		complete, err := p.begin(ctx, c)
		if err != nil {
			return err
		}
		if complete {
			return p.addEntries(ctx, c)
		}
		for n, chunk := range data {
			if err := p.putChunk(ctx, c, n, chunk); err != nil {
				return err
			}
		}
		return p.finish(ctx, c)
	})
}

// piecemeal puts a large message in several transactions, so that others are not
// held up; it is complete with the last one.
func (p *put) piecemeal(ctx context.Context) error {
	complete, have := false, 0
	err := p.s.write(ctx, func(ctx context.Context, c *conn) (err error) {
		complete, err = p.begin(ctx, c)
		if err != nil {
			return err
		}
		if complete {
			return p.addEntries(ctx, c)
		}
		// Chunks are written in order, so what an earlier try wrote is a prefix.
		return c.row(ctx, "SELECT count(*) FROM quarantine_chunks WHERE message_id = ?", p.m.ID.String()).Scan(&have)
	})
	if err != nil || complete {
		return err
	}
	for n := have; n < p.chunks; n += putGroup {
		data, err := p.read(n, min(n+putGroup, p.chunks))
		if err != nil {
			return err
		}
		err = p.s.write(ctx, func(ctx context.Context, c *conn) error {
			for i, chunk := range data {
				if err := p.putChunk(ctx, c, n+i, chunk); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return p.s.write(ctx, p.finish)
}

// read returns the chunks from the first to before the last.
func (p *put) read(first, last int) ([][]byte, error) {
	var chunks [][]byte
	for n := first; n < last; n++ {
		start := int64(n) * bodyChunk
		chunk := make([]byte, min(bodyChunk, p.body.Size()-start))
		if got, err := p.body.ReadAt(chunk, start); got < len(chunk) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read body: %w", err)
		}
		chunks = append(chunks, chunk)
	}
	return chunks, nil
}

// begin makes the row of the message, which is not complete yet, and reports
// whether there is one that is.
func (p *put) begin(ctx context.Context, c *conn) (complete bool, err error) {
	m := &p.m
	sender := senderOf(m)
	_, err = c.exec(ctx, `INSERT INTO quarantine_messages (id, complete, received, stored, size, node,
			sender, sender_key, sender_domain, client, helo, listener, direction, subject, subject_key, message_id,
			threat, reason, block, rule, flow, score, search)
		VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`,
		m.ID.String(), millis(m.Received), millis(time.Now()), m.Size, clean(m.Node),
		clean(m.Sender), sender.key, sender.domain, clean(m.Client), clean(m.Helo), clean(m.Listener), clean(m.Direction),
		clean(m.Subject), fold(m.Subject), clean(m.MessageID),
		string(m.Threat), clean(m.Reason), clean(m.Block), clean(m.Rule), clean(m.Flow), m.Score, searchText(m))
	if err != nil {
		return false, err
	}
	var flag, size int64
	err = c.row(ctx, "SELECT complete, size FROM quarantine_messages WHERE id = ?", m.ID.String()).Scan(&flag, &size)
	if err == nil && size != m.Size {
		err = errSizeDiffers
	}
	return flag == 1, err
}

func (p *put) putChunk(ctx context.Context, c *conn, n int, data []byte) error {
	_, err := c.exec(ctx, "INSERT INTO quarantine_chunks (message_id, n, data) VALUES (?, ?, ?) ON CONFLICT (message_id, n) DO NOTHING",
		p.m.ID.String(), n, data)
	return err
}

// finish makes the message complete, after it looked that its body is.
func (p *put) finish(ctx context.Context, c *conn) error {
	id := p.m.ID.String()
	var chunks, size int64
	err := c.row(ctx, "SELECT count(*), coalesce(sum(length(data)), 0) FROM quarantine_chunks WHERE message_id = ?", id).Scan(&chunks, &size)
	if err != nil {
		return err
	}
	if chunks != int64(p.chunks) || size != p.m.Size {
		return fmt.Errorf("%w: %d bytes of %d were written", ErrUnavailable, size, p.m.Size)
	}
	_, err = c.exec(ctx, "INSERT INTO quarantine_envelopes (message_id, envelope, scan) VALUES (?, ?, ?) ON CONFLICT (message_id) DO NOTHING",
		id, p.envelope, p.scan)
	if err != nil {
		return err
	}
	if err := p.addEntries(ctx, c); err != nil {
		return err
	}
	_, err = c.exec(ctx, "UPDATE quarantine_messages SET complete = 1, stored = ? WHERE id = ? AND complete = 0", millis(time.Now()), id)
	return err
}

// addEntries adds the entries that are not there, and their recipients to what is
// searched.
func (p *put) addEntries(ctx context.Context, c *conn) error {
	id, now := p.m.ID.String(), millis(time.Now())
	var added strings.Builder
	for i := range p.m.Entries {
		e := &p.m.Entries[i]
		n, err := c.exec(ctx, `INSERT INTO quarantine_entries (message_id, recipient_key, recipient, domain, state,
				threat, reason, block, rule, flow, score, stored, changed, changed_by, change_reason)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', '') ON CONFLICT (message_id, recipient_key) DO NOTHING`,
			id, recipientKey(e.Recipient), clean(e.Recipient.Raw), fold(e.Domain), string(QuarantineHeld),
			string(e.Threat), clean(e.Reason), clean(e.Block), clean(e.Rule), clean(e.Flow), e.Score, now)
		if err != nil {
			return err
		}
		if n > 0 {
			added.WriteString("\n" + fold(e.Recipient.Raw))
		}
	}
	if added.Len() == 0 {
		return nil
	}
	if _, err := c.exec(ctx, "UPDATE quarantine_messages SET search = search || ? WHERE id = ?", added.String(), id); err != nil {
		return err
	}
	return putSignature(ctx, c, id)
}

func recipientKey(a mail.Address) string { return fold(a.Key()) }

// addressKey is an address as it is looked for: as a whole and by its domain.
type addressKey struct{ key, domain string }

// senderOf prefers the envelope's address, whose parts are known, to the text.
func senderOf(m *QuarantinedMessage) addressKey {
	if m.Envelope != nil && m.Envelope.Sender.Raw == m.Sender {
		return addressKey{key: fold(m.Envelope.Sender.Key()), domain: fold(m.Envelope.Sender.Domain)}
	}
	at := strings.LastIndexByte(m.Sender, '@')
	return addressKey{key: fold(m.Sender), domain: fold(m.Sender[at+1:])}
}

// searchText is what free text is looked for in, besides the recipients.
func searchText(m *QuarantinedMessage) string {
	texts := []string{m.Sender, m.Subject, m.MessageID, m.Client, m.Helo, m.Reason, m.Rule}
	if m.Envelope != nil {
		texts = append(texts, m.Envelope.Session.User, m.Envelope.Session.Server)
	}
	return fold(strings.Join(texts, "\n"))
}

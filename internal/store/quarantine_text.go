package store

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/mail"
)

// A text is looked for with LIKE, which reads every row where nothing is found. So a
// narrow table has a signature of what stands in each message: a bit for each two and
// each three bytes that follow each other. A message whose signature lacks a bit of a
// word does not have the word; of the others LIKE looks at the text itself. That is the
// same in both databases, where their own indexes of parts of words are not (PostgreSQL
// has one only with an extension that an administrator must install).

// signatureWords are the columns s0 to s7 of quarantine_signatures. A message with
// three hundred different letters in a row has four of ten bits set, a word of five
// letters then is guessed wrong twice in a thousand.
const signatureWords = 8

type signature [signatureWords]uint64

// add sets the bits of a text, which is folded.
func (s *signature) add(text string) {
	for i := 1; i < len(text); i++ {
		two := uint32(text[i-1])<<8 | uint32(text[i])
		s.set(two)
		if i > 1 {
			s.set(1<<24 | uint32(text[i-2])<<16 | two)
		}
	}
}

func (s *signature) set(gram uint32) {
	const mix = 0x9E3779B97F4A7C15
	bit := uint64(gram) * mix >> (64 - 9)
	s[bit/64] |= 1 << (bit % 64)
}

// args are the values of the columns.
func (s *signature) args() []any {
	args := make([]any, len(s))
	for i, word := range s {
		args[i] = int64(word)
	}
	return args
}

// where is the condition that everything in s stands in a message.
func (s *signature) where() conditions {
	var w conditions
	for i, word := range s {
		if word != 0 {
			w.add("(s.s"+strconv.Itoa(i)+" & ?) = ?", int64(word), int64(word))
		}
	}
	return w
}

const signatureColumns = "s0, s1, s2, s3, s4, s5, s6, s7"

// putSignature signs what is searched of a message, after that has changed.
func putSignature(ctx context.Context, c *conn, id string) error {
	var text, sender string
	if err := c.row(ctx, "SELECT search, sender_key FROM quarantine_messages WHERE id = ?", id).Scan(&text, &sender); err != nil {
		return err
	}
	var s signature
	s.add(text)
	s.add(sender)
	err := c.query(ctx, func(rows *sql.Rows) error {
		var recipient string
		err := rows.Scan(&recipient)
		s.add(recipient)
		return err
	}, "SELECT recipient_key FROM quarantine_entries WHERE message_id = ?", id)
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, "INSERT INTO quarantine_signatures (message_id, "+signatureColumns+") VALUES "+tuples(1, signatureWords+1)+
		` ON CONFLICT (message_id) DO UPDATE SET s0 = excluded.s0, s1 = excluded.s1, s2 = excluded.s2, s3 = excluded.s3,
			s4 = excluded.s4, s5 = excluded.s5, s6 = excluded.s6, s7 = excluded.s7`, append([]any{id}, s.args()...)...)
	return err
}

// signature is that of what must stand in what is searched: the words of the text, the
// subject, and parts of addresses; zero where they say nothing.
func (q *QuarantineQuery) signature() (s signature) {
	for _, word := range strings.Fields(q.Text) {
		s.add(fold(word))
	}
	s.add(fold(q.Subject))
	for _, address := range []string{q.Sender, q.Recipient} {
		if isPart(address) {
			s.add(fold(address))
		}
	}
	return s
}

// findSigned is FindQuarantined's search for texts, at most limit IDs. Where signatures
// are mostly wrong, because the letters of a word are common and it is not, it gives up.
func findSigned(ctx context.Context, c *conn, q QuarantineQuery, limit int) ([]any, error) {
	entriesFirst := false
	if entry := q.onEntry(); len(entry.parts) > 0 && !isPart(q.Recipient) {
		var err error
		if entriesFirst, err = few(ctx, c, entry); err != nil {
			return nil, err
		}
	}
	var found []any
	for _, more := range []int{32, 500, 500} { // than are missing
		batch := limit - len(found) + more
		query, args := signedStatement(q, batch, c.dialect, entriesFirst)
		some, err := selectIDs(ctx, c, query, args)
		if err != nil || len(some) == 0 {
			return found, err
		}
		hits, err := withText(ctx, c, q, some)
		if err != nil {
			return nil, err
		}
		if found = append(found, hits...); len(found) >= limit {
			return found[:limit], nil
		}
		if len(some) < batch {
			return found, nil
		}
		if q.Before, err = mail.ParseID(some[len(some)-1].(string)); err != nil {
			return nil, err
		}
	}
	query, args := findStatement(q, limit-len(found), c.dialect)
	rest, err := selectIDs(ctx, c, query, args)
	return append(found, rest...), err
}

// withText are those of the messages that have the texts.
func withText(ctx context.Context, c *conn, q QuarantineQuery, ids []any) ([]any, error) {
	w := q.onText()
	w.add("m.complete = 1")
	ids = padded(ids)
	w.add("m.id IN ("+places(len(ids))+")", ids...)
	return selectIDs(ctx, c, "SELECT m.id FROM quarantine_messages m WHERE "+w.String()+" ORDER BY m.id DESC", w.args)
}

// fewEntries is up to how many entries are looked at before signatures are, which are
// read in a row at many times the speed.
const fewEntries = 2000

// few reports whether few entries fit.
func few(ctx context.Context, c *conn, entry conditions) (bool, error) {
	var n int
	err := c.row(ctx, "SELECT count(*) FROM (SELECT 1 FROM quarantine_entries e WHERE "+entry.String()+" LIMIT ?) AS fitting",
		append(slices.Clone(entry.args), fewEntries)...).Scan(&n)
	return n < fewEntries, err
}

// signedStatement selects the IDs of messages that may have the texts, and that fit
// otherwise. The rows of messages are joined where they are asked for something else
// only: the planner of PostgreSQL takes a signature for rare, however common it is.
// entriesFirst is for SQLite, whose planner knows as little.
func signedStatement(q QuarantineQuery, limit int, d dialect, entriesFirst bool) (string, []any) {
	join := joinInOrder(d)
	id, from := "s.message_id", "quarantine_signatures s"
	entry := q.onEntry()
	switch {
	case len(entry.parts) == 0:
	case entriesFirst:
		id = "e.message_id"
		from = "quarantine_entries e" + join + "quarantine_signatures s ON s.message_id = e.message_id"
	default:
		from += join + "quarantine_entries e ON e.message_id = s.message_id"
	}
	sign := q.signature()
	where := q.onID(id)
	where.and(sign.where())
	if on := q.onColumns(); len(on.parts) > 0 {
		from += join + "quarantine_messages m ON m.id = " + id
		where.and(on)
	}
	where.and(entry)
	where.args = append(where.args, limit)
	return "SELECT DISTINCT " + id + " FROM " + from + " WHERE " + where.String() + " ORDER BY " + id + " DESC LIMIT ?", where.args
}

func selectIDs(ctx context.Context, c *conn, query string, args []any) ([]any, error) {
	var ids []any
	err := c.query(ctx, func(rows *sql.Rows) error {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
		return nil
	}, query, args...)
	return ids, err
}

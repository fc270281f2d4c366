package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"
)

// querier is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// dialect tells the engines apart where their SQL differs.
type dialect string

const (
	dialectSQLite   dialect = "sqlite"
	dialectPostgres dialect = "postgres"
)

// conn runs statements, with "?" as placeholder in both dialects.
type conn struct {
	dialect dialect
	q       querier
}

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := c.q.ExecContext(ctx, c.bind(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// query calls scan for each row.
func (c *conn) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := c.q.QueryContext(ctx, c.bind(query), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// row returns the first row; Scan says sql.ErrNoRows where there is none, which
// read and write turn into ErrNotFound.
func (c *conn) row(ctx context.Context, query string, args ...any) *sql.Row {
	return c.q.QueryRowContext(ctx, c.bind(query), args...)
}

// bind numbers the placeholders for PostgreSQL. A "?" between single quotes is
// none.
func (c *conn) bind(query string) string {
	if c.dialect != dialectPostgres || !strings.Contains(query, "?") {
		return query
	}
	var b strings.Builder
	b.Grow(len(query) + 16)
	n, quoted := 0, false
	for i := range len(query) {
		switch ch := query[i]; {
		case ch == '\'':
			quoted = !quoted
			b.WriteByte(ch)
		case ch == '?' && !quoted:
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
		default:
			b.WriteByte(ch)
		}
	}
	return b.String()
}

// places returns "?, ?, ?" for n values. For many values use a power of two, and
// repeat one: each number of places is a statement of its own to prepare.
func places(n int) string {
	if n <= 0 {
		return "NULL"
	}
	return strings.Repeat("?, ", n-1) + "?"
}

// tuples returns n times "(?, ?)" with so many places each, for INSERT … VALUES.
func tuples(n, places int) string {
	one := "(" + strings.Repeat("?, ", places-1) + "?)"
	return strings.Repeat(one+", ", n-1) + one
}

// clean makes a text fit for PostgreSQL: valid UTF-8 without NUL.
func clean(s string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "\uFFFD")
}

// fold is the form in which texts are compared and searched without regard to
// case. The databases' own lower() differ beyond ASCII.
func fold(s string) string { return strings.ToLower(clean(s)) }

// contains returns the pattern for LIKE … ESCAPE '!' that finds the text anywhere.
func contains(text string) string {
	return "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(fold(text)) + "%"
}

// millis and fromMillis are how times are stored; the zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

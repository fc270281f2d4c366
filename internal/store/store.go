package store

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Errors that callers tell apart.
var (
	// ErrUnavailable says that the database cannot be used now: it is away, too
	// slow, full or busy. The same call may succeed later.
	ErrUnavailable = errors.New("the database is not available")
	// ErrNotFound says that there is no such record.
	ErrNotFound = errors.New("no such record")
	// ErrDamaged says that the SQLite file is no database, or a damaged one.
	ErrDamaged = errors.New("the database file is damaged")
)

// Options say where the records are.
type Options struct {
	// URL is "postgres://user:password@host:5432/database", or "" for SQLite.
	URL string
	// Dir holds the SQLite file; it must exist. It is not used with a URL.
	Dir string
	// Node names this node in records and in the database's list of sessions.
	Node string
	Log  *slog.Logger // nil: nothing is logged

	// Timeout bounds each call; default 10 s. A caller's context may be shorter.
	Timeout time.Duration
	// ConnectTimeout bounds one attempt to reach PostgreSQL; default 5 s.
	ConnectTimeout time.Duration
	// RetryMin and RetryMax are how long it waits between attempts to reach
	// PostgreSQL; default 250 ms, doubled up to 5 s. RetryMax is also how often
	// an idle database is asked whether it is there.
	RetryMin time.Duration
	RetryMax time.Duration
	// MaxConns bounds the connections to PostgreSQL, or the readers of SQLite;
	// default 10, SQLite 4.
	MaxConns int

	Reputation ReputationOptions
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Timeout = or(o.Timeout, 10*time.Second)
	o.ConnectTimeout = or(o.ConnectTimeout, 5*time.Second)
	o.RetryMin = or(o.RetryMin, 250*time.Millisecond)
	o.RetryMax = max(or(o.RetryMax, 5*time.Second), o.RetryMin)
	if o.MaxConns <= 0 {
		o.MaxConns = 10
		if o.URL == "" {
			o.MaxConns = 4
		}
	}
	o.Reputation = o.Reputation.withDefaults()
	return o
}

func or(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Store is an open database. Its methods may be used by any number of goroutines.
type Store struct {
	options    Options
	engine     engine
	reputation *reputationBuffer
}

// engine is what differs between the databases.
type engine interface {
	// read runs statements that change nothing.
	read(ctx context.Context, fn work) error
	// write runs fn in a transaction and makes it durable.
	write(ctx context.Context, fn work) error
	health() error
	close() error
}

// work is a group of statements of one call. It may run again from its start
// after a failure, so it must set, not add to, what lies outside of it.
type work func(ctx context.Context, c *conn) error

// Open opens the records. A PostgreSQL that is away is no error: it is looked
// for until Close, see Health. The errors are a URL that cannot be meant and, for
// SQLite, a file that cannot be used (ErrDamaged among others). ctx bounds Open
// alone.
func Open(ctx context.Context, o Options) (*Store, error) {
	o = o.withDefaults()
	s := &Store{options: o}
	var err error
	if o.URL == "" {
		s.engine, err = openSQLite(ctx, o, sqliteRecords())
	} else {
		s.engine, err = openPostgres(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	s.reputation = newReputationBuffer(s)
	return s, nil
}

// Close writes what is buffered, as far as the database takes it within
// Options.Timeout, and ends the connections.
func (s *Store) Close() error {
	s.reputation.close()
	return s.engine.close()
}

// Health returns nil when the database answers, else what is wrong with it, for
// administrators.
func (s *Store) Health() error { return s.engine.health() }

// Node returns the name of this node.
func (s *Store) Node() string { return s.options.Node }

// read runs fn with statements that change nothing; it bounds its time.
func (s *Store) read(ctx context.Context, fn work) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	return s.engine.read(ctx, fn)
}

// write runs fn in a transaction that is durable when write returns nil, and
// undone otherwise (but for a connection that is lost at the commit). fn must be
// short: with SQLite everybody waits for it, and many share one commit.
func (s *Store) write(ctx context.Context, fn work) error {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	return s.engine.write(ctx, fn)
}

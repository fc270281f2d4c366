package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrationLock is the number of the advisory lock that one node holds while it
// changes the tables; it means nothing but "Gatepost's tables".
const migrationLock = 0x6761_7465_706f_7374 & 0x7fff_ffff_ffff_ffff

// maxMigration bounds a change of the tables, with the wait for another node's.
const maxMigration = time.Hour

// postgresEngine is a pool of connections and a keeper, the goroutine that finds
// the database again when it was away. While it is away, calls are refused at
// once instead of each waiting for the same timeout.
type postgresEngine struct {
	options Options
	config  *pgx.ConnConfig
	db      *sql.DB
	log     *slog.Logger

	// wrong is nil while the database is there.
	wrong atomic.Pointer[error]
	// lost wakes the keeper. migrated says that the tables are up to date.
	lost     chan struct{}
	migrated atomic.Bool

	cancel context.CancelFunc
	keeper sync.WaitGroup
}

// openPostgres waits for the first attempt to reach the database, but no longer
// than one may take.
func openPostgres(ctx context.Context, o Options) (*postgresEngine, error) {
	config, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	config.ConnectTimeout = o.ConnectTimeout
	if _, set := config.RuntimeParams["application_name"]; !set {
		config.RuntimeParams["application_name"] = "gatepost " + clean(o.Node)
	}
	e := &postgresEngine{options: o, config: config, log: o.Log, lost: make(chan struct{}, 1)}
	e.db = stdlib.OpenDB(*config, stdlib.OptionAfterConnect(e.prepareSession))
	e.db.SetMaxOpenConns(o.MaxConns)
	e.db.SetMaxIdleConns(o.MaxConns)
	e.db.SetConnMaxIdleTime(5 * time.Minute)
	// Now and then a new one, so that a changed address is noticed.
	e.db.SetConnMaxLifetime(time.Hour)
	e.wrong.Store(&errNotYet)

	keep, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	tried := make(chan struct{})
	e.keeper.Go(func() { e.keep(keep, tried) })
	timer := time.NewTimer(o.ConnectTimeout)
	defer timer.Stop()
	select {
	case <-tried:
	case <-timer.C:
	case <-ctx.Done():
	}
	return e, nil
}

// prepareSession sets what the promises of the package need, whatever the server
// is configured to: commits that are on disk, statements and forgotten
// transactions that end even if this node dies.
func (e *postgresEngine) prepareSession(ctx context.Context, c *pgx.Conn) error {
	limit := fmt.Sprintf("%dms", (e.options.Timeout + time.Second).Milliseconds())
	_, err := c.Exec(ctx, `SELECT set_config('statement_timeout', $1, false),
		set_config('idle_in_transaction_session_timeout', $1, false),
		set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)`, limit)
	return err
}

// keep runs until ctx ends: it looks whether the database is there, often when it
// is not. It closes tried after the first time.
func (e *postgresEngine) keep(ctx context.Context, tried chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	delay := e.options.RetryMin
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.lost:
		case <-timer.C:
		}
		switch err := e.revive(ctx); {
		case err == nil:
			delay = e.options.RetryMin
			timer.Reset(e.options.RetryMax)
		case ctx.Err() == nil:
			e.down(err)
			timer.Reset(delay)
			delay = min(2*delay, e.options.RetryMax)
		}
		if tried != nil {
			close(tried)
			tried = nil
		}
	}
}

// revive asks the database for an answer, brings its tables up to date where that
// was not done yet, and says that it is there.
func (e *postgresEngine) revive(ctx context.Context) error {
	ping, cancel := context.WithTimeout(ctx, e.options.ConnectTimeout)
	defer cancel()
	if err := e.db.PingContext(ping); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if !e.migrated.Load() {
		if err := e.migrate(ctx); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		e.migrated.Store(true)
	}
	if was := e.wrong.Swap(nil); was != nil {
		e.log.Info("the database is available")
	}
	return nil
}

// migrate changes the tables under a lock, so that of several nodes one does it
// and the others wait and find it done. It may take longer than a call, so it has
// a connection of its own without the limits.
func (e *postgresEngine) migrate(ctx context.Context) error {
	locker, err := lock.NewPostgresSessionLocker(
		lock.WithLockID(migrationLock), lock.WithLockTimeout(1, 300), lock.WithUnlockTimeout(1, 10))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, maxMigration)
	defer cancel()
	db := stdlib.OpenDB(*e.config)
	defer db.Close()
	return migrate(ctx, db, string(dialectPostgres), e.log, goose.WithSessionLocker(locker))
}

// down says that the database is away; calls are refused until revive.
func (e *postgresEngine) down(err error) {
	if was := e.wrong.Swap(&err); was == nil || *was == errNotYet {
		e.log.Error("going on without the database", "err", err)
	}
}

// errNotYet is what is wrong before the first attempt ended.
var errNotYet = fmt.Errorf("%w: not connected yet", ErrUnavailable)

func (e *postgresEngine) read(ctx context.Context, fn work) error {
	return e.run(ctx, func() error {
		return fn(ctx, &conn{dialect: dialectPostgres, q: e.db})
	})
}

func (e *postgresEngine) write(ctx context.Context, fn work) error {
	return e.run(ctx, func() error {
		tx, err := e.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() // after Commit it does nothing
		if err := fn(ctx, &conn{dialect: dialectPostgres, q: tx}); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// maxTries bounds how often a call is tried that met another one's locks, or a
// connection that had died in the pool.
const maxTries = 4

func (e *postgresEngine) run(ctx context.Context, fn func() error) error {
	var err error
	for range maxTries {
		if wrong := e.wrong.Load(); wrong != nil {
			return *wrong
		}
		if err = fn(); !mayRetry(err) {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case lacksTables(err):
		// Somebody put another database in the place of ours.
		e.migrated.Store(false)
	case !isAway(err):
		return err
	}
	err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	// The end of the caller's time looks like a database that does not answer;
	// the keeper tells which it is.
	if ctx.Err() == nil {
		e.down(err)
	}
	select {
	case e.lost <- struct{}{}:
	default:
	}
	return err
}

func (e *postgresEngine) health() error {
	if wrong := e.wrong.Load(); wrong != nil {
		return *wrong
	}
	return nil
}

func (e *postgresEngine) close() error {
	e.cancel()
	e.keeper.Wait()
	closed := fmt.Errorf("%w: %w", ErrUnavailable, errClosed)
	e.wrong.Store(&closed)
	return e.db.Close()
}

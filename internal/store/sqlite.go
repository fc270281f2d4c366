package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// sqliteSchema is one database file and the tables in it.
type sqliteSchema struct {
	file       string // in Options.Dir
	migrations string // below the directory migrations
	parameters string // more for the connection that makes it
}

// sqliteRecords holds the records, but for the history. Incremental vacuum must be
// set before the first table is made.
func sqliteRecords() sqliteSchema {
	return sqliteSchema{file: "records.db", migrations: string(dialectSQLite), parameters: "&_auto_vacuum=2"}
}

// sqliteEngine is one writer connection, whose transactions carry many callers'
// work each (writer.go), and a few readers that it does not hold up (WAL).
type sqliteEngine struct {
	path    string
	log     *slog.Logger
	readers *sql.DB
	db      *sql.DB // one connection, of the writer
	writer  *groupWriter

	file os.FileInfo // what path was when it was opened

	mu      sync.Mutex
	wrong   error     // what the last statement said, if that concerns all
	looked  time.Time // when path was last looked at
	missing error     // that path is not that file any more
}

// lookEvery is how often it is made sure that the file is still the one at path.
const lookEvery = time.Second

// present reports that the file was not removed or replaced under our feet: SQLite
// would go on writing to one that nobody finds again.
func (e *sqliteEngine) present() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); now.Sub(e.looked) >= lookEvery {
		e.looked, e.missing = now, nil
		if info, err := os.Stat(e.path); err != nil || !os.SameFile(info, e.file) {
			e.missing = fmt.Errorf("%w: %s was removed or replaced while it was in use: put it back, or restart to begin with what is there", ErrUnavailable, e.path)
		}
	}
	return e.missing
}

func openSQLite(ctx context.Context, o Options, schema sqliteSchema) (*sqliteEngine, error) {
	path, err := filepath.Abs(filepath.Join(o.Dir, schema.file))
	if err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	e := &sqliteEngine{path: path, log: o.Log}
	if err := e.connect(ctx, o, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open records: %w", e.judge(err)), e.close())
	}
	if e.file, err = os.Stat(path); err != nil {
		return nil, errors.Join(fmt.Errorf("open records: %w", err), e.close())
	}
	return e, nil
}

// createPrivate makes the file before SQLite does, for the owner only; SQLite
// gives its companions the same mode.
func createPrivate(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return os.Chmod(path, 0o600)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return errors.Join(f.Close(), dir.Sync(), dir.Close())
}

// connect opens the connections and brings the tables up to date.
func (e *sqliteEngine) connect(ctx context.Context, o Options, schema sqliteSchema) error {
	// Strings in double quotes are a mistake that SQLite would forgive.
	common := "_busy_timeout=10000&_foreign_keys=1&_dqs=0&_error_rc=1"
	var err error
	if e.db, err = e.pool(common+schema.parameters+"&_journal_mode=WAL&_synchronous=FULL&_txlock=immediate", 1); err != nil {
		return err
	}
	if err := migrate(ctx, e.db, schema.migrations, o.Log); err != nil {
		return err
	}
	if e.readers, err = e.pool(common+"&_query_only=1", o.MaxConns); err != nil {
		return err
	}
	if err := e.readers.PingContext(ctx); err != nil {
		return err
	}
	// Lets the planner know how the values of the indexes are spread; it looks at a
	// bounded part of each.
	if _, err := e.db.ExecContext(ctx, "PRAGMA optimize=0x10002"); err != nil {
		return err
	}
	e.writer = newGroupWriter(e.db)
	return nil
}

func (e *sqliteEngine) pool(parameters string, conns int) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: e.path, RawQuery: parameters}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func (e *sqliteEngine) read(ctx context.Context, fn work) error {
	if e.writer.closed() {
		return fmt.Errorf("%w: %w", ErrUnavailable, errClosed)
	}
	return e.note(ctx, fn(ctx, &conn{dialect: dialectSQLite, q: e.readers}))
}

func (e *sqliteEngine) write(ctx context.Context, fn work) error {
	if err := e.present(); err != nil {
		return err
	}
	return e.note(ctx, e.writer.do(ctx, fn))
}

// note remembers for health whether the database as a whole has a problem. That a
// caller gave up is none.
func (e *sqliteEngine) note(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	err = e.judge(err)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrDamaged):
		e.wrong = err
	case err == nil:
		e.wrong = nil
	}
	return err
}

// judge turns SQLite's errors into ours.
func (e *sqliteEngine) judge(err error) error {
	var se *sqlite.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, errClosed):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case !errors.As(err, &se):
		return err
	}
	switch se.Code() & 0xff { // the rest is detail
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%w: %s: restore it from a backup, or move it away to begin with an empty one: %w", ErrDamaged, e.path, err)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED,
		sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT:
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, e.path, err)
	}
	return err
}

func (e *sqliteEngine) health() error {
	if err := e.present(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.wrong
}

func (e *sqliteEngine) close() error {
	var errs []error
	if e.writer != nil {
		e.writer.close()
	}
	if e.readers != nil {
		errs = append(errs, e.readers.Close())
	}
	if e.db != nil {
		errs = append(errs, e.db.Close())
	}
	return errors.Join(errs...)
}

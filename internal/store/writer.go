package store

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
)

// errClosed says that the store was closed.
var errClosed = errors.New("the store is closed")

// maxGroup bounds how many callers share one commit.
const maxGroup = 256

// groupWriter is the goroutine that owns SQLite's one writing connection. It
// takes whatever waits, runs it in one transaction, each caller's work within a
// savepoint of its own, and syncs once for all: one sync costs more than
// hundreds of small changes.
type groupWriter struct {
	db   *sql.DB
	jobs chan *job
	quit chan struct{}
	done sync.WaitGroup
	once sync.Once
}

// job is the work of one caller.
type job struct {
	ctx   context.Context
	fn    work
	taken atomic.Bool // by the writer, or by the caller who gives up
	err   error
	ended chan struct{}
}

func newGroupWriter(db *sql.DB) *groupWriter {
	w := &groupWriter{db: db, jobs: make(chan *job), quit: make(chan struct{})}
	w.done.Go(w.run)
	return w
}

// close ends the writer; work that is under way is finished.
func (w *groupWriter) close() {
	w.once.Do(func() { close(w.quit) })
	w.done.Wait()
}

func (w *groupWriter) closed() bool {
	select {
	case <-w.quit:
		return true
	default:
		return false
	}
}

// do runs fn in a transaction. A caller who gives up before it began leaves
// nothing behind; afterwards do waits for the end, since fn uses what is the
// caller's.
func (w *groupWriter) do(ctx context.Context, fn work) error {
	j := &job{ctx: ctx, fn: fn, ended: make(chan struct{})}
	select {
	case w.jobs <- j:
	case <-w.quit:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-j.ended:
		return j.err
	case <-ctx.Done():
		if j.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		<-j.ended
		return j.err
	}
}

func (w *groupWriter) run() {
	for {
		var group []*job
		select {
		case <-w.quit:
			return
		case j := <-w.jobs:
			group = append(group, j)
		}
		for more := true; more && len(group) < maxGroup; {
			select {
			case j := <-w.jobs:
				group = append(group, j)
			default:
				more = false
			}
		}
		w.commit(group)
	}
}

// commit runs the jobs in one transaction and tells their callers.
func (w *groupWriter) commit(group []*job) {
	err := w.transact(group)
	for _, j := range group {
		if err != nil {
			j.err = err
		}
		close(j.ended)
	}
}

// transact returns an error that concerns all; that of one job alone stands in it.
//
// No statement is bound to a caller's context: SQLite answers an interrupted
// change by rolling the whole transaction back, the work of the others with it.
func (w *groupWriter) transact(group []*job) error {
	ctx := context.Background()
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after Commit it does nothing
	c := &conn{dialect: dialectSQLite, q: tx}
	for _, j := range group {
		if !j.taken.CompareAndSwap(false, true) {
			j.err = j.ctx.Err()
			continue
		}
		if j.err = j.ctx.Err(); j.err != nil {
			continue
		}
		if err := w.step(c, j); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// step runs one job within a savepoint. It returns an error when the transaction
// is lost: a full disk and the like end it as a whole.
func (w *groupWriter) step(c *conn, j *job) error {
	ctx := context.Background()
	if _, err := c.exec(ctx, "SAVEPOINT step"); err != nil {
		return err
	}
	if j.err = j.fn(ctx, c); j.err != nil {
		if _, err := c.exec(ctx, "ROLLBACK TO step"); err != nil {
			return errors.Join(j.err, err)
		}
	}
	_, err := c.exec(ctx, "RELEASE step")
	return err
}

package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

const (
	// keepSize is up to which size the Body of a Writer stays in memory after the
	// commit, so that a message that can be delivered at once is not read back.
	keepSize = chunkSize
	// pooledSize is from where a buffer of chunkSize is taken from the pool.
	pooledSize = chunkSize / 2
	// firstBuffer is what a Writer begins with.
	firstBuffer = 4 << 10
	// batchSlack is what envelope and items add to a batch, roughly.
	batchSlack = 4 << 10
)

var (
	errWriterDone = errors.New("message was committed or aborted")
	errNoItems    = errors.New("message without queue items")
)

// Writer takes in one message. It is for one goroutine; its Body may be read by
// others. Commit or Abort must be called.
type Writer struct {
	s    *Spool
	id   mail.ID
	body *Body
	size int64
	// buf is what is not in the store yet, at most chunkSize bytes.
	buf []byte
	// pooled is where buf came from, nil if it is a plain slice.
	pooled *[]byte
	chunks uint32 // pieces in the store
	note   Note   // goes with the commit; without an ID: none
	err    error
	done   bool
}

// Create begins a message. The ID must never have been used before.
func (s *Spool) Create(id mail.ID) *Writer {
	w := &Writer{s: s, id: id}
	w.body = &Body{s: s, id: id}
	return w
}

// Size is the number of bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Body returns what was written so far. After Commit it stays valid until the
// last item of the message is done; after Abort it reads as ErrNotFound.
func (w *Writer) Body() mail.Body {
	w.body.set(w.size, w.buf)
	return w.body
}

// Write takes in more of the body. After an error the message can only be aborted.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, errWriterDone
	}
	n := 0
	for n < len(p) && w.err == nil {
		if len(w.buf) == chunkSize {
			if w.err = w.flushChunk(); w.err != nil {
				break
			}
		}
		k := min(len(p)-n, chunkSize-len(w.buf))
		w.grow(k)
		w.buf = append(w.buf, p[n:n+k]...)
		n += k
	}
	w.size += int64(n)
	return n, w.err
}

// grow makes room for k more bytes. Small messages get a plain slice, larger ones
// a pooled buffer of the size of a chunk.
func (w *Writer) grow(k int) {
	need := len(w.buf) + k
	if need <= cap(w.buf) {
		return
	}
	var next []byte
	if need <= pooledSize {
		next = make([]byte, len(w.buf), min(max(need, 2*cap(w.buf), firstBuffer), pooledSize))
	} else {
		w.pooled = w.s.buffers.Get().(*[]byte)
		next = (*w.pooled)[:len(w.buf)]
	}
	copy(next, w.buf)
	w.buf = next
}

// flushChunk puts the full buffer into the store. It becomes durable with the
// commit at the latest: a log is synced as a whole, and before the next begins;
// and should the log fail in between, no commit is let in before everything in
// memory, this chunk included, is in a table file.
func (w *Writer) flushChunk() error {
	if err := w.s.space.take(int64(len(w.buf))); err != nil {
		return err
	}
	_, err := w.s.h.begin()
	if err != nil {
		return err
	}
	defer w.s.h.end()
	b := w.s.db.NewBatchWithSize(len(w.buf) + batchSlack)
	if w.chunks == 0 {
		// Until the commit, the mark tells sweep that these chunks may be orphans.
		err = setMark(b, w.id)
	}
	if err = errors.Join(err, setChunk(b, w.id, w.chunks, w.buf)); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := w.s.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	w.chunks++
	w.body.set(int64(w.chunks)*chunkSize, nil)
	w.buf = w.buf[:0]
	return b.Close()
}

// Commit makes the message durable: body, envelope and items in one synced
// write. It sets env.Size. If it returns an error, nothing of the message
// remains. Each item's ID must be this message's with a number of its own.
func (w *Writer) Commit(env *mail.Envelope, items []*mail.QueueItem) error {
	start := time.Now()
	err := w.commit(env, items)
	if w.s.o.Observer != nil {
		w.s.o.Observer.Committed(time.Since(start), err)
	}
	if err != nil {
		return fmt.Errorf("commit message %s: %w", w.id, err)
	}
	return nil
}

func (w *Writer) commit(env *mail.Envelope, items []*mail.QueueItem) error {
	if w.done {
		return errWriterDone
	}
	if w.err != nil {
		return w.err
	}
	if err := w.checkItems(env, items); err != nil {
		return err
	}
	w.err = w.store(env, items)
	if w.err != nil {
		return w.err
	}
	w.done = true
	w.settle()
	return nil
}

// settle decides what of a committed message stays in memory.
func (w *Writer) settle() {
	switch {
	case w.chunks > 0:
		w.body.set(w.size, nil)
	case w.pooled != nil:
		w.body.set(w.size, bytes.Clone(w.buf))
	default:
		w.body.set(w.size, w.buf)
		w.buf = nil
	}
	w.recycle()
}

func (w *Writer) checkItems(env *mail.Envelope, items []*mail.QueueItem) error {
	if env.ID != w.id {
		return fmt.Errorf("envelope of %s", env.ID)
	}
	if len(items) == 0 {
		return errNoItems
	}
	if len(items) > math.MaxUint16 {
		return fmt.Errorf("%d queue items", len(items))
	}
	for _, it := range items {
		if it.ID.Message != w.id || it.ID.N == 0 {
			return fmt.Errorf("queue item %s", it.ID)
		}
	}
	return nil
}

// store writes the batch that makes the message durable.
func (w *Writer) store(env *mail.Envelope, items []*mail.QueueItem) error {
	if err := w.s.space.take(int64(len(w.buf))); err != nil {
		return err
	}
	epoch, err := w.s.h.begin()
	if err != nil {
		return err
	}
	defer w.s.h.end()
	env.Size = w.size
	b := w.s.db.NewBatchWithSize(len(w.buf) + batchSlack)
	if err := w.fill(b, env, items); err != nil {
		return errors.Join(err, b.Close())
	}
	if err := w.s.db.Apply(b, pebble.Sync); err != nil {
		return err
	}
	if err := w.s.h.verdict(epoch); err != nil {
		// The records may have reached the disk or not. The client is told that they
		// did not, so they must not come back.
		return errors.Join(err, w.revoke(items))
	}
	return b.Close()
}

func (w *Writer) fill(b *pebble.Batch, env *mail.Envelope, items []*mail.QueueItem) error {
	if len(w.buf) > 0 {
		if err := setChunk(b, w.id, w.chunks, w.buf); err != nil {
			return err
		}
	}
	e := w.s.encoders.Get().(*jsonEncoder)
	defer w.s.putEncoder(e)
	if err := setEnvelope(b, e, env, uint16(len(items))); err != nil {
		return err
	}
	for _, it := range items {
		if err := setItem(b, e, it, scheduleOf(it, uint16(len(items)), w.size)); err != nil {
			return err
		}
	}
	if !w.note.ID.IsZero() {
		if err := setNote(b, w.note); err != nil {
			return err
		}
	}
	if w.chunks > 0 {
		return b.Delete(msgKey(famMark, w.id), nil)
	}
	return nil
}

// revoke removes what a failed commit wrote.
func (w *Writer) revoke(items []*mail.QueueItem) error {
	b := w.s.db.NewBatch()
	err := deleteMessage(b, w.id, w.size)
	for _, it := range items {
		err = errors.Join(err, deleteItem(b, it.ID))
	}
	if !w.note.ID.IsZero() {
		err = errors.Join(err, dropNote(b, w.note.ID))
	}
	w.chunks = 0
	return errors.Join(err, w.s.unsynced(b))
}

// Abort forgets the message. It may be called at any time, also after Commit,
// when it does nothing.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.body.fail(ErrNotFound)
	w.recycle()
	if w.chunks == 0 {
		return
	}
	// Where this fails, sweep finds the mark at the next start.
	if err := w.s.removeBody(w.id, int64(w.chunks)*chunkSize); err != nil {
		w.s.o.Log.Warn("spool: cannot remove an aborted message now", "id", w.id, "error", err.Error())
	}
}

// recycle gives a pooled buffer back.
func (w *Writer) recycle() {
	if w.pooled != nil {
		w.s.buffers.Put(w.pooled)
	}
	w.buf, w.pooled = nil, nil
}

// maxKeptJSON keeps the pool from holding the buffers of giant envelopes.
const maxKeptJSON = 64 << 10

func (s *Spool) putEncoder(e *jsonEncoder) {
	if e.buf.Cap() <= maxKeptJSON {
		s.encoders.Put(e)
	}
}

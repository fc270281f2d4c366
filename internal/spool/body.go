package spool

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// Body reads the body of one message. It may be used by many goroutines. It
// holds no resources but memory, so it need not be closed.
type Body struct {
	s  *Spool
	id mail.ID

	// checked is 1 + the number of the chunk whose checksum was verified last, so
	// that a sequential reader pays for each chunk once.
	checked atomic.Uint32

	mu   sync.RWMutex
	size int64
	tail []byte // the last bytes, where they are in memory
	err  error
}

// set says how long the body is and what of it is in memory.
func (b *Body) set(size int64, tail []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size, b.tail = size, tail
}

func (b *Body) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tail, b.err = nil, err
}

// Size implements mail.Body.
func (b *Body) Size() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.size
}

// Memory is how many bytes of memory the Body holds: its size if it is small
// and was just written, else 0.
func (b *Body) Memory() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return int64(cap(b.tail))
}

// ReadAt implements io.ReaderAt. A damaged body gives ErrCorrupt, one that was
// removed ErrNotFound.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read body: negative offset")
	}
	n := 0
	for n < len(p) {
		k, err := b.readSome(p[n:], off+int64(n))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSome reads up to the end of a chunk.
func (b *Body) readSome(p []byte, off int64) (int, error) {
	b.mu.RLock()
	size, err := b.size, b.err
	stored := size - int64(len(b.tail))
	if err == nil && off >= stored && off < size {
		n := copy(p, b.tail[off-stored:])
		b.mu.RUnlock()
		return n, nil
	}
	b.mu.RUnlock()
	switch {
	case err != nil:
		return 0, fmt.Errorf("read body %s: %w", b.id, err)
	case off >= size:
		return 0, io.EOF
	}
	chunk := uint32(off / chunkSize)
	want := min(chunkSize, size-int64(chunk)*chunkSize)
	return b.s.readChunk(b, p, chunkPos{chunk: chunk, off: int(off % chunkSize), want: int(want)})
}

// chunkPos is a place in a chunk of want bytes.
type chunkPos struct {
	chunk     uint32
	off, want int
}

// readChunk copies from a chunk in the store.
func (s *Spool) readChunk(b *Body, p []byte, at chunkPos) (int, error) {
	if err := s.h.enter(); err != nil {
		return 0, err
	}
	defer s.h.leave()
	var key [bodyKeyLen]byte
	putBodyKey(key[:], b.id, at.chunk)
	rec, closer, err := s.db.Get(key[:])
	if err != nil {
		return 0, s.chunkError(b, key[:], err)
	}
	defer closer.Close()
	if b.checked.Load() != at.chunk+1 {
		_, err := unseal(key[:], rec)
		if err == nil && len(rec)-headerLen != at.want {
			err = fmt.Errorf("%w: %d bytes instead of %d", ErrCorrupt, len(rec)-headerLen, at.want)
		}
		if err != nil {
			s.setAside(key[:], append([]byte(nil), rec...), err)
			return 0, fmt.Errorf("read %s: %w", keyName(key[:]), err)
		}
		b.checked.Store(at.chunk + 1)
	}
	if len(rec) < headerLen+at.want {
		return 0, fmt.Errorf("read %s: %w: %d bytes", keyName(key[:]), ErrCorrupt, len(rec))
	}
	return copy(p, rec[headerLen+at.off:]), nil
}

// chunkError tells a chunk that is missing from a message that is gone.
func (s *Spool) chunkError(b *Body, key []byte, err error) error {
	if !errors.Is(err, pebble.ErrNotFound) {
		return s.readError(key, err)
	}
	_, closer, eerr := s.db.Get(msgKey(famEnvelope, b.id))
	if eerr != nil {
		return s.readError(key, err)
	}
	defer closer.Close()
	err = fmt.Errorf("%w: chunk is missing", ErrCorrupt)
	s.setAside(key, nil, err)
	return fmt.Errorf("read %s: %w", keyName(key), err)
}

// Body returns the body of a stored message. It holds no memory.
func (s *Spool) Body(id mail.ID) (mail.Body, error) {
	if err := s.h.enter(); err != nil {
		return nil, err
	}
	defer s.h.leave()
	size, err := s.bodySize(id)
	if err != nil {
		return nil, err
	}
	return &Body{s: s, id: id, size: size}, nil
}

// bodySize reads the size from the envelope record.
func (s *Spool) bodySize(id mail.ID) (int64, error) {
	var key [msgKeyLen]byte
	putMsgKey(key[:], famEnvelope, id)
	rec, closer, err := s.db.Get(key[:])
	if err != nil {
		return 0, s.readError(key[:], err)
	}
	defer closer.Close()
	size, _, err := parseEnvelopeHead(key[:], rec)
	if err != nil {
		s.setAside(key[:], append([]byte(nil), rec...), err)
		return 0, fmt.Errorf("read %s: %w", keyName(key[:]), err)
	}
	return size, nil
}

// removeBody deletes chunks that no envelope refers to, and their mark.
func (s *Spool) removeBody(id mail.ID, size int64) error {
	if err := s.h.enterChange(chunksOf(size) * int64(bodyKeyLen)); err != nil {
		return err
	}
	defer s.h.leave()
	b := s.db.NewBatch()
	err := deleteChunks(b, id, size)
	if err = errors.Join(err, b.Delete(msgKey(famMark, id), nil)); err != nil {
		return errors.Join(err, b.Close())
	}
	return s.unsynced(b)
}

// chunksOf is how many chunks a body of the size has.
func chunksOf(size int64) int64 { return (size + chunkSize - 1) / chunkSize }

// deleteChunks removes the chunks of a body, each of which was written once.
func deleteChunks(b *pebble.Batch, id mail.ID, size int64) error {
	for i := range chunksOf(size) {
		op := b.SingleDeleteDeferred(bodyKeyLen)
		putBodyKey(op.Key, id, uint32(i))
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// deleteMessage removes everything of a message but its items and its mark.
func deleteMessage(b *pebble.Batch, id mail.ID, size int64) error {
	if err := deleteChunks(b, id, size); err != nil {
		return err
	}
	op := b.SingleDeleteDeferred(msgKeyLen)
	putMsgKey(op.Key, famEnvelope, id)
	return op.Finish()
}

// deleteItem removes an item and its schedule record.
func deleteItem(b *pebble.Batch, id mail.QueueID) error {
	for _, fam := range []byte{famItem, famSchedule} {
		op := b.DeleteDeferred(itemKeyLen)
		putItemKey(op.Key, fam, id)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}

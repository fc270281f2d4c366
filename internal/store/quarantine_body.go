package store

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"gatepost/internal/mail"
)

// QuarantinedBody opens the original bytes of a message. The chunks are read as
// they are asked for, the last one is remembered; any number of goroutines may
// read. ctx bounds all reading; an error in the midst is ErrUnavailable, or
// ErrNotFound where the message was deleted meanwhile.
func (s *Store) QuarantinedBody(ctx context.Context, id mail.ID) (mail.Body, error) {
	b := &quarantinedBody{ctx: ctx, s: s, id: id.String()}
	err := s.read(ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT size FROM quarantine_messages WHERE id = ? AND complete = 1", b.id).Scan(&b.size)
	})
	if err != nil {
		return nil, fmt.Errorf("open quarantined message %s: %w", id, err)
	}
	return b, nil
}

// quarantinedBody implements mail.Body.
type quarantinedBody struct {
	ctx  context.Context // io.ReaderAt has no place for it
	s    *Store
	id   string
	size int64
	last atomic.Pointer[cachedChunk]
}

type cachedChunk struct {
	n    int64
	data []byte
}

// Size implements mail.Body.
func (b *quarantinedBody) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt.
func (b *quarantinedBody) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read quarantined message %s: negative offset", b.id)
	}
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= b.size {
			return done, io.EOF
		}
		data, err := b.chunk(at / bodyChunk)
		if err != nil {
			return done, fmt.Errorf("read quarantined message %s: %w", b.id, err)
		}
		done += copy(p[done:], data[at%bodyChunk:])
	}
	return done, nil
}

func (b *quarantinedBody) chunk(n int64) ([]byte, error) {
	if last := b.last.Load(); last != nil && last.n == n {
		return last.data, nil
	}
	var data []byte
	err := b.s.read(b.ctx, func(ctx context.Context, c *conn) error {
		return c.row(ctx, "SELECT data FROM quarantine_chunks WHERE message_id = ? AND n = ?", b.id, n).Scan(&data)
	})
	if err != nil {
		return nil, err
	}
	if want := min(bodyChunk, b.size-n*bodyChunk); int64(len(data)) != want {
		return nil, fmt.Errorf("%w: chunk %d has %d bytes, want %d", ErrDamaged, n, len(data), want)
	}
	b.last.Store(&cachedChunk{n: n, data: data})
	return data, nil
}

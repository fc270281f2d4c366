package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"gatepost/internal/mail"
)

// errNoTemp is the end of a member that does not fit into memory where there is
// no Temp.
var errNoTemp = fmt.Errorf("%w: longer than what may be held", errMemory)

// keeper holds the content of one member, first in memory, then in a Temp.
type keeper struct {
	w    *walk
	mem  *[]byte
	file TempFile
	size int64
}

func (w *walk) newKeeper() *keeper {
	mem := w.unpacker.buffers.Get().(*[]byte)
	*mem = (*mem)[:0]
	return &keeper{w: w, mem: mem}
}

// write appends p. The error is errNoTemp or errEnded.
func (k *keeper) write(p []byte) error {
	if k.file == nil && int64(len(*k.mem)+len(p)) <= k.w.unpacker.config.Spill {
		*k.mem = append(slices.Grow(*k.mem, len(p)), p...)
		k.size += int64(len(p))
		return nil
	}
	if k.file == nil {
		if k.w.unpacker.config.Temp == nil {
			fits := p[:k.w.unpacker.config.Spill-k.size]
			*k.mem = append(*k.mem, fits...)
			k.size += int64(len(fits))
			return errNoTemp
		}
		if err := k.spill(); err != nil {
			return err
		}
	}
	n, err := k.file.Write(p)
	k.size += int64(n)
	if err != nil {
		return k.w.broken(fmt.Errorf("keep member: %w", err))
	}
	return nil
}

func (k *keeper) spill() error {
	file, err := k.w.unpacker.config.Temp.Create()
	if err != nil {
		return k.w.broken(err)
	}
	k.file = file
	if _, err := file.Write(*k.mem); err != nil {
		return k.w.broken(fmt.Errorf("keep member: %w", err))
	}
	*k.mem = (*k.mem)[:0]
	return nil
}

// body returns the content; it dies with the keeper.
func (k *keeper) body() mail.Body {
	if k.file != nil {
		return pages(io.NewSectionReader(k.file, 0, k.size))
	}
	return bytes.NewReader(*k.mem)
}

func (k *keeper) close() {
	if k.file != nil {
		// Nothing that was kept is needed any more.
		_ = k.file.Close()
	}
	k.w.unpacker.buffers.Put(k.mem)
}

// chunkSize is how much is decoded between two looks at the limits, in bytes.
const chunkSize = 32 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunkSize); return &b }}

func (w *walk) chunk() *[]byte     { return chunks.Get().(*[]byte) }
func (w *walk) putChunk(b *[]byte) { chunks.Put(b) }

// paged reads a body in large pieces and keeps the last ones, because parsers
// read headers of a few bytes, in no order, and every read of a spooled message
// costs a whole chunk of it.
type paged struct {
	body mail.Body

	mu    sync.Mutex
	pages [4]page
	next  int
}

type page struct {
	off  int64
	data []byte
}

const pageSize = 64 << 10

// pages returns body with a cache in front of it.
func pages(body mail.Body) mail.Body {
	p := &paged{body: body}
	for i := range p.pages {
		p.pages[i].off = -1
	}
	return p
}

func (p *paged) Size() int64 { return p.body.Size() }

func (p *paged) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	done := 0
	for done < len(b) {
		at := off + int64(done)
		if at >= p.body.Size() {
			return done, io.EOF
		}
		// Whole pages go past the cache: they are read once, from start to end.
		if whole := (int64(len(b)-done) / pageSize) * pageSize; whole > 0 && at%pageSize == 0 {
			n, err := p.body.ReadAt(b[done:done+int(whole)], at)
			done += n
			if int64(n) < whole {
				return done, eofAt(err)
			}
			continue
		}
		data, err := p.page(at - at%pageSize)
		if err != nil {
			return done, err
		}
		done += copy(b[done:], data[at%pageSize:])
	}
	return done, nil
}

func eofAt(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// page returns the bytes from off on.
func (p *paged) page(off int64) ([]byte, error) {
	for i := range p.pages {
		if p.pages[i].off == off {
			return p.pages[i].data, nil
		}
	}
	slot := &p.pages[p.next]
	p.next = (p.next + 1) % len(p.pages)
	size := min(pageSize, p.body.Size()-off)
	if int64(cap(slot.data)) < size {
		slot.data = make([]byte, size)
	}
	slot.off, slot.data = -1, slot.data[:size]
	n, err := p.body.ReadAt(slot.data, off)
	if int64(n) < size {
		return nil, eofAt(err)
	}
	slot.off = off
	return slot.data, nil
}

package message

import (
	"io"
	"sync"

	"gatepost/internal/mail"
)

// Content is a message as it leaves: pieces of memory and of the spooled body,
// one after the other. It is immutable and may be read any number of times and
// by several goroutines, as long as the body lives.
type Content struct {
	pieces []piece
	size   int64
}

// piece is one stretch of a Content: mem, or n bytes of body from off, or
// another Content that is encoded as it is read.
type piece struct {
	mem     []byte
	body    mail.Body
	off, n  int64
	encoded *encodedPart
}

// NewContent returns the content of m with the edits of its envelope applied:
// Edits.Prepend, then the body without the spans of Edits.Cut and with those of
// Edits.Replace exchanged. Spans that lie outside of the body or overlap are
// clipped.
func NewContent(m mail.Message) *Content {
	c := &Content{}
	var edits mail.Edits
	if m.Envelope != nil {
		edits = m.Envelope.Edits
	}
	c.pieces = make([]piece, 0, 2+len(edits.Cut)+2*len(edits.Replace))
	c.addMemory(edits.Prepend)
	at, size := int64(0), m.Body.Size()
	for cut, replace := edits.Cut, edits.Replace; len(cut)+len(replace) > 0; {
		var next mail.Replacement
		if len(replace) == 0 || len(cut) > 0 && cut[0].Start <= replace[0].Start {
			next.Span, cut = cut[0], cut[1:]
		} else {
			next, replace = replace[0], replace[1:]
		}
		c.addBody(m.Body, at, min(next.Start, size))
		c.addMemory(next.Text)
		at = min(max(at, next.End), size)
	}
	c.addBody(m.Body, at, size)
	return c
}

func (c *Content) addMemory(b []byte) {
	if len(b) > 0 {
		c.pieces = append(c.pieces, piece{mem: b, n: int64(len(b))})
		c.grow(int64(len(b)))
	}
}

func (c *Content) addBody(b mail.Body, start, end int64) {
	if start < end {
		c.pieces = append(c.pieces, piece{body: b, off: start, n: end - start})
		c.grow(end - start)
	}
}

func (c *Content) addEncoded(e *encodedPart) {
	c.pieces = append(c.pieces, piece{encoded: e})
	c.size = -1
}

func (c *Content) grow(n int64) {
	if c.size >= 0 {
		c.size += n
	}
}

// Prepend returns a Content that begins with b, which must be whole header
// fields and must not be changed afterwards.
func (c *Content) Prepend(b []byte) *Content {
	p := &Content{pieces: make([]piece, 0, 1+len(c.pieces))}
	p.addMemory(b)
	p.pieces = append(p.pieces, c.pieces...)
	if p.size += c.size; c.size < 0 {
		p.size = -1
	}
	return p
}

// Size is the number of bytes that a Reader yields, or -1 where that is only
// known after reading (a Content that To7Bit made).
func (c *Content) Size() int64 { return c.size }

// addRange appends the bytes [start,end) of from, which must have a known size.
func (c *Content) addRange(from *Content, start, end int64) {
	for _, p := range from.pieces {
		lo, hi := max(0, start), min(p.n, end)
		switch {
		case lo >= hi:
		case p.mem != nil:
			c.addMemory(p.mem[lo:hi])
		default:
			c.addBody(p.body, p.off+lo, p.off+hi)
		}
		start, end = start-p.n, end-p.n
	}
}

// Reader returns a new reader over the whole content.
func (c *Content) Reader() *Reader { return &Reader{pieces: c.pieces, size: c.size} }

// Reader reads a Content from start to end. WriteTo is the fast way: it hands
// out big slices.
type Reader struct {
	pieces []piece
	size   int64
	done   int64     // bytes of pieces[0] that were read
	sub    io.Reader // the encoder of pieces[0]
}

var _ io.WriterTo = (*Reader)(nil)

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.pieces) > 0 {
		n, err := r.readPiece(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		r.pieces, r.done, r.sub = r.pieces[1:], 0, nil
	}
	return 0, io.EOF
}

// readPiece reads from the first piece; 0 and nil is the end of it.
func (r *Reader) readPiece(p []byte) (n int, err error) {
	first := &r.pieces[0]
	if first.encoded != nil {
		if r.sub == nil {
			r.sub = first.encoded.reader()
		}
		if n, err = r.sub.Read(p); err == io.EOF {
			err = nil
		}
		return n, err
	}
	p = p[:min(int64(len(p)), first.n-r.done)]
	if first.mem != nil {
		n = copy(p, first.mem[r.done:])
	} else if len(p) > 0 {
		if err = readFullAt(first.body, p, first.off+r.done); err != nil {
			return 0, err
		}
		n = len(p)
	}
	r.done += int64(n)
	return n, nil
}

// WriteTo implements io.WriterTo. A message that fits into a chunk is written
// with one call of w.Write, a bigger one with a call for each chunk.
func (r *Reader) WriteTo(w io.Writer) (written int64, err error) {
	pool := &chunks
	if r.size >= bigChunkSize {
		pool = &bigChunks
	}
	chunk := pool.Get().(*[]byte)
	defer pool.Put(chunk)
	for {
		n, err := io.ReadFull(r, *chunk)
		if n > 0 {
			wrote, werr := w.Write((*chunk)[:n])
			written += int64(wrote)
			if werr != nil {
				return written, werr
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			if len(r.pieces) == 0 {
				return written, nil
			}
			return written, io.ErrUnexpectedEOF
		default:
			return written, err
		}
	}
}

// Bodies pass through buffers of these sizes. Ordinary mail is one chunk, which is
// small enough for thousands of deliveries at once. A big message takes a big one:
// the spool stores bodies in such pieces, and every read of a part of one costs
// nearly as much as reading it whole.
const (
	chunkSize    = 32 << 10
	bigChunkSize = 256 << 10
)

// chunks and bigChunks recycle the buffers; they hold nothing between uses.
var (
	chunks    = sync.Pool{New: func() any { return newChunk(chunkSize) }}
	bigChunks = sync.Pool{New: func() any { return newChunk(bigChunkSize) }}
)

func newChunk(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

func getChunk() *[]byte  { return chunks.Get().(*[]byte) }
func putChunk(b *[]byte) { chunks.Put(b) }

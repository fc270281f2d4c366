package mimetree

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"gatepost/internal/mail"
)

// codec decodes one encoding. Its state is small, so that it can be kept at many
// places of a stream and decoding can begin at each of them.
type codec interface {
	// decode appends what src holds to dst and returns how much of src it used:
	// all of it where last is set, something of it where src has minDecode bytes.
	// done says that the encoding itself has come to its end.
	decode(dst, src []byte, last bool) (out []byte, used int, done bool)
	// clone returns a codec in the same state.
	clone() codec
}

// minDecode is how many bytes every codec can do something with; decodeChunk how
// many it is given at once.
const (
	minDecode   = 2 << 10
	decodeChunk = 8 << 10
)

// maxExpansion bounds what one chunk may become: BinHex has runs.
const maxExpansion = 1 << 20

func newCodec(encoding, variant string) codec {
	switch encoding {
	case Base64:
		return &base64Codec{mode: variant}
	case QuotedPrintable:
		return newQPCodec(variant)
	case Uuencode:
		return &uuCodec{}
	case YEnc:
		return &yencCodec{}
	case BinHex:
		return &binhexCodec{fork: variant}
	}
	return lfCodec{}
}

// stream decodes a stretch of a body from front to back.
type stream struct {
	body  mail.Body
	off   int64 // of the next byte to decode
	end   int64
	codec codec
	done  bool
	in    []byte
}

// next appends the next decoded bytes to dst. It adds none only at the end.
func (s *stream) next(dst []byte) ([]byte, error) {
	before := len(dst)
	for len(dst) == before && !s.done {
		n := int(min(int64(decodeChunk), s.end-s.off))
		s.in = slices.Grow(s.in[:0], n)[:n]
		dst = slices.Grow(dst, n)
		if err := readFull(s.body, s.in, s.off); err != nil {
			return dst, err
		}
		var used int
		last := s.off+int64(n) == s.end
		dst, used, s.done = s.codec.decode(dst, s.in, last)
		s.off += int64(used)
		s.done = s.done || s.off >= s.end || used == 0
	}
	return dst, nil
}

// reader reads a stream.
type reader struct {
	stream
	out  []byte
	rest []byte // of out
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.done {
			return 0, io.EOF
		}
		out, err := r.next(r.out[:0])
		if err != nil {
			return 0, err
		}
		r.out, r.rest = out, out
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *reader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		if len(r.rest) > 0 {
			n, err := w.Write(r.rest)
			written += int64(n)
			r.rest = r.rest[n:]
			if err != nil {
				return written, err
			}
		}
		if r.done {
			return written, nil
		}
		if r.out, err = r.next(r.out[:0]); err != nil {
			return written, err
		}
		r.rest = r.out
	}
}

// View is random access to decoded bytes. It implements mail.Body, holds one
// window of them, and may be used by many goroutines; reading from front to back
// is what it is good at.
type View struct {
	body   mail.Body
	end    int64
	points []point
	size   int64
	recent atomic.Pointer[stretch]
}

// point is a place at which decoding can begin.
type point struct {
	off   int64 // in the encoded bytes
	at    int64 // in the decoded bytes
	codec codec
}

// stretch is what lies between two points.
type stretch struct {
	at   int64
	data []byte
}

// betweenPoints is how many decoded bytes lie between two points at least.
const betweenPoints = 64 << 10

// newView decodes the stream once and keeps points on the way. Where each is not
// nil, it is given all decoded bytes.
func newView(ctx context.Context, s stream, each func([]byte)) (*View, error) {
	v := &View{body: s.body, end: s.end}
	var out []byte
	for {
		if len(v.points) == 0 || v.size-v.points[len(v.points)-1].at >= betweenPoints {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			v.points = append(v.points, point{s.off, v.size, s.codec.clone()})
		}
		var err error
		if out, err = s.next(out[:0]); err != nil {
			return nil, err
		}
		if each != nil {
			each(out)
		}
		v.size += int64(len(out))
		if s.done {
			return v, nil
		}
	}
}

// Size implements mail.Body.
func (v *View) Size() int64 { return v.size }

// ReadAt implements io.ReaderAt.
func (v *View) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read view at %d: negative offset", off)
	}
	n := 0
	for n < len(p) {
		if off >= v.size {
			return n, io.EOF
		}
		s, err := v.stretch(off)
		if err != nil {
			return n, err
		}
		m := copy(p[n:], s.data[off-s.at:])
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// stretch returns the decoded bytes around off, decoding them if they are not
// the ones that were last asked for.
func (v *View) stretch(off int64) (*stretch, error) {
	if s := v.recent.Load(); s != nil && off >= s.at && off < s.at+int64(len(s.data)) {
		return s, nil
	}
	i, found := slices.BinarySearchFunc(v.points, off, func(p point, off int64) int {
		switch {
		case p.at < off:
			return -1
		case p.at > off:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	// Several points may lie at one place where a stretch decodes to nothing.
	for i+1 < len(v.points) && v.points[i+1].at <= off {
		i++
	}
	end := v.size
	if i+1 < len(v.points) {
		end = v.points[i+1].at
	}
	p := v.points[i]
	d := stream{body: v.body, off: p.off, end: v.end, codec: p.codec.clone()}
	s := &stretch{at: p.at, data: make([]byte, 0, int(end-p.at)+decodeChunk)}
	for int64(len(s.data)) < end-p.at && !d.done {
		var err error
		if s.data, err = d.next(s.data); err != nil {
			return nil, err
		}
	}
	if off >= s.at+int64(len(s.data)) {
		return nil, fmt.Errorf("decode content at %d: %w", off, io.ErrUnexpectedEOF)
	}
	v.recent.Store(s)
	return s, nil
}

// section is a stretch of a body as a body.
type section struct {
	body mail.Body
	span mail.Span
}

func (s section) Size() int64 { return s.span.End - s.span.Start }

func (s section) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.body, s.span.Start, s.Size()).ReadAt(p, off)
}

package archive

import (
	"errors"
	"fmt"
	"io"

	"gatepost/internal/mail"
)

// errPanic marks the error that a decoder's panic became.
var errPanic = errors.New("decoder gave up")

// safely calls fn, which runs code of others over hostile bytes, and turns a
// panic into an error. This is the one place where panics are caught: the formats
// are large, their decoders index slices by what they read, and a mail must not
// stop the mail of others. Own code and the visitor are never called below it.
func safely(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// guarded is a decoder whose panics are errors. After an error it stays there.
type guarded struct {
	r   io.Reader
	err error
}

// guard opens a decoder and guards it.
func guard(open func() (io.Reader, error)) (*guarded, error) {
	g := &guarded{}
	err := safely(func() (err error) {
		g.r, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (g *guarded) Read(p []byte) (n int, err error) {
	if g.err != nil {
		return 0, g.err
	}
	err = safely(func() (err error) {
		n, err = g.r.Read(p)
		return err
	})
	if n < 0 || n > len(p) {
		n, err = 0, errPanic
	}
	g.err = err
	return n, err
}

// source is how decoders read an object: it says the truth about where the object
// ends, stops when the walk must stop, and tells broken storage from a broken
// archive.
type source struct {
	w    *walk
	body mail.Body
}

// open returns the object's bytes for parsers and decoders.
func (w *walk) open(body mail.Body) *io.SectionReader {
	return io.NewSectionReader(source{w, body}, 0, body.Size())
}

func (s source) ReadAt(p []byte, off int64) (int, error) {
	if s.w.visiting {
		return s.body.ReadAt(p, off)
	}
	if err := s.w.alive(); err != nil {
		return 0, err
	}
	n, err := s.body.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return n, s.w.broken(fmt.Errorf("read message: %w", err))
	}
	if n < len(p) && off+int64(n) < s.body.Size() {
		return n, s.w.broken(fmt.Errorf("read message: %w", io.ErrUnexpectedEOF))
	}
	return n, err
}

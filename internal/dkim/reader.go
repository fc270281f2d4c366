package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"

	"gatepost/internal/message"
)

// reader takes a message in pieces: it keeps the header section and hashes the
// body once for each canonicalisation that a signer needs.
type reader struct {
	ctx       context.Context // of the one call of Sign that the reader lives for
	maxHeader int64
	header    []byte
	inBody    bool
	bodies    [2]*bodyWriter // by Canon; nil where nobody needs it
	hashes    [2]hash.Hash
}

func newReader(ctx context.Context, g Group) *reader {
	r := &reader{ctx: ctx}
	for _, s := range g {
		r.maxHeader = max(r.maxHeader, s.opts.MaxHeader)
		if c := s.opts.Body; r.bodies[c] == nil {
			r.hashes[c] = sha256.New()
			r.bodies[c] = newBodyWriter(c, r.hashes[c])
		}
	}
	return r
}

// Write implements io.Writer.
func (r *reader) Write(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	n := len(p)
	if !r.inBody {
		p = r.readHeader(p)
		if int64(len(r.header)) > r.maxHeader {
			return 0, errHeaderTooBig
		}
	}
	for _, b := range r.bodies {
		if b == nil || len(p) == 0 {
			continue
		}
		if _, err := b.Write(p); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// readHeader keeps what belongs to the header section and returns the rest.
func (r *reader) readHeader(p []byte) (body []byte) {
	const emptyLine = crlf + crlf
	from := max(0, len(r.header)-len(emptyLine)+1)
	r.header = append(r.header, p...)
	size := -1
	if bytes.HasPrefix(r.header, []byte(crlf)) {
		size = len(crlf)
	} else if i := bytes.Index(r.header[from:], []byte(emptyLine)); i >= 0 {
		size = from + i + len(emptyLine)
	}
	if size < 0 {
		return nil
	}
	r.inBody = true
	body = p[len(p)-(len(r.header)-size):]
	r.header = r.header[:size]
	return body
}

// finish ends the message and returns its header section.
func (r *reader) finish() (*message.Header, error) {
	for _, b := range r.bodies {
		if b == nil {
			continue
		}
		if err := b.Close(); err != nil {
			return nil, err
		}
	}
	return message.ParseHeader(r.header), nil
}

func (r *reader) bodyHash(c Canon) []byte { return r.hashes[c].Sum(nil) }

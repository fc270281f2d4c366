package dkim

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"slices"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// bodyHashes hashes a body once for each canonicalisation, for signatures with
// any number of different lengths l=: the hash of a beginning is the hash of the
// whole, looked at on the way.
type bodyHashes struct {
	ctx   context.Context // of the one call of Verify that they live for
	canon [2]*prefixHash  // by Canon; nil where nobody needs it
}

// prefixHash hashes what it is given, and notes the sums of the beginnings with
// the lengths of cuts.
type prefixHash struct {
	hash hash.Hash
	n    int64
	cuts []int64 // ascending
	sums map[int64][]byte
	body *bodyWriter // writes here
}

// want asks for the hash of the first limit bytes of the canonical body, or of all.
func (b *bodyHashes) want(c Canon, limit int64) {
	p := b.canon[c]
	if p == nil {
		p = &prefixHash{hash: sha256.New(), sums: make(map[int64][]byte)}
		p.body = newBodyWriter(c, p)
		b.canon[c] = p
	}
	if i, found := slices.BinarySearch(p.cuts, limit); !found && limit != wholeBody {
		p.cuts = slices.Insert(p.cuts, i, limit)
	}
}

// read hashes the body of a message, if somebody wants it.
func (b *bodyHashes) read(m mail.Body, headerSize int64) error {
	if b.canon == [2]*prefixHash{} {
		return nil
	}
	body := message.NewContent(mail.Message{Body: m, Envelope: &mail.Envelope{
		Edits: mail.Edits{Cut: []mail.Span{{Start: 0, End: headerSize}}},
	}})
	if _, err := body.Reader().WriteTo(b); err != nil {
		return err
	}
	for _, p := range b.canon {
		if p == nil {
			continue
		}
		if err := p.body.Close(); err != nil {
			return err
		}
		p.pass()
		p.sums[wholeBody] = p.hash.Sum(nil)
	}
	return nil
}

// Write implements io.Writer.
func (b *bodyHashes) Write(piece []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	for _, p := range b.canon {
		if p == nil {
			continue
		}
		if _, err := p.body.Write(piece); err != nil {
			return 0, err
		}
	}
	return len(piece), nil
}

// sum returns the hash of a beginning, nil where the body is shorter; partial
// says that the body is longer.
func (b *bodyHashes) sum(c Canon, limit int64) (sum []byte, partial bool) {
	p := b.canon[c]
	return p.sums[limit], limit != wholeBody && limit < p.n
}

var _ io.Writer = (*prefixHash)(nil)

// Write implements io.Writer.
func (p *prefixHash) Write(b []byte) (int, error) {
	wrote := len(b)
	for len(p.cuts) > 0 && p.n+int64(len(b)) >= p.cuts[0] {
		k := p.cuts[0] - p.n
		p.hash.Write(b[:k])
		p.n, b = p.n+k, b[k:]
		p.pass()
	}
	p.hash.Write(b)
	p.n += int64(len(b))
	return wrote, nil
}

// pass notes the sum here if somebody wants it.
func (p *prefixHash) pass() {
	if len(p.cuts) > 0 && p.cuts[0] == p.n {
		p.sums[p.n] = p.hash.Sum(nil)
		p.cuts = p.cuts[1:]
	}
}

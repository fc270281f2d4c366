package mimetree

import (
	"context"
	"io"

	"gatepost/internal/mail"
)

// Content is one way to read the bytes of a part.
type Content struct {
	// Encoding is what is undone: Base64 and so on, Identity for nothing.
	Encoding string `json:"encoding"`
	// Variant tells the readings of damaged data apart, "" for the first.
	Variant string `json:"variant,omitempty"`
	// Main says that most programs read the part so.
	Main bool `json:"main,omitempty"`
	// Types are the media types that the decoded bytes look like, the likeliest
	// first. There are several where a file is valid as several, and none where
	// the part is empty.
	Types []string `json:"types,omitempty"`
	// Raw is the stretch of the message that it is made of.
	Raw mail.Span `json:"raw"`

	body mail.Body // where the encoded bytes are
	span mail.Span // and the place of them
	sum  uint64    // of the decoded bytes, once known
	size int64     // decoded
}

// Open returns a reader of the decoded bytes, which also implements io.WriterTo.
// Damage is no error; where nothing can be decoded there is nothing to read.
// Every call returns a reader of its own.
func (c *Content) Open() io.Reader {
	if c.plain() {
		return io.NewSectionReader(c.body, c.span.Start, c.span.End-c.span.Start)
	}
	return &reader{stream: c.stream()}
}

// OpenAt returns random access to the decoded bytes, for formats that begin at
// the end. An encoded content is decoded once to find out its size.
func (c *Content) OpenAt(ctx context.Context) (mail.Body, error) {
	if c.plain() {
		return section{c.body, c.span}, nil
	}
	return newView(ctx, c.stream(), nil)
}

// plain says that nothing has to be decoded.
func (c *Content) plain() bool { return c.Encoding == Identity && c.Variant == "" }

func (c *Content) stream() stream {
	return stream{body: c.body, off: c.span.Start, end: c.span.End, codec: newCodec(c.Encoding, c.Variant), done: c.span.Start >= c.span.End}
}

// encodedSize is how many bytes it is made of.
func (c *Content) encodedSize() int64 { return c.span.End - c.span.Start }

package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
)

// maxEncodedLine is the line length of both encodings, RFC 2045 §6.7 and §6.8.
const maxEncodedLine = 76

// encodedPart is a stretch of a message that is encoded as it is read.
type encodedPart struct {
	source *Content
	// quoted chooses quoted-printable, for text whose lines all end with CRLF;
	// otherwise base64.
	quoted bool
	// last says that the message ends with this part, so the encoded form has to
	// end with a line end, without adding one to what it decodes to.
	last bool
}

func (e *encodedPart) reader() io.Reader {
	r := &encodingReader{source: e.source.Reader(), last: e.last}
	if e.quoted {
		r.encoder, r.softEnd = quotedprintable.NewWriter(&r.out), "=\r\n"
	} else {
		r.encoder, r.softEnd = base64.NewEncoder(base64.StdEncoding, &lineBreaker{out: &r.out}), crlf
	}
	return r
}

// encodingReader pulls bytes through an encoder.
type encodingReader struct {
	source  *Reader
	encoder io.WriteCloser
	in      [4 << 10]byte
	out     bytes.Buffer
	last    bool
	softEnd string  // ends the last line without meaning a line end
	tail    [2]byte // the last two bytes of the encoded form
	done    bool
}

func (r *encodingReader) Read(p []byte) (int, error) {
	for r.out.Len() == 0 {
		if r.done {
			return 0, io.EOF
		}
		r.out.Reset()
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.out.Read(p)
}

// fill encodes one more buffer. The encoders write to memory, so an error can
// only come from the source.
func (r *encodingReader) fill() error {
	n, err := r.source.Read(r.in[:])
	if _, werr := r.encoder.Write(r.in[:n]); werr != nil {
		return werr
	}
	if err == io.EOF {
		r.done = true
		if err := r.encoder.Close(); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	r.keepTail()
	if r.done && r.last && r.tail != [2]byte{} && string(r.tail[:]) != crlf {
		r.out.WriteString(r.softEnd)
	}
	return nil
}

func (r *encodingReader) keepTail() {
	b := r.out.Bytes()
	if len(b) == 1 {
		r.tail[0], r.tail[1] = r.tail[1], b[0]
	} else if len(b) > 1 {
		copy(r.tail[:], b[len(b)-2:])
	}
}

// lineBreaker puts a line end between lines of 76 characters.
type lineBreaker struct {
	out    *bytes.Buffer
	column int
}

func (l *lineBreaker) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if l.column == maxEncodedLine {
			l.out.WriteString(crlf)
			l.column = 0
		}
		take := min(len(p), maxEncodedLine-l.column)
		l.out.Write(p[:take])
		l.column += take
		p = p[take:]
	}
	return n, nil
}

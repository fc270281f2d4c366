package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode/utf8"

	"gatepost/internal/mail"
)

// maxHeaders is how many bytes of original headers a report returns at most.
const maxHeaders = 128 << 10

// original is the third part of a report.
type original struct {
	description, mediaType, encoding string
	content                          io.Reader
	size                             int64
	eightBit                         bool
}

// original decides how much of the message comes back, and in which form.
func (b *builder) original() original {
	if b.wantsWhole() {
		if eightBit, err := inspect(io.NewSectionReader(b.Body, 0, b.Body.Size())); err == nil {
			return b.whole(eightBit)
		}
	}
	return b.headers()
}

// wantsWhole: RFC 3461 §4.3 has RET=FULL hold for failures only; RFC 8689 §5
// would not have the text of a protected message go out again in a report.
func (b *builder) wantsWhole() bool {
	return (b.Envelope.Ret == mail.RetFull || b.DoubleBounce) && b.worst() == Failed &&
		!b.Envelope.RequireTLS && b.Body.Size() <= b.MaxReturn
}

func (b *builder) whole(eightBit bool) original {
	o := original{
		description: "Undelivered message", mediaType: "message/rfc822", encoding: "7bit",
		content: io.NewSectionReader(b.Body, 0, b.Body.Size()), size: b.Body.Size(), eightBit: eightBit,
	}
	if eightBit {
		o.encoding = "8bit"
		if b.utf8 {
			o.mediaType = "message/global" // RFC 6532 §3.7
		}
	}
	return o
}

// headers returns the header section. It is in memory: it is small, and has to
// be looked at before its encoding is known.
func (b *builder) headers() original {
	o := original{description: "Headers of the message", mediaType: "text/rfc822-headers", encoding: "7bit"}
	raw := b.readHeaders()
	eightBit, err := inspect(bytes.NewReader(raw))
	if err != nil || eightBit && !(b.utf8 && utf8.Valid(raw)) {
		// RFC 6522 §4: headers that are not legal 7-bit text are encoded.
		raw = encodeQP(raw)
		o.encoding, eightBit = "quoted-printable", false
	}
	if eightBit {
		o.mediaType, o.encoding = "message/global-headers", "8bit" // RFC 6533
	}
	o.eightBit = eightBit
	o.content, o.size = bytes.NewReader(raw), int64(len(raw))
	return o
}

// readHeaders returns the header section without the empty line after it. Where
// it cannot be read, the facts of the envelope stand in for it: a report must
// not fail because the message is damaged.
func (b *builder) readHeaders() []byte {
	size := b.Envelope.HeaderSize
	if size <= 0 || size > b.Body.Size() {
		size = b.Body.Size()
	}
	raw := make([]byte, min(size, maxHeaders))
	// What ReadAt says beside a full buffer (io.EOF at the end) does not matter.
	if n, _ := b.Body.ReadAt(raw, 0); n < len(raw) {
		var s strings.Builder
		fmt.Fprintf(&s, "Message-ID: %s\r\nSubject: %s\r\n", clean(b.Envelope.MessageID), clean(b.Envelope.Subject))
		return []byte(s.String())
	}
	if bytes.HasPrefix(raw, []byte("\r\n")) {
		return nil
	}
	if end := bytes.Index(raw, []byte("\r\n\r\n")); end >= 0 {
		return raw[:end+2]
	}
	if size > maxHeaders {
		raw = raw[:bytes.LastIndexByte(raw, '\n')+1] // whole lines only
	}
	return raw
}

func encodeQP(raw []byte) []byte {
	var out bytes.Buffer
	w := quotedprintable.NewWriter(&out)
	w.Write(raw) // a bytes.Buffer takes everything
	w.Close()
	return out.Bytes()
}

// errUnclean says that something may not stand in a message as it is.
var errUnclean = errors.New("not clean lines of text")

// inspect reads lines and reports whether a byte above 0x7f is among them. It
// fails on what no part that is not encoded may hold: a bare CR or LF, NUL, a
// line of more than 998 bytes (RFC 5322 §2.1.1).
func inspect(r io.Reader) (eightBit bool, err error) {
	buf := make([]byte, 32<<10)
	line := 0
	var last byte
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			switch {
			case (c == '\n') != (last == '\r'), c == 0:
				return false, errUnclean
			case c == '\n':
				line = -1
			case c >= 0x80:
				eightBit = true
			}
			if c != '\r' {
				line++
			}
			if line > 998 {
				return false, errUnclean
			}
			last = c
		}
		if errors.Is(err, io.EOF) {
			if last == '\r' {
				return false, errUnclean
			}
			return eightBit, nil
		}
		if err != nil {
			return false, fmt.Errorf("read message: %w", err)
		}
	}
}

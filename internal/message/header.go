package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/internal/mail"
)

// ErrHeaderTooBig says that the header section does not end within the limit.
var ErrHeaderTooBig = errors.New("header section too big")

// crlf is the only line end there is, but for ReadAnyHeader.
const crlf = "\r\n"

// Header is the header section of a message or of a part.
type Header struct {
	// Size is the number of bytes up to and including the empty line; all there
	// is where no empty line follows.
	Size   int64
	fields []Field
}

// Field is one field of a header section, or a stretch of it that is no field.
type Field struct {
	// Name is as it was written, without white space before the colon. It is ""
	// for a line that cannot be a field: no colon, or white space or control
	// characters in the name (an mbox "From " line, a body without empty line).
	Name string
	// Span is the place of the whole field with its continuation lines and its
	// last line end, relative to the start of the header section.
	Span mail.Span

	raw   string // Span's bytes
	value int    // where in raw the value begins
	end   string // what ends its lines
}

// ReadHeader reads the header section of b and nothing behind it. A header
// section above limit bytes is ErrHeaderTooBig.
func ReadHeader(b mail.Body, limit int64) (*Header, error) {
	return readHeader(b, limit, crlf)
}

// ReadAnyHeader is ReadHeader for bytes that did not come by SMTP: LF alone ends lines,
// too, as it does for the programs that show them.
func ReadAnyHeader(b mail.Body, limit int64) (*Header, error) {
	return readHeader(b, limit, "\n")
}

// readHeader reads a header section whose lines end with end.
func readHeader(b mail.Body, limit int64, end string) (*Header, error) {
	if b.Size() == 0 {
		return &Header{}, nil
	}
	chunk := getChunk()
	defer putChunk(chunk)
	buf := *chunk
	n := 0
	for {
		want := int(min(int64(len(buf)), b.Size()))
		if err := readFullAt(b, buf[n:want], int64(n)); err != nil {
			return nil, fmt.Errorf("read header: %w", err)
		}
		from := max(0, n-len(crlf+crlf)+1)
		n = want
		size, found := headerEnd(buf[:n], from)
		if end != crlf {
			size, found = anyHeaderEnd(buf[:n], from)
		}
		switch {
		case found && int64(size) <= limit, !found && int64(n) == b.Size() && int64(n) <= limit:
			return parseHeader(buf[:size], end), nil
		case found, int64(n) == b.Size(), int64(n) > limit:
			return nil, ErrHeaderTooBig
		}
		// Rare: a header section above the size of a chunk. The bigger buffer is
		// left to the garbage collector.
		bigger := make([]byte, min(int64(len(buf))*4, limit+1))
		copy(bigger, buf[:n])
		buf = bigger
	}
}

// readFullAt fills p from offset off; a body that ends early is an error.
func readFullAt(b mail.Body, p []byte, off int64) error {
	n, err := b.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// headerEnd returns how many bytes of b the header section has, the empty line
// included, and whether there is an empty line. The bytes before from were
// searched before.
func headerEnd(b []byte, from int) (size int, found bool) {
	if from == 0 && bytes.HasPrefix(b, []byte(crlf)) {
		return len(crlf), true
	}
	if i := bytes.Index(b[from:], []byte(crlf+crlf)); i >= 0 {
		return from + i + len(crlf+crlf), true
	}
	return len(b), false
}

// anyHeaderEnd is headerEnd where LF ends lines.
func anyHeaderEnd(b []byte, from int) (size int, found bool) {
	for i := from; ; {
		n := 0
		switch {
		case i > 0 && b[i-1] != '\n':
		case bytes.HasPrefix(b[i:], []byte("\n")):
			n = 1
		case bytes.HasPrefix(b[i:], []byte(crlf)):
			n = 2
		}
		if n > 0 {
			return i + n, true
		}
		next := bytes.IndexByte(b[i:], '\n')
		if next < 0 {
			return len(b), false
		}
		i += next + 1
	}
}

// ParseHeader splits a header section, with or without its empty line, into
// fields. It never fails: what is no field becomes a Field without a name, and
// white space at the start of a line always continues what stands before it
// (RFC 5322 §2.2.3), also where the line holds nothing else.
func ParseHeader(section []byte) *Header { return parseHeader(section, crlf) }

func parseHeader(section []byte, lineEnd string) *Header {
	h := &Header{Size: int64(len(section))}
	s := string(section)
	h.fields = make([]Field, 0, strings.Count(s, lineEnd))
	for start := 0; start < len(s) && !strings.HasPrefix(s[start:], crlf) && !strings.HasPrefix(s[start:], lineEnd); {
		end := fieldEnd(s, start, lineEnd)
		h.fields = append(h.fields, newField(s[start:end], int64(start), lineEnd))
		start = end
	}
	return h
}

// fieldEnd returns where the field that begins at start ends: behind the line
// end that no white space follows.
func fieldEnd(s string, start int, lineEnd string) int {
	for i := start; ; {
		n := strings.Index(s[i:], lineEnd)
		if n < 0 {
			return len(s)
		}
		i += n + len(lineEnd)
		if i == len(s) || s[i] != ' ' && s[i] != '\t' {
			return i
		}
	}
}

func newField(raw string, start int64, lineEnd string) Field {
	f := Field{Span: mail.Span{Start: start, End: start + int64(len(raw))}, raw: raw, end: lineEnd}
	line, _, _ := strings.Cut(raw, lineEnd)
	name, _, ok := strings.Cut(line, ":")
	if !ok {
		return f
	}
	// RFC 5322 §4.5: obsolete syntax has white space before the colon, and
	// readers take it.
	trimmed := strings.TrimRight(name, " \t")
	if !isFieldName(trimmed) {
		return f
	}
	f.Name, f.value = trimmed, len(name)+1
	return f
}

// isFieldName follows RFC 5322 §2.2, and lets bytes above 0x7f pass because
// readers do.
func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != ""
}

// Raw returns the whole field as it stands in the message, with its line ends.
func (f Field) Raw() string { return f.raw }

// Value returns what follows the colon, unfolded (RFC 5322 §2.2.3) and without
// white space around it; the whole text of a Field without a name.
func (f Field) Value() string {
	v := f.raw[f.value:]
	if strings.Contains(v, crlf) {
		v = strings.ReplaceAll(v, crlf, "")
	}
	if f.end == "\n" && strings.Contains(v, f.end) {
		v = strings.ReplaceAll(v, f.end, "")
	}
	return strings.Trim(v, " \t")
}

// IsOrphan reports that the field begins with white space although nothing
// stands before it: a line put in front of it would swallow it.
func (f Field) IsOrphan() bool {
	return f.raw != "" && (f.raw[0] == ' ' || f.raw[0] == '\t')
}

// Is reports whether the field has that name; case does not matter.
func (f Field) Is(name string) bool { return strings.EqualFold(f.Name, name) }

// Fields returns all fields in their order. The slice belongs to the Header.
func (h *Header) Fields() []Field { return h.fields }

// Get returns the value of the first field of that name, "" if there is none.
func (h *Header) Get(name string) string {
	for _, f := range h.fields {
		if f.Is(name) {
			return f.Value()
		}
	}
	return ""
}

// Count returns how many fields have that name.
func (h *Header) Count(name string) int {
	n := 0
	for _, f := range h.fields {
		if f.Is(name) {
			n++
		}
	}
	return n
}

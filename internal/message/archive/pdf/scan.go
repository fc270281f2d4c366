// Package pdf finds in a PDF file what acts or hides: scripts, actions that start
// programs or open other files, links, attached files, encryption. It is a
// scanner, not a reader: it takes every object that stands in the file, whether the
// cross-reference table knows it or not, since readers rebuild the table of damaged
// files, and looks into object streams.
//
// Invariants:
//   - Objects are parsed one at a time; what is kept of each is where it stands.
//   - Every list, string and nesting has a limit (see maxObjects and the lexer),
//     and what is decoded is bounded by Events.Decoded.
//   - A file without a password for reading is decrypted, as every reader does.
package pdf

import (
	"bytes"
	"errors"
	"io"
)

// Kind is what was found.
type Kind uint8

// The kinds of what is found.
const (
	JavaScript Kind = iota
	Launch
	Action   // something happens on opening
	Embedded // an attached file
	Submit   // a form sends or imports data
	Encrypted
	Damaged // an object stream or a script could not be decoded
)

// Events are called as things are found; all must be set.
type Events struct {
	Found func(k Kind, text string)
	// Link is called with places elsewhere; kind is "uri", "file" or "submit".
	Link func(kind, url string)
	// Script is called with the text of a script, File with an attached file. Their
	// errors end the scan.
	Script func(text []byte) error
	File   func(names []string, open func() (io.Reader, error)) error
	// Decoded is told how many bytes were decoded for the scan itself, and says no
	// when it is enough.
	Decoded func(n int64) bool
}

// Limits of one file.
const (
	maxObjects      = 200_000
	maxInteresting  = 1000
	maxKept         = 16 << 20
	maxObjectStream = 16 << 20
	maxScript       = 4 << 20
)

// place is where an object stands: in the file, or in an object stream.
type place struct {
	num int
	off int64
	in  int64 // where the object stream stands, 0 for the file itself
}

// stream is a stream object.
type stream struct {
	num, gen int
	dict     dict
	off, end int64
}

type scanner struct {
	r      io.ReaderAt
	size   int64
	events Events

	places []place
	index  map[int][]int // object number: places

	objectStreams []stream
	trailers      []dict
	todo          []wanted
	crypt         *crypt
	cached        map[int64][]byte // the object stream that was decoded last
	kept          int              // bytes of strings in todo
	err           error
	buf           [32 << 10]byte
}

// Scan looks through the PDF in r. Errors are those of r and of the events.
func Scan(r io.ReaderAt, size int64, e Events) error {
	s := &scanner{r: r, size: size, events: e, index: map[int][]int{}}
	if err := s.objects(); err != nil {
		return err
	}
	s.decrypt()
	for _, o := range s.objectStreams {
		if err := s.objectStream(o); err != nil {
			return err
		}
	}
	if err := s.resolve(); err != nil {
		return err
	}
	return s.err
}

// objects goes through the file from "obj" to "obj".
func (s *scanner) objects() error {
	at := int64(0)
	for len(s.places) < maxObjects {
		found, err := s.find(at, []byte("obj"))
		if err != nil || found < 0 {
			break
		}
		at = found + 3
		num, gen, ok := s.header(found)
		if !ok {
			continue
		}
		s.index[num] = append(s.index[num], len(s.places))
		s.places = append(s.places, place{num: num, off: at})
		end, err := s.object(num, gen, at)
		if err != nil {
			return err
		}
		at = max(at, end)
	}
	return s.findTrailers()
}

// header reads the numbers in front of "obj".
func (s *scanner) header(off int64) (num, gen int, ok bool) {
	var b [32]byte
	start := max(0, off-int64(len(b)))
	n, err := s.r.ReadAt(b[:off-start], start)
	if err != nil && err != io.EOF {
		return 0, 0, false
	}
	fields := bytes.FieldsFunc(b[:n], func(r rune) bool { return isSpace(int(r)) || isDelimiter(int(r)) })
	if len(fields) < 2 {
		return 0, 0, false
	}
	num, ok1 := digits(fields[len(fields)-2])
	gen, ok2 := digits(fields[len(fields)-1])
	return num, gen, ok1 && ok2
}

// digits reads the number at the end of b, as readers do after garbage.
func digits(b []byte) (n int, ok bool) {
	start := len(b)
	for start > 0 && b[start-1] >= '0' && b[start-1] <= '9' && len(b)-start < 10 {
		start--
	}
	for _, c := range b[start:] {
		n = n*10 + int(c-'0')
	}
	return n, start < len(b)
}

// object parses one object and returns where to go on.
func (s *scanner) object(num, gen int, off int64) (int64, error) {
	l := newLexer(s.r, off)
	v := l.value(0)
	if l.err != nil {
		return 0, l.err
	}
	end := l.pos()
	d, ok := v.(dict)
	if ok {
		l.skipSpace()
		if l.value(0) == keyword("stream") {
			st, err := s.stream(num, gen, d, l)
			if err != nil {
				return 0, err
			}
			s.streamObject(st)
		}
	}
	s.inspect(v, num, gen, 0)
	// Not behind the data of a stream: the cross-reference table may lead a reader
	// to objects in it.
	return end, l.err
}

// stream finds out where the data of a stream begins and ends.
func (s *scanner) stream(num, gen int, d dict, l *lexer) (stream, error) {
	if l.peek() == '\r' {
		l.at++
	}
	if l.peek() == '\n' {
		l.at++
	}
	st := stream{num: num, gen: gen, dict: d, off: l.pos()}
	const mark = "endstream"
	if n, ok := d["Length"].(int64); ok && n >= 0 && n <= s.size-st.off {
		// The length is believed where the mark follows it.
		var b [len(mark) + 4]byte
		got, err := s.r.ReadAt(b[:], st.off+n)
		if err != nil && err != io.EOF {
			return st, err
		}
		if bytes.HasPrefix(bytes.TrimLeft(b[:got], "\r\n \t"), []byte(mark)) {
			st.end = st.off + n
			return st, nil
		}
	}
	end, err := s.find(st.off, []byte(mark))
	if err != nil {
		return st, err
	}
	if st.end = end; end < 0 {
		st.end = s.size
	}
	return st, nil
}

// streamObject remembers the streams that the scan itself needs.
func (s *scanner) streamObject(st stream) {
	switch typeOf(st.dict) {
	case "ObjStm":
		if len(s.objectStreams) < maxInteresting {
			s.objectStreams = append(s.objectStreams, st)
		}
	case "XRef":
		s.trailers = append(s.trailers, st.dict)
	case "EmbeddedFile":
		// Found here even where no name leads to it.
		s.want(wanted{what: wantFile, value: ref{st.num, st.gen}})
	}
}

func typeOf(d dict) name {
	n, _ := d["Type"].(name)
	return n
}

// findTrailers reads the dictionaries behind "trailer".
func (s *scanner) findTrailers() error {
	at := int64(0)
	for len(s.trailers) < 64 {
		found, err := s.find(at, []byte("trailer"))
		if err != nil || found < 0 {
			return err
		}
		at = found + int64(len("trailer"))
		l := newLexer(s.r, at)
		if d, ok := l.value(0).(dict); ok {
			s.trailers = append(s.trailers, d)
			s.inspect(d, 0, 0, 0)
		}
		if l.err != nil {
			return l.err
		}
	}
	return nil
}

// find returns where pattern stands at or behind off, or -1.
func (s *scanner) find(off int64, pattern []byte) (int64, error) {
	// Most are near.
	buf := s.buf[:1<<10]
	for off < s.size {
		n, err := s.r.ReadAt(buf[:min(int64(len(buf)), s.size-off)], off)
		if i := bytes.Index(buf[:n], pattern); i >= 0 {
			return off + int64(i), nil
		}
		if err != nil && err != io.EOF {
			return -1, err
		}
		if n < len(pattern) {
			return -1, nil
		}
		off += int64(n - len(pattern) + 1)
		buf = s.buf[:]
	}
	return -1, nil
}

// open decodes a stream.
func (s *scanner) open(st stream) (io.Reader, error) {
	var r io.Reader = io.NewSectionReader(s.r, st.off, st.end-st.off)
	if s.crypt != nil {
		r = s.crypt.stream(r, st)
	}
	return decode(r, st.dict.filters())
}

// readAll decodes at most limit bytes of a stream. What came before an error is
// returned; readers show it.
func (s *scanner) readAll(st stream, limit int64) ([]byte, error) {
	if !s.events.Decoded(0) {
		return nil, nil
	}
	r, err := s.open(st)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, limit))
	if errors.Is(err, ErrFilter) {
		return nil, err
	}
	s.events.Decoded(int64(len(b)))
	return b, err
}

// objectStream inspects the objects of an object stream (ISO 32000-1 §7.5.7).
func (s *scanner) objectStream(st stream) error {
	b, err := s.readAll(st, maxObjectStream)
	if len(b) == 0 && err != nil {
		s.events.Found(Damaged, "an object stream cannot be decoded")
	}
	in := bytes.NewReader(b)
	first, _ := st.dict["First"].(int64)
	count, _ := st.dict["N"].(int64)
	numbers := newLexer(in, 0)
	for range min(count, maxObjects) {
		num, ok1 := numbers.value(0).(int64)
		off, ok2 := numbers.value(0).(int64)
		if !ok1 || !ok2 || len(s.places) >= maxObjects {
			break
		}
		if first+off < 0 || first+off >= int64(len(b)) {
			continue
		}
		s.index[int(num)] = append(s.index[int(num)], len(s.places))
		s.places = append(s.places, place{num: int(num), off: first + off, in: st.off})
		s.inspect(newLexer(in, first+off).value(0), -1, 0, 0)
	}
	return nil
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
)

// openMessage opens a file with one message as the wire has it: a file with the
// line ends of Unix gets those of mail, and an mbox line in front is left out.
// "-" is standard input.
func openMessage(name string) (io.ReadCloser, error) {
	file := os.Stdin
	if name != "-" {
		var err error
		if file, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	return struct {
		io.Reader
		io.Closer
	}{wireForm(file), file}, nil
}

// wireForm is the message in r with the line ends of mail. A file that has them at
// its start is left as it is, with whatever bare ones it holds: they are part of
// the message.
func wireForm(r io.Reader) io.Reader {
	const enough = 64 << 10
	b := bufio.NewReaderSize(r, enough)
	start, _ := b.Peek(enough)
	if bytes.HasPrefix(start, []byte("From ")) {
		// No mbox line is so long that its end is not among what was read.
		if end := bytes.IndexByte(start, '\n'); end >= 0 {
			_, _ = b.Discard(end + 1)
			start = start[end+1:]
		}
	}
	if bytes.Contains(start, []byte("\r\n")) {
		return b
	}
	return &crlfReader{in: b, decided: bytes.Contains(start, []byte("\n"))}
}

// crlfReader puts a CR in front of each LF that has none.
type crlfReader struct {
	in   *bufio.Reader
	rest []byte
	last byte // the last byte that was read
	err  error
	// decided says that the file has the line ends of Unix; until then the first
	// line end decides, and asIs says that it was one of mail.
	decided, asIs bool
}

// Read implements io.Reader.
func (c *crlfReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		c.fill()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// fill reads a line, or a piece of a long one.
func (c *crlfReader) fill() {
	var line []byte
	line, c.err = c.in.ReadSlice('\n')
	if errors.Is(c.err, bufio.ErrBufferFull) {
		c.err = nil
	}
	c.rest = append(c.rest[:0], line...)
	n := len(line)
	if n == 0 {
		return
	}
	before := c.last
	if n > 1 {
		before = line[n-2]
	}
	if c.last = line[n-1]; c.last != '\n' {
		return
	}
	if !c.decided {
		c.decided, c.asIs = true, before == '\r'
	}
	if !c.asIs && before != '\r' {
		c.rest = append(c.rest[:n-1], '\r', '\n')
	}
}

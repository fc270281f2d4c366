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

// wireForm is the message in r with the line ends of mail.
func wireForm(r io.Reader) io.Reader {
	const enough = 64 << 10
	b := bufio.NewReaderSize(r, enough)
	start, _ := b.Peek(enough)
	if bytes.HasPrefix(start, []byte("From ")) {
		if end := bytes.IndexByte(start, '\n'); end >= 0 {
			_, _ = b.Discard(end + 1)
			start = start[end+1:]
		}
	}
	if bytes.Contains(start, []byte("\r\n")) || !bytes.Contains(start, []byte("\n")) {
		return b
	}
	return &crlfReader{in: b}
}

// crlfReader puts a CR in front of each LF.
type crlfReader struct {
	in   *bufio.Reader
	rest []byte
	err  error
}

// Read implements io.Reader.
func (c *crlfReader) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		var line []byte
		line, c.err = c.in.ReadSlice('\n')
		if errors.Is(c.err, bufio.ErrBufferFull) {
			c.err = nil
		}
		c.rest = append(c.rest[:0], line...)
		if n := len(c.rest); n > 0 && c.rest[n-1] == '\n' {
			c.rest = append(c.rest[:n-1], '\r', '\n')
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

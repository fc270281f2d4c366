// Package source reads mail to learn from: single files, directories of them,
// Maildirs and mboxes.
//
//	err := source.EachMessage(ctx, path, source.Options{}, func(m source.Message) error { … })
//
// Invariants:
//   - Messages come with CRLF line ends, as every reader in Gatepost wants them,
//     and without the line that an mbox puts in front of them; otherwise they are
//     as they were stored.
//   - One message is in memory at a time, and no more than Options.MaxSize of it.
//   - The order is that of the names, so that a run can be repeated.
package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gatepost/internal/mail"
)

// Options bound what is read; a zero field takes its default.
type Options struct {
	// MaxSize is the longest message that is read, in bytes; default 50 MiB.
	// Longer ones are skipped.
	MaxSize int
	// Progress is called after each message with what was read so far; nil: never.
	Progress func(Progress)
}

// Progress is how far EachMessage has come.
type Progress struct {
	// Messages were handed out, Skipped were too long or empty.
	Messages, Skipped int
	// Done of Total bytes were read.
	Done, Total int64
}

// Message is one message.
type Message struct {
	// Path is the file that it is from, N its number in that file, from 1.
	Path string
	N    int
	Body mail.Body
}

// String names the message in errors: "spam.mbox:17".
func (m Message) String() string { return fmt.Sprintf("%s:%d", m.Path, m.N) }

// EachMessage calls fn with every message of a file or directory, which is gone
// when fn returns. A file that begins with a line "From " is an mbox, any other one
// message. Of a directory all files are read, in subdirectories too, except for
// names that begin with a dot and the "tmp" of a Maildir. It ends with the first
// error of fn, of reading, or of ctx.
func EachMessage(ctx context.Context, path string, o Options, fn func(Message) error) error {
	if o.MaxSize <= 0 {
		o.MaxSize = 50 << 20
	}
	files, total, err := list(path)
	if err != nil {
		return fmt.Errorf("read mail: %w", err)
	}
	w := walk{ctx: ctx, options: o, fn: fn, progress: Progress{Total: total}}
	for _, f := range files {
		if err := w.file(f); err != nil {
			return err
		}
	}
	return nil
}

// list returns the files below path and how long they are together.
func list(path string) (files []string, total int64, err error) {
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p != path && strings.HasPrefix(d.Name(), ".") && !d.IsDir() {
			return nil
		}
		if d.IsDir() {
			if p != path && d.Name() == "tmp" && isMaildir(filepath.Dir(p)) {
				return fs.SkipDir
			}
			return nil
		}
		// A link to a file is followed, one to a directory is not: it could lead
		// around in circles.
		info, err := os.Stat(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // moved by a mail program meanwhile
		}
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			files = append(files, p)
			total += info.Size()
		}
		return nil
	})
	return files, total, err
}

func isMaildir(dir string) bool {
	for _, name := range []string{"cur", "new"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.IsDir() {
			return false
		}
	}
	return true
}

// walk is one run of EachMessage.
type walk struct {
	ctx      context.Context
	options  Options
	fn       func(Message) error
	progress Progress
}

// file reads one file.
func (w *walk) file(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read mail: %w", err)
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 64<<10)
	m := gather{max: w.options.MaxSize}
	first, err := r.Peek(len(fromLine))
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read mail: %w", err)
	}
	m.mbox, m.first = string(first) == fromLine, true
	for n := 0; ; {
		more, err := m.next(r)
		if err != nil {
			return fmt.Errorf("read mail %s: %w", path, err)
		}
		if m.read > 0 {
			n++
			if err := w.hand(&m, Message{Path: path, N: n}); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// hand gives a message to fn.
func (w *walk) hand(m *gather, message Message) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	w.progress.Done += m.read
	switch {
	case m.long || len(m.buf) == 0:
		w.progress.Skipped++
	default:
		message.Body = bytes.NewReader(m.buf)
		if err := w.fn(message); err != nil {
			return fmt.Errorf("%s: %w", message, err)
		}
		w.progress.Messages++
	}
	if w.options.Progress != nil {
		w.options.Progress(w.progress)
	}
	return nil
}

// fromLine begins the line that separates the messages of an mbox.
const fromLine = "From "

// gather puts one message together.
type gather struct {
	mbox bool
	max  int
	buf  []byte
	long bool
	// first says that nothing was read yet: the first line needs no date.
	first bool
	read  int64 // bytes of the file that belong to it
	// begun says that the separator of this message was read with the one before.
	begun bool
}

// next reads a message and reports whether another may follow.
func (g *gather) next(r *bufio.Reader) (more bool, err error) {
	g.buf, g.long, g.read = g.buf[:0], false, 0
	lineStart, empty := true, true // of the line before: an mbox separates with an empty line
	for {
		line, err := r.ReadSlice('\n')
		g.read += int64(len(line))
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if !errors.Is(err, io.EOF) {
				return false, err
			}
			g.add(line, lineStart)
			return false, nil
		}
		if g.mbox && lineStart && empty && (g.first || separates(line)) {
			g.first = false
			if err := skipLine(r, line, &g.read); err != nil {
				return false, err
			}
			if g.begun {
				return true, nil
			}
			g.begun = true
			continue
		}
		empty = lineStart && len(bytes.TrimRight(line, "\r\n")) == 0
		g.add(line, lineStart)
		lineStart = err == nil
	}
}

// separates reports whether a line behind an empty one begins the next message of
// an mbox: "From ", somebody, and a date with a time. Without the time, a sentence
// that begins so would cut a message in two.
func separates(line []byte) bool {
	if !bytes.HasPrefix(line, []byte(fromLine)) {
		return false
	}
	for i := len(fromLine) + 2; i+2 < len(line); i++ {
		if line[i] == ':' && isDigit(line[i-1]) && isDigit(line[i-2]) && isDigit(line[i+1]) && isDigit(line[i+2]) {
			return true
		}
	}
	return false
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// skipLine reads the rest of a line whose beginning was too long for the buffer.
func skipLine(r *bufio.Reader, line []byte, read *int64) error {
	for len(line) > 0 && line[len(line)-1] != '\n' {
		var err error
		line, err = r.ReadSlice('\n')
		*read += int64(len(line))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	return nil
}

// add appends a line, or a piece of one, with CRLF at its end. mboxrd quotes
// lines that begin with "From " by ">"; that is undone.
func (g *gather) add(line []byte, lineStart bool) {
	if g.mbox && lineStart && len(line) > 0 && line[0] == '>' && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte(fromLine)) {
		line = line[1:]
	}
	if g.long = g.long || len(g.buf)+len(line)+1 > g.max; g.long {
		g.buf = g.buf[:0]
		return
	}
	if body, ok := bytes.CutSuffix(line, []byte("\n")); ok {
		g.buf = append(g.buf, bytes.TrimSuffix(body, []byte("\r"))...)
		g.buf = append(g.buf, '\r', '\n')
		return
	}
	g.buf = append(g.buf, line...)
}

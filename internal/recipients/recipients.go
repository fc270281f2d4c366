// Package recipients holds lists of valid recipients that are read from text
// files: one entry in a line, "user@domain", "user" (in every domain that uses
// the list) or "@domain" (everyone there); "#" begins a comment.
//
//	list, bad, err := recipients.ReadFile("/etc/gatepost/recipients.txt")
//	known := list.Has("user@example.com")
//
// Invariants:
//   - Entries are compared as mail.Address.Key is: without regard to case, the
//     domain in canonical form.
//   - A List never changes, so any number of goroutines may use it.
//   - Memory is the bytes of the entries and 4 bytes for each; a file may have
//     256 MiB at most.
package recipients

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"gatepost/internal/smtp"
)

// Limits of a file.
const (
	maxFile = 256 << 20
	maxLine = 1024 // bytes; the longest address has 320
	// maxBad bounds the bad lines that are remembered.
	maxBad = 1000
)

// ErrNotFile says that a path is a directory, a device or a pipe.
var ErrNotFile = errors.New("it is not a regular file")

// ErrTooLarge says that a file exceeds 256 MiB.
var ErrTooLarge = errors.New("it is larger than 256 MiB")

// List is a set of entries.
type List struct {
	text  []byte   // the entries, each ended by a line feed
	start []uint32 // where each begins, in the order of the entries
}

// BadLine is a line that is no entry.
type BadLine struct {
	Number  int // from 1
	Message string
}

// ReadFile reads the list in the file. With bad lines the list holds the others.
func ReadFile(path string) (*List, []BadLine, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe would be to wait for its writer
		return nil, nil, fmt.Errorf("%s: %w", path, ErrNotFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	return Read(f)
}

// Read reads a list of 256 MiB at most.
func Read(r io.Reader) (*List, []BadLine, error) { return read(r, maxFile) }

func read(r io.Reader, limit int64) (*List, []BadLine, error) {
	limited := &io.LimitedReader{R: r, N: limit + 1}
	lines := bufio.NewReaderSize(limited, 64<<10)
	l := &List{}
	var bad []BadLine
	for number := 1; ; number++ {
		line, err := readLine(lines)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
		if limited.N == 0 || int64(len(l.text)) > 4*limit {
			return nil, nil, ErrTooLarge
		}
		if number == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // editors of some systems
		}
		if message := l.add(line); message != "" && len(bad) < maxBad {
			bad = append(bad, BadLine{number, message})
		}
		if err != nil {
			break
		}
	}
	l.sort()
	return l, bad, nil
}

// readLine returns the next line, cut where it is longer than any entry.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if room := maxLine + 1 - len(line); room > 0 {
			line = append(line, part[:min(room, len(part))]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// add takes in one line and says what is wrong with it.
func (l *List) add(line []byte) string {
	if len(line) > maxLine {
		return "the line is too long for an address"
	}
	text := strings.TrimSpace(string(line))
	// An address may hold a "#", so a comment needs a space in front of it.
	for i := range len(text) {
		if text[i] == '#' && (i == 0 || text[i-1] == ' ' || text[i-1] == '\t') {
			text = strings.TrimSpace(text[:i])
			break
		}
	}
	if text == "" {
		return ""
	}
	key, ok := entryKey(text)
	if !ok {
		return fmt.Sprintf("%q is no entry", text)
	}
	l.start = append(l.start, uint32(len(l.text)))
	l.text = append(append(l.text, key...), '\n')
	return ""
}

// entryKey brings an entry into the form in which it is compared.
func entryKey(text string) (string, bool) {
	if domain, ok := strings.CutPrefix(text, "@"); ok {
		name, err := smtp.CanonicalDomain(domain)
		return "@" + name, err == nil && !strings.HasPrefix(name, "[")
	}
	if a, err := smtp.ParseAddress(text); err == nil {
		return a.Key(), true
	}
	// A local part alone: any domain will do to read it.
	a, err := smtp.ParseAddress(text + "@x.example")
	if err != nil {
		return "", false
	}
	return strings.ToLower(a.Local), true
}

// sort orders the entries and drops repetitions.
func (l *List) sort() {
	slices.SortFunc(l.start, func(a, b uint32) int { return bytes.Compare(l.entry(a), l.entry(b)) })
	l.start = slices.Clip(slices.CompactFunc(l.start, func(a, b uint32) bool { return bytes.Equal(l.entry(a), l.entry(b)) }))
	l.text = slices.Clip(l.text)
}

func (l *List) entry(start uint32) []byte {
	end := bytes.IndexByte(l.text[start:], '\n')
	return l.text[start : int(start)+end]
}

// Has reports whether the list holds the very entry: "user@domain", "user" or
// "@domain", in lower case with a canonical domain.
func (l *List) Has(entry string) bool {
	_, found := slices.BinarySearchFunc(l.start, entry, func(start uint32, target string) int {
		have := l.entry(start)
		switch {
		case string(have) == target:
			return 0
		case string(have) < target:
			return -1
		}
		return 1
	})
	return found
}

// Len is the number of different entries.
func (l *List) Len() int { return len(l.start) }

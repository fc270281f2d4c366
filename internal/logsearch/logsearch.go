// Package logsearch finds lines in the log files: in the one that is being written and
// in those that were rotated, by Gatepost or by logrotate, compressed or not.
//
// Invariants:
//   - Files are read as a stream, one after the other, in the order of time; no more
//     than one line of each is in memory.
//   - A search ends with its context, with its limit of lines, or with the last file;
//     it never changes a file.
//   - Where the time is bounded, files that end before it or begin after it are not
//     read, and the rest of a plain file is found by halving.
package logsearch

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

// ErrNoFiles says that there are no log files: they go elsewhere.
var ErrNoFiles = errors.New("there are no log files: log_dir is not set, so the log goes to standard error (under systemd: journalctl -u gatepost)")

// Request says what is looked for.
type Request struct {
	// Dir holds the files, Name is the one that is being written: "mail.log".
	Dir, Name string
	Query     *Query
	// Limit is how many lines are returned at most: the latest. Default 1000, at most
	// 100,000.
	Limit int
	// Line is called with each line, in the order of time; the line is valid during the
	// call.
	Line func(line []byte) error
	// Progress, where set, is called now and then.
	Progress func(Progress)
}

// Progress is how far a search is.
type Progress struct {
	Read int64  `json:"read"` // bytes of files
	Of   int64  `json:"of"`
	File string `json:"file"`
}

// Result is how a search ended.
type Result struct {
	Lines int `json:"lines"`
	// Cut says that there were more: the earliest were left out.
	Cut bool `json:"cut,omitempty"`
	// Files are those that were read.
	Files int `json:"files"`
}

const (
	defaultLimit = 1000
	maxLimit     = 100_000
	// maxLine bounds a line: what is longer is cut by the writer of the log already.
	maxLine = 1 << 20
	// maxKept bounds the lines that wait to be returned, in bytes.
	maxKept = 64 << 20
	// tellEvery is after how many bytes Progress is called.
	tellEvery = 4 << 20
)

// logFile is one of the files.
type logFile struct {
	path     string
	size     int64
	modified time.Time
}

// Search finds lines.
func Search(ctx context.Context, r Request) (Result, error) {
	if r.Dir == "" {
		return Result{}, ErrNoFiles
	}
	if r.Limit <= 0 {
		r.Limit = defaultLimit
	}
	r.Limit = min(r.Limit, maxLimit)
	files, err := filesOf(r.Dir, r.Name)
	if err != nil {
		return Result{}, err
	}
	s := &search{r: &r}
	files = slices.DeleteFunc(files, func(f logFile) bool { return !r.Query.since.IsZero() && f.modified.Before(r.Query.since) })
	for _, f := range files {
		s.progress.Of += f.size
	}
	for _, f := range files {
		done, err := s.file(ctx, f)
		if err != nil {
			return s.result, err
		}
		if done {
			break
		}
	}
	return s.finish()
}

// filesOf are the files of a log, the oldest first: mail.log.2, mail.log.1.gz,
// mail.log-20261122, mail.log.
func filesOf(dir, name string) ([]logFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list log files: %w", err)
	}
	var files []logFile
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), name)
		if !ok || rest != "" && rest[0] != '.' && rest[0] != '-' || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // rotated meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list log files: %w", err)
		}
		files = append(files, logFile{filepath.Join(dir, e.Name()), info.Size(), info.ModTime()})
	}
	slices.SortStableFunc(files, func(a, b logFile) int {
		if a.path == filepath.Join(dir, name) {
			return 1
		}
		if b.path == filepath.Join(dir, name) {
			return -1
		}
		return a.modified.Compare(b.modified)
	})
	return files, nil
}

// search is one under way.
type search struct {
	r        *Request
	result   Result
	progress Progress
	kept     [][]byte // a ring of the latest lines, from next
	next     int
	bytes    int
	told     int64
}

// file looks into one file. done says that what follows is too late.
func (s *search) file(ctx context.Context, f logFile) (done bool, err error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // rotated away meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	defer file.Close()
	s.result.Files++
	s.progress.File = filepath.Base(f.path)
	start := s.progress.Read
	counted := &counter{r: file, s: s}
	var in io.Reader = counted
	switch filepath.Ext(f.path) {
	case ".gz":
		z, err := gzip.NewReader(bufio.NewReader(counted))
		if err != nil {
			return false, fmt.Errorf("read log %s: %w", f.path, err)
		}
		in = z
	case ".zst":
		z, err := zstd.NewReader(counted, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return false, fmt.Errorf("read log %s: %w", f.path, err)
		}
		defer z.Close()
		in = z
	default:
		if err := skipTo(file, f.size, s.r.Query.since); err != nil {
			return false, fmt.Errorf("read log %s: %w", f.path, err)
		}
	}
	done, err = s.lines(ctx, in)
	if err != nil {
		return false, fmt.Errorf("read log %s: %w", f.path, err)
	}
	s.progress.Read = start + f.size
	return done, nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	s *search
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.s.progress.Read += int64(n)
	return n, err
}

// lines looks at each line.
func (s *search) lines(ctx context.Context, in io.Reader) (done bool, err error) {
	b := bufio.NewReaderSize(in, 256<<10)
	for n := 0; ; n++ {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			line, err = s.longLine(b, line)
		}
		if n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			s.tell()
		}
		if len(line) > 0 {
			switch s.r.Query.look(bytes.TrimRight(line, "\r\n")) {
			case found:
				s.keep(line)
			case tooLate:
				return true, nil
			}
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// longLine reads the rest of a line that is longer than the buffer, and keeps its
// first megabyte.
func (s *search) longLine(b *bufio.Reader, begun []byte) ([]byte, error) {
	line := bytes.Clone(begun)
	for {
		more, err := b.ReadSlice('\n')
		if len(line) < maxLine {
			line = append(line, more[:min(len(more), maxLine-len(line))]...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// tell says how far the search is.
func (s *search) tell() {
	if s.r.Progress != nil && s.progress.Read-s.told >= tellEvery {
		s.told = s.progress.Read
		s.r.Progress(s.progress)
	}
}

// keep keeps a line, in the place of the earliest where there are too many.
func (s *search) keep(line []byte) {
	line = bytes.Clone(bytes.TrimRight(line, "\r\n"))
	s.bytes += len(line)
	if len(s.kept)-s.next >= s.r.Limit || s.bytes > maxKept && len(s.kept) > s.next {
		s.bytes -= len(s.kept[s.next])
		s.kept[s.next] = nil
		s.next++
		s.result.Cut = true
		if s.next > s.r.Limit { // give the front back now and then
			s.kept = append([][]byte(nil), s.kept[s.next:]...)
			s.next = 0
		}
	}
	s.kept = append(s.kept, line)
}

// finish hands the lines over.
func (s *search) finish() (Result, error) {
	for _, line := range s.kept[s.next:] {
		if err := s.r.Line(line); err != nil {
			return s.result, err
		}
		s.result.Lines++
	}
	return s.result, nil
}

// skipTo moves a plain file to the first line that is not before a time, or a little
// before it: lines are in the order of time, but for some milliseconds.
func skipTo(f *os.File, size int64, since time.Time) error {
	if since.IsZero() {
		return nil
	}
	lo, hi := int64(0), size
	since = since.Add(-time.Minute)
	for hi-lo > 1<<20 {
		mid := (lo + hi) / 2
		at, t, err := lineAfter(f, mid)
		if err != nil {
			return err
		}
		if at >= hi || t.IsZero() || !t.Before(since) {
			hi = mid
		} else {
			lo = at
		}
	}
	_, err := f.Seek(lo, io.SeekStart)
	return err
}

// lineAfter finds the first line with a time that begins behind an offset.
func lineAfter(f *os.File, offset int64) (at int64, t time.Time, err error) {
	buf := make([]byte, 64<<10)
	n, err := f.ReadAt(buf, offset)
	if err != nil && err != io.EOF {
		return 0, t, err
	}
	buf = buf[:n]
	for at = offset; ; {
		i := bytes.IndexByte(buf, '\n')
		if i < 0 {
			return at, time.Time{}, nil
		}
		buf, at = buf[i+1:], at+int64(i)+1
		if t, ok := timeOf(buf); ok {
			return at, t, nil
		}
	}
}

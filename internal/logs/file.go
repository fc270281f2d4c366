package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// output is where a sink writes. Only the sink's goroutine calls it.
type output interface {
	io.Writer
	// Reopen closes what is open and opens it by its name again.
	Reopen() error
	Close() error
}

// stream is standard error: nothing to open, rotate or close.
type stream struct{ w io.Writer }

func (s *stream) Write(p []byte) (int, error) { return s.w.Write(p) }
func (s *stream) Reopen() error               { return nil }
func (s *stream) Close() error                { return nil }

// file is a log file that is rotated by size: path becomes path.1, path.1
// becomes path.2 and so on; the one beyond the last backup is removed. When a
// rename fails Write fails too: a log that cannot be rotated must not grow.
type file struct {
	path    string
	maxSize int64
	backups int

	f    *os.File
	size int64
}

// Write appends whole lines, rotating between them where the size limit falls.
// It returns how many bytes of p were written.
func (l *file) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n, err := l.room(p)
		if err != nil {
			return written, err
		}
		n, err = l.f.Write(p[:n])
		l.size += int64(n)
		written += n
		p = p[n:]
		if err != nil {
			return written, err // it names the file
		}
	}
	return written, nil
}

// room opens or rotates the file as needed and returns how many bytes of p,
// always whole lines, go into it now. A line that is larger than a whole file
// gets a file for itself.
func (l *file) room(p []byte) (int, error) {
	if l.f == nil {
		if err := l.Reopen(); err != nil {
			return 0, err
		}
	}
	for {
		free := l.maxSize - l.size
		if int64(len(p)) <= free {
			return len(p), nil
		}
		if free > 0 {
			if n := bytes.LastIndexByte(p[:free], '\n') + 1; n > 0 {
				return n, nil
			}
		}
		if l.size == 0 {
			if n := bytes.IndexByte(p, '\n') + 1; n > 0 {
				return n, nil
			}
			return len(p), nil
		}
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
}

// rotate moves the file and its backups up by one and begins a new file.
func (l *file) rotate() error {
	// Somebody else may have truncated the file (logrotate's copytruncate).
	if info, err := l.f.Stat(); err == nil && info.Size() < l.size {
		l.size = info.Size()
		return nil
	}
	for i := l.backups; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = l.backup(i - 1)
		}
		if err := os.Rename(from, l.backup(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	if l.backups == 0 {
		if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	return l.Reopen()
}

func (l *file) backup(i int) string { return l.path + "." + strconv.Itoa(i) }

// Reopen opens the file by its name; the one that was open stays in use when
// that fails.
func (l *file) Reopen() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
	}
	if err := endTornLine(f, info.Size()); err != nil {
		return errors.Join(err, f.Close())
	}
	old := l.f
	l.f, l.size = f, info.Size()
	if old != nil {
		// The lines are in the old file already; an error here changes nothing.
		_ = old.Close()
	}
	return nil
}

func (l *file) Close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// openLog opens path for appending. A new file gets mode 0640 whatever the
// umask is, so that a group can be allowed to read the log; the mode of an
// existing one is the administrator's.
func openLog(path string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_APPEND | os.O_CREATE
	f, err := os.OpenFile(path, flags|os.O_EXCL, 0o640)
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, flags, 0o640)
	} else if err == nil {
		err = f.Chmod(0o640)
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// endTornLine ends the half line that a crash or a full disk left behind, so
// that the next line stands alone.
func endTornLine(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	if _, err := f.WriteString("\n"); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	return nil
}

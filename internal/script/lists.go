package script

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gaissmai/bart"
)

// Limits of lists in files.
const (
	maxListSize = 64 << 20
	maxListLine = 4096
	maxLists    = 100
	// restat is how often a file is looked at, to see whether it changed.
	restat = 2 * time.Second
)

// Lists reads lists in text files: an entry on each line; empty lines and lines
// that begin with # are left out. A file is read when it is first asked for, and
// again when it has changed; while it cannot be read again the old list counts.
// Its methods may be called by many goroutines. It implements Files.
type Lists struct {
	dir string
	log *slog.Logger

	mu    sync.Mutex // guards the map; not held while a file is read
	known map[string]*listFile
}

// NewLists returns lists whose relative paths are below dir. log may be nil.
func NewLists(dir string, log *slog.Logger) *Lists {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Lists{dir: dir, log: log, known: map[string]*listFile{}}
}

// kind is how the lines of a file are read.
type kind byte

const (
	entries kind = 'e'
	pairs   kind = 'p'
	nets    kind = 'n'
)

// listFile is one file.
type listFile struct {
	path  string
	kind  kind
	ready chan struct{} // closed when content is set
	// content is the last good one, nil as long as there was none; err why.
	content atomic.Pointer[content]
	err     atomic.Pointer[error]
	checked atomic.Int64 // when it was looked at, in Unix nanoseconds
}

// content is what stands in a file at one time.
type content struct {
	values map[string]string
	nets   *bart.Lite
	mod    time.Time
	size   int64
}

// Has reports whether the list has the value; case does not matter. An entry
// "@example.com" stands for every address of the domain.
func (l *Lists) Has(ctx context.Context, path, value string) (bool, error) {
	c, err := l.get(ctx, path, entries)
	if err != nil {
		return false, err
	}
	return c.has(value), nil
}

func (c *content) has(value string) bool {
	key := strings.ToLower(strings.TrimSpace(value))
	if _, ok := c.values[key]; ok {
		return true
	}
	if at := strings.LastIndexByte(key, '@'); at > 0 {
		_, ok := c.values[key[at:]]
		return ok
	}
	return false
}

// Value returns what stands behind the key on its line; case does not matter in
// keys.
func (l *Lists) Value(ctx context.Context, path, key string) (string, bool, error) {
	c, err := l.get(ctx, path, pairs)
	if err != nil {
		return "", false, err
	}
	v, ok := c.values[strings.ToLower(key)]
	return v, ok, nil
}

// InNetwork reports whether the address is in one of the networks of the list.
func (l *Lists) InNetwork(ctx context.Context, path string, addr netip.Addr) (bool, error) {
	c, err := l.get(ctx, path, nets)
	if err != nil {
		return false, err
	}
	return c.nets.Contains(addr.Unmap().WithZone("")), nil
}

func (l *Lists) get(ctx context.Context, path string, k kind) (*content, error) {
	f, fresh, err := l.file(path, k)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	if fresh {
		f.checked.Store(now)
		l.load(f)
		close(f.ready)
	}
	select {
	case <-f.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// Whoever is the first after a while looks whether the file changed; the others
	// go on with what there is.
	if last := f.checked.Load(); now-last > int64(restat) && f.checked.CompareAndSwap(last, now) {
		l.load(f)
	}
	if c := f.content.Load(); c != nil {
		return c, nil
	}
	return nil, *f.err.Load()
}

// file returns the entry of a path, and whether the caller has to read it.
func (l *Lists) file(path string, k kind) (f *listFile, fresh bool, err error) {
	if !filepath.IsAbs(path) && !filepath.IsLocal(path) {
		return nil, false, fmt.Errorf("%q leaves the directory of the lists", short(path))
	}
	key := string(rune(k)) + path
	l.mu.Lock()
	defer l.mu.Unlock()
	if f = l.known[key]; f != nil {
		return f, false, nil
	}
	if len(l.known) >= maxLists {
		return nil, false, fmt.Errorf("more than %d lists", maxLists)
	}
	f = &listFile{path: path, kind: k, ready: make(chan struct{})}
	l.known[key] = f
	return f, true, nil
}

// load reads a file if it is not the one that was read before.
func (l *Lists) load(f *listFile) {
	c, err := l.read(f)
	if err == nil {
		if c != nil {
			f.content.Store(c)
		}
		f.err.Store(nil)
		return
	}
	if old := f.err.Load(); old == nil || (*old).Error() != err.Error() {
		l.log.Warn("read list of a script", "file", f.path, "error", err)
	}
	f.err.Store(&err)
}

// read returns the content of a file, nil where it is the one that is known.
func (l *Lists) read(f *listFile) (*content, error) {
	file, err := l.open(f.path)
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("read list: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxListSize {
		return nil, fmt.Errorf("read list: %s is no file of at most %d MiB", f.path, maxListSize>>20)
	}
	if old := f.content.Load(); old != nil && old.mod.Equal(info.ModTime()) && old.size == info.Size() {
		return nil, nil
	}
	c, err := parseList(file, f.kind)
	if err != nil {
		return nil, fmt.Errorf("read list %s: %w", f.path, err)
	}
	c.mod, c.size = info.ModTime(), info.Size()
	return c, nil
}

// open opens a file, and does not wait where it is a pipe; a relative path cannot
// leave the directory, links in it included.
func (l *Lists) open(path string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	if filepath.IsAbs(path) {
		return os.OpenFile(path, flags, 0)
	}
	root, err := os.OpenRoot(l.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(path, flags, 0)
}

func parseList(r io.Reader, k kind) (*content, error) {
	c := &content{values: map[string]string{}}
	if k == nets {
		c.nets = &bart.Lite{}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxListLine), maxListLine)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" || text[0] == '#' {
			continue
		}
		if err := c.add(text, k); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return c, lines.Err()
}

var errPair = errors.New("want a key and a value")

func (c *content) add(text string, k kind) error {
	switch k {
	case nets:
		word, _, _ := strings.Cut(text, " ")
		p, err := parseNetwork(word)
		if err != nil {
			return err
		}
		c.nets.Insert(p)
	case pairs:
		i := strings.IndexAny(text, " \t")
		if i < 0 {
			return errPair
		}
		c.values[strings.ToLower(text[:i])] = strings.TrimSpace(text[i:])
	default:
		c.values[strings.ToLower(text)] = ""
	}
	return nil
}

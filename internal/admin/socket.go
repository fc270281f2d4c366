package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// SocketName is the name of the unix socket in the data directory.
const SocketName = "gatepost.sock"

// ErrSocketInUse says that another process answers on the socket.
var ErrSocketInUse = errors.New("another process answers on the socket")

// maxSocketPath is how long a path a socket address holds on every system that
// matters, less the final NUL (sun_path of unix(7): 108 bytes on Linux, 104 on
// the BSDs).
const maxSocketPath = 103

// dialTimeout bounds the question whether a socket is alive.
const dialTimeout = 2 * time.Second

// ListenSocket listens on the unix socket path with mode 0600. A socket that a
// dead process left behind is replaced; one that is alive is ErrSocketInUse; a
// file that is no socket is left alone. Closing the listener removes the socket.
func ListenSocket(path string) (net.Listener, error) {
	if err := checkStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// The socket is made in a directory that nobody else can enter, and gets its
	// name when it has its mode: at no moment can others connect, whatever the
	// umask, which belongs to the whole process and is not touched.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".sock-")
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l, err := bindIn(dir, path)
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

func bindIn(dir, path string) (net.Listener, error) {
	made := filepath.Join(dir, "s")
	var l *net.UnixListener
	err := withShortPath(made, func(short string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // that would be the name it was made under
	info, err := os.Lstat(made)
	if err == nil {
		err = os.Chmod(made, 0o600)
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socketListener{UnixListener: l, path: path, info: info}, nil
}

// checkStale returns nil when path is free or a socket that nobody serves.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return errors.New("there is a file of that name that is no socket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := DialSocket(ctx, path)
	switch {
	case err == nil:
		return errors.Join(ErrSocketInUse, conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil
	default:
		return fmt.Errorf("is it in use? %w", err)
	}
}

// DialSocket connects to the unix socket path, however long it is.
func DialSocket(ctx context.Context, path string) (net.Conn, error) {
	var conn net.Conn
	err := withShortPath(path, func(short string) (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "unix", short)
		return err
	})
	return conn, err
}

// withShortPath calls fn with a path that fits into a socket address: for a
// long one, the same file seen through an open descriptor of its directory.
func withShortPath(path string, fn func(string) error) error {
	if len(path) <= maxSocketPath {
		return fn(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = fn(filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path)))
	return errors.Join(err, dir.Close())
}

// socketListener removes its socket when it is closed, unless another process
// has replaced it.
type socketListener struct {
	*net.UnixListener
	path string
	info fs.FileInfo
	once sync.Once
}

// Close stops listening and removes the socket.
func (l *socketListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.info) {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

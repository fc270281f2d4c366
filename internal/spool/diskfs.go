package spool

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// diskFS is the disk, with files that nobody else may read whatever the umask
// says, and a lock that follows no symbolic link.
type diskFS struct{ vfs.FS }

// Create implements vfs.FS. The directory is 0700, so nobody sees the file
// before its mode is set.
func (d diskFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	if err := unix.Fchmod(int(f.Fd()), 0o600); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Lock implements vfs.FS with flock(2), which also keeps a second Spool of the
// same process out.
func (d diskFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// makeDir makes a directory, or takes over one, that only we may enter.
func makeDir(fs vfs.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	if _, ok := fs.(diskFS); !ok {
		return nil
	}
	// MkdirAll obeys the umask and leaves an existing directory as it is.
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("protect directory: %w", err)
	}
	return nil
}

// diskFree returns the bytes that a process without privileges may still write.
func diskFree(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

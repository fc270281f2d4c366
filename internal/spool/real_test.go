package spool

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/internal/mail"
)

// smallDisk mounts a file system of its own, or skips the test.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// healthy waits on the real clock until the spool takes mail again.
func healthy(t *testing.T, s *Spool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Health() != nil {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal(s.Health())
		}
	}
}

func TestARealDiskThatIsFullTakesMailAgainWhenItIsNot(t *testing.T) {
	for _, c := range []struct{ name, options string }{
		{"bytes", "size=16m"},
		{"inodes", "nr_inodes=60"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := smallDisk(t, c.options)
			o := Options{Dir: filepath.Join(dir, "spool"), MemTableSize: 1 << 20}
			s := openTest(t, o)
			m := newModel()
			_, err := m.commit(s, testBody(5000), 1)
			noError(t, err)
			ballast := fillDisk(t, dir, c.name)
			refused := 0
			for i := 0; i < 300 && refused < 3; i++ {
				_, err := m.commit(s, testBody(50<<10), 1)
				if err != nil {
					checkRefusal(t, err)
					if !errors.Is(err, ErrNoSpace) {
						t.Errorf("commit = %v, want ErrNoSpace", err)
					}
					refused++
				}
			}
			if refused == 0 {
				t.Fatal("the disk was never full")
			}
			noError(t, os.RemoveAll(ballast))
			healthy(t, s)
			_, err = m.commit(s, testBody(5000), 1)
			noError(t, err)
			noError(t, verifyOpen(s, m.snapshot(), true))
			noError(t, s.Close())
			s = openTest(t, o)
			noError(t, verifyOpen(s, m.snapshot(), true))
		})
	}
}

// fillDisk uses up most of what there is and returns what to remove.
func fillDisk(t *testing.T, dir, what string) string {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	noError(t, os.Mkdir(ballast, 0o700))
	for i := range 1000 {
		var size int
		if what == "bytes" {
			size = 256 << 10
		}
		err := os.WriteFile(filepath.Join(ballast, mail.NewID().String()), make([]byte, size), 0o600)
		if err != nil {
			if i == 0 {
				t.Fatal(err)
			}
			return ballast
		}
	}
	t.Fatal("the disk is too large")
	return ""
}

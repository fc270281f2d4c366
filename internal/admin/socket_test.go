package admin

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestTheSocketIsPrivateWhateverTheUmask(t *testing.T) {
	old := syscall.Umask(0) // DUR-32
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := ListenSocket(path)
	must(t, err)
	info, err := os.Lstat(path)
	must(t, err)
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, l.Close())
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestALiveSocketIsRefusedAndADeadOneReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	dead.SetUnlinkOnClose(false)
	must(t, dead.Close())

	alive, err := ListenSocket(path)
	must(t, err)
	if _, err := ListenSocket(path); !errors.Is(err, ErrSocketInUse) {
		t.Errorf("a second process: %v", err)
	}
	conn, err := DialSocket(t.Context(), path)
	if err != nil {
		t.Errorf("the first one lost its socket: %v", err)
	} else {
		conn.Close()
	}
	must(t, alive.Close())
	if _, err := os.Lstat(path); err == nil {
		t.Error("closing left the socket")
	}
}

func TestClosingLeavesTheSocketOfASuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	first, err := ListenSocket(path)
	must(t, err)
	must(t, os.Remove(path))
	second, err := ListenSocket(path)
	must(t, err)
	must(t, first.Close())
	conn, err := DialSocket(t.Context(), path)
	must(t, err)
	must(t, conn.Close())
	must(t, second.Close())
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	if _, err := ListenSocket(path); err == nil {
		t.Error("it was replaced")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
		t.Errorf("%q %v", b, err)
	}
}

func TestALongPathIsNoObstacle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	must(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, SocketName)
	l, err := ListenSocket(path)
	must(t, err)
	conn, err := DialSocket(t.Context(), path)
	must(t, err)
	must(t, conn.Close())
	if _, err := ListenSocket(path); !errors.Is(err, ErrSocketInUse) {
		t.Errorf("a second process: %v", err)
	}
	must(t, l.Close())
}

func TestADirectoryThatIsMissingIsAnError(t *testing.T) {
	if _, err := ListenSocket(filepath.Join(t.TempDir(), "missing", SocketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

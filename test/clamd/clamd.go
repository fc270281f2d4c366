// Package clamd runs a real clamd of its own for tests: its own configuration,
// its own small database, its own sockets, nothing of the system's instance and
// nothing from the network.
//
// Invariants:
//   - It needs Debian's clamav-daemon package and no particular user.
//   - The database knows the EICAR test file and what Config.Signatures adds, so
//     it loads at once. Its names begin with "Test.", and clamd puts
//     ".UNOFFICIAL" behind them.
//   - It listens on a unix socket in its directory, and on loopback where asked.
package clamd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/peer"
)

// Config says how the instance is set up.
type Config struct {
	// Dir is a directory with a short path, for the socket in it; it is made.
	Dir string
	// TCP makes it listen on a free port of loopback too.
	TCP bool
	// Signatures are further files of the database, by name: "more.ndb".
	Signatures map[string]string
	// Options are further lines of clamd.conf, which go before the defaults here.
	Options map[string]string
}

// Instance is a clamd that was set up.
type Instance struct {
	Dir string
	// Unix and TCP are the addresses as the configuration of Gatepost has them:
	// "unix:/path" and "tcp:host:port", "" where it does not listen.
	Unix, TCP string

	socket string
	cmd    *exec.Cmd
	done   chan struct{}
	err    error
}

// Run sets an instance up, starts it, and stops it when the test ends. The test
// is skipped where clamd is not installed.
func Run(t testing.TB, c Config) *Instance {
	t.Helper()
	peer.Require(t, "clamd")
	if c.Dir == "" {
		// The directory of the test has its name in it, and the path of a socket
		// may be 107 bytes long.
		dir, err := os.MkdirTemp("", "clamd")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		c.Dir = dir
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			_, behind, _ := strings.Cut(p.Log(), "Self checking")
			t.Logf("clamd: %s", behind)
		}
	})
	return p
}

// New writes the configuration and the database.
func New(c Config) (*Instance, error) {
	p := &Instance{Dir: c.Dir, socket: filepath.Join(c.Dir, "clamd.sock")}
	p.Unix = "unix:" + p.socket
	for _, dir := range []string{"db", "tmp"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("make clamd directory: %w", err)
		}
	}
	if c.TCP {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		p.TCP = "tcp:127.0.0.1:" + strconv.Itoa(port)
	}
	files := map[string]string{
		"gatepost.hdb": "44d88612fea8a8f36de82e1278abb02f:68:Test.Eicar.HDB\n",
		"gatepost.ndb": "Test.Eicar.NDB:0:*:" + hex.EncodeToString(EICAR()[28:62]) + "\n",
	}
	maps.Copy(files, c.Signatures)
	for name, text := range files {
		if err := p.Signature(name, text); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(p.conf(), []byte(p.configuration(c)), 0o600); err != nil {
		return nil, fmt.Errorf("configure clamd: %w", err)
	}
	return p, nil
}

// freePort finds a port that was free a moment ago; clamd cannot tell which one
// it got if it is asked for 0.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port for clamd: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

func (p *Instance) conf() string { return filepath.Join(p.Dir, "clamd.conf") }

func (p *Instance) configuration(c Config) string {
	// No User: clamd then stays who started it, root as well.
	options := map[string]string{
		"DatabaseDirectory":  filepath.Join(p.Dir, "db"),
		"TemporaryDirectory": filepath.Join(p.Dir, "tmp"),
		"LogFile":            filepath.Join(p.Dir, "clamd.log"),
		"LogTime":            "yes",
		"LocalSocket":        p.socket,
		"FixStaleSocket":     "yes",
		"Foreground":         "yes",
		"MaxThreads":         "4",
	}
	if p.TCP != "" {
		host, port, _ := net.SplitHostPort(strings.TrimPrefix(p.TCP, "tcp:"))
		options["TCPAddr"], options["TCPSocket"] = host, port
	}
	maps.Copy(options, c.Options)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(options)) {
		fmt.Fprintf(&b, "%s %s\n", key, options[key])
	}
	return b.String()
}

// Signature writes a file of the database, which counts from the next start or
// Reload on.
func (p *Instance) Signature(name, text string) error {
	if err := os.WriteFile(filepath.Join(p.Dir, "db", name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write signatures of clamd: %w", err)
	}
	return nil
}

// Start starts clamd and waits until it answers.
func (p *Instance) Start() error {
	cmd := exec.Command(peer.Find("clamd"), "--config-file="+p.conf())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd, p.done = cmd, make(chan struct{})
	started := make(chan error)
	go func() {
		// The thread must live as long as the process: see Pdeathsig.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		p.cmd = nil
		return fmt.Errorf("start clamd: %w", err)
	}
	return p.ready(60*time.Second, &out)
}

func (p *Instance) ready(timeout time.Duration, out *bytes.Buffer) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if answer, err := p.Command("PING"); err == nil && answer == "PONG" && p.listens() {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("start clamd: %v: %s%s", p.err, p.Log(), out)
		case <-deadline.C:
			return errors.Join(fmt.Errorf("no answer from clamd after %v: %s", timeout, p.Log()), p.Stop())
		case <-tick.C:
		}
	}
}

// listens reports whether it does so on TCP too, where that is asked for.
func (p *Instance) listens() bool {
	if p.TCP == "" {
		return true
	}
	c, err := net.DialTimeout("tcp", strings.TrimPrefix(p.TCP, "tcp:"), 5*time.Second)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// Command gives clamd a command without arguments and returns its answer.
func (p *Instance) Command(name string) (string, error) {
	c, err := net.DialTimeout("unix", p.socket, 5*time.Second)
	if err != nil {
		return "", fmt.Errorf("ask clamd: %w", err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", fmt.Errorf("ask clamd: %w", err)
	}
	if _, err := io.WriteString(c, "z"+name+"\x00"); err != nil {
		return "", fmt.Errorf("ask clamd: %w", err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return "", fmt.Errorf("ask clamd: %w", err)
	}
	return strings.TrimRight(string(answer), "\x00"), nil
}

// Reload makes clamd read its database again, and waits until it did.
func (p *Instance) Reload(t testing.TB) {
	t.Helper()
	before := strings.Count(p.Log(), "Activating the newly loaded database")
	if answer, err := p.Command("RELOAD"); err != nil || answer != "RELOADING" {
		t.Fatalf("reload: %q, %v", answer, err)
	}
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(p.Log(), "Activating the newly loaded database") == before {
		select {
		case <-deadline.C:
			t.Fatalf("clamd does not reload: %s", p.Log())
		case <-tick.C:
		}
	}
}

// Signal sends a signal: SIGSTOP makes a clamd that accepts and hangs.
func (p *Instance) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal clamd: %w", err)
	}
	return nil
}

// Stop kills clamd; Start may be called again. The socket stays behind, as after
// a crash.
func (p *Instance) Stop() error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop clamd: %w", err)
	}
	<-p.done
	return nil
}

// Log is what clamd wrote.
func (p *Instance) Log() string {
	text, err := os.ReadFile(filepath.Join(p.Dir, "clamd.log"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// EICAR is the test file that every virus scanner knows, by convention and not
// because it did harm. It is put together here so that no file of ours is one.
func EICAR() []byte {
	backwards := []byte("*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\\4[PA@%P!O5X")
	slices.Reverse(backwards)
	return backwards
}

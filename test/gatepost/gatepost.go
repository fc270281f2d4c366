// Package gatepost starts the real binary for tests: with a configuration made
// for the test, in a directory of its own, and it knows how to wait for it,
// stop it, kill it and start it again on the same data.
//
// A test package that uses it has
//
//	func TestMain(m *testing.M) { os.Exit(gatepost.Main(m)) }
//
// which builds the binary once per test run.
//
// Invariants:
//   - What a test started does not outlive it: processes run in a group of their
//     own that is killed when the test ends, and die with the test binary.
//   - When a test fails, what the server wrote is in the test's output.
package gatepost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/wire"
)

// BinaryVar is the environment variable that names the binary under test. Main
// sets it; who sets it before has another binary tested.
const BinaryVar = "GATEPOST_BIN"

// Main builds the binary into a temporary directory unless BinaryVar names one,
// runs the tests, and returns the exit status.
func Main(m *testing.M) int {
	if os.Getenv(BinaryVar) == "" {
		dir, err := os.MkdirTemp("", "gatepost-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "gatepost")
		if err := build(bin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Setenv(BinaryVar, bin)
	}
	return m.Run()
}

func build(bin string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "gatepost/cmd/gatepost")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build gatepost: %w: %s", err, out)
	}
	return nil
}

// readSources looks at the sources of the product. The test packages import
// nothing of it, so without this go test would show an old result after the
// product has changed: it notes what a test reads, and reading a directory
// stands for the files in it.
func readSources(t testing.TB) {
	t.Helper()
	root := "."
	for range 10 {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Join(root, "..")
	}
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// Options say how to start the server.
type Options struct {
	Settings
	// Binary to run instead of BinaryVar's; Env is added to its environment.
	Binary string
	Env    []string
	// Wrap is a command that the server's command line is appended to: strace,
	// prlimit, a shell that mounts something first.
	Wrap []string
	// Dir to run in; default a fresh directory of the test. DataDir overrides the
	// place of data_dir below it.
	Dir, DataDir string
	// NoWait starts the server without waiting for it to serve.
	NoWait bool
	// Timeout of starting; default 30 s.
	Timeout time.Duration
}

// Instance is a server that was started. Stop, Kill and Start may be called in
// turn; the addresses stay the same.
type Instance struct {
	SMTP, Admin             string // addresses
	Dir, DataDir, LogDir    string
	ConfigFile, OutputFile  string
	SocketFile, MailLogFile string

	t    testing.TB
	o    Options
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how it ended; read after done
}

// Start writes the configuration, starts the server and waits until it serves.
// The test fails if it doesn't.
func Start(t testing.TB, o Options) *Instance {
	t.Helper()
	g := New(t, o)
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	return g
}

// New prepares everything but does not start the server.
func New(t testing.TB, o Options) *Instance {
	t.Helper()
	readSources(t)
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.DataDir == "" {
		o.DataDir = filepath.Join(o.Dir, "data")
	}
	if o.Binary == "" {
		o.Binary = os.Getenv(BinaryVar)
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	g := &Instance{
		SMTP: FreeAddress(t), Admin: FreeAddress(t),
		Dir: o.Dir, DataDir: o.DataDir, LogDir: filepath.Join(o.Dir, "log"),
		ConfigFile: filepath.Join(o.Dir, "gatepost.toml"), OutputFile: filepath.Join(o.Dir, "output"),
		t: t, o: o,
	}
	g.SocketFile = filepath.Join(g.DataDir, "gatepost.sock")
	g.MailLogFile = filepath.Join(g.LogDir, "mail.log")
	g.Configure(o.Settings)
	t.Cleanup(func() {
		g.Kill()
		if t.Failed() {
			t.Logf("output of the server:\n%s\nits log:\n%s", tail(g.Output(), 8000), tail(g.MailLog(), 8000))
		}
	})
	return g
}

// Configure writes the configuration file anew; it counts at the next start or
// SIGHUP.
func (g *Instance) Configure(s Settings) {
	g.t.Helper()
	text := s.config(g.SMTP, g.Admin, g.DataDir, g.LogDir)
	if err := os.WriteFile(g.ConfigFile, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// Rewrap replaces Options.Wrap for the next start.
func (g *Instance) Rewrap(wrap ...string) { g.o.Wrap = wrap }

// Start starts the server, again perhaps, and waits until it serves, unless
// Options.NoWait.
func (g *Instance) Start() error {
	if err := g.launch(); err != nil {
		return err
	}
	if g.o.NoWait {
		return nil
	}
	return g.Ready()
}

func (g *Instance) launch() error {
	out, err := os.OpenFile(g.OutputFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	args := append(append([]string(nil), g.o.Wrap...), g.o.Binary, "serve", "-c", g.ConfigFile)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), g.o.Env...)
	cmd.Env = append(cmd.Env, "GATEPOST_TEST_SMTP="+g.SMTP, "GATEPOST_TEST_NEXT="+g.o.Next, "GATEPOST_TEST_DATA="+g.DataDir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	g.cmd, g.done = cmd, make(chan struct{})
	started := make(chan error)
	go func() {
		// Pdeathsig fires when the thread that started the process ends, so this
		// goroutine keeps its thread until the process has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			g.err = cmd.Wait()
			close(g.done)
		}
	}()
	if err := <-started; err != nil {
		g.cmd = nil
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	return nil
}

// Ready waits until the server greets clients and, where it has a health page,
// says that it is well.
func (g *Instance) Ready() error {
	deadline := time.Now().Add(g.o.Timeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := g.probe()
		if err == nil {
			return nil
		}
		select {
		case <-g.done:
			return fmt.Errorf("server ended while starting: %v", g.err)
		case <-tick.C:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("server is not ready after %v: %w", g.o.Timeout, err)
		}
	}
}

func (g *Instance) probe() error {
	// The page first: who counts connections should see one only.
	if g.o.Binary == os.Getenv(BinaryVar) {
		if err := g.Health(); err != nil {
			return err
		}
	}
	c, err := wire.Dial(g.SMTP, wire.Options{Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer c.Quit()
	if r, err := c.Reply(); err != nil || r.Code != 220 {
		return fmt.Errorf("banner: %v, %v", r, err)
	}
	return nil
}

// Health asks /healthz; nil means well.
func (g *Instance) Health() error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + g.Admin + "/healthz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz: %s", resp.Status)
	}
	return nil
}

// Running reports whether the process has not ended.
func (g *Instance) Running() bool {
	if g.cmd == nil {
		return false
	}
	select {
	case <-g.done:
		return false
	default:
		return true
	}
}

// Pid is the process of the server, or of what it is wrapped in.
func (g *Instance) Pid() int { return g.cmd.Process.Pid }

// ServerPid is the process of the server itself: below the wrapper, if any.
func (g *Instance) ServerPid() (int, error) {
	pid := g.Pid()
	for {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			return 0, err
		}
		if sameFile(exe, g.o.Binary) {
			return pid, nil
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if err != nil {
			return 0, err
		}
		if _, err := fmt.Sscan(string(children), &pid); err != nil {
			return 0, errors.New("no server below the wrapper")
		}
	}
}

// Signal sends a signal to the process group.
func (g *Instance) Signal(sig syscall.Signal) {
	if g.Running() {
		// It may have ended just now; Wait tells.
		_ = syscall.Kill(-g.cmd.Process.Pid, sig)
	}
}

// Wait waits for the end of the process and returns its exit status, -1 for a
// signal; an error means that it still runs.
func (g *Instance) Wait(timeout time.Duration) (int, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-g.done:
		return g.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		return 0, fmt.Errorf("server still runs after %v", timeout)
	}
}

// Kill ends the process as a crash does.
func (g *Instance) Kill() {
	if g.cmd == nil {
		return
	}
	group := g.cmd.Process.Pid
	g.Signal(syscall.SIGKILL)
	<-g.done
	// A server below a wrapper ends a moment after it, and holds its lock and its
	// port until then. An empty group has nobody to signal.
	Holds(5*time.Second, func() bool { return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) })
}

// Stop ends the server as an administrator does; the test fails if it takes
// more than 30 s or does not end well.
func (g *Instance) Stop() {
	g.t.Helper()
	g.Signal(syscall.SIGTERM)
	if status, err := g.Wait(30 * time.Second); err != nil || status != 0 {
		g.t.Errorf("stop: status %d, %v", status, err)
	}
}

// Output is what the server wrote to standard output and error.
func (g *Instance) Output() string {
	b, err := os.ReadFile(g.OutputFile)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// MailLog is the content of mail.log.
func (g *Instance) MailLog() string {
	b, err := os.ReadFile(g.MailLogFile)
	if err != nil {
		return ""
	}
	return string(b)
}

// Run runs another subcommand of the binary with this configuration.
func (g *Instance) Run(args ...string) (string, error) {
	cmd := exec.Command(g.o.Binary, append(args, "-c", g.ConfigFile)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("gatepost %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}

// Queue is what "gatepost queue list --json" says.
func (g *Instance) Queue() ([]map[string]any, error) {
	out, err := g.Run("queue", "list", "--json")
	if err != nil {
		return nil, err
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		return nil, fmt.Errorf("read queue list: %w", err)
	}
	return rows, nil
}

// Hello connects from the address and says EHLO; the test fails if that does
// not work. The connection is closed when the test ends.
func (g *Instance) Hello(source string) *wire.Conn {
	g.t.Helper()
	c, _, err := wire.Hello(g.SMTP, wire.Options{Source: source})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// FreeAddress is a loopback address and port that nobody listens on now. The
// port is out of the range from which the system takes ports for outgoing
// connections, and the host is one of the many of 127.0.0.0/8, so that nobody
// takes it while a server is being started again.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		host := fmt.Sprintf("127.%d.%d.%d", 10+rand.IntN(200), rand.IntN(256), 1+rand.IntN(250))
		ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, 10000+rand.IntN(20000)))
		if err == nil {
			ln.Close()
			return ln.Addr().String()
		}
	}
	t.Fatal("no free address")
	return ""
}

// Eventually waits until the condition holds and fails the test otherwise. It
// is for what happens in other processes; the timeout only ends a test that has
// failed already.
func Eventually(t testing.TB, what string, timeout time.Duration, condition func() bool) {
	t.Helper()
	if !Holds(timeout, condition) {
		t.Fatalf("not so after %v: %s", timeout, what)
	}
}

// Holds waits until the condition holds and reports whether it came to that.
func Holds(timeout time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(timeout)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		<-tick.C
	}
	return true
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}

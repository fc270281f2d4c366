package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a real PostgreSQL server in a temporary directory, reached by a
// socket in it. The zero value is one that is not started yet.
type Postgres struct {
	mu        sync.Mutex
	dir       string // holds data and the socket
	bin       string
	owner     *syscall.Credential // nil: whoever we are
	process   *exec.Cmd
	databases int
}

// startTime bounds a start of the server on a busy machine.
const startTime = 2 * time.Minute

// errNoServer says that PostgreSQL is not installed.
var errNoServer = errors.New("the server of PostgreSQL is not installed")

// NewDatabase returns the URL of a fresh database. It starts the server if it
// does not run yet. The test is skipped where PostgreSQL is not installed, unless
// GATEPOST_REQUIRE_PEERS is set.
func (p *Postgres) NewDatabase(t testing.TB) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		switch err := p.start(); {
		case errors.Is(err, errNoServer) && os.Getenv("GATEPOST_REQUIRE_PEERS") == "":
			t.Skip(err)
		case err != nil:
			t.Fatal(err)
		}
	}
	p.databases++
	name := "test" + strconv.Itoa(p.databases)
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	c, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return p.url(name)
}

func (p *Postgres) url(database string) string {
	q := url.Values{"host": {p.dir}, "sslmode": {"disable"}}
	return "postgres://gatepost@/" + database + "?" + q.Encode()
}

// Kill ends the server as a crash would.
func (p *Postgres) Kill(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
}

// Restart starts the server again, with what it had.
func (p *Postgres) Restart(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops every process of the server, so that it answers nothing and
// refuses nothing; the function that it returns lets it go on.
func (p *Postgres) Freeze(t testing.TB) func() {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	group := -p.process.Process.Pid
	children := backends(p.process.Process.Pid)
	for _, pid := range append(children, group) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	return func() {
		for _, pid := range append(children, group) {
			syscall.Kill(pid, syscall.SIGCONT)
		}
	}
}

// backends are the processes of the server's sessions, each in a group of its own.
func backends(parent int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Close ends the server and removes its files.
func (p *Postgres) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dir == "" {
		return nil
	}
	return errors.Join(p.end(), os.RemoveAll(p.dir))
}

// start makes a new cluster and starts the server.
func (p *Postgres) start() error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return errNoServer
	}
	p.bin = filepath.Dir(slices.Max(found))
	if p.dir, err = os.MkdirTemp("", "gatepost-pg-"); err != nil {
		return err
	}
	if err := p.leaveRoot(); err != nil {
		return err
	}
	// A collation in which case and punctuation matter little, as administrators
	// have it: what the store orders must not depend on it.
	initdb := p.command(context.Background(), "initdb", "-D", filepath.Join(p.dir, "data"), "-U", "gatepost", "--auth=trust",
		"-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return p.launch()
}

// leaveRoot finds an account for the server, which refuses to be root.
func (p *Postgres) leaveRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	p.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(p.dir, uid, gid)
}

func (p *Postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

// launch starts the server and waits until it takes connections. Writes are not
// synced: the tests end the server, not the machine.
func (p *Postgres) launch() error {
	cmd := p.command(context.Background(), "postgres", "-D", filepath.Join(p.dir, "data"), "-k", p.dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "max_connections=60",
		"-c", "timezone=Asia/Kathmandu", "-c", "log_min_messages=warning")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	ready, started := make(chan error, 1), make(chan error)
	go func() {
		// Pdeathsig is the death of the thread that started it, and some tests end threads.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewScanner(stderr)
		var said []string
		for lines.Scan() {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), "ready to accept connections") {
				ready <- nil
				io.Copy(io.Discard, stderr)
				return
			}
		}
		ready <- fmt.Errorf("postgres ended: %s", strings.Join(said, "\n"))
	}()
	if err := <-started; err != nil {
		return err
	}
	timer := time.NewTimer(startTime)
	defer timer.Stop()
	select {
	case err = <-ready:
	case <-timer.C:
		err = errors.New("postgres does not get ready")
	}
	if err != nil {
		return errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	p.process = cmd
	return nil
}

// end crashes the server. SIGQUIT is PostgreSQL's immediate shutdown: no
// checkpoint, no answer to anybody, recovery from the log at the next start.
func (p *Postgres) end() error {
	if p.process == nil {
		return nil
	}
	err := p.process.Process.Signal(syscall.SIGQUIT)
	p.process.Wait() // its status says that it was told to quit
	p.process = nil
	return err
}

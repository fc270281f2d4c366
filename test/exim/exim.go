// Package exim runs a real Exim of its own for tests: its own configuration, spool and
// mailbox, its own port on loopback, nothing of the system's mail server.
//
// Invariants:
//   - It needs root and the package exim4-daemon-light, which scripts/deps unpacks: it
//     conflicts with Postfix. Exim wants the user of its package, who is not there then,
//     so its processes run in a mount namespace with an /etc/passwd of their own.
//   - It listens on loopback.
//   - It takes mail for everybody but "nobody", and puts all of it into one mailbox.
package exim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/peer"
)

// Instance is an Exim that runs.
type Instance struct {
	// Addr is where it speaks SMTP.
	Addr string

	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// conf is its configuration.
const conf = `exim_path = PROGRAM
exim_user = mail
exim_group = mail
primary_hostname = exim.example
spool_directory = DIR/spool
log_file_path = DIR/log/%slog
pid_file_path = DIR/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = PORT
tls_advertise_hosts =
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
dsn_advertise_hosts = *
chunking_advertise_hosts = *
never_users =
keep_environment =
smtp_accept_max = 200
begin acl
rcpt:
  deny local_parts = nobody
       message = Exim does not know him
  accept
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  file = DIR/mail/box
  user = mail
  group = mail
begin retry
* * F,1h,1m
`

// namespace is what its processes see.
const namespace = `set -e
mount --make-rprivate /
mount --bind DIR/passwd /etc/passwd
mount --bind DIR/group /etc/group
exec PROGRAM -C DIR/conf -bdf
`

// Run starts an Exim and stops it when the test ends. The test is skipped where it is not
// there.
func Run(t testing.TB) *Instance {
	t.Helper()
	peer.RequireRoot(t)
	peer.Require(t, "exim4", "unshare")
	dir, err := os.MkdirTemp("", "exim")
	if err != nil {
		t.Fatal(err)
	}
	p := &Instance{dir: dir}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("log of Exim:\n%s", p.Log())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// A port that was free a moment ago may be taken.
	for range 3 {
		if err = p.setUp(); err == nil {
			err = p.start()
		}
		if err == nil {
			return p
		}
	}
	t.Fatal(err)
	return nil
}

func (p *Instance) setUp() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a free port: %w", err)
	}
	p.Addr = l.Addr().String()
	_, port, _ := net.SplitHostPort(p.Addr) // it is an address of ours
	if err := l.Close(); err != nil {
		return err
	}
	own, err := exec.Command("id", "-u", "mail").Output()
	if err != nil {
		return fmt.Errorf("find a user for Exim: %w", err)
	}
	var uid int
	if _, err := fmt.Sscan(string(own), &uid); err != nil {
		return fmt.Errorf("find a user for Exim: %w", err)
	}
	files := map[string]string{"conf": strings.NewReplacer("PROGRAM", peer.Find("exim4"), "DIR", p.dir, "PORT", port).Replace(conf)}
	for name, line := range map[string]string{"passwd": "Debian-exim:x:1600:1600::/nonexistent:/bin/false\n", "group": "Debian-exim:x:1600:\n"} {
		text, err := os.ReadFile("/etc/" + name)
		if err != nil {
			return fmt.Errorf("read accounts: %w", err)
		}
		files[name] = strings.TrimSuffix(string(text), "\n") + "\n" + line
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("configure Exim: %w", err)
		}
	}
	for _, sub := range []string{"spool", "log", "mail"} {
		sub = filepath.Join(p.dir, sub)
		if err := errors.Join(os.MkdirAll(sub, 0o755), os.Chown(sub, uid, -1)); err != nil {
			return fmt.Errorf("make directory of Exim: %w", err)
		}
	}
	return os.Chmod(p.dir, 0o755)
}

func (p *Instance) start() error {
	script := strings.NewReplacer("PROGRAM", peer.Find("exim4"), "DIR", p.dir).Replace(namespace)
	p.cmd = exec.Command("unshare", "-m", "sh", "-c", script)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.done = make(chan struct{})
	started := make(chan error)
	go func() {
		// Pdeathsig is the death of the thread, so it stays with the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in its log
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start Exim: %w", err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if c, err := net.DialTimeout("tcp", p.Addr, time.Second); err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("start Exim: it ended: %s", p.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.stop()
	return errors.New("start Exim: nobody listens")
}

// Mailbox is all mail that it took so far.
func (p *Instance) Mailbox() string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "mail", "box")) // nothing before the first mail
	return string(text)
}

// Log is what it wrote.
func (p *Instance) Log() string {
	var all strings.Builder
	for _, name := range []string{"main", "reject", "panic"} {
		text, _ := os.ReadFile(filepath.Join(p.dir, "log", name+"log")) // there may be none
		all.Write(text)
	}
	return all.String()
}

func (p *Instance) stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	p.cmd = nil
}

// Package popa3d runs the real popa3d for tests: a POP3 server without CAPA, STLS,
// AUTH and APOP, which serves mailboxes in the mbox format.
//
// Invariants:
//   - It needs root and the package popa3d, which scripts/deps unpacks: it conflicts
//     with Dovecot. popa3d reads the system's accounts and its path of mailboxes is
//     compiled in, so each of its processes runs in a mount namespace of its own.
//   - It listens on loopback; each session is a process, as under inetd.
package popa3d

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gatepost/test/peer"
)

// User has the only mailbox, Password is what opens it.
const (
	User     = "joe"
	Password = "correct"
)

// uid is that of User in the namespaces only.
const uid = 1500

// hash is Password for crypt(3), SHA-512.
const hash = "$6$gatepost$aLO8Jw/HePtKhaC70k4hPoGdJEYB6HjatQwtpWwamy9Go.bDU/WDMnXpuyN1v9KvznkcCBon85PGACY2aD7ti."

// Instance is a server that runs.
type Instance struct {
	// Addr is where it speaks POP3.
	Addr string

	dir      string
	script   string
	listener net.Listener
	serving  sync.WaitGroup

	mu       sync.Mutex
	sessions map[*exec.Cmd]bool
}

// Run starts a server whose user's mailbox holds mbox, and stops it when the test
// ends.
func Run(t testing.TB, mbox string) *Instance {
	t.Helper()
	peer.RequireRoot(t)
	peer.Require(t, "popa3d", "unshare")
	dir, err := os.MkdirTemp("", "popa3d")
	if err != nil {
		t.Fatal(err)
	}
	p := &Instance{dir: dir, sessions: make(map[*exec.Cmd]bool)}
	t.Cleanup(func() {
		p.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := p.setUp(mbox); err != nil {
		t.Fatal(err)
	}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.Addr = p.listener.Addr().String()
	p.serving.Go(p.serve)
	return p
}

// setUp writes the files that stand in the place of the system's.
func (p *Instance) setUp(mbox string) error {
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	if err := os.Mkdir(filepath.Join(p.dir, "mail"), 0o755); err != nil {
		return fmt.Errorf("make mailboxes: %w", err)
	}
	for name, text := range map[string]string{
		"passwd":       string(passwd) + fmt.Sprintf("\n%s:x:%d:8::/tmp:/bin/sh\npopa3d:x:%d:8::/var/lib/popa3d:/bin/false\n", User, uid, uid+1),
		"shadow":       "root:*:19000::::::\npopa3d:*:19000::::::\n" + User + ":" + hash + ":19000::::::\n",
		"pam":          "auth required pam_unix.so\naccount required pam_unix.so\n",
		"mail/" + User: mbox,
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	box := filepath.Join(p.dir, "mail", User)
	if err := errors.Join(os.Chown(box, uid, 8), os.Chmod(box, 0o660), os.Chmod(p.dir, 0o755)); err != nil {
		return fmt.Errorf("make mailbox: %w", err)
	}
	p.script = strings.NewReplacer("DIR", p.dir, "PROGRAM", peer.Find("popa3d")).Replace(namespace)
	return nil
}

// namespace is what a session's process sees.
const namespace = `set -e
mount --make-rprivate /
mount --bind DIR/passwd /etc/passwd
mount --bind DIR/shadow /etc/shadow
mount --bind DIR/mail /var/mail
mount -t tmpfs none /etc/pam.d
cp DIR/pam /etc/pam.d/popa3d
mount -t tmpfs none /var/lib
mkdir -m 755 /var/lib/popa3d
exec PROGRAM
`

func (p *Instance) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.serving.Go(func() { p.session(c.(*net.TCPConn)) })
	}
}

func (p *Instance) session(c *net.TCPConn) {
	f, err := c.File()
	_ = c.Close() // the process has its own
	if err != nil {
		return
	}
	cmd := exec.Command("unshare", "-m", "sh", "-c", p.script)
	cmd.Stdin, cmd.Stdout = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.mu.Lock()
	err = cmd.Start()
	p.sessions[cmd] = err == nil
	p.mu.Unlock()
	_ = f.Close()
	if err == nil {
		_ = cmd.Wait() // its status says nothing
	}
	p.mu.Lock()
	delete(p.sessions, cmd)
	p.mu.Unlock()
}

// Mailbox is what the mailbox holds now.
func (p *Instance) Mailbox() (string, error) {
	text, err := os.ReadFile(filepath.Join(p.dir, "mail", User))
	return string(text), err
}

func (p *Instance) stop() {
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.mu.Lock()
	for cmd, runs := range p.sessions {
		if runs {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	p.mu.Unlock()
	p.serving.Wait()
}

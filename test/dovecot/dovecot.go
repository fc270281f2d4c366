// Package dovecot runs a real Dovecot of its own for tests and benchmarks: a POP3
// server with users and Maildirs in a directory of its own, and a submission server if
// wanted, nothing of the system's instance.
//
// Invariants:
//   - It needs root and Debian's packages dovecot-core and dovecot-pop3d, and
//     dovecot-submissiond for submission: its login processes run as other users.
//   - It listens on loopback.
//   - Every user's password is Password.
package dovecot

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
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

// Password is that of every user.
const Password = "correct horse"

// Config says how the instance is set up.
type Config struct {
	// Dir is an empty directory that other users may enter.
	Dir string
	// CertFile and KeyFile are for STLS and POP3S; "" for neither.
	CertFile, KeyFile string
	// Users get empty mailboxes.
	Users []string
	// Relay is the SMTP server that its submission server gives mail to; "": there is no
	// submission server.
	Relay string
	// Conf are further lines of dovecot.conf.
	Conf string
	// Listen are the addresses that it listens on, as Dovecot writes them, Port where POP3
	// is; default 127.0.0.1 and a free one.
	Listen, Port string
	// Enter is a command line that its own is appended to, to run it in another network;
	// Dial connects to it there.
	Enter []string
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
}

// Instance is a Dovecot that was set up.
type Instance struct {
	// Addr is where it speaks POP3, Secure POP3S ("" without a certificate), and
	// Submission where users log in to send mail ("" without Config.Relay).
	Addr, Secure, Submission string
	// Dir is its directory.
	Dir string

	uid   int
	enter []string
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	cmd   *exec.Cmd
	done  chan struct{}
}

// Run sets an instance up, starts it, and stops it when the test ends. The test is
// skipped where Dovecot is not installed.
func Run(t testing.TB, c Config) *Instance {
	t.Helper()
	peer.RequireRoot(t)
	peer.Require(t, "dovecot", "doveadm")
	// Its processes must be able to enter it, and sockets have short paths.
	dir, err := os.MkdirTemp("", "dovecot")
	if err != nil {
		t.Fatal(err)
	}
	c.Dir = dir
	var p *Instance
	t.Cleanup(func() {
		if p != nil {
			p.Stop()
		}
		if t.Failed() {
			if text, err := os.ReadFile(filepath.Join(dir, "log")); err == nil {
				t.Logf("dovecot: %s", text)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// A port that was free a moment ago may be taken.
	for range 3 {
		if p, err = New(c); err == nil {
			if err = p.Start(); err == nil {
				return p
			}
		}
	}
	t.Fatal(err)
	return nil
}

// New writes the configuration and makes the mailboxes.
func New(c Config) (*Instance, error) {
	// It serves no mailbox of root's.
	owner, err := user.Lookup("mail")
	if err != nil {
		return nil, fmt.Errorf("find a user for mailboxes: %w", err)
	}
	plain, err := freePort()
	if err != nil {
		return nil, err
	}
	secure, err := freePort()
	if err != nil {
		return nil, err
	}
	plain, c.Listen = cmp.Or(c.Port, plain), cmp.Or(c.Listen, "127.0.0.1")
	p := &Instance{Addr: net.JoinHostPort("127.0.0.1", plain), Dir: c.Dir, enter: c.Enter, dial: c.Dial}
	if p.dial == nil {
		p.dial = new(net.Dialer).DialContext
	}
	if p.uid, err = strconv.Atoi(owner.Uid); err != nil {
		return nil, fmt.Errorf("read the user for mailboxes: %w", err)
	}
	ssl := "ssl = no\n"
	if c.CertFile != "" {
		p.Secure = net.JoinHostPort("127.0.0.1", secure)
		ssl = "ssl = yes\nssl_cert = <" + c.CertFile + "\nssl_key = <" + c.KeyFile + "\n"
	} else {
		secure = "0"
	}
	if err := os.Chmod(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make Dovecot directory: %w", err)
	}
	var users strings.Builder
	for _, u := range c.Users {
		fmt.Fprintf(&users, "%s:{PLAIN}%s\n", u, Password)
		if err := p.makeMailbox(u); err != nil {
			return nil, err
		}
	}
	conf := strings.NewReplacer("DIR", c.Dir, "LISTEN", c.Listen, "PLAINPORT", plain, "SECUREPORT", secure, "MAILUID", owner.Uid, "MAILGID", owner.Gid).Replace(base) + ssl + c.Conf + "\n"
	submission, err := p.submission(c.Relay)
	if err != nil {
		return nil, err
	}
	conf += submission
	for name, text := range map[string]string{"dovecot.conf": conf, "users": users.String()} {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("configure Dovecot: %w", err)
		}
	}
	return p, nil
}

// submission is the configuration of the submission server, which gives mail to relay.
func (p *Instance) submission(relay string) (string, error) {
	if relay == "" {
		return "", nil
	}
	host, relayPort, err := net.SplitHostPort(relay)
	if err != nil {
		return "", fmt.Errorf("read the address of the relay: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return "", err
	}
	p.Submission = net.JoinHostPort("127.0.0.1", port)
	return fmt.Sprintf("protocols = pop3 submission\nhostname = dovecot.example\nsubmission_relay_host = %s\nsubmission_relay_port = %s\n"+
		"service submission-login {\n  inet_listener submission {\n    port = %s\n  }\n}\n", host, relayPort, port), nil
}

func (p *Instance) makeMailbox(user string) error {
	box := filepath.Join(p.Dir, "mail", user)
	for _, dir := range []string{box, filepath.Join(box, "new"), filepath.Join(box, "cur"), filepath.Join(box, "tmp")} {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = os.Chown(dir, p.uid, -1)
		}
		if err != nil {
			return fmt.Errorf("make mailbox: %w", err)
		}
	}
	return os.Chmod(filepath.Join(p.Dir, "mail"), 0o755)
}

// base is the configuration but for TLS. Limits that stand for abuse control are
// lifted: all clients come from one address.
const base = `base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
protocols = pop3
listen = LISTEN
disable_plaintext_auth = no
auth_mechanisms = plain login apop cram-md5
auth_failure_delay = 0
mail_location = maildir:DIR/mail/%u
mail_max_userip_connections = 0
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = scheme=plain DIR/users
}
userdb {
  driver = static
  args = uid=MAILUID gid=MAILGID home=DIR/mail/%u
}
service anvil {
  client_limit = 5000
}
service auth {
  client_limit = 5000
}
service pop3-login {
  process_limit = 200
  process_min_avail = 1
  service_count = 0
  client_limit = 1000
  inet_listener pop3 {
    port = PLAINPORT
  }
  inet_listener pop3s {
    port = SECUREPORT
    ssl = yes
  }
}
service pop3 {
  process_limit = 500
}
`

// freePort is a port that nobody listens on now.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// Put puts a message into a user's mailbox, byte for byte, as a file in new/. The
// messages are served in the order of their names.
func (p *Instance) Put(user, name string, message []byte) error {
	file := filepath.Join(p.Dir, "mail", user, "new", name)
	err := os.WriteFile(file, message, 0o600)
	if err == nil {
		err = os.Chown(file, p.uid, -1)
	}
	if err != nil {
		return fmt.Errorf("put message: %w", err)
	}
	return nil
}

// Held counts the messages that a user's mailbox holds now.
func (p *Instance) Held(user string) (int, error) {
	n := 0
	for _, sub := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(p.Dir, "mail", user, sub))
		if err != nil {
			return 0, fmt.Errorf("count messages: %w", err)
		}
		n += len(files)
	}
	return n, nil
}

// Pid is that of its master process.
func (p *Instance) Pid() int { return p.cmd.Process.Pid }

// Start starts it and returns when it greets.
func (p *Instance) Start() error {
	args := append(slices.Clone(p.enter), peer.Find("dovecot"), "-F", "-c", filepath.Join(p.Dir, "dovecot.conf"))
	p.cmd = exec.Command(args[0], args[1:]...)
	var said bytes.Buffer // it is whole when the process has ended
	p.cmd.Stdout, p.cmd.Stderr = &said, &said
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
			_ = p.cmd.Wait() // how it ended is of no interest: who waits for it looks at the log
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start Dovecot: %w", err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if p.greets() {
			return nil
		}
		select {
		case <-p.done:
			text, _ := os.ReadFile(filepath.Join(p.Dir, "log"))
			return fmt.Errorf("start Dovecot: it ended: %s%s", said.String(), text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	p.Stop()
	return errors.New("start Dovecot: it does not greet")
}

func (p *Instance) greets() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := p.dial(ctx, "tcp", p.Addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	var b [3]byte
	n, _ := c.Read(b[:])
	return string(b[:n]) == "+OK"
}

// Stop ends it, and its sessions.
func (p *Instance) Stop() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	// The group: sessions outlive their master.
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	p.cmd = nil
}

// Name is a file name for the n-th message: names sort as numbers do.
func Name(n int) string { return "1" + strconv.Itoa(1e9+n) + ".M" + strconv.Itoa(n) + ".test" }

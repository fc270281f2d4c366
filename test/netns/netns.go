// Package netns gives tests hosts of their own: network namespaces with
// interfaces, routes and a firewall that nobody else sees.
//
// Invariants:
//   - It needs root, and a kernel that lets it make namespaces; where it does not,
//     the test is skipped and says so.
//   - A namespace is held by this process alone and is gone when the process is:
//     nothing is left in /run/netns.
//   - Code runs in a namespace by running on a thread there. Sockets stay where
//     they were made, so listeners and connections may be used from anywhere.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatepost/test/peer"
)

// Namespace is one host.
type Namespace struct {
	Name string
	ns   *os.File
	work chan func()
}

// New makes a namespace in which only loopback is up. It is gone when the test
// ends, but for what processes in it hold.
func New(t testing.TB, name string) *Namespace {
	t.Helper()
	peer.RequireRoot(t)
	peer.Require(t, "ip", "nft", "nsenter")
	n := &Namespace{Name: name, work: make(chan func())}
	made := make(chan error)
	go n.live(made)
	if err := <-made; errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) {
		t.Skipf("this system does not let us make network namespaces: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(n.work)
		n.ns.Close()
	})
	n.Run(t, "ip", "link", "set", "lo", "up")
	return n
}

// live is the thread that belongs to the namespace: it ends with it, because a
// goroutine that returns locked takes its thread along.
func (n *Namespace) live(made chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		made <- fmt.Errorf("make network namespace: %w", err)
		return
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		made <- fmt.Errorf("hold network namespace: %w", err)
		return
	}
	n.ns = ns
	made <- nil
	for fn := range n.work {
		fn()
	}
}

// Do runs fn in the namespace and returns its error. Only fn's own goroutine is
// there, not those that it starts.
func (n *Namespace) Do(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread must not serve others afterwards.
		runtime.LockOSThread()
		if err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.Name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// Start starts a command in the namespace. Its parent is a thread that lives as
// long as the namespace, so that a command that dies with its parent lives as
// long, too.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	n.work <- func() { done <- cmd.Start() }
	return <-done
}

// Enter is a command line that starts another one in the namespace.
func (n *Namespace) Enter() []string {
	return []string{peer.Find("nsenter"), "--net=" + n.path()}
}

// Try runs a program in the namespace to its end, for at most a minute, and
// returns what it printed.
func (n *Namespace) Try(t testing.TB, stdin, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, peer.Find(program), args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// Run is Try for what must succeed.
func (n *Namespace) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := n.Try(t, "", program, args...)
	if err != nil {
		t.Fatalf("%s: %s %s: %v\n%s", n.Name, program, strings.Join(args, " "), err, out)
	}
	return out
}

// Sysctl sets a parameter of the namespace's network: "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	err := n.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644) })
	if err != nil {
		t.Fatalf("%s: set %s: %v", n.Name, name, err)
	}
}

// Listen listens in the namespace until the test ends.
func (n *Namespace) Listen(t testing.TB, network, address string) net.Listener {
	t.Helper()
	var l net.Listener
	err := n.Do(func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(t.Context(), network, address)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", n.Name, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// Dial connects from the namespace within ten seconds. Addresses are IP
// addresses: names are looked up elsewhere.
func (n *Namespace) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	err := n.Do(func() (err error) {
		d := net.Dialer{Timeout: 10 * time.Second}
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// path names the namespace for programs.
func (n *Namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.ns.Fd()) }

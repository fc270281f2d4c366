// Package postfix runs a Postfix of its own for tests and benchmarks: its own
// configuration, queue and data directories, its own port on loopback, nothing
// of the system's instance.
//
// Invariants:
//   - It needs root and Debian's postfix package, as Postfix itself does.
//   - It changes nothing outside its directory. That directory must be one that
//     the user postfix can reach.
//   - The defaults are Postfix's own, but for what an isolated instance needs and
//     for limits that stand for abuse control (connection counts and rates).
package postfix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
	"time"
)

// Config says how the instance is set up.
type Config struct {
	Dir      string            // an empty directory
	Listen   string            // host:port of its smtpd
	Hostname string            // default "postfix.example"
	Next     string            // host:port where all mail goes; "" discards it
	Params   map[string]string // further lines of main.cf
	// Processes is the most smtpd and smtp processes; default 100, as Postfix's.
	Processes int
	// Postscreen puts postscreen in front of smtpd. Clients then say with a PROXY header
	// who they are: no other way shows postscreen clients of the Internet on loopback.
	Postscreen bool
	// Resolver is the address of a name server on port 53 that it asks instead of the
	// system's; it runs in a mount namespace of its own then, which needs root.
	Resolver string
	// Services are further lines of master.cf.
	Services []string
	// Enter is a command line that starts another one where Postfix is to run, in a
	// network namespace; Dial connects from there. None: here.
	Enter []string
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
}

// Instance is a Postfix that was set up.
type Instance struct {
	Addr, Dir string
	// Cgroup, where set before Start, is the directory of a cgroup of version 2 in
	// which all its processes run.
	Cgroup string

	resolver string
	preface  string // what a client says before the greeting
	enter    []string
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// New writes main.cf and master.cf and makes the directories.
func New(c Config) (*Instance, error) {
	account, err := user.Lookup("postfix")
	if err != nil {
		return nil, fmt.Errorf("find the user of Postfix: %w", err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return nil, fmt.Errorf("read the user of Postfix: %w", err)
	}
	if err := reachable(c.Dir); err != nil {
		return nil, err
	}
	for _, dir := range []string{"etc", "queue", "data", "log"} {
		if err := os.MkdirAll(filepath.Join(c.Dir, dir), 0o755); err != nil {
			return nil, fmt.Errorf("make Postfix directory: %w", err)
		}
	}
	if err := os.Chown(filepath.Join(c.Dir, "data"), uid, -1); err != nil {
		return nil, fmt.Errorf("give Postfix its data directory: %w", err)
	}
	for name, text := range map[string]string{"main.cf": mainCF(c), "master.cf": masterCF(c)} {
		if err := os.WriteFile(filepath.Join(c.Dir, "etc", name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("configure Postfix: %w", err)
		}
	}
	p := &Instance{Addr: c.Listen, Dir: c.Dir, resolver: c.Resolver, enter: c.Enter, dial: c.Dial}
	if p.dial == nil {
		p.dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if c.Postscreen {
		p.preface = "PROXY TCP4 127.0.0.1 127.0.0.1 1024 25\r\n"
	}
	return p, nil
}

// reachable opens the directories above for others to pass through, those below
// the system's temporary directory only.
func reachable(dir string) error {
	top := os.TempDir()
	for d := dir; d != top && strings.HasPrefix(d, top+"/"); d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return fmt.Errorf("look at Postfix directory: %w", err)
		}
		if err := os.Chmod(d, info.Mode().Perm()|0o055); err != nil {
			return fmt.Errorf("open Postfix directory: %w", err)
		}
	}
	return nil
}

func mainCF(c Config) string {
	d := func(name string) string { return filepath.Join(c.Dir, name) }
	params := map[string]string{
		"compatibility_level":      "3.6",
		"config_directory":         d("etc"),
		"queue_directory":          d("queue"),
		"data_directory":           d("data"),
		"maillog_file":             d("log/mail.log"),
		"maillog_file_prefixes":    c.Dir,
		"myhostname":               "postfix.example",
		"mydestination":            "",
		"local_recipient_maps":     "",
		"alias_maps":               "",
		"alias_database":           "",
		"local_transport":          "error:no local delivery",
		"inet_interfaces":          "127.0.0.1",
		"inet_protocols":           "ipv4",
		"mynetworks":               "127.0.0.0/8",
		"smtp_dns_support_level":   "disabled",
		"smtpd_peername_lookup":    "no",
		"smtputf8_enable":          "yes",
		"biff":                     "no",
		"append_dot_mydomain":      "no",
		"default_process_limit":    strconv.Itoa(max(c.Processes, 100)),
		"default_transport":        "discard:",
		"message_size_limit":       "104857600",
		"minimal_backoff_time":     "2s",
		"maximal_backoff_time":     "10s",
		"queue_run_delay":          "2s",
		"smtpd_tls_security_level": "none",
		"smtp_tls_security_level":  "none",
		// Abuse control counts per client, and all our clients are one.
		"smtpd_client_connection_count_limit": "0",
		"smtpd_client_connection_rate_limit":  "0",
	}
	if c.Hostname != "" {
		params["myhostname"] = c.Hostname
	}
	if c.Next != "" {
		host, port, err := net.SplitHostPort(c.Next)
		if err == nil {
			params["relayhost"] = "[" + host + "]:" + port
			params["default_transport"] = "smtp"
		}
	}
	if c.Postscreen {
		params["postscreen_upstream_proxy_protocol"] = "haproxy"
	}
	maps.Copy(params, c.Params)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		fmt.Fprintf(&b, "%s = %s\n", name, params[name])
	}
	return b.String()
}

func masterCF(c Config) string {
	var b strings.Builder
	if c.Postscreen {
		fmt.Fprintf(&b, "%s inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\ndnsblog unix - - n - 0 dnsblog\n", c.Listen)
	} else {
		fmt.Fprintf(&b, "%s inet n - n - - smtpd\n", c.Listen)
	}
	for _, line := range append(c.Services,
		"pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
		"tlsmgr unix - - n 1000? 1 tlsmgr", "rewrite unix - - n - - trivial-rewrite",
		"bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce",
		"verify unix - - n - 1 verify", "flush unix n - n 1000? 0 flush", "proxymap unix - - n - - proxymap",
		"proxywrite unix - - n - 1 proxymap", "smtp unix - - n - - smtp", "relay unix - - n - - smtp",
		"showq unix n - n - - showq", "error unix - - n - - error", "retry unix - - n - - error",
		"discard unix - - n - - discard", "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache",
		"postlog unix-dgram n - n - 1 postlogd",
	) {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// command is the command line of the master daemon. Not "postfix start-fg": that puts a
// shell between us and the daemon, which then outlives the shell.
func (p *Instance) command(etc string) ([]string, error) {
	master := []string{"/usr/lib/postfix/sbin/master", "-c", etc, "-s"}
	if p.resolver == "" {
		return master, nil
	}
	file := filepath.Join(p.Dir, "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+p.resolver+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("configure resolver: %w", err)
	}
	// The C library asks port 53 of what this file names, and nothing else.
	return append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, file}, master...), nil
}

// Start starts Postfix and waits until it greets clients.
func (p *Instance) Start() error {
	etc, env := filepath.Join(p.Dir, "etc"), []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	check := exec.Command("/usr/sbin/postfix", "-c", etc, "check") // makes the queue directories
	check.Env = env
	if text, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("check Postfix: %w: %s", err, text)
	}
	line, err := p.command(etc)
	if err != nil {
		return err
	}
	line = append(slices.Clone(p.enter), line...)
	cmd := exec.Command(line[0], line[1:]...)
	out, err := os.Create(filepath.Join(p.Dir, "log", "output"))
	if err != nil {
		return fmt.Errorf("start Postfix: %w", err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(env, "MAIL_CONFIG="+etc)
	// Master makes itself leader of a session; it must not lead a group before.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if p.Cgroup != "" {
		dir, err := os.Open(p.Cgroup)
		if err != nil {
			return fmt.Errorf("open cgroup for Postfix: %w", err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
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
		return fmt.Errorf("start Postfix: %w", err)
	}
	return p.ready(30 * time.Second)
}

func (p *Instance) ready(timeout time.Duration) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := p.greets(); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("start Postfix: %v: %s", p.err, p.Log())
		case <-deadline.C:
			return errors.Join(fmt.Errorf("no greeting from Postfix after %v: %s", timeout, p.Log()), p.Stop())
		case <-tick.C:
		}
	}
}

func (p *Instance) greets() error {
	c, err := p.dial(context.Background(), "tcp", p.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(p.preface)); err != nil {
		return err
	}
	var banner [3]byte
	if _, err := c.Read(banner[:]); err != nil || string(banner[:]) != "220" {
		return fmt.Errorf("banner %q: %v", banner, err)
	}
	return nil
}

// Pid is the process of the master daemon.
func (p *Instance) Pid() int { return p.cmd.Process.Pid }

// Stop ends the instance.
func (p *Instance) Stop() error {
	if p.cmd == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	// The master daemon ends its children when it is asked to end.
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop Postfix: %w", err)
	}
	timer := time.NewTimer(20 * time.Second)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill Postfix: %w", err)
		}
		<-p.done
	}
	return nil
}

// Log is what Postfix wrote: its mail log and its output.
func (p *Instance) Log() string {
	var b strings.Builder
	for _, name := range []string{"output", "mail.log"} {
		text, err := os.ReadFile(filepath.Join(p.Dir, "log", name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(&b, "%v\n", err)
		}
		b.Write(text)
	}
	return b.String()
}

// Main is the text of main.cf, for reports.
func (p *Instance) Main() (string, error) {
	text, err := os.ReadFile(filepath.Join(p.Dir, "etc", "main.cf"))
	return string(text), err
}

// Queued is how many messages wait in the queue directories.
func (p *Instance) Queued() (int, error) {
	n := 0
	for _, dir := range []string{"incoming", "active", "deferred", "hold"} {
		err := filepath.WalkDir(filepath.Join(p.Dir, "queue", dir), func(_ string, d fs.DirEntry, err error) error {
			// Files come and go while we look.
			if err == nil && d.Type().IsRegular() {
				n++
			}
			return nil
		})
		if err != nil {
			return n, fmt.Errorf("count Postfix queue: %w", err)
		}
	}
	return n, nil
}

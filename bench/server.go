package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"gatepost/test/postfix"
	"gatepost/test/wire"
)

// server is what is measured. It relays everything to one next hop.
type server struct {
	name  string
	addr  string
	dir   string
	meter *meter
	start func() error
	stop  func() error
	// queued is how many messages wait, where the server can say so.
	queued func() (int, error)
	pid    func() int
}

// process is a command that runs in the meter's cgroup and dies with us.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func startProcess(m *meter, output string, args ...string) (*process, error) {
	out, err := os.OpenFile(output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open output: %w", err)
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if m != nil && m.cgroup != "" {
		dir, err := os.Open(m.cgroup)
		if err != nil {
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Pdeathsig is the death of the thread, so it stays with the process.
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
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	if m != nil {
		m.pid = cmd.Process.Pid
	}
	return p, nil
}

// stop asks the process to end and waits.
func (p *process) stop(sig syscall.Signal, patience time.Duration) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop process: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill process: %w", err)
	}
	<-p.done
	return fmt.Errorf("process %s did not end in %v", p.cmd.Path, patience)
}

// gatepostConfig is what Gatepost is measured with: defaults, but for the limits
// that stand for abuse control (all our clients are one) and for TLS, which
// neither server is given. Nobody listens where the mail for dead.example goes.
const gatepostConfig = `hostname = "gatepost.example"
data_dir = %q
log_dir = %q

[admin]
listen = %q

[limits]
max_sessions_per_ip = 15000
max_sessions = 20000
%s

[[listener]]
name = "in"
protocol = "smtp"
address = [%q]
tls = "off"
%s

[[domain]]
name = "bench.example"
transport = "next"
%s

[[transport]]
name = "next"
kind = "smtp"
hosts = [%q]
tls = "off"
%s

[[domain]]
name = "dead.example"
transport = "dead"

[[transport]]
name = "dead"
kind = "smtp"
hosts = ["127.0.0.1:12529"]
tls = "off"
retry = { delays = ["1h"], give_up_after = "5d", warn_after = "4d" }
%s`

// adminAddr is where Gatepost has its metrics.
const adminAddr = "127.0.0.1:12580"

// gatepostSettings vary the configuration.
type gatepostSettings struct{ limits, listener, domain, transport, tables string }

// newGatepost is a Gatepost that relays to next. It can be started again on the
// same data.
func (b *bench) newGatepost(ms *meters, next string, s gatepostSettings) (*server, error) {
	dir, err := b.emptyDir("gatepost")
	if err != nil {
		return nil, err
	}
	const addr, admin = "127.0.0.1:12525", adminAddr
	file := filepath.Join(dir, "gatepost.toml")
	text := fmt.Sprintf(gatepostConfig, filepath.Join(dir, "data"), filepath.Join(dir, "log"), admin, s.limits,
		addr, s.listener, s.domain, next, s.transport, s.tables)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("configure Gatepost: %w", err)
	}
	srv := &server{name: "Gatepost", addr: addr, dir: dir, meter: ms.newMeter()}
	var p *process
	srv.start = func() (err error) {
		if p, err = startProcess(srv.meter, filepath.Join(dir, "output"), b.o.gatepost, "serve", "-c", file); err != nil {
			return err
		}
		return awaitReady(addr, admin, p)
	}
	srv.stop = func() error { return p.stop(syscall.SIGTERM, 40*time.Second) }
	srv.pid = func() int { return p.cmd.Process.Pid }
	srv.queued = func() (int, error) { return metric("http://"+admin+"/metrics", "gatepost_queue_items") }
	return srv, nil
}

// emptyDir is a directory of the run for one server.
func (b *bench) emptyDir(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("empty directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	return dir, nil
}

// awaitReady waits until the server greets and its health page says that it is
// well.
func awaitReady(addr, admin string, p *process) error {
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := greets(addr)
		if err == nil && admin != "" {
			err = healthy(admin)
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("server ended: %v", p.err)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("server is not ready: %w", err)
		}
	}
}

// awaitListener waits until somebody listens there.
func awaitListener(addr string, p *process) error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %v", p.cmd.Path, p.err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("nobody listens at %s", addr)
}

func greets(addr string) error {
	c, err := wire.Dial(addr, wire.Options{Timeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	if r, err := c.Reply(); err != nil || r.Code != 220 {
		return fmt.Errorf("banner: %v, %v", r, err)
	}
	return nil
}

func healthy(admin string) error {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get("http://" + admin + "/healthz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthz says %s", resp.Status)
	}
	return nil
}

// postfixParams tune Postfix for this job; the rest is in test/postfix, printed
// by -v. All are in its favour or take away what Gatepost does not do either.
func postfixParams() map[string]string {
	return map[string]string{
		// Processes that stay save a fork per connection.
		"max_use":  "1000",
		"max_idle": "600s",
		// One destination: as many connections to it as Gatepost has by default.
		"default_destination_concurrency_limit": "20",
		"initial_destination_concurrency":       "20",
		// Keep connections to the sink open between messages.
		"smtp_connection_cache_destinations": "127.0.0.1",
		"smtp_connection_cache_on_demand":    "yes",
		// A message is not slowed down because the queue is behind.
		"in_flow_delay": "0",
	}
}

// newPostfix is a Postfix that relays to next, with more lines of main.cf.
func (b *bench) newPostfix(ms *meters, next string, sessions int, more map[string]string) (*server, error) {
	dir, err := b.emptyDir("postfix")
	if err != nil {
		return nil, err
	}
	params := postfixParams()
	maps.Copy(params, more)
	return newInstance(ms, postfix.Config{Dir: dir, Next: next, Params: params, Processes: sessions + 50})
}

// newInstance is a Postfix of this configuration.
func newInstance(ms *meters, c postfix.Config) (*server, error) {
	srv := &server{name: "Postfix", addr: "127.0.0.1:12526", dir: c.Dir, meter: ms.newMeter()}
	c.Listen = srv.addr
	p, err := postfix.New(c)
	if err != nil {
		return nil, err
	}
	p.Cgroup = srv.meter.cgroup
	srv.start = func() error {
		if err := p.Start(); err != nil {
			return err
		}
		srv.meter.pid = p.Pid()
		return nil
	}
	srv.stop = p.Stop
	srv.pid = p.Pid
	srv.queued = p.Queued
	return srv, nil
}

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// errNoPeer says that a server to compare with is not installed.
var errNoPeer = errors.New("not installed")

// nginxConfig is nginx as a mail proxy. It has to ask somebody for the server of each
// session; that somebody is this program, whose processor time is not counted.
const nginxConfig = `load_module %s;
daemon off;
worker_processes auto;
worker_rlimit_nofile 100000;
error_log %s/error.log;
pid %s/pid;
events { worker_connections 30000; }
mail {
  server_name nginx.example;
  auth_http http://%s/auth;
  proxy_pass_error_message on;
  server { listen %s; %s }
}
`

// nginxModule is where Debian has it.
const nginxModule = "/usr/lib/nginx/modules/ngx_mail_module.so"

// newNginx is nginx in front of next; lines say what it speaks.
func (b *bench) newNginx(ms *meters, addr, next, lines string) (*server, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx"
	}
	for _, file := range []string{program, nginxModule} {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("nginx with its mail module: %w", errNoPeer)
		}
	}
	dir, err := b.emptyDir("nginx")
	if err != nil {
		return nil, err
	}
	auth, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for nginx: %w", err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, nginxModule, dir, dir, auth.Addr(), addr, lines)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("configure nginx: %w", err), auth.Close())
	}
	answers := &http.Server{Handler: nginxAnswers(next), ReadHeaderTimeout: time.Minute}
	go func() { _ = answers.Serve(auth) }() // ends with Close
	srv := &server{name: "nginx", addr: addr, dir: dir, meter: ms.newMeter()}
	var p *process
	srv.start = func() (err error) {
		if p, err = startProcess(srv.meter, filepath.Join(dir, "output"), program, "-p", dir, "-c", conf); err != nil {
			return err
		}
		return awaitListener(addr, p)
	}
	srv.stop = func() error { return errors.Join(p.stop(syscall.SIGTERM, 20*time.Second), answers.Close()) }
	srv.pid = func() int { return p.cmd.Process.Pid }
	return srv, nil
}

// nginxAnswers sends each session to next.
func nginxAnswers(next string) http.Handler {
	host, port, _ := net.SplitHostPort(next) // it is an address of ours
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", host)
		w.Header().Set("Auth-Port", port)
	})
}

// newHaraka is Haraka with a plugin that hands mail to next: smtp_forward at the end of
// data, or smtp_proxy, which has a session there as soon as MAIL.
func (b *bench) newHaraka(ms *meters, next, plugin string) (*server, error) {
	program := filepath.Join(b.o.haraka, "bin", "haraka")
	if _, err := os.Stat(program); b.o.haraka == "" || err != nil {
		return nil, fmt.Errorf("the Haraka of -haraka (see docs/benchmarks.md): %w", errNoPeer)
	}
	// A node that was installed with it goes first: Haraka's workers want a recent one.
	node, err := exec.LookPath(filepath.Join(b.o.haraka, "..", ".bin", "node"))
	if err != nil {
		if node, err = exec.LookPath("node"); err != nil {
			return nil, fmt.Errorf("node: %w", errNoPeer)
		}
	}
	dir, err := b.emptyDir("haraka")
	if err != nil {
		return nil, err
	}
	const addr = "127.0.0.1:12528"
	if err := b.configureHaraka(dir, addr, next, plugin); err != nil {
		return nil, fmt.Errorf("configure Haraka: %w", err)
	}
	srv := &server{name: "Haraka " + strings.TrimPrefix(plugin, "queue/"), addr: addr, dir: dir, meter: ms.newMeter()}
	var p *process
	srv.start = func() (err error) {
		if p, err = startProcess(srv.meter, filepath.Join(dir, "output"), node, program, "-c", dir); err != nil {
			return err
		}
		return awaitReady(addr, "", p)
	}
	srv.stop = func() error { return p.stop(syscall.SIGTERM, 20*time.Second) }
	srv.pid = func() int { return p.cmd.Process.Pid }
	return srv, nil
}

// configureHaraka writes the files that differ from Haraka's own.
func (b *bench) configureHaraka(dir, addr, next, plugin string) error {
	host, port, err := net.SplitHostPort(next)
	if err != nil {
		return err
	}
	forward := fmt.Sprintf("host=%s\nport=%s\nmax_connections=2000\n", host, port)
	// Haraka ends where this one is missing; its own is as good as any.
	connection, err := os.ReadFile(filepath.Join(b.o.haraka, "config", "connection.ini"))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"connection.ini":   string(connection),
		"smtp.ini":         "listen=" + addr + "\nnodes=" + strconv.Itoa(processors()) + "\n",
		"plugins":          "rcpt_to.in_host_list\nqueue/" + plugin + "\n",
		"host_list":        "bench.example\n",
		"smtp_forward.ini": forward,
		"smtp_proxy.ini":   forward,
		"me":               "haraka.example\n",
		// As quiet as the others are.
		"log.ini": "[main]\nlevel=error\n",
	} {
		file := filepath.Join(dir, "config", name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/internal/spool"
)

// patience is how long these tests wait for what is to come.
const patience = 20 * time.Second

// site is a directory with a configuration of a gateway in it.
type site struct {
	t    *testing.T
	dir  string
	smtp string // address of the listener
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{t: t, dir: t.TempDir(), smtp: freePort(t)}
}

// freePort is an address that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) file() string { return s.path("gatepost.toml") }

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes a configuration: what every gateway of these tests has, and
// more tables.
func (s *site) configure(more string) {
	s.t.Helper()
	s.write("gatepost.toml", fmt.Sprintf(`hostname = "gw.example.com"
data_dir = "data"
log_dir = "log"
limits.free_disk = "1MiB"

[[listener]]
name = "inbound"
address = [%q]

[[domain]]
name = "in.example"
transport = "next"

[[transport]]
name = "next"
kind = "discard"

%s`, s.smtp, more))
}

// start starts a gateway in this process.
func (s *site) start() (*app, error) {
	s.t.Helper()
	a, err := startApp(s.t.Context(), s.file())
	if err == nil {
		s.t.Cleanup(func() {
			if err := a.Stop(); err != nil {
				s.t.Errorf("stop: %v", err)
			}
		})
	}
	return a, err
}

func (s *site) mustStart() *app {
	s.t.Helper()
	a, err := s.start()
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// greets reports whether an SMTP server answers at the address.
func greets(address string) bool {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4)
	_, err = conn.Read(b)
	return err == nil && string(b) == "220 "
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := poll(ctx, func() (bool, error) { return condition(), nil }); err != nil {
		t.Fatalf("not so after %v: %s", patience, what)
	}
}

func TestStartAndStop(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	if !greets(s.smtp) {
		t.Error("nobody greets")
	}
	info, err := os.Stat(s.path("data"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data_dir: %v, %v", info, err)
	}
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
	if greets(s.smtp) {
		t.Error("somebody greets after Stop")
	}
	if err := a.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if err := a.reload(t.Context()); err == nil {
		t.Error("a gateway that has stopped is reloaded")
	}
	s.mustStart()
	if !greets(s.smtp) {
		t.Error("nobody greets after the second start")
	}
}

// Whatever keeps a gateway from starting, nothing of it is left running.
func TestAFailedStartLeavesNothingOpen(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	tests := []struct{ name, more, want string }{
		{"an address is taken", fmt.Sprintf("[[listener]]\nname = \"b\"\naddress = [%q]\n", busy.Addr()), "address already in use"},
		{"the admin address is taken", fmt.Sprintf("[admin]\nlisten = %q\n", busy.Addr()), "address already in use"},
		{"a certificate does not fit its key", "[tls]\ncert_file = \"cert.pem\"\nkey_file = \"cert.pem\"\n", "cert.pem"},
		{"a mistake", "[nonsense]\n", "nonsense"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.write("cert.pem", "not a certificate\n")
			s.configure(tt.more)
			if _, err := s.start(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
			if greets(s.smtp) {
				t.Error("a listener is open")
			}
			s.configure("")
			s.mustStart()
		})
	}
}

// A reload keeps a transport, with its sessions, whose settings and files are
// the same, and makes every other one anew.
func TestReloadKeepsTheTransportsThatDidNotChange(t *testing.T) {
	s := newSite(t)
	s.write("pw", "one\n")
	transports := func(hosts string) string {
		return `[[transport]]
name = "same"
kind = "smtp"
hosts = ["127.0.0.1:1"]
[[transport]]
name = "other"
kind = "smtp"
hosts = [` + hosts + `]
[[transport]]
name = "login"
kind = "smtp"
hosts = ["127.0.0.1:1"]
tls = "require"
auth = { mechanism = "PLAIN", username = "gw", password_file = "pw" }
`
	}
	s.configure(transports(`"127.0.0.1:1"`))
	a := s.mustStart()
	steps := []struct {
		name   string
		change func()
		made   []string // the transports that are made anew
	}{
		{"nothing changed", func() {}, nil},
		{"other hosts", func() { s.configure(transports(`"127.0.0.1:2"`)) }, []string{"other"}},
		{"another password in the same file", func() { s.write("pw", "two\n") }, []string{"login"}},
		{"one is gone", func() { s.configure("") }, []string{"login", "other", "same"}},
		{"they are back", func() { s.configure(transports(`"127.0.0.1:2"`)) }, []string{"login", "other", "same"}},
	}
	for _, step := range steps {
		before := a.gen.transports
		step.change()
		if err := a.reload(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var made []string
		for _, name := range []string{"login", "next", "other", "same"} {
			if before[name].Transport != a.gen.transports[name].Transport {
				made = append(made, name)
			}
		}
		if !slices.Equal(made, step.made) {
			t.Errorf("%s: made anew %v, want %v", step.name, made, step.made)
		}
	}
}

func TestWhatNeedsARestartIsNamed(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	text, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	for change, want := range map[[2]string]string{
		{`data_dir = "data"`, `data_dir = "elsewhere"`}:                                                "data_dir",
		{`limits.free_disk = "1MiB"`, `limits.free_disk = "2MiB"`}:                                     "limits.free_disk",
		{`[[listener]]`, "[admin]\nlisten = \"127.0.0.1:1\"\n[queue]\nmax_active = 7\n\n[[listener]]"}: "queue",
		{`limits.free_disk = "1MiB"`, "admin.listen = \"127.0.0.1:1\"\nlimits.free_disk = \"1MiB\"\n"}: "admin",
	} {
		s.write("gatepost.toml", strings.Replace(string(text), change[0], change[1], 1))
		err := a.reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "needs a restart") {
			t.Errorf("%s: %v, want that %s needs a restart", change[1], err, want)
		}
		if a.state.Load().reloadErr == nil {
			t.Errorf("%s: the health page does not know", change[1])
		}
	}
	s.write("gatepost.toml", string(text))
	if err := a.reload(t.Context()); err != nil || a.state.Load().reloadErr != nil {
		t.Errorf("back to what it was: %v, %v", err, a.state.Load().reloadErr)
	}
}

// Listeners come and go with a reload; one that cannot be opened leaves all as
// they were.
func TestReloadOpensAndClosesListeners(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	second, third := freePort(t), freePort(t)
	listener := func(name string, addresses ...string) string {
		return fmt.Sprintf("[[listener]]\nname = %q\naddress = [\"%s\"]\n", name, strings.Join(addresses, `", "`))
	}
	reload := func(more string) error {
		s.configure(more)
		return a.reload(t.Context())
	}
	if err := reload(listener("more", second)); err != nil {
		t.Fatal(err)
	}
	if !greets(s.smtp) || !greets(second) {
		t.Error("the new listener or the old one does not greet")
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if err := reload(listener("more", third, busy.Addr().String())); err == nil {
		t.Error("no error though an address is taken")
	}
	if !greets(second) || greets(third) {
		t.Error("a failed reload has changed the listeners")
	}
	if err := reload(listener("more", third)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the listener has moved", func() bool { return !greets(second) && greets(third) })
	if err := reload(""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the listener is closed", func() bool { return !greets(third) && greets(s.smtp) })
	if got := a.status().Listeners; len(got) != 1 || got["inbound"][0] != s.smtp {
		t.Errorf("status names the listeners %v", got)
	}
}

// A listener may get another name, or give an address to another listener, and
// nobody who connects meanwhile is turned away.
func TestReloadMovesAnAddressFromOneListenerToAnother(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	text, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		name := fmt.Sprintf("renamed%d", round)
		s.write("gatepost.toml", strings.Replace(string(text), `name = "inbound"`, fmt.Sprintf("name = %q", name), 1))
		if err := a.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if !greets(s.smtp) {
				t.Fatalf("round %d: nobody greets", round)
			}
		}
		if got := a.status().Listeners; len(got) != 1 || len(got[name]) != 1 {
			t.Errorf("status names the listeners %v", got)
		}
	}
}

// command is this test binary, which runs as gatepost under that name.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "gatepost")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	return exec.Command(link, args...)
}

// A service manager opens the socket and is told what goes on; a reload keeps
// what nobody could open again.
func TestUnderAServiceManager(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", s.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	states, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer states.Close()
	heard := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		states.SetReadDeadline(time.Now().Add(patience))
		n, err := states.Read(b)
		if err != nil || !slices.Contains(strings.Split(string(b[:n]), "\n"), want) {
			t.Fatalf("the service manager heard %q, %v, want %s", b[:n], err, want)
		}
	}

	s.configure("")
	serve := command(t, "serve", "-c", s.file())
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh")
	cmd.Args = append(cmd.Args, serve.Args...)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+s.path("notify"))
	cmd.ExtraFiles = []*os.File{socket}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })

	heard("READY=1")
	l.Close() // now only the gateway has the socket
	if !greets(s.smtp) {
		t.Error("nobody greets on the socket that was passed")
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	heard("RELOADING=1")
	heard("READY=1")
	if !greets(s.smtp) {
		t.Error("nobody greets after a reload")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	heard("STOPPING=1")
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v:\n%s", err, out.String())
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

// A listener that is inherited can be given up by one reload and taken again by
// the next.
func TestAnInheritedSocketOutlivesItsListener(t *testing.T) {
	inherited, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	a.sockets.inherited[inherited.Addr().String()] = inherited
	more := fmt.Sprintf("[[listener]]\nname = \"more\"\naddress = [%q]\n", inherited.Addr())
	for round := range 3 {
		s.configure(more)
		if err := a.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !greets(inherited.Addr().String()) {
			t.Errorf("round %d: nobody greets", round)
		}
		s.configure("")
		if err := a.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestASecondGatewayOnTheSameDataDirDoesNotStart(t *testing.T) {
	s := newSite(t)
	s.configure("")
	s.mustStart()
	s.smtp = freePort(t)
	s.configure("")
	if _, err := s.start(); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("%v, want that the spool is in use", err)
	}
	if greets(s.smtp) {
		t.Error("the second one greets")
	}
}

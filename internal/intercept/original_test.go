package intercept

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gatepost/internal/memconn"
)

// What is diverted needs a firewall: test/netns has it.

func TestConnectionThatWasNotDivertedWasMeantForUs(t *testing.T) {
	for _, mode := range []Mode{None, Redirect} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			l, err := Listen(t.Context(), mode, "tcp", address)
			if err != nil {
				if strings.HasPrefix(address, "[") {
					t.Skipf("no IPv6 here: %v", err)
				}
				t.Fatal(err)
			}
			defer l.Close()
			want := l.Addr().(*net.TCPAddr).AddrPort()
			client, err := Dialer{}.DialContext(t.Context(), "tcp", want.String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			if got, err := Original(server, mode); err != nil || got != want {
				t.Errorf("%s %s: got %s, %v", mode, want, got, err)
			}
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	a, b := memconn.Pipe()
	defer a.Close()
	defer b.Close()
	for want, try := range map[string]func() error{
		"has no descriptor": func() error { _, err := Original(a, Redirect); return err },
		`no mode of interception is called "divert"`: func() error {
			_, err := Listen(t.Context(), "divert", "tcp", "127.0.0.1:0")
			return err
		},
		"the address is of the other family": func() error {
			_, err := Dialer{Spoof: netip.MustParseAddr("2001:db8::1")}.DialContext(t.Context(), "tcp", "127.0.0.1:25")
			return err
		},
		"dial mx.example:25": func() error {
			_, err := Dialer{}.DialContext(t.Context(), "tcp", "mx.example:25")
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestFailedAttemptIsForgotten(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	out := new(Outgoing)
	_, err = Dialer{Outgoing: out}.DialContext(t.Context(), "tcp", address)
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("got %v, want a *net.OpError", err)
	}
	if len(out.open)+len(out.dialing) != 0 {
		t.Errorf("something is remembered: %v %v", out.open, out.dialing)
	}
}

func TestLackOfRightsIsSaid(t *testing.T) {
	done := make(chan error)
	go func() {
		// Rights belong to a thread; this one is not used again.
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData // version 3 has two words
		if err := unix.Capset(&header, &none[0]); err != nil {
			t.Error(err)
		}
		done <- Permitted()
	}()
	if err := <-done; !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "needs CAP_NET_ADMIN") {
		t.Errorf("without rights: %v", err)
	}
}

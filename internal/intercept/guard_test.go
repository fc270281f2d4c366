package intercept

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// hostWith lists addresses of a host as Guard asks for them.
func hostWith(addrs ...string) func() ([]netip.Addr, error) {
	return func() (list []netip.Addr, err error) {
		for _, a := range addrs {
			list = append(list, netip.MustParseAddr(a))
		}
		return list, nil
	}
}

func TestDestinationsThatAreRefused(t *testing.T) {
	g := NewGuard(GuardConfig{
		Listening: []netip.AddrPort{addrPort("0.0.0.0:2525"), addrPort("[::]:2526"), addrPort("10.0.0.9:2527"), addrPort("203.0.113.5:2528")},
		Ports:     []uint16{25, 587},
		Addresses: hostWith("10.0.0.9", "fd00::9", "fe80::1"),
	})
	for _, tt := range []struct {
		name, to string
		want     error
	}{
		{"a server elsewhere", "192.0.2.1:25", nil},
		{"a server elsewhere by IPv6", "[2001:db8::1]:25", nil},
		{"a server elsewhere at a port where we listen here", "192.0.2.1:2525", nil},
		{"our address, a diverted port", "10.0.0.9:25", ErrSelf},
		{"our address in the form of IPv6", "[::ffff:10.0.0.9]:25", ErrSelf},
		{"our address by IPv6", "[fd00::9]:587", ErrSelf},
		{"our link-local address", "[fe80::1%eth0]:25", ErrSelf},
		{"loopback", "127.0.0.1:25", ErrSelf},
		{"another address of loopback", "127.4.5.6:25", ErrSelf},
		{"loopback by IPv6", "[::1]:25", ErrSelf},
		{"our address, a port where we listen on all addresses", "10.0.0.9:2525", ErrSelf},
		{"our address by IPv6, a port where we listen on those of IPv4", "[fd00::9]:2525", nil},
		{"our address, a port where we listen on all of both families", "10.0.0.9:2526", ErrSelf},
		{"the one address where we listen", "10.0.0.9:2527", ErrSelf},
		{"an address where we listen though no interface has it", "203.0.113.5:2528", ErrSelf},
		{"our address, a port of others", "10.0.0.9:110", nil},
		{"no address", "0.0.0.0:25", ErrNowhere},
		{"no address by IPv6", "[::]:25", ErrNowhere},
		{"everybody", "255.255.255.255:25", ErrNowhere},
		{"a group", "224.0.0.1:25", ErrNowhere},
		{"a group by IPv6", "[ff02::1]:25", ErrNowhere},
		{"no port", "192.0.2.1:0", ErrNowhere},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := g.Check(t.Context(), addrPort("198.51.100.7:40000"), addrPort(tt.to))
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestServersOnThisHostWhereTheyAreAllowed(t *testing.T) {
	g := NewGuard(GuardConfig{
		Listening: []netip.AddrPort{addrPort("0.0.0.0:2525")}, Ports: []uint16{25}, HostServers: true,
		Addresses: hostWith("10.0.0.9"),
	})
	client := addrPort("198.51.100.7:40000")
	if err := g.Check(t.Context(), client, addrPort("10.0.0.9:25")); err != nil {
		t.Errorf("the host's own server: %v", err)
	}
	if err := g.Check(t.Context(), client, addrPort("10.0.0.9:2525")); !errors.Is(err, ErrSelf) {
		t.Errorf("our own port: %v", err)
	}
}

func TestNothingPassesWhileTheHostsAddressesAreUnknown(t *testing.T) {
	broken := errors.New("no netlink")
	g := NewGuard(GuardConfig{Addresses: func() ([]netip.Addr, error) { return nil, broken }})
	if err := g.Check(t.Context(), addrPort("198.51.100.7:40000"), addrPort("192.0.2.1:25")); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestAddressesOfTheHostAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		g := NewGuard(GuardConfig{Ports: []uint16{25}, Addresses: func() ([]netip.Addr, error) {
			asked++
			if asked == 1 {
				return nil, nil
			}
			return hostWith("192.0.2.1")()
		}})
		client, to := addrPort("198.51.100.7:40000"), addrPort("192.0.2.1:25")
		for range 3 {
			if err := g.Check(t.Context(), client, to); err != nil || asked != 1 {
				t.Fatalf("%v, asked %d times", err, asked)
			}
		}
		<-time.After(addressesKept)
		if err := g.Check(t.Context(), client, to); !errors.Is(err, ErrSelf) {
			t.Errorf("an address that came later: %v", err)
		}
	})
}

func TestOurOwnConnectionIsKnownUntilItIsClosed(t *testing.T) {
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out := new(Outgoing)
	g := NewGuard(GuardConfig{Outgoing: out})
	to := l.Addr().(*net.TCPAddr).AddrPort()
	c, err := Dialer{Outgoing: out}.DialContext(t.Context(), "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	self := c.LocalAddr().(*net.TCPAddr).AddrPort()
	other := netip.AddrPortFrom(self.Addr(), self.Port()^1)
	if err := g.Check(t.Context(), self, to); !errors.Is(err, ErrLoop) {
		t.Errorf("our own connection: %v", err)
	}
	if err := g.Check(t.Context(), other, to); err != nil {
		t.Errorf("the connection of another program: %v", err)
	}
	for range 2 {
		c.Close()
	}
	if err := g.Check(t.Context(), self, to); err != nil {
		t.Errorf("after it was closed: %v", err)
	}
	if len(out.open)+len(out.dialing) != 0 {
		t.Errorf("something is remembered: %v %v", out.open, out.dialing)
	}
}

func TestOwnConnectionIsWaitedForWhileItIsBeingMade(t *testing.T) {
	client, to := addrPort("10.0.0.9:40000"), addrPort("192.0.2.1:25")
	for _, tt := range []struct {
		name string
		from netip.Addr     // spoofed
		to   netip.AddrPort // where the attempt goes
		end  netip.AddrPort // its own address at the end, after half a second
		want error
		wait time.Duration
	}{
		{"it is the one", netip.Addr{}, to, client, ErrLoop, time.Second / 2},
		{"it is the one, and spoofed", client.Addr(), to, client, ErrLoop, time.Second / 2},
		{"it has another port", netip.Addr{}, to, addrPort("10.0.0.9:40001"), nil, time.Second / 2},
		{"it fails", netip.Addr{}, to, netip.AddrPort{}, nil, time.Second / 2},
		{"it goes elsewhere", netip.Addr{}, addrPort("192.0.2.2:25"), client, nil, 0},
		{"it comes from another client's address", netip.MustParseAddr("10.0.0.10"), to, addrPort("10.0.0.10:40000"), nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := new(Outgoing)
				g := NewGuard(GuardConfig{Outgoing: out, Addresses: hostWith("10.0.0.9")})
				a := out.begin(tt.from, tt.to)
				time.AfterFunc(time.Second/2, func() { a.end(tt.end) })
				begun := time.Now()
				if err := g.Check(t.Context(), client, to); !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				if waited := time.Since(begun); waited != tt.wait {
					t.Errorf("waited %s, want %s", waited, tt.wait)
				}
				<-a.done
			})
		})
	}
}

func TestSlowAttemptIsWaitedForOneSecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(Outgoing)
		g := NewGuard(GuardConfig{Outgoing: out, Addresses: hostWith("10.0.0.9")})
		a := out.begin(netip.Addr{}, addrPort("192.0.2.1:25"))
		defer func() { a.end(netip.AddrPort{}) }()
		begun := time.Now()
		if err := g.Check(t.Context(), addrPort("10.0.0.9:40000"), addrPort("192.0.2.1:25")); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begun); waited != maxLoopWait {
			t.Errorf("waited %s, want %s", waited, maxLoopWait)
		}
	})
}

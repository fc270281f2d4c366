package netns

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/firewall"
	"gatepost/internal/intercept"
)

// echo serves connections in a namespace: each gets a line with the addresses
// that the server sees.
func echo(t *testing.T, h *Host, network string, port int) {
	t.Helper()
	l := h.Listen(t, network, fmt.Sprintf(":%d", port))
	serve(t, l, func(c net.Conn) {
		fmt.Fprintf(c, "%s at %s\n", c.RemoteAddr(), c.LocalAddr())
	})
}

// serve handles the connections of l until the test ends.
func serve(t *testing.T, l net.Listener, handle func(net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
}

// gate is a small transparent proxy: what it tells the client comes first, then
// what the server says.
type gate struct {
	host     *Host
	mode     intercept.Mode
	mark     uint32
	guard    *intercept.Guard
	outgoing *intercept.Outgoing

	mu       sync.Mutex
	spoof    bool
	accepted int
}

const gatePort = 2526

// newGate listens in the gateway for diverted connections to port 25. On "tcp" it
// takes those of both IP families with one socket.
func newGate(t *testing.T, h *Host, mode intercept.Mode, network string) *gate {
	t.Helper()
	g := &gate{host: h, mode: mode, mark: firewall.DefaultOwnMark, outgoing: new(intercept.Outgoing)}
	everywhere := "0.0.0.0"
	if network != "tcp4" {
		everywhere = "::"
	}
	listening := netip.AddrPortFrom(netip.MustParseAddr(everywhere), gatePort)
	g.guard = intercept.NewGuard(intercept.GuardConfig{
		Listening: []netip.AddrPort{listening}, Ports: []uint16{25}, Outgoing: g.outgoing,
	})
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = intercept.Listen(t.Context(), mode, network, listening.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(c net.Conn) { g.handle(t.Context(), c) })
	return g
}

func (g *gate) handle(ctx context.Context, c net.Conn) {
	g.mu.Lock()
	g.accepted++
	g.mu.Unlock()
	upstream, to, err := g.connect(ctx, c)
	if err != nil {
		fmt.Fprintf(c, "refused: %v\n", err)
		return
	}
	defer upstream.Close()
	fmt.Fprintf(c, "meant for %s\n", to)
	io.Copy(c, upstream)
}

func (g *gate) connect(ctx context.Context, c net.Conn) (upstream net.Conn, to netip.AddrPort, err error) {
	client := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	// All of it in the namespace: the guard looks at the addresses of its host.
	err = g.host.Do(func() (err error) {
		if to, err = intercept.Original(c, g.mode); err != nil {
			return err
		}
		if err = g.guard.Check(ctx, client, to); err != nil {
			return err
		}
		d := intercept.Dialer{Mark: g.mark, Outgoing: g.outgoing}
		if g.spoofs() {
			d.Spoof = client.Addr()
		}
		upstream, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return upstream, to, err
}

// setSpoof makes the gate connect from the client's address.
func (g *gate) setSpoof(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spoof = on
}

func (g *gate) spoofs() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.spoof
}

// connections is how many the gate was given.
func (g *gate) connections() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accepted
}

// divert is the ordinary configuration of the firewall in these tests.
func divert(mode intercept.Mode) firewall.Config {
	return firewall.Config{Mode: firewall.Mode(mode), Diverts: []firewall.Divert{
		{Ports: []uint16{25}, To: netip.MustParseAddrPort("0.0.0.0:2526")},
		{Ports: []uint16{25}, To: netip.MustParseAddrPort("[::]:2526")},
	}}
}

// apply puts rules in place on a host.
func apply(t *testing.T, h *Host, c firewall.Config) {
	t.Helper()
	plan, err := firewall.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Do(func() error { return plan.Apply(t.Context()) }); err != nil {
		t.Fatal(err)
	}
}

// said is what the connection brings until it ends, or why there is none.
type said struct {
	lines []string
	from  netip.AddrPort // our end
	err   error
}

// ask connects from a host and reads to the end.
func ask(t *testing.T, h *Host, to netip.AddrPort) said {
	t.Helper()
	c, err := h.Dial(t.Context(), "tcp", to.String())
	if err != nil {
		return said{err: err}
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	s := said{from: c.LocalAddr().(*net.TCPAddr).AddrPort()}
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		s.lines = append(s.lines, lines.Text())
	}
	s.err = lines.Err()
	return s
}

// seen are the two addresses in the echo server's line.
func (s said) seen(t *testing.T) (peer, local netip.AddrPort) {
	t.Helper()
	if len(s.lines) == 0 {
		t.Fatalf("the server said nothing: %+v", s)
	}
	p, l, ok := strings.Cut(s.lines[len(s.lines)-1], " at ")
	peer, err1 := netip.ParseAddrPort(p)
	local, err2 := netip.ParseAddrPort(l)
	if !ok || err1 != nil || err2 != nil {
		t.Fatalf("the server said %q", s.lines)
	}
	return peer, local
}

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

package intercept

import (
	"errors"
	"net"
	"testing"
)

// What TPROXY hands over looks like a connection to the server's own address, so that
// a socket on loopback shows the same.
func TestAcceptedConnectionsKnowWhereTheyWantedToGo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	here := unmap(ln.Addr().(*net.TCPAddr).AddrPort())
	guards := []*Guard{NewGuard(GuardConfig{Addresses: hostWith()}), NewGuard(GuardConfig{Listening: append(GuardConfig{}.Listening, here)})}
	turn := 0
	l := Accepting(ln, TProxy, func() *Guard { g := guards[turn]; turn++; return g })
	for _, want := range []error{nil, ErrSelf} {
		client, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c, ok := conn.(*Conn)
		if !ok || c.Original() != here {
			t.Fatalf("%T wanted to go to %v, want %v", conn, c.Original(), here)
		}
		if err := c.Check(t.Context()); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("our direction is still open")
		}
		c.Close()
	}
	if Accepting(ln, None, nil) != ln {
		t.Error("a listener to which nothing is diverted was changed")
	}
}

func TestConnectionWithoutAnOriginalMayNotGoOn(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	l := Accepting(&one{conn: a}, Redirect, nil)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*Conn).Check(t.Context()); err == nil {
		t.Error("it may")
	}
}

// one is a listener with one connection.
type one struct {
	net.Listener
	conn net.Conn
}

// Accept implements net.Listener.
func (o *one) Accept() (net.Conn, error) { return o.conn, nil }

func TestDestinationKeptForLater(t *testing.T) {
	var outgoing Outgoing
	g := NewGuard(GuardConfig{Ports: []uint16{25}, Outgoing: &outgoing, Addresses: hostWith("10.0.0.9")})
	// A connection that is being made must not hold up a question about its server.
	outgoing.begin(addrPort("0.0.0.0:0").Addr(), addrPort("192.0.2.1:25"))
	if err := g.CheckDestination(addrPort("192.0.2.1:25")); err != nil {
		t.Error(err)
	}
	if err := g.CheckDestination(addrPort("10.0.0.9:25")); !errors.Is(err, ErrSelf) {
		t.Errorf("got %v", err)
	}
	if err := g.CheckDestination(addrPort("192.0.2.1:0")); !errors.Is(err, ErrNowhere) {
		t.Errorf("got %v", err)
	}
}

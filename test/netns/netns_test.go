package netns

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/internal/firewall"
	"gatepost/internal/intercept"
)

var networks = []string{"tcp4", "tcp6"}

// each runs a test in both modes and both IP families.
func each(t *testing.T, test func(t *testing.T, mode intercept.Mode, network string)) {
	for _, mode := range []intercept.Mode{intercept.Redirect, intercept.TProxy} {
		for _, network := range networks {
			t.Run(fmt.Sprintf("%s %s", mode, network), func(t *testing.T) { test(t, mode, network) })
		}
	}
}

func TestTheGatewayRoutesWhatIsNotDiverted(t *testing.T) {
	n := Topology(t)
	for _, network := range networks {
		echo(t, n.Server, network, 25)
		answer := ask(t, n.Client, at(n.Server.Address(network), 25))
		if peer, _ := answer.seen(t); peer != answer.from || len(answer.lines) != 1 {
			t.Errorf("%s: server saw %s, the client is %s; %q", network, peer, answer.from, answer.lines)
		}
	}
}

// Catalogue PXY-13.
func TestDivertedConnectionGoesOnToItsOriginalDestination(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		apply(t, n.Gateway, divert(mode))
		echo(t, n.Server, network, 25)
		echo(t, n.Server, network, 2500)
		g := newGate(t, n.Gateway, mode, network)
		server := at(n.Server.Address(network), 25)

		answer := ask(t, n.Client, server)
		if len(answer.lines) != 2 || answer.lines[0] != "meant for "+server.String() {
			t.Fatalf("the client got %+v", answer)
		}
		peer, local := answer.seen(t)
		if local != server {
			t.Errorf("the server was reached at %s, want %s", local, server)
		}
		if peer.Addr() == n.Client.Address(network) || peer == answer.from {
			t.Errorf("the server saw %s, though nothing was to be spoofed", peer)
		}
		// Other ports are none of our business.
		answer = ask(t, n.Client, at(n.Server.Address(network), 2500))
		if peer, _ := answer.seen(t); peer != answer.from {
			t.Errorf("port 2500: the server saw %s, the client is %s", peer, answer.from)
		}
		if got := g.connections(); got != 1 {
			t.Errorf("the gate had %d connections, want 1", got)
		}
	})
}

func TestServerSeesTheClientsOwnAddressWhereItIsSpoofed(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			n := Topology(t)
			// The strictest check of where packets come from, as some distributions have it.
			n.Gateway.Sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
			apply(t, n.Gateway, divert(intercept.TProxy))
			echo(t, n.Server, network, 25)
			g := newGate(t, n.Gateway, intercept.TProxy, network)
			g.setSpoof(true)
			server := at(n.Server.Address(network), 25)
			for range 20 {
				answer := ask(t, n.Client, server)
				peer, local := answer.seen(t)
				if peer.Addr() != n.Client.Address(network) || local != server {
					t.Fatalf("the server saw %s at %s, want the client %s at %s", peer, local, answer.from, server)
				}
				if peer == answer.from {
					t.Fatalf("the server saw the client's own connection from %s", peer)
				}
			}
			if got := g.connections(); got != 20 {
				t.Errorf("the gate had %d connections, want 20", got)
			}
		})
	}
}

func TestGatewaysOwnAddressesAreNotDiverted(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		apply(t, n.Gateway, divert(mode))
		echo(t, n.Gateway, network, 25)
		g := newGate(t, n.Gateway, mode, network)
		answer := ask(t, n.Client, at(n.Gateway.Address(network), 25))
		if peer, _ := answer.seen(t); peer != answer.from || g.connections() != 0 {
			t.Errorf("the host's own server got %q; the gate had %d connections", answer.lines, g.connections())
		}
	})
}

// Catalogue PXY-13: the proxy itself as the destination.
func TestConnectionToTheProxyItselfIsRefused(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		apply(t, n.Gateway, divert(mode))
		g := newGate(t, n.Gateway, mode, network)
		answer := ask(t, n.Client, at(n.Gateway.Address(network), gatePort))
		if len(answer.lines) != 1 || !strings.Contains(answer.lines[0], intercept.ErrSelf.Error()) {
			t.Errorf("the client got %+v", answer)
		}
		if got := g.connections(); got != 1 {
			t.Errorf("the gate had %d connections, want 1", got)
		}
	})
}

// foreign are rules that another administrator might write: they divert what
// is meant for the gateway, and whatever it sends itself.
const foreign = `table inet theirs {
	chain in { type nat hook prerouting priority dstnat
		tcp dport 25 redirect to :2526
	}
	chain out { type nat hook output priority -100
		tcp dport 25 redirect to :2526
	}
}
`

func TestOwnAddressOnADivertedPortIsRefused(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			n := Topology(t)
			if out, err := n.Gateway.Try(t, foreign, "nft", "-f", "-"); err != nil {
				t.Fatal(out)
			}
			g := newGate(t, n.Gateway, intercept.Redirect, network)
			answer := ask(t, n.Client, at(n.Gateway.Address(network), 25))
			if len(answer.lines) != 1 || !strings.Contains(answer.lines[0], intercept.ErrSelf.Error()) {
				t.Errorf("the client got %+v", answer)
			}
			if got := g.connections(); got != 1 {
				t.Errorf("the gate had %d connections, want 1", got)
			}
		})
	}
}

func TestOwnConnectionThatIsDivertedAgainIsRefusedAtTheFirstTurn(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			n := Topology(t)
			if out, err := n.Gateway.Try(t, foreign, "nft", "-f", "-"); err != nil {
				t.Fatal(out)
			}
			echo(t, n.Server, network, 25)
			g := newGate(t, n.Gateway, intercept.Redirect, network)
			for range 20 {
				answer := ask(t, n.Client, at(n.Server.Address(network), 25))
				if len(answer.lines) != 2 || !strings.Contains(answer.lines[1], intercept.ErrLoop.Error()) {
					t.Fatalf("the client got %+v", answer)
				}
			}
			if got := g.connections(); got != 40 {
				t.Errorf("the gate had %d connections, want 40: one of the client and one of our own each time", got)
			}
		})
	}
}

func TestHostProtectsItself(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		c := divert(mode)
		c.Output = true
		c.Interfaces = []string{n.ToClient}
		apply(t, n.Gateway, c)
		echo(t, n.Server, network, 25)
		g := newGate(t, n.Gateway, mode, network)
		server := at(n.Server.Address(network), 25)
		// The gate's own connection carries the mark, or this would not end.
		answer := ask(t, n.Gateway, server)
		if len(answer.lines) != 2 || answer.lines[0] != "meant for "+server.String() {
			t.Fatalf("a program on the gateway got %+v", answer)
		}
		if _, local := answer.seen(t); local != server {
			t.Errorf("the server was reached at %s, want %s", local, server)
		}
		answer = ask(t, n.Client, server)
		if len(answer.lines) != 2 {
			t.Errorf("the client got %+v", answer)
		}
		if got := g.connections(); got != 2 {
			t.Errorf("the gate had %d connections, want 2", got)
		}
		// What comes back, and what another interface brings, is not diverted.
		echo(t, n.Client, network, 25)
		answer = ask(t, n.Server, at(n.Client.Address(network), 25))
		if peer, _ := answer.seen(t); peer != answer.from {
			t.Errorf("from the servers' side: the client saw %s, the server is %s", peer, answer.from)
		}
	})
}

func TestExemptNetworksAndUsersGoTheirOwnWay(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		echo(t, n.Server, network, 25)
		g := newGate(t, n.Gateway, mode, network)
		server := at(n.Server.Address(network), 25)
		for name, change := range map[string]func(*firewall.Config){
			"client": func(c *firewall.Config) {
				c.ExemptClients = prefixes("10.9.1.0/24", "10.9.1.2/32", "fd09:1::/64", "fd09:1::2/128")
			},
			"server": func(c *firewall.Config) { c.ExemptServers = prefixes("10.9.2.2/32", "10.0.0.0/8", "fd09:2::2/128") },
			"user":   func(c *firewall.Config) { c.Output, c.ExemptUsers = true, []uint32{0} },
		} {
			c := divert(mode)
			change(&c)
			apply(t, n.Gateway, c)
			from := n.Client
			if name == "user" {
				from = n.Gateway // this test is root's
			}
			answer := ask(t, from, server)
			if peer, _ := answer.seen(t); peer != answer.from || len(answer.lines) != 1 {
				t.Errorf("exempt %s: got %q", name, answer.lines)
			}
		}
		if got := g.connections(); got != 0 {
			t.Errorf("the gate had %d connections", got)
		}
	})
}

// Mail must not pass unscanned while Gatepost is down: senders try again.
func TestConnectionsAreRefusedWhileNobodyListens(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		apply(t, n.Gateway, divert(mode))
		echo(t, n.Server, network, 25)
		answer := ask(t, n.Client, at(n.Server.Address(network), 25))
		if answer.err == nil || !strings.Contains(answer.err.Error(), "connection refused") {
			t.Errorf("the client got %+v, want a refused connection", answer)
		}
	})
}

func TestListenerAtOneAddress(t *testing.T) {
	for _, mode := range []intercept.Mode{intercept.Redirect, intercept.TProxy} {
		t.Run(string(mode), func(t *testing.T) {
			n := Topology(t)
			c := divert(mode)
			c.Diverts[0].To = at(n.Gateway.IPv4, gatePort)
			c.Diverts[1].To = at(n.Gateway.IPv6, gatePort)
			apply(t, n.Gateway, c)
			for _, network := range networks {
				echo(t, n.Server, network, 25)
				newGate(t, n.Gateway, mode, network)
				server := at(n.Server.Address(network), 25)
				if answer := ask(t, n.Client, server); len(answer.lines) != 2 || answer.lines[0] != "meant for "+server.String() {
					t.Errorf("%s: the client got %+v", network, answer)
				}
			}
		})
	}
}

func TestOneSocketForBothFamilies(t *testing.T) {
	for _, mode := range []intercept.Mode{intercept.Redirect, intercept.TProxy} {
		t.Run(string(mode), func(t *testing.T) {
			n := Topology(t)
			apply(t, n.Gateway, divert(mode))
			g := newGate(t, n.Gateway, mode, "tcp")
			g.setSpoof(mode == intercept.TProxy)
			for _, network := range networks {
				echo(t, n.Server, network, 25)
				server := at(n.Server.Address(network), 25)
				answer := ask(t, n.Client, server)
				if len(answer.lines) != 2 || answer.lines[0] != "meant for "+server.String() {
					t.Fatalf("%s: the client got %+v", network, answer)
				}
				if peer, _ := answer.seen(t); (peer.Addr() == n.Client.Address(network)) != g.spoofs() {
					t.Errorf("%s: the server saw %s", network, peer)
				}
			}
		})
	}
}

func TestOpenConnectionsSurviveNewRules(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		apply(t, n.Gateway, divert(mode))
		proceed := make(chan bool)
		serve(t, n.Server.Listen(t, network, ":25"), func(c net.Conn) {
			fmt.Fprintln(c, "before")
			<-proceed
			fmt.Fprintln(c, "after")
		})
		t.Cleanup(func() { close(proceed) })
		g := newGate(t, n.Gateway, mode, network)
		g.setSpoof(mode == intercept.TProxy)
		c, err := n.Client.Dial(t.Context(), network, at(n.Server.Address(network), 25).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(c)
		for lines.Scan() && lines.Text() != "before" {
		}
		changed := divert(mode)
		changed.Diverts = append(changed.Diverts, firewall.Divert{Ports: []uint16{587}, To: changed.Diverts[0].To})
		apply(t, n.Gateway, changed)
		proceed <- true
		if !lines.Scan() || lines.Text() != "after" {
			t.Errorf("after the rules were replaced: %q, %v", lines.Text(), lines.Err())
		}
	})
}

func TestOnlyTheHostItselfIsProtected(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Topology(t)
		c := divert(mode)
		c.Output, c.Interfaces = true, []string{"lo"}
		apply(t, n.Gateway, c)
		echo(t, n.Server, network, 25)
		g := newGate(t, n.Gateway, mode, network)
		server := at(n.Server.Address(network), 25)
		answer := ask(t, n.Client, server)
		if peer, _ := answer.seen(t); peer != answer.from {
			t.Errorf("the client got %q", answer.lines)
		}
		if answer := ask(t, n.Gateway, server); len(answer.lines) != 2 || g.connections() != 1 {
			t.Errorf("a program on the gateway got %q; the gate had %d connections", answer.lines, g.connections())
		}
	})
}

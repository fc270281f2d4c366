package netns

import (
	"net"
	"os"
	"testing"

	"gatepost/internal/firewall"
	"gatepost/internal/intercept"
)

// bridged is the configuration for a host that is a bridge.
func bridged(t *testing.T, h *Host, mode intercept.Mode) firewall.Config {
	t.Helper()
	c := divert(mode)
	err := h.Do(func() error {
		br, err := net.InterfaceByName("br0")
		if err == nil {
			c.Bridges = []firewall.Bridge{{Ports: []string{"clients", "servers"}, MAC: br.HardwareAddr}}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBridgeTakesOutWhatIsDiverted(t *testing.T) {
	each(t, func(t *testing.T, mode intercept.Mode, network string) {
		n := Bridge(t)
		apply(t, n.Gateway, bridged(t, n.Gateway, mode))
		echo(t, n.Server, network, 25)
		echo(t, n.Server, network, 2500)
		g := newGate(t, n.Gateway, mode, network)
		g.setSpoof(mode == intercept.TProxy)
		server := at(n.Server.Address(network), 25)
		// Some systems show IP rules what bridges carry, by this switch of br_netfilter.
		// Sockets that were found for a frame do not survive its way up, so TPROXY
		// needs it off.
		values := []string{"0"}
		if mode == intercept.Redirect {
			values = append(values, "1")
		}
		for _, value := range values {
			if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
				n.Gateway.Sysctl(t, "net/bridge/bridge-nf-call-iptables", value)
				n.Gateway.Sysctl(t, "net/bridge/bridge-nf-call-ip6tables", value)
			}
			answer := ask(t, n.Client, server)
			if len(answer.lines) != 2 || answer.lines[0] != "meant for "+server.String() {
				t.Fatalf("bridge-nf-call %s: the client got %+v", value, answer)
			}
			peer, _ := answer.seen(t)
			if spoofed := peer.Addr() == n.Client.Address(network); spoofed != g.spoofs() {
				t.Errorf("bridge-nf-call %s: the server saw %s", value, peer)
			}
			answer = ask(t, n.Client, at(n.Server.Address(network), 2500))
			if peer, _ := answer.seen(t); peer != answer.from {
				t.Errorf("port 2500: the server saw %s, the client is %s", peer, answer.from)
			}
		}
		if got := g.connections(); got != len(values) {
			t.Errorf("the gate had %d connections, want %d", got, len(values))
		}
	})
}

func TestBridgeCarriesWhatIsExempt(t *testing.T) {
	for _, network := range networks {
		n := Bridge(t)
		c := bridged(t, n.Gateway, intercept.TProxy)
		c.ExemptServers = prefixes("10.9.1.3/32", "fd09:1::3/128")
		apply(t, n.Gateway, c)
		echo(t, n.Server, network, 25)
		g := newGate(t, n.Gateway, intercept.TProxy, network)
		answer := ask(t, n.Client, at(n.Server.Address(network), 25))
		if peer, _ := answer.seen(t); peer != answer.from || g.connections() != 0 {
			t.Errorf("%s: the client got %q; the gate had %d connections", network, answer.lines, g.connections())
		}
	}
}

func TestBridgesRulesAreAppliedOnceAndRemoved(t *testing.T) {
	n := Bridge(t)
	settled(t, n.Gateway)
	before := state(t, n.Gateway)
	c := bridged(t, n.Gateway, intercept.TProxy)
	apply(t, n.Gateway, c)
	once := state(t, n.Gateway)
	apply(t, n.Gateway, c)
	if twice := state(t, n.Gateway); twice != once || once == before {
		t.Errorf("applied twice:\n%s\nonce:\n%s", twice, once)
	}
	remove(t, n.Gateway, c)
	if after := state(t, n.Gateway); after != before {
		t.Errorf("after removal:\n%s\nbefore:\n%s", after, before)
	}
	// A plan without the bridge takes the bridge's rules away.
	apply(t, n.Gateway, divert(intercept.TProxy))
	plain := state(t, n.Gateway)
	apply(t, n.Gateway, c)
	apply(t, n.Gateway, divert(intercept.TProxy))
	if got := state(t, n.Gateway); got != plain {
		t.Errorf("without the bridge again:\n%s\nbefore:\n%s", got, plain)
	}
}

package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"gatepost/internal/config"
	"gatepost/internal/firewall"
	"gatepost/test/netns"
)

// What the rules do to connections is tested in test/netns.

// parseFirewall reads the options of a command line.
func parseFirewall(t *testing.T, args ...string) (*firewallCmd, error) {
	t.Helper()
	var grammar struct {
		Firewall firewallCmd `cmd:""`
	}
	parser, err := kong.New(&grammar)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"firewall"}, args...))
	return &grammar.Firewall, err
}

// listenerAt is a listener with interception at "host:port" addresses.
func listenerAt(name, mode string, addresses ...config.HostPort) interceptedListener {
	return interceptedListener{name: name, mode: mode, addresses: addresses, ports: []int{25, 587}}
}

func hostPort(host string, port int) config.HostPort { return config.HostPort{Host: host, Port: port} }

func diverted(to string) firewall.Divert {
	return firewall.Divert{Ports: []uint16{25, 587}, To: netip.MustParseAddrPort(to)}
}

func TestFirewallIsMadeFromListenersAndOptions(t *testing.T) {
	for _, tt := range []struct {
		name      string
		args      string
		listeners []interceptedListener
		want      firewall.Config
	}{
		{
			"one listener for both families", "",
			[]interceptedListener{listenerAt("in", "redirect", hostPort("", 2525))},
			firewall.Config{Mode: firewall.Redirect, Diverts: []firewall.Divert{diverted("0.0.0.0:2525"), diverted("[::]:2525")}},
		},
		{
			"of several addresses the first in each family", "",
			[]interceptedListener{listenerAt("in", "tproxy", hostPort("10.0.0.1", 2525), hostPort("10.0.0.2", 2525), hostPort("fd00::1", 2525))},
			firewall.Config{Mode: firewall.TProxy, Diverts: []firewall.Divert{diverted("10.0.0.1:2525"), diverted("[fd00::1]:2525")}},
		},
		{
			"only those of a mode", "--mode tproxy",
			[]interceptedListener{listenerAt("a", "redirect", hostPort("0.0.0.0", 2525)), listenerAt("b", "tproxy", hostPort("0.0.0.0", 2526))},
			firewall.Config{Mode: firewall.TProxy, Diverts: []firewall.Divert{diverted("0.0.0.0:2526")}},
		},
		{
			"every option", "--in eth0 --in vnet* --local --exempt-user 7 --exempt-user root --exempt-client 10.0.0.0/8 --exempt-server fd00::1 --mark 0x20 --table 7 --priority 8",
			[]interceptedListener{listenerAt("in", "tproxy", hostPort("0.0.0.0", 2525))},
			firewall.Config{
				Mode: firewall.TProxy, Diverts: []firewall.Divert{diverted("0.0.0.0:2525")},
				Interfaces: []string{"eth0", "vnet*"}, Output: true, ExemptUsers: []uint32{7, 0},
				ExemptClients: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
				ExemptServers: []netip.Prefix{netip.MustParsePrefix("fd00::1/128")},
				DivertMark:    0x20, Table: 7, Priority: 8,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseFirewall(t, strings.Fields(tt.args)...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.firewall(tt.listeners)
			if err != nil {
				t.Fatal(err)
			}
			equal := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			if diff := cmp.Diff(tt.want, got, equal, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFirewallOptionsThatCannotBe(t *testing.T) {
	in := []interceptedListener{listenerAt("in", "redirect", hostPort("0.0.0.0", 2525))}
	for _, tt := range []struct {
		args      string
		listeners []interceptedListener
		want      string
	}{
		{"", nil, "there is nothing to divert"},
		{"--mode tproxy", in, "there is nothing to divert"},
		{"", append(in, listenerAt("b", "tproxy", hostPort("::", 2525))), `listener "in" has interception = "redirect" and listener "b" has "tproxy"`},
		{"", []interceptedListener{listenerAt("in", "redirect", hostPort("mx.example", 25))}, `listener "in": nothing can be diverted to "mx.example:25"`},
		{"", []interceptedListener{listenerAt("in", "redirect", config.HostPort{Unix: "/run/x"})}, `nothing can be diverted to "/run/x"`},
		{"--exempt-user root", in, "--exempt-user is for --local only"},
		{"--local --exempt-user no-such-user-here", in, `there is no user "no-such-user-here"`},
		{"--exempt-client 10.0.0.0/33", in, `--exempt-client: "10.0.0.0/33" is neither`},
		{"--exempt-server mx.example", in, `--exempt-server: "mx.example" is neither`},
		{"--bridge no-such-bridge", in, `find bridge "no-such-bridge"`},
		{"--bridge lo", in, `find bridge "lo": it is no bridge`},
		{"--table 255", in, "255 cannot be our routing table"},
	} {
		c, err := parseFirewall(t, strings.Fields(tt.args)...)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = c.run(t.Context(), &terminal{out: &out, err: &out}, tt.listeners)
		if err == nil || !strings.Contains(err.Error(), tt.want) || out.Len() > 0 {
			t.Errorf("%q: got %v and %q, want an error with %q", tt.args, err, out.String(), tt.want)
		}
	}
	for _, args := range []string{"--apply --remove", "--print --apply", "--mode none", "--mark x"} {
		if _, err := parseFirewall(t, strings.Fields(args)...); err == nil {
			t.Errorf("%s is accepted", args)
		}
	}
}

func TestFirewallPrintsTheScriptUnlessToldOtherwise(t *testing.T) {
	in := []interceptedListener{listenerAt("in", "tproxy", hostPort("0.0.0.0", 2525))}
	var texts []string
	for _, args := range [][]string{nil, {"--print"}} {
		c, err := parseFirewall(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := c.run(t.Context(), &terminal{out: &out, err: &out}, in); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, out.String())
	}
	if texts[0] != texts[1] || !strings.HasPrefix(texts[0], "#!/bin/sh\n") || !strings.Contains(texts[0], "tproxy ip to :2525") {
		t.Errorf("printed:\n%s\nwith --print:\n%s", texts[0], texts[1])
	}
}

func TestFirewallIsAppliedAndRemoved(t *testing.T) {
	host := netns.New(t, "host")
	in := []interceptedListener{listenerAt("in", "tproxy", hostPort("", 2525))}
	act := func(listeners []interceptedListener, args ...string) string {
		c, err := parseFirewall(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := host.Do(func() error { return c.run(t.Context(), &terminal{out: &out, err: &out}, listeners) }); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out.String()
	}
	tables := func() string { return host.Run(t, "nft", "list", "tables") + host.Run(t, "ip", "rule") }
	before := tables()
	want := "tproxy: [25 587] to 0.0.0.0:2525\ntproxy: [25 587] to [::]:2525\n"
	if got := act(in, "--apply"); got != want {
		t.Errorf("--apply said %q, want %q", got, want)
	}
	if now := tables(); !strings.Contains(now, "table inet gatepost") || !strings.Contains(now, "lookup 26417") {
		t.Errorf("after --apply there are:\n%s", now)
	}
	// Nothing listens any more in the configuration, or there is none.
	if got := act(nil, "--remove"); got != "" || tables() != before {
		t.Errorf("--remove said %q and left:\n%s", got, tables())
	}
}

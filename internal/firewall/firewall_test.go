package firewall

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func port25(to ...string) []Divert {
	var list []Divert
	for _, a := range to {
		list = append(list, Divert{Ports: []uint16{25}, To: netip.MustParseAddrPort(a)})
	}
	return list
}

func TestScripts(t *testing.T) {
	for name, tt := range map[string]struct {
		config Config
		want   string
	}{
		"redirect, IPv4 only": {
			Config{Mode: Redirect, Diverts: port25("0.0.0.0:2525")},
			`#!/bin/sh
set -e
ip -4 rule del fwmark 0x67700002 lookup 26417 priority 26417 2>/dev/null || true
ip -4 route del local default dev lo table 26417 2>/dev/null || true
ip -6 rule del fwmark 0x67700002 lookup 26417 priority 26417 2>/dev/null || true
ip -6 route del local default dev lo table 26417 2>/dev/null || true
nft delete table bridge gatepost 2>/dev/null || true
nft -f - <<'EOF'
add table inet gatepost
delete table inet gatepost
table inet gatepost {
	chain diverted {
		meta nfproto ipv4 tcp dport { 25 } redirect to :2525
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type != unicast return
		goto diverted
	}
}
EOF
`,
		},
		"redirect with everything": {
			Config{
				Mode: Redirect, Output: true, Interfaces: []string{"eth0", "vnet*"}, ExemptUsers: []uint32{7, 8},
				Diverts: []Divert{{Ports: []uint16{587, 25}, To: netip.MustParseAddrPort("10.0.0.1:2525")},
					{Ports: []uint16{25}, To: netip.MustParseAddrPort("[fd00::1]:2525")}},
				ExemptClients: []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("10.1.0.7/16")},
				ExemptServers: []netip.Prefix{netip.MustParsePrefix("fd01::/64"), netip.MustParsePrefix("192.0.2.1/32")},
				Bridges:       []Bridge{{Ports: []string{"p1", "p2"}, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}},
			},
			`#!/bin/sh
set -e
ip -4 rule del fwmark 0x67700002 lookup 26417 priority 26417 2>/dev/null || true
ip -4 route del local default dev lo table 26417 2>/dev/null || true
ip -6 rule del fwmark 0x67700002 lookup 26417 priority 26417 2>/dev/null || true
ip -6 route del local default dev lo table 26417 2>/dev/null || true
nft -f - <<'EOF'
add table inet gatepost
delete table inet gatepost
table inet gatepost {
	chain diverted {
		ip saddr { 10.1.0.0/16 } return
		ip daddr { 192.0.2.1/32 } return
		ip6 daddr { fd01::/64 } return
		meta nfproto ipv4 tcp dport { 25, 587 } dnat ip to 10.0.0.1:2525
		meta nfproto ipv6 tcp dport { 25 } dnat ip6 to [fd00::1]:2525
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname != { "eth0", "vnet*" } return
		fib daddr type != unicast return
		goto diverted
	}
	chain output {
		type nat hook output priority -100; policy accept;
		meta mark 0x67700001 return
		meta skuid { 7, 8 } return
		fib daddr type != unicast return
		goto diverted
	}
}
add table bridge gatepost
delete table bridge gatepost
table bridge gatepost {
	chain prerouting {
		type filter hook prerouting priority dstnat; policy accept;
		ip saddr { 10.1.0.0/16 } return
		ip daddr { 192.0.2.1/32 } return
		ip6 daddr { fd01::/64 } return
		ip saddr { 192.0.2.1/32 } return
		ip6 saddr { fd01::/64 } return
		ip daddr { 10.1.0.0/16 } return
		iifname { "p1", "p2" } meta protocol ip tcp dport { 25, 587 } meta pkttype set host ether daddr set 02:00:00:00:00:01
		iifname { "p1", "p2" } meta protocol ip6 tcp dport { 25 } meta pkttype set host ether daddr set 02:00:00:00:00:01
	}
}
EOF
`,
		},
		"tproxy, IPv6 only, with other numbers, also for this host": {
			Config{Mode: TProxy, Diverts: port25("[::]:2525"), Output: true, Interfaces: []string{"eth0"},
				OwnMark: 0x10, DivertMark: 0x20, Table: 300, Priority: 40},
			`#!/bin/sh
set -e
ip -4 rule del fwmark 0x20 lookup 300 priority 40 2>/dev/null || true
ip -4 route del local default dev lo table 300 2>/dev/null || true
nft delete table bridge gatepost 2>/dev/null || true
ip -6 route replace local default dev lo table 300
ip -6 rule del fwmark 0x20 lookup 300 priority 40 2>/dev/null || true
ip -6 rule add fwmark 0x20 lookup 300 priority 40
nft -f - <<'EOF'
add table inet gatepost
delete table inet gatepost
table inet gatepost {
	chain diverted {
		meta nfproto ipv6 tcp dport { 25 } tproxy ip6 to :2525 meta mark set 0x20 accept
		meta nfproto ipv6 tcp dport { 25 } reject with tcp reset
	}
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set 0x20 accept
		iifname != { "eth0", "lo" } return
		fib daddr type != unicast return
		goto diverted
	}
	chain output {
		type route hook output priority mangle; policy accept;
		meta mark 0x10 return
		fib daddr type != unicast return
		meta nfproto ipv6 tcp dport { 25 } meta mark set 0x20
	}
}
EOF
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(tt.config)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.Script()); diff != "" {
				t.Errorf("the script differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	good := func() Config { return Config{Mode: Redirect, Diverts: port25("0.0.0.0:2525")} }
	for want, change := range map[string]func(*Config){
		`no mode is called "none"`:  func(c *Config) { c.Mode = "none" },
		"nothing is to be diverted": func(c *Config) { c.Diverts = nil },
		"there are no ports":        func(c *Config) { c.Diverts[0].Ports = nil },
		"port 0 cannot be diverted": func(c *Config) { c.Diverts[0].Ports = []uint16{0} },
		"it needs an IP address and a port": func(c *Config) {
			c.Diverts = port25("10.0.0.1:0")
		},
		"write it without zone":                func(c *Config) { c.Diverts = port25("[fe80::1%eth0]:25") },
		"write it without zone and as IPv4":    func(c *Config) { c.Diverts = port25("[::ffff:10.0.0.1]:25") },
		"cannot be reached by what comes from": func(c *Config) { c.Diverts = port25("127.0.0.1:2525") },
		"port 25 is to be diverted to 0.0.0.0:2525 and to 10.0.0.1:2525": func(c *Config) {
			c.Diverts = port25("0.0.0.0:2525", "10.0.0.1:2525")
		},
		`"eth0\" accept; #" is no name of an interface`: func(c *Config) { c.Interfaces = []string{`eth0" accept; #`} },
		`"*" is no name of an interface`:                func(c *Config) { c.Interfaces = []string{"*"} },
		`"" is no name of an interface`:                 func(c *Config) { c.Interfaces = []string{""} },
		`"a-name-of-17-byt" is no name of an interface`: func(c *Config) { c.Interfaces = []string{"a-name-of-17-byt"} },
		"a bridge has ports and an address":             func(c *Config) { c.Bridges = []Bridge{{Ports: []string{"p"}}} },
		`"p\n" is no name of an interface`: func(c *Config) {
			c.Bridges = []Bridge{{Ports: []string{"p\n"}, MAC: net.HardwareAddr{1, 2, 3, 4, 5, 6}}}
		},
		"an exempt network is not valid":     func(c *Config) { c.ExemptServers = []netip.Prefix{{}} },
		"are both 0x7":                       func(c *Config) { c.OwnMark, c.DivertMark = 7, 7 },
		"254 cannot be our routing table":    func(c *Config) { c.Table = 254 },
		"-1 cannot be our routing table":     func(c *Config) { c.Table = -1 },
		"32766 cannot be the priority of":    func(c *Config) { c.Priority = 32766 },
		"-5 cannot be the priority of our r": func(c *Config) { c.Priority = -5 },
	} {
		c := good()
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := New(good()); err != nil {
		t.Errorf("the configuration that the others were made from: %v", err)
	}
}

func TestEverythingThatIsWrongIsSaidAtOnce(t *testing.T) {
	_, err := New(Config{Mode: "x", Table: 255})
	for _, want := range []string{`called "x"`, "nothing is to be diverted", "255 cannot be"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
}

func TestLoopbackIsEnoughForAHostThatProtectsItself(t *testing.T) {
	p, err := New(Config{Mode: Redirect, Output: true, Diverts: port25("127.0.0.1:2525")})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.Rules, "dnat ip to 127.0.0.1:2525") {
		t.Errorf("the rules are:\n%s", p.Rules)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Setenv("PATH", "")
	err := command(t.Context(), "", "no-such-program-of-nftables", "x")
	if err == nil || !strings.Contains(err.Error(), "is not installed; it is in the package") {
		t.Errorf("a program that is missing: %v", err)
	}
	for output, want := range map[string]string{
		"/dev/stdin:1:1-24: Error: Could not process rule: Operation not permitted\nadd table inet gatepost\n": "nft -f -: not permitted: run it as root",
		"Operation not permitted (you must be root)\n":                                                         "nft -f -: not permitted: run it as root",
		"Error: syntax error,\n\tunexpected x\n":                                                               "nft -f -: exit status 1: Error: syntax error, unexpected x",
	} {
		err := &commandError{command: "nft -f -", output: output, err: errors.New("exit status 1")}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

// A check by the real program, without rights and without changing anything.
func TestRulesAreUnderstoodByNft(t *testing.T) {
	nft := find("nft")
	if nft == "" {
		t.Skip("nft is not installed")
	}
	c := Config{Mode: TProxy, Diverts: port25("0.0.0.0:2525", "[::]:2525"), Output: true, Interfaces: []string{"e*"},
		ExemptServers: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), nft, "--check", "-f", "-")
	cmd.Stdin = strings.NewReader(p.Rules)
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "not permitted") {
		t.Skip("nft needs root even for a check")
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Our tables, as nft names them.
const (
	table       = "inet gatepost"
	bridgeTable = "bridge gatepost"
)

// Plan is what Apply does, as commands that can be read.
type Plan struct {
	// Rules is the input of `nft -f -`: one transaction.
	Rules string
	// Routing are the commands that make our routing rules and routes; none for
	// Redirect.
	Routing [][]string
	// Stale are the commands that remove what a plan with other choices may have
	// left and this one does not have. They fail where there is nothing to remove.
	Stale [][]string
}

// New returns the plan for a Config, or everything that is wrong with it.
func New(c Config) (*Plan, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("make firewall rules: %w", err)
	}
	p := &Plan{Rules: c.rules()}
	if c.Mode == TProxy {
		p.Routing = c.routing()
	}
	other := slices.DeleteFunc([]string{"-4", "-6"}, func(f string) bool { return c.Mode == TProxy && c.has(f) })
	p.Stale = c.clearing(other...)
	if len(c.Bridges) == 0 {
		p.Stale = append(p.Stale, removeBridged)
	}
	return p, nil
}

// removeBridged is not part of a transaction: kernels without rules for bridges
// would refuse all of it.
var removeBridged = []string{"nft", "delete", "table", "bridge", "gatepost"}

// removal is the transaction that leaves no table, whether there was one or not.
func removal(table string) string { return "add table " + table + "\ndelete table " + table + "\n" }

// rules is the whole table. What stands before a "return" is not diverted.
func (c Config) rules() string {
	var b strings.Builder
	b.WriteString(removal(table))
	fmt.Fprintf(&b, "table %s {\n", table)
	c.diverted(&b)
	if c.Mode == Redirect {
		// Only the first packet of a connection comes here; the others follow it.
		chain(&b, "prerouting", "type nat hook prerouting priority dstnat", c.fromClients(), "goto diverted")
		if c.Output {
			chain(&b, "output", "type nat hook output priority -100", c.fromHere(), "goto diverted")
		}
	} else {
		chain(&b, "prerouting", "type filter hook prerouting priority mangle", c.toOurSockets(), c.fromClients(), "goto diverted")
		if c.Output {
			// The mark sends the packet to loopback, where it comes to prerouting.
			var marks []string
			for _, f := range c.families() {
				marks = append(marks, fmt.Sprintf("meta nfproto ipv%s tcp dport { %s } meta mark set %#x", f[1:], ports(c.of(f)), c.DivertMark))
			}
			chain(&b, "output", "type route hook output priority mangle", c.fromHere(), c.exempt(), strings.Join(marks, "\n"))
		}
	}
	b.WriteString("}\n")
	c.bridged(&b)
	return b.String()
}

// bridged takes what a bridge would pass on up to the rules for IP: frames to a
// server, and the answers of servers, which may be for a client's address that
// we took. A frame is taken for the host's own when it says so in two places.
func (c Config) bridged(b *strings.Builder) {
	if len(c.Bridges) == 0 {
		return
	}
	b.WriteString(removal(bridgeTable))
	fmt.Fprintf(b, "table %s {\n\tchain prerouting {\n\t\ttype filter hook prerouting priority dstnat; policy accept;\n", bridgeTable)
	line(b, c.exempt())
	line(b, exempt(c.ExemptServers, c.ExemptClients))
	for _, bridge := range c.Bridges {
		for _, side := range []string{"dport", "sport"} {
			if side == "sport" && c.Mode == Redirect {
				continue
			}
			for _, family := range c.families() {
				fmt.Fprintf(b, "\t\tiifname { %s } meta protocol %s tcp %s { %s } meta pkttype set host ether daddr set %s\n",
					quoted(bridge.Ports), keyword(family), side, ports(c.of(family)), bridge.MAC)
			}
		}
	}
	b.WriteString("\t}\n}\n")
}

// keyword is how nft calls the family that ip calls -4 or -6.
func keyword(family string) string {
	if family == "-6" {
		return "ip6"
	}
	return "ip"
}

// diverted is the chain that diverts what comes to it.
func (c Config) diverted(b *strings.Builder) {
	b.WriteString("\tchain diverted {\n")
	line(b, c.exempt())
	for _, d := range c.Diverts {
		family, at := "ipv6", "ip6"
		if d.To.Addr().Is4() {
			family, at = "ipv4", "ip"
		}
		fmt.Fprintf(b, "\t\tmeta nfproto %s tcp dport { %s } ", family, ports([]Divert{d}))
		to := fmt.Sprintf(":%d", d.To.Port())
		if !d.To.Addr().IsUnspecified() {
			to = d.To.String()
		}
		switch {
		case c.Mode == TProxy:
			// Where nobody listens the rule ends at tproxy: the connection is refused, so
			// that mail waits at its sender and does not pass unscanned.
			fmt.Fprintf(b, "tproxy %s to %s meta mark set %#x accept\n", at, to, c.DivertMark)
			fmt.Fprintf(b, "\t\tmeta nfproto %s tcp dport { %s } reject with tcp reset\n", family, ports([]Divert{d}))
		case d.To.Addr().IsUnspecified():
			fmt.Fprintf(b, "redirect to %s\n", to)
		default:
			fmt.Fprintf(b, "dnat %s to %s\n", at, to)
		}
	}
	b.WriteString("\t}\n")
}

// toOurSockets lets in what belongs to a connection that is ours although its
// address is not: packets after the first of diverted connections, and the
// answers of servers to a client's address that we took. A listening socket is
// no reason: that would let anybody reach it past the rules below.
func (c Config) toOurSockets() string {
	return fmt.Sprintf("meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set %#x accept", c.DivertMark)
}

// fromClients leaves what does not come from clients, or is meant for us.
func (c Config) fromClients() string {
	var b strings.Builder
	if len(c.Interfaces) > 0 {
		names := slices.Clone(c.Interfaces)
		if c.Output && c.Mode == TProxy && !slices.Contains(names, "lo") {
			names = append(names, "lo")
		}
		fmt.Fprintf(&b, "iifname != { %s } return\n", quoted(names))
	}
	b.WriteString("fib daddr type != unicast return")
	return b.String()
}

// fromHere leaves our own connections, those of exempt users, and what is
// meant for this host.
func (c Config) fromHere() string {
	var b strings.Builder
	fmt.Fprintf(&b, "meta mark %#x return\n", c.OwnMark)
	if len(c.ExemptUsers) > 0 {
		fmt.Fprintf(&b, "meta skuid { %s } return\n", join(c.ExemptUsers))
	}
	b.WriteString("fib daddr type != unicast return")
	return b.String()
}

// exempt leaves the networks that are exempt.
func (c Config) exempt() string { return exempt(c.ExemptClients, c.ExemptServers) }

func exempt(sources, destinations []netip.Prefix) string {
	var rules []string
	for _, side := range []struct {
		field    string
		networks []netip.Prefix
	}{{"saddr", sources}, {"daddr", destinations}} {
		v4, v6 := compact(side.networks)
		if len(v4) > 0 {
			rules = append(rules, fmt.Sprintf("ip %s { %s } return", side.field, join(v4)))
		}
		if len(v6) > 0 {
			rules = append(rules, fmt.Sprintf("ip6 %s { %s } return", side.field, join(v6)))
		}
	}
	return strings.Join(rules, "\n")
}

// compact sorts networks into the families, without those that lie in others:
// the elements of a set must not overlap.
func compact(networks []netip.Prefix) (v4, v6 []netip.Prefix) {
	sorted := make([]netip.Prefix, 0, len(networks))
	for _, p := range networks {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		sorted = append(sorted, p.Masked())
	}
	slices.SortFunc(sorted, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, p := range sorted {
		list := &v6
		if p.Addr().Is4() {
			list = &v4
		}
		if !slices.ContainsFunc(*list, func(wider netip.Prefix) bool { return wider.Overlaps(p) }) {
			*list = append(*list, p)
		}
	}
	slices.SortFunc(v4, netip.Prefix.Compare)
	slices.SortFunc(v6, netip.Prefix.Compare)
	return v4, v6
}

// of is what is diverted in a family, "-4" or "-6" as ip names them.
func (c Config) of(family string) []Divert {
	var list []Divert
	for _, d := range c.Diverts {
		if d.To.Addr().Is4() == (family == "-4") {
			list = append(list, d)
		}
	}
	return list
}

func (c Config) has(family string) bool { return len(c.of(family)) > 0 }

// families are those in which something is diverted.
func (c Config) families() []string {
	return slices.DeleteFunc([]string{"-4", "-6"}, func(f string) bool { return !c.has(f) })
}

// routing sends marked packets to loopback, as if every address were ours.
func (c Config) routing() [][]string {
	var list [][]string
	for _, f := range c.families() {
		list = append(list,
			append([]string{"ip", f, "route", "replace"}, c.route()...),
			append([]string{"ip", f, "rule", "add"}, c.rule()...))
	}
	return list
}

// clearing takes the routing of these families away.
func (c Config) clearing(families ...string) [][]string {
	var list [][]string
	for _, f := range families {
		list = append(list, append([]string{"ip", f, "rule", "del"}, c.rule()...), append([]string{"ip", f, "route", "del"}, c.route()...))
	}
	return list
}

func (c Config) rule() []string {
	return []string{"fwmark", fmt.Sprintf("%#x", c.DivertMark), "lookup", fmt.Sprint(c.Table), "priority", fmt.Sprint(c.Priority)}
}

func (c Config) route() []string {
	return []string{"local", "default", "dev", "lo", "table", fmt.Sprint(c.Table)}
}

// chain writes a base chain; a rule may be several lines, or none.
func chain(b *strings.Builder, name, hook string, rules ...string) {
	fmt.Fprintf(b, "\tchain %s {\n\t\t%s; policy accept;\n", name, hook)
	for _, r := range rules {
		line(b, r)
	}
	b.WriteString("\t}\n")
}

func line(b *strings.Builder, rules string) {
	for r := range strings.SplitSeq(rules, "\n") {
		if r != "" {
			b.WriteString("\t\t" + r + "\n")
		}
	}
}

func ports(diverts []Divert) string {
	var list []uint16
	for _, d := range diverts {
		list = append(list, d.Ports...)
	}
	slices.Sort(list)
	return join(slices.Compact(list))
}

func join[T any](list []T) string {
	words := make([]string, 0, len(list))
	for _, v := range list {
		words = append(words, fmt.Sprint(v))
	}
	return strings.Join(words, ", ")
}

func quoted(names []string) string {
	list := make([]string, 0, len(names))
	for _, n := range names {
		list = append(list, `"`+n+`"`)
	}
	return strings.Join(list, ", ")
}

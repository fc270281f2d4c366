package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/config"
	"gatepost/internal/firewall"
)

// firewallCmd makes the rules that divert connections to the listeners with
// interception.
type firewallCmd struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file; --remove needs none."`
	Mode   string `enum:",redirect,tproxy" default:"" help:"Only listeners with this interception: redirect or tproxy."`
	Print  bool   `xor:"act" help:"Print a script that makes the rules; this is the default."`
	Apply  bool   `xor:"act" help:"Put the rules in place of those that were there."`
	Remove bool   `xor:"act" help:"Take the rules away."`

	In           []string `placeholder:"NAME" help:"Divert only what comes in on these interfaces; \"vnet*\" is all that begin so."`
	Bridge       []string `placeholder:"NAME" help:"Divert what these bridges of this host carry, too."`
	Local        bool     `help:"Divert the connections that programs on this host make, too."`
	ExemptUser   []string `placeholder:"USER" help:"Users whose programs are not diverted, with --local."`
	ExemptClient []string `placeholder:"NETWORK" help:"Do not divert what comes from these networks."`
	ExemptServer []string `placeholder:"NETWORK" help:"Do not divert what goes to these networks."`

	Mark     uint32 `placeholder:"N" help:"Mark on diverted packets, for tproxy, if the default is in use already."`
	Table    int    `placeholder:"N" help:"Routing table for them, likewise."`
	Priority int    `placeholder:"N" help:"Priority of the routing rule that leads there, likewise."`
}

// Help is the long help text.
func (*firewallCmd) Help() string {
	return `Makes the rules by which Linux (nftables) diverts connections to the listeners
with interception = "redirect" or "tproxy". They are in a table of their own,
gatepost; nothing else is touched, and applying them again replaces them at once:

  gatepost firewall -c /etc/gatepost/gatepost.toml
  gatepost firewall -c /etc/gatepost/gatepost.toml --apply
  gatepost firewall --remove

The kernel forgets them when the system stops. The options belong together: give
--remove the same --mark, --table and --priority.

While Gatepost does not run, diverted connections are refused, and mail waits at
its sender.`
}

// interceptedListener is a listener whose connections are diverted to it.
type interceptedListener struct {
	name      string
	mode      string // redirect or tproxy
	addresses []config.HostPort
	ports     []int
}

// Run implements the subcommand.
func (c *firewallCmd) Run(t *terminal) error {
	ctx := context.Background()
	switch {
	case c.Remove:
		return c.run(ctx, t, nil)
	case c.Config == "":
		return usageError{errors.New("which connections are diverted stands in the configuration: name it with -c FILE")}
	}
	cfg, err := loadConfig(c.Config, func(w string) { fmt.Fprintln(t.err, w) })
	if err != nil {
		return err
	}
	return c.run(ctx, t, interceptedListeners(cfg))
}

// interceptedListeners are the listeners with interception.
func interceptedListeners(cfg *config.Config) []interceptedListener {
	var all []interceptedListener
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; l.Intercepts() {
			all = append(all, interceptedListener{string(l.Name), l.Interception, l.Address, l.InterceptPorts})
		}
	}
	return all
}

// run carries out the command for the listeners of the configuration; none with
// --remove.
func (c *firewallCmd) run(ctx context.Context, t *terminal, listeners []interceptedListener) error {
	if c.Remove {
		return firewall.Remove(ctx, c.numbers())
	}
	cfg, err := c.firewall(listeners)
	if err != nil {
		return err
	}
	plan, err := firewall.New(cfg)
	if err != nil {
		return err
	}
	if !c.Apply {
		return t.print(plan.Script())
	}
	if err := plan.Apply(ctx); err != nil {
		return err
	}
	var b strings.Builder
	for _, d := range cfg.Diverts {
		fmt.Fprintf(&b, "%s: %v to %s\n", cfg.Mode, d.Ports, d.To)
	}
	return t.print(b.String())
}

// numbers is what all rules of one host must agree about.
func (c *firewallCmd) numbers() firewall.Config {
	return firewall.Config{DivertMark: c.Mark, Table: c.Table, Priority: c.Priority}
}

// firewall is what is to be diverted.
func (c *firewallCmd) firewall(listeners []interceptedListener) (firewall.Config, error) {
	cfg := c.numbers()
	cfg.Interfaces, cfg.Output = c.In, c.Local
	if c.Mode != "" {
		listeners = slices.DeleteFunc(slices.Clone(listeners), func(l interceptedListener) bool { return l.mode != c.Mode })
	}
	if len(listeners) == 0 {
		return cfg, errors.New(`no listener has interception = "redirect" or "tproxy" as asked for, so there is nothing to divert`)
	}
	cfg.Mode = firewall.Mode(listeners[0].mode)
	for _, l := range listeners {
		if l.mode != listeners[0].mode {
			return cfg, fmt.Errorf("listener %q has interception = %q and listener %q has %q: choose one for all, or name the one to divert with --mode",
				listeners[0].name, listeners[0].mode, l.name, l.mode)
		}
		diverts, err := l.diverts()
		if err != nil {
			return cfg, err
		}
		cfg.Diverts = append(cfg.Diverts, diverts...)
	}
	return cfg, c.exceptions(&cfg)
}

// exceptions reads what names something on this host or in its network.
func (c *firewallCmd) exceptions(cfg *firewall.Config) (err error) {
	if len(c.ExemptUser) > 0 && !c.Local {
		return usageError{errors.New("--exempt-user is for --local only: nobody knows the users of other hosts")}
	}
	for _, name := range c.ExemptUser {
		id, err := userID(name)
		if err != nil {
			return err
		}
		cfg.ExemptUsers = append(cfg.ExemptUsers, id)
	}
	if cfg.ExemptClients, err = networks("--exempt-client", c.ExemptClient); err != nil {
		return err
	}
	if cfg.ExemptServers, err = networks("--exempt-server", c.ExemptServer); err != nil {
		return err
	}
	for _, name := range c.Bridge {
		b, err := findBridge(name)
		if err != nil {
			return err
		}
		cfg.Bridges = append(cfg.Bridges, b)
	}
	return nil
}

// diverts sends the listener's ports to its first address in each IP family.
func (l *interceptedListener) diverts() ([]firewall.Divert, error) {
	var ports []uint16
	for _, p := range l.ports {
		ports = append(ports, uint16(p))
	}
	var list []firewall.Divert
	for _, a := range l.addresses {
		var ips []netip.Addr
		switch ip := a.IP(); {
		case a.Unix != "" || a.Port == 0 || a.Host != "" && !ip.IsValid():
			return nil, fmt.Errorf("listener %q: nothing can be diverted to %q: it must be an IP address with a port", l.name, a)
		case a.Host == "":
			ips = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
		default:
			ips = []netip.Addr{ip}
		}
		for _, ip := range ips {
			if !slices.ContainsFunc(list, func(d firewall.Divert) bool { return d.To.Addr().Is4() == ip.Is4() }) {
				list = append(list, firewall.Divert{Ports: ports, To: netip.AddrPortFrom(ip, uint16(a.Port))})
			}
		}
	}
	return list, nil
}

func networks(flag string, texts []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if ip, single := netip.ParseAddr(text); single == nil && ip.Zone() == "" {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return nil, usageError{fmt.Errorf("%s: %q is neither an address nor a network", flag, text)}
		}
		list = append(list, p)
	}
	return list, nil
}

func userID(name string) (uint32, error) {
	text := name
	if u, err := user.Lookup(name); err == nil {
		text = u.Uid
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("find user: there is no user %q", name)
	}
	return uint32(id), nil
}

// findBridge looks a bridge of this host up.
func findBridge(name string) (firewall.Bridge, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return firewall.Bridge{}, fmt.Errorf("find bridge %q: %w", name, err)
	}
	// The interface exists, so the name is one and not a path.
	ports, err := os.ReadDir(filepath.Join("/sys/class/net", name, "brif"))
	if err != nil || len(ports) == 0 {
		return firewall.Bridge{}, fmt.Errorf("find bridge %q: it is no bridge, or has no ports", name)
	}
	b := firewall.Bridge{MAC: link.HardwareAddr}
	for _, p := range ports {
		b.Ports = append(b.Ports, p.Name())
	}
	return b, nil
}

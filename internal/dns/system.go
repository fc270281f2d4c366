package dns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// dnsPort is where name servers listen.
const dnsPort = 53

// maxSystemFile bounds how much of a hosts file is read, in bytes.
const maxSystemFile = 1 << 20

// systemServers returns the configured servers, or the system's.
func systemServers(cfg Config) ([]server, error) {
	if len(cfg.Servers) > 0 {
		return parseServers(cfg.Servers)
	}
	conf, err := dns.ClientConfigFromFile(cfg.ResolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", cfg.ResolvConf, err)
	}
	var list []server
	if conf != nil {
		for _, s := range conf.Servers {
			// A scoped or malformed line must not keep mail from flowing.
			if addr, err := ParseServer(s); err == nil {
				list = append(list, server{addr: addr, trusted: addr.Addr().IsLoopback()})
			}
		}
	}
	if len(list) == 0 {
		// As resolv.conf(5): without a nameserver line, the one on this machine.
		local := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)
		list = []server{{addr: local, trusted: true}}
	}
	return list, nil
}

func parseServers(servers []string) ([]server, error) {
	list := make([]server, len(servers))
	for i, s := range servers {
		addr, err := ParseServer(s)
		if err != nil {
			return nil, err
		}
		list[i] = server{addr: addr, trusted: true}
	}
	return list, nil
}

// ParseServer reads the address of a name server: "192.0.2.1", "192.0.2.1:5353",
// "2001:db8::1" or "[2001:db8::1]:5353". The port defaults to 53.
func ParseServer(s string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(addr, dnsPort), nil
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil || addr.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("parse name server %q: want an IP address, or address:port", s)
	}
	return addr, nil
}

// hosts are the names of the hosts file, in lower case.
type hosts map[string][]netip.Addr

// readHosts reads a hosts file; what is malformed in it is passed over, as the C
// library does.
func readHosts(file string) (hosts, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open hosts file: %w", err)
	}
	defer f.Close()
	h := make(hosts)
	lines := bufio.NewScanner(io.LimitReader(f, maxSystemFile))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil {
			continue
		}
		for _, name := range words[1:] {
			name = strings.ToLower(trimDot(name))
			h[name] = append(h[name], addr.Unmap())
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read hosts file %s: %w", file, err)
	}
	return h, nil
}

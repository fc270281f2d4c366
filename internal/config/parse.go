package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// parseNetwork reads "10.0.0.0/8" or a single address.
func parseNetwork(s string) (netip.Prefix, *fault) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, &fault{ruleBadNetwork, fmt.Sprintf("%q is no network", s), `write address/length, such as "10.0.0.0/8" or "2001:db8::/32"`}
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		one := netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		return netip.Prefix{}, &fault{ruleBadNetwork, fmt.Sprintf("%q is an address inside of a network", s), fmt.Sprintf("write %q for the network or %q for the one address", p.Masked(), one)}
	}
	return p, nil
}

func parseIP(s string) (netip.Addr, *fault) {
	if s == "" {
		return netip.Addr{}, nil
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Addr{}, &fault{ruleBadAddress, fmt.Sprintf("%q is no IP address", s), `such as "192.0.2.25" or "2001:db8::25"`}
	}
	return ip.Unmap(), nil
}

// parseHostPort reads host, host:port or unix:/path. A port of -1 means that
// the text must have one and that something listens there.
func parseHostPort(s string, port int, dir string) (HostPort, *fault) {
	listens := port < 0
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if listens || path == "" {
			return HostPort{}, &fault{ruleBadAddress, fmt.Sprintf("%q is no host and port", s), `write "address:port"`}
		}
		return HostPort{Unix: string(absolute(path, dir))}, nil
	}
	host, portText, ok := cutPort(s)
	if !ok {
		return HostPort{}, badHostPort(s, listens)
	}
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 && !listens {
			return HostPort{}, &fault{ruleBadAddress, fmt.Sprintf("%q: %q is no port", s, portText), "a port is a number from 1 to 65535"}
		}
		port = int(n)
	} else if listens {
		return HostPort{}, &fault{ruleBadAddress, fmt.Sprintf("%q has no port", s), fmt.Sprintf("write %q", net.JoinHostPort(host, "25"))}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return HostPort{}, badHostPort(s, listens)
		}
		return HostPort{Host: ip.Unmap().String(), Port: port}, nil
	}
	if listens {
		if host != "" {
			return HostPort{}, &fault{ruleBadAddress, fmt.Sprintf("%q: %q is no IP address", s, host), `listen on an address of this host, or on ":port" for all`}
		}
		return HostPort{Port: port}, nil
	}
	name, err := smtp.CanonicalDomain(host)
	// With a port, a host called "unix" would read as a socket.
	if err != nil || strings.HasPrefix(name, "[") || looksLikeIPv4(name) || name == "unix" {
		return HostPort{}, badHostPort(s, listens)
	}
	return HostPort{Host: name, Port: port}, nil
}

func badHostPort(s string, listens bool) *fault {
	hint := `write "host" or "host:port", an IPv6 address in brackets: "[2001:db8::5]:25"`
	if listens {
		hint = `write "address:port", an IPv6 address in brackets: "[::]:25"`
	}
	return &fault{ruleBadAddress, fmt.Sprintf("%q is no host and port", s), hint}
}

// cutPort splits "host:port", "[v6]:port", "[v6]", "v6" and "host".
func cutPort(s string) (host, port string, ok bool) {
	if inner, isBracketed := strings.CutPrefix(s, "["); isBracketed {
		host, rest, closed := strings.Cut(inner, "]")
		if ip, err := netip.ParseAddr(host); !closed || err != nil || !ip.Is6() {
			return "", "", false
		}
		if rest == "" {
			return host, "", true
		}
		port, ok = strings.CutPrefix(rest, ":")
		return host, port, ok && port != ""
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return s, "", true
	}
	if strings.Count(s, ":") > 1 {
		return "", "", false
	}
	host, port, hasPort := strings.Cut(s, ":")
	return host, port, !hasPort || port != ""
}

// looksLikeIPv4 catches "10.0.0.256": a name whose last label is a number is no name.
func looksLikeIPv4(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	_, err := strconv.Atoi(last)
	return err == nil
}

func parseDomain(s string) (DomainName, *fault) {
	if s == "" || s == "*" {
		return DomainName(s), nil
	}
	name, err := smtp.CanonicalDomain(s)
	switch {
	case strings.Contains(s, "*"):
		return "", &fault{ruleBadDomain, fmt.Sprintf("%q is no domain", s), `there are no patterns: name each subdomain, or use "*" for any other domain`}
	case strings.Contains(s, "@"):
		return "", &fault{ruleBadDomain, fmt.Sprintf("%q is no domain", s), "write the part after the @"}
	case err != nil || strings.HasPrefix(name, "[") || looksLikeIPv4(name):
		return "", &fault{ruleBadDomain, fmt.Sprintf("%q is no domain", s), `such as "example.com"`}
	}
	return DomainName(name), nil
}

func parseMailAddress(s string) (mail.Address, *fault) {
	if s == "" {
		return mail.Address{}, nil
	}
	a, err := smtp.ParseAddress(s)
	if err != nil || strings.HasPrefix(a.Domain, "[") {
		return mail.Address{}, &fault{ruleBadAddress, fmt.Sprintf("%q is no mail address", s), `such as "postmaster@example.com"`}
	}
	return a, nil
}

// parseName reads the name of a part. It stands in logs, as a label of metrics
// and on command lines, so it needs no quoting anywhere.
func parseName(s string) (Name, *fault) {
	if s == "*" {
		return Name(s), nil
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || i > 0 && strings.IndexByte("._-", c) >= 0 {
			continue
		}
		return "", &fault{ruleBadName, fmt.Sprintf("%q is no name", s), `use letters, digits, ".", "_" and "-", beginning with a letter or digit`}
	}
	if len(s) > maxName {
		return "", &fault{ruleBadName, fmt.Sprintf("%q is too long for a name", s), fmt.Sprintf("use up to %d characters", maxName)}
	}
	return Name(s), nil
}

// maxName bounds names, in bytes.
const maxName = 64

func parseSource(s, dir string) (Source, *fault) {
	path, ok := strings.CutPrefix(s, "file:")
	if !ok || path == "" {
		hint := `write "file:PATH"`
		if ok = strings.ContainsAny(s, "./") && !strings.Contains(s, ":"); ok {
			hint = fmt.Sprintf("did you mean %q?", "file:"+s)
		}
		return Source{}, &fault{ruleBadSource, fmt.Sprintf("%q is no source of recipients", s), hint}
	}
	return Source{Kind: "file", Arg: string(absolute(path, dir))}, nil
}

// absolute makes a path independent of the working directory.
func absolute(path, dir string) Path {
	if path == "" {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return Path(filepath.Clean(path))
}

package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/dns/dnslist"
	"gatepost/internal/mail"
	"gatepost/internal/policy/rate"
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
	kind, arg, hasArg := strings.Cut(s, ":")
	switch {
	case s == "callout":
		return Source{Kind: s}, nil
	case kind == "file" && arg != "":
		return Source{Kind: kind, Arg: string(absolute(arg, dir))}, nil
	case kind == "ldap" || kind == "http":
		if name, f := parseName(arg); f == nil && name != "" && name != "*" {
			return Source{Kind: kind, Arg: arg}, nil
		}
	}
	f := &fault{ruleBadSource, fmt.Sprintf("%q is no source of recipients", s), `write "file:PATH", "ldap:NAME", "http:NAME" or "callout"`}
	switch {
	case strings.HasPrefix(arg, "//"):
		f.hint = fmt.Sprintf("write a [[%s]] with this URL and a name, and here %q", kind, kind+":NAME")
	case !hasArg && strings.ContainsAny(s, "./"):
		f.hint = fmt.Sprintf("did you mean %q?", "file:"+s)
	}
	return Source{}, f
}

// parseTableSource reads a part of a table of [rewrite]. What is no file and no name
// is an entry; what is wrong with that depends on the table.
func parseTableSource(s, dir string) (TableSource, *fault) {
	kind, arg, ok := strings.Cut(s, ":")
	if strings.ContainsAny(s, " \t") && kind != "file" {
		return TableSource{Kind: "inline", Arg: s}, nil
	}
	hint := `write "file:PATH", "ldap:NAME", "http:NAME" or "pattern result"`
	switch {
	case kind == "file" && arg != "":
		return TableSource{Kind: kind, Arg: string(absolute(arg, dir))}, nil
	case kind == "ldap" || kind == "http":
		if name, f := parseName(arg); f == nil && name != "" && name != "*" {
			return TableSource{Kind: kind, Arg: arg}, nil
		}
	case slices.Contains([]string{"hash", "btree", "lmdb", "cdb", "texthash", "regexp", "pcre", "cidr"}, kind) && ok:
		hint = fmt.Sprintf("did you mean %q? There is one kind of file, with plain entries, networks and expressions", "file:"+arg)
	}
	return TableSource{}, &fault{ruleBadTable, fmt.Sprintf("%q is no part of a table", s), hint}
}

// parseList reads a DNS list of clients, as parseZone does.
func parseList(s string) (dnslist.Zone, *fault) {
	if _, f := parseZone(s); f != nil {
		return dnslist.Zone{}, f
	}
	z, err := dnslist.ParseZone(s)
	if err != nil {
		return z, &fault{ruleBadZone, fmt.Sprintf("%q is no DNS list", s), `such as "zen.example.org" or "zen.example.org=127.0.0.2-11*3"`}
	}
	return z, nil
}

// parseLimit reads "60/m", "100MiB/h", "1000/h burst 100".
func parseLimit(s string) (rate.Limit, *fault) {
	if s == "" {
		return rate.Limit{}, nil
	}
	l, err := rate.ParseLimit(s)
	if err != nil {
		_, text, _ := strings.Cut(err.Error(), ": ")
		f := &fault{ruleBadLimit, fmt.Sprintf("%q is no limit", shorten(s)), text}
		if !strings.Contains(text, "write ") {
			f.message, f.hint = f.message+": "+text, `such as "60/m", "600/h", "10/30s" or "100MiB/d"`
		}
		return rate.Limit{}, f
	}
	return l, nil
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

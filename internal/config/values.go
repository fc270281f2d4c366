package config

import (
	"net"
	"net/netip"
	"strconv"
)

// Size is a number of bytes.
type Size int64

// Rate is a number of bytes per second.
type Rate int64

// Path is a file or directory: absolute in a loaded Config, "" where none is set.
type Path string

// Name is what one part of the configuration is called by others.
type Name string

// DomainName is a domain in canonical form: lower case, A-labels, no final dot;
// "*" where any domain is meant and "" where none is set.
type DomainName string

// HostPort is an address to listen on or to connect to; the zero value is none.
type HostPort struct {
	// Host is an IP address without brackets or a host name; "" means every
	// address of this host and occurs only where something listens.
	Host string
	// Port is 1 to 65535; 0 only where something listens: the system chooses.
	Port int
	// Unix is the path of a socket; Host and Port are then unset.
	Unix string
}

// IsZero reports whether no address is set.
func (h HostPort) IsZero() bool { return h == HostPort{} }

// IP is the host as an address, invalid for a name, a socket and the empty host.
func (h HostPort) IP() netip.Addr {
	ip, err := netip.ParseAddr(h.Host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}

// Network is the first argument of net.Listen or net.Dial: "tcp4" or "tcp6" for
// an IP address, so that 0.0.0.0:25 and [::]:25 can be listened on side by
// side; else "tcp" or "unix".
func (h HostPort) Network() string {
	ip := h.IP()
	switch {
	case h.Unix != "":
		return "unix"
	case !ip.IsValid():
		return "tcp"
	case ip.Is4():
		return "tcp4"
	}
	return "tcp6"
}

// String is the second argument of net.Listen or net.Dial.
func (h HostPort) String() string {
	switch {
	case h.Unix != "":
		return h.Unix
	case h.IsZero():
		return ""
	}
	return net.JoinHostPort(h.Host, strconv.Itoa(h.Port))
}

// Source is where recipients are looked up.
type Source struct {
	// Kind is "file".
	Kind string
	// Arg is the absolute path of the file.
	Arg string
}

// String is the source as the file writes it.
func (s Source) String() string { return s.Kind + ":" + s.Arg }

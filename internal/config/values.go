package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
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

// Socket is the address as the configuration writes that of a service on this
// host or another: "unix:/path" or "tcp:host:port".
func (h HostPort) Socket() string {
	switch {
	case h.Unix != "":
		return "unix:" + h.Unix
	case h.IsZero():
		return ""
	}
	return "tcp:" + h.String()
}

// BaseURL is the beginning of links: scheme, host and perhaps a port, "" where
// none is set. It does not end with a slash.
type BaseURL string

// URL is where a service is asked.
type URL string

// TimeOfDay is the time since midnight on the clock on the wall.
type TimeOfDay time.Duration

// Hour is 0 to 23.
func (t TimeOfDay) Hour() int { return int(time.Duration(t) / time.Hour) }

// Minute is 0 to 59.
func (t TimeOfDay) Minute() int { return int(time.Duration(t) % time.Hour / time.Minute) }

// String is the time as the file writes it: "07:00".
func (t TimeOfDay) String() string { return fmt.Sprintf("%02d:%02d", t.Hour(), t.Minute()) }

// Zone is a DNS list: its zone, which answers count and how much.
type Zone struct {
	Domain DomainName
	// Low and High are the first and last answer that counts as a listing; both
	// are invalid where every address in 127.0.0.0/8 does.
	Low, High netip.Addr
	// Score is what a listing counts; 0 where the list does not say.
	Score float64
}

// String is the list as the file writes it.
func (z Zone) String() string {
	s := string(z.Domain)
	if z.Low.IsValid() {
		s += "=" + z.Low.String()
		if z.High != z.Low {
			s += "-" + strconv.Itoa(int(z.High.As4()[3]))
		}
	}
	if z.Score != 0 {
		s += "*" + strconv.FormatFloat(z.Score, 'f', -1, 64)
	}
	return s
}

// Source is where recipients are looked up.
type Source struct {
	// Kind is "file", "ldap", "http" or "callout".
	Kind string
	// Arg is the absolute path of the file, or the name of the [[ldap]] or [[http]].
	Arg string
}

// String is the source as the file writes it.
func (s Source) String() string {
	if s.Arg == "" {
		return s.Kind
	}
	return s.Kind + ":" + s.Arg
}

// TableSource is one part of a table of [rewrite].
type TableSource struct {
	// Kind is "file", "ldap", "http" or "inline".
	Kind string
	// Arg is the absolute path of the file, the name of the [[ldap]] or [[http]], or the
	// entry itself: "pattern result".
	Arg string
}

// String is the part as the file writes it.
func (s TableSource) String() string {
	if s.Kind == "inline" {
		return s.Arg
	}
	return s.Kind + ":" + s.Arg
}

// Scores are scores by the symbols of a block's findings.
type Scores map[string]float64

// Texts are texts by their names.
type Texts map[string]string

package intercept

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// ErrProxyHeader says that a connection does not start with a well-formed PROXY
// protocol header.
var ErrProxyHeader = errors.New("malformed PROXY protocol header")

// Header is what a PROXY protocol header says.
type Header struct {
	// Known is false for LOCAL and UNKNOWN, where the addresses of the connection
	// itself count: a health check of the balancer, for example.
	Known            bool
	Source, Original netip.AddrPort // the client, and the address that it connected to
}

// Limits and layout of the PROXY protocol, versions 1 and 2
// (haproxy.org/download/3.0/doc/proxy-protocol.txt).
const (
	v1Max       = 107 // §2.1, with CRLF
	v1Min       = 15  // "PROXY UNKNOWN" CRLF
	v2Fixed     = 16
	v2MaxLength = 4096 // addresses and TLVs; the protocol would allow 65535
	v2Signature = "\r\n\r\n\x00\r\nQUIT\n"
)

// ReadHeader reads a PROXY protocol header of version 1 or 2 from r. It reads no
// byte that does not belong to the header, and at most some 4 KiB. r should have a
// deadline. Any error but one of r's is ErrProxyHeader.
func ReadHeader(r io.Reader) (Header, error) {
	var start [v2Fixed]byte
	// Both versions have at least 15 bytes, but a client that talks something else
	// may have sent fewer and wait: look at the first byte alone.
	if _, err := io.ReadFull(r, start[:1]); err != nil {
		return Header{}, fmt.Errorf("read PROXY header: %w", err)
	}
	if start[0] != 'P' && start[0] != '\r' {
		return Header{}, ErrProxyHeader
	}
	if _, err := io.ReadFull(r, start[1:v1Min]); err != nil {
		return Header{}, fmt.Errorf("read PROXY header: %w", err)
	}
	if string(start[:len(v2Signature)]) == v2Signature {
		if _, err := io.ReadFull(r, start[v1Min:]); err != nil {
			return Header{}, fmt.Errorf("read PROXY header: %w", err)
		}
		return readV2(r, start)
	}
	if !bytes.HasPrefix(start[:], []byte("PROXY ")) {
		return Header{}, ErrProxyHeader
	}
	return readV1(r, start[:v1Min])
}

// readV1 reads the rest of a line byte by byte: there is no other way to stop at
// its end.
func readV1(r io.Reader, start []byte) (Header, error) {
	var line [v1Max]byte
	n := copy(line[:], start)
	for !bytes.HasSuffix(line[:n], []byte("\r\n")) {
		if n == len(line) || bytes.IndexByte(line[:n], '\n') >= 0 {
			return Header{}, ErrProxyHeader
		}
		if _, err := io.ReadFull(r, line[n:n+1]); err != nil {
			return Header{}, fmt.Errorf("read PROXY header: %w", err)
		}
		n++
	}
	return parseV1(string(line[:n-2]))
}

// parseV1 reads "PROXY TCP4 source destination sport dport" or "PROXY UNKNOWN …".
func parseV1(line string) (Header, error) {
	if strings.ContainsAny(line, "\r\n\x00") {
		return Header{}, ErrProxyHeader
	}
	f := strings.Split(line, " ")
	if f[1] == "UNKNOWN" {
		return Header{}, nil // §2.1: the rest of the line must be ignored
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return Header{}, ErrProxyHeader
	}
	source, ok1 := v1Addr(f[2], f[4], f[1] == "TCP4")
	original, ok2 := v1Addr(f[3], f[5], f[1] == "TCP4")
	if !ok1 || !ok2 {
		return Header{}, ErrProxyHeader
	}
	return Header{Known: true, Source: source, Original: original}, nil
}

func v1Addr(addr, port string, v4 bool) (netip.AddrPort, bool) {
	ip, err := netip.ParseAddr(addr)
	if err != nil || ip.Is4() != v4 || ip.Zone() != "" {
		return netip.AddrPort{}, false
	}
	// §2.1: no leading zero, no sign.
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != port {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), true
}

// readV2 reads what follows the fixed part of a version 2 header.
func readV2(r io.Reader, fixed [v2Fixed]byte) (Header, error) {
	length := int(binary.BigEndian.Uint16(fixed[14:]))
	version, command := fixed[12]>>4, fixed[12]&15
	if version != 2 || command > 1 || length > v2MaxLength {
		return Header{}, ErrProxyHeader
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Header{}, fmt.Errorf("read PROXY header: %w", err)
	}
	if command == 0 {
		return Header{}, nil // LOCAL
	}
	switch fixed[13] {
	case 0x11: // TCP over IPv4
		return v2Addrs(rest, 4)
	case 0x21: // TCP over IPv6
		return v2Addrs(rest, 16)
	case 0x00, 0x31: // unspecified; a stream over a Unix socket
		return Header{}, nil
	}
	return Header{}, ErrProxyHeader
}

// v2Addrs reads two addresses of size bytes and two ports, and checks the TLVs
// behind them.
func v2Addrs(b []byte, size int) (Header, error) {
	if len(b) < 2*size+4 || !validTLVs(b[2*size+4:]) {
		return Header{}, ErrProxyHeader
	}
	source, _ := netip.AddrFromSlice(b[:size])
	original, _ := netip.AddrFromSlice(b[size : 2*size])
	ports := b[2*size:]
	return Header{
		Known:    true,
		Source:   netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(ports)),
		Original: netip.AddrPortFrom(original.Unmap(), binary.BigEndian.Uint16(ports[2:])),
	}, nil
}

// validTLVs reports whether b is a whole number of type-length-value records.
// What they say does not matter here.
func validTLVs(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 3 {
			return false
		}
		n := 3 + int(binary.BigEndian.Uint16(b[1:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// Package strangers says who the clients of the part connect are. The load plays
// them, the name server lists some of them, and both servers are told whom to deny,
// so that all of them must agree.
//
// The clients have addresses of 198.18.0.0/15, which is for benchmarks (RFC 2544):
// a /18 for each kind, and so many of each that no address comes twice and no
// server gains from what it remembers of a client.
package strangers

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// Kind is what is wrong with a client.
type Kind int

// Each kind is met by one thing that both servers look at, but for Fine.
const (
	Listed   Kind = iota // is on a DNS list
	Early                // talks before the greeting
	Denied               // is in the access list
	Unknown              // names a recipient who does not exist
	NoDomain             // its sender's domain does not exist
	BadHelo              // its name is not one of a host in the Internet
	Spoof                // writes from our own domain
	Fine                 // nothing: a stranger
	kinds
)

var names = [kinds]string{"listed", "early", "denied", "unknown", "no-domain", "bad-helo", "spoof", "fine"}

func (k Kind) String() string { return names[k] }

// Of returns the kinds that a word stands for: one of them, or "mix".
func Of(word string) ([]Kind, error) {
	if word == "mix" {
		return Mix(), nil
	}
	if i := slices.Index(names[:], word); i >= 0 {
		return []Kind{Kind(i)}, nil
	}
	return nil, fmt.Errorf("unknown kind of client %q", word)
}

// Mix is who comes to a server that nobody protects, in turn: half of them are
// known to lists.
func Mix() []Kind {
	return []Kind{
		Listed, Early, Listed, Unknown, Listed, Denied, Listed, NoDomain, Listed, Early,
		Listed, Spoof, Listed, Unknown, Listed, Denied, Listed, BadHelo, Listed, Early,
	}
}

// Each is how many clients of a kind there are.
const Each = 1 << 14

var first = binary.BigEndian.Uint32([]byte{198, 18, 0, 0})

// Addr is the address of the i-th client of a kind. One after the other comes from
// another /24.
func Addr(k Kind, i int) netip.Addr {
	offset := uint32(k)*Each + uint32(i%64)*256 + uint32(i/64%256)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, first+offset)))
}

// KindOf is the kind of the client with an address.
func KindOf(a netip.Addr) (Kind, bool) {
	if !a.Is4() {
		return 0, false
	}
	b := a.As4()
	offset := binary.BigEndian.Uint32(b[:]) - first
	return Kind(offset / Each), offset < uint32(kinds)*Each
}

// Networks are those of a kind, of 256 addresses each.
func Networks(k Kind) []netip.Prefix {
	var list []netip.Prefix
	for i := range Each / 256 {
		list = append(list, netip.PrefixFrom(Addr(k, i), 24))
	}
	return list
}

package strangers

import (
	"net/netip"
	"testing"
)

func TestEachClientHasAnAddressOfItsOwnThatTellsItsKind(t *testing.T) {
	seen := make(map[netip.Addr]bool)
	for k := range kinds {
		for i := range Each {
			a := Addr(k, i)
			if got, ok := KindOf(a); !ok || got != k || seen[a] {
				t.Fatalf("client %d of kind %v: address %v is of kind %v, %v, seen before: %v", i, k, a, got, ok, seen[a])
			}
			seen[a] = true
		}
	}
	for _, other := range []string{"198.17.255.255", "198.20.0.0", "127.0.0.2", "2001:db8::1"} {
		if k, ok := KindOf(netip.MustParseAddr(other)); ok {
			t.Errorf("%s is a client of kind %v", other, k)
		}
	}
}

func TestNetworksHoldTheClientsOfTheirKind(t *testing.T) {
	for _, i := range []int{0, 63, 64, Each - 1} {
		n := 0
		for _, p := range Networks(Denied) {
			if p.Contains(Addr(Denied, i)) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("client %d is in %d networks", i, n)
		}
	}
}

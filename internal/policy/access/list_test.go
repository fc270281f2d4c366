package access

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzReadList checks that whatever is taken as an entry finds itself.
func FuzzReadList(f *testing.F) {
	for _, s := range []string{
		"192.0.2.0/24 spam\n# x\n.example.com\n", "2001:db8::/32\r\n", "::ffff:192.0.2.1", "mail.example.com why # because", "\ufeff10.0.0.0/8", ".ä.example",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := readList([]byte(s), 100)
		if err != nil {
			return
		}
		for p, n := range l.nets.All() {
			if p != p.Masked() || p.Addr().Is4In6() || len(l.reason(n)) > maxReason {
				t.Errorf("entry %v, %q", p, l.reason(n))
			}
			if _, ok := l.nets.Lookup(p.Addr()); !ok {
				t.Errorf("%v does not find itself", p)
			}
		}
		for name := range l.names {
			e, err := parseEntry(name)
			if err != nil || e.name != name {
				t.Errorf("name %q is read back as %q, %v", name, e.name, err)
			}
			if _, err := netip.ParseAddr(strings.TrimPrefix(name, ".")); err == nil {
				t.Errorf("%q is an address", name)
			}
		}
	})
}

func TestReasonsAreKeptOnce(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		b.WriteString(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String() + " the same " + strings.Repeat("x", 500) + "\n")
	}
	l, err := readList([]byte(b.String()), 2000)
	if err != nil || l.size() != 1000 || len(l.reasons) != 2 || len(l.reasons[1]) != maxReason {
		t.Errorf("%d reasons for %d entries, %v", len(l.reasons), l.size(), err)
	}
}

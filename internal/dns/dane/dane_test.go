package dane

import (
	"context"
	"errors"
	"testing"

	"gatepost/internal/dns"
)

// answer is a resolver that always says the same.
type answer struct {
	records   []dns.TLSA
	authentic bool
	err       error
	asked     string
}

func (a *answer) TLSA(_ context.Context, name string) ([]dns.TLSA, bool, error) {
	a.asked = name
	return a.records, a.authentic, a.err
}

func TestLookup(t *testing.T) {
	some := []dns.TLSA{{Usage: 3, Matching: 1, Data: []byte{1}}}
	for _, tc := range []struct {
		name string
		a    answer
		want int
		fail bool
	}{
		{"authentic records", answer{records: some, authentic: true}, 1, false},
		{"records that nobody vouches for", answer{records: some}, 0, false},
		{"no records", answer{err: &dns.Error{NXDomain: true}, authentic: true}, 0, false},
		{"an outage", answer{err: &dns.Error{Temporary: true}}, 0, true},
		{"another error", answer{err: errors.New("bogus")}, 0, true},
	} {
		records, err := Lookup(t.Context(), &tc.a, "mx.example", 465)
		if len(records) != tc.want || (err != nil) != tc.fail || tc.a.asked != "_465._tcp.mx.example" {
			t.Errorf("%s: %v, %v, asked %s", tc.name, records, err, tc.a.asked)
		}
	}
}

func TestUsable(t *testing.T) {
	records := []dns.TLSA{
		{Usage: 0, Matching: 1, Data: []byte{1}}, {Usage: 1, Matching: 1, Data: []byte{1}}, {Usage: 2, Matching: 1, Data: []byte{1}},
		{Usage: 3, Matching: 2, Selector: 1, Data: []byte{1}}, {Usage: 3, Matching: 3, Data: []byte{1}}, {Usage: 3, Selector: 2, Data: []byte{1}}, {Usage: 3},
	}
	if got := Usable(records); len(got) != 2 || got[0].Usage != 2 || got[1].Matching != 2 {
		t.Errorf("%v", got)
	}
	if err := Verify(nil, records, nil); !errors.Is(err, ErrMismatch) {
		t.Errorf("no chain: %v", err)
	}
}

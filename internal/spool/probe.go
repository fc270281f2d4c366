package spool

import (
	"encoding/binary"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// findReadable returns the first key at or after start from which reading works,
// nil if there is none before end. Pebble says that a block is damaged, but not
// where the next one begins, so the place is searched for: by strides that double
// until a read works, then by halving the last stride. The keys of a family are
// ordered by message ID, a number of 128 bits, so this takes at most 256 reads.
// Readable records between two damaged blocks that lie within one stride are
// missed, which is why the search begins with the smallest stride.
func (s *Spool) findReadable(start, end []byte) ([]byte, error) {
	s.h.probing.Add(1)
	defer s.h.probing.Add(-1)
	fam := start[0]
	var id mail.ID
	copy(id[:], start[1:])
	from := numberOf(id)
	bad, good := from, idNumber{}
	found := false
	for shift := range 128 {
		at, over := from.add(shift)
		if over {
			break
		}
		ok, err := s.readable(fam, at, end)
		if err != nil {
			return nil, err
		}
		if ok {
			good, found = at, true
			break
		}
		bad = at
	}
	if !found {
		return nil, nil
	}
	for {
		mid, ok := bad.middle(good)
		if !ok {
			return good.key(fam), nil
		}
		ok, err := s.readable(fam, mid, end)
		if err != nil {
			return nil, err
		}
		if ok {
			good = mid
		} else {
			bad = mid
		}
	}
}

// readable says whether an iterator can be put at the ID.
func (s *Spool) readable(fam byte, at idNumber, end []byte) (bool, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: at.key(fam), UpperBound: end})
	if err == nil {
		if it.First() {
			_, err = it.ValueAndErr()
		}
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil && !damaged(err) {
		return false, err
	}
	return err == nil, nil
}

// idNumber is an ID as a number.
type idNumber struct{ hi, lo uint64 }

func numberOf(id mail.ID) idNumber {
	return idNumber{binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])}
}

// key is the first key of the ID in a family.
func (n idNumber) key(fam byte) []byte {
	var id mail.ID
	binary.BigEndian.PutUint64(id[:8], n.hi)
	binary.BigEndian.PutUint64(id[8:], n.lo)
	return msgKey(fam, id)
}

// add returns n + 2^shift.
func (n idNumber) add(shift int) (sum idNumber, over bool) {
	var d idNumber
	if shift < 64 {
		d.lo = 1 << shift
	} else {
		d.hi = 1 << (shift - 64)
	}
	var carry uint64
	sum.lo, carry = bits.Add64(n.lo, d.lo, 0)
	sum.hi, carry = bits.Add64(n.hi, d.hi, carry)
	return sum, carry != 0
}

// middle returns a number between n and a greater m, unless there is none.
func (n idNumber) middle(m idNumber) (mid idNumber, ok bool) {
	lo, borrow := bits.Sub64(m.lo, n.lo, 0)
	hi, _ := bits.Sub64(m.hi, n.hi, borrow)
	if hi == 0 && lo <= 1 {
		return n, false
	}
	lo = lo>>1 | hi<<63
	hi >>= 1
	var carry uint64
	mid.lo, carry = bits.Add64(n.lo, lo, 0)
	mid.hi, _ = bits.Add64(n.hi, hi, carry)
	return mid, true
}

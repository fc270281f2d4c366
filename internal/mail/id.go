package mail

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ID names a message or a session. It is 128 bits, ordered by time: 48 bits of
// Unix milliseconds, then 80 random bits, so that several nodes can make them
// without talking to each other.
type ID [16]byte

// idAlphabet is Crockford's base 32 in lower case: no i, l, o or u, so that an
// ID can be read out over the telephone.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// idLength is how many characters the text form of an ID has.
const idLength = 26

var errBadID = errors.New("not a message ID")

// NewID returns a fresh ID for the present moment.
func NewID() ID {
	var id ID
	putMillis(&id, time.Now())
	// crypto/rand.Read never fails: it aborts the program instead.
	rand.Read(id[6:])
	return id
}

// FirstID returns the smallest ID of the moment t, for range scans by time.
func FirstID(t time.Time) ID {
	var id ID
	putMillis(&id, t)
	return id
}

func putMillis(id *ID, t time.Time) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
}

// Time is when the ID was made, to the millisecond.
func (id ID) Time() time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}

// IsZero reports whether the ID was never set.
func (id ID) IsZero() bool { return id == ID{} }

// String returns 26 characters that sort as the IDs do.
func (id ID) String() string {
	var out [idLength]byte
	return string(id.Append(out[:0]))
}

// Append appends what String returns.
func (id ID) Append(b []byte) []byte {
	var out [idLength]byte
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	for i := idLength - 1; i >= 0; i-- {
		out[i] = idAlphabet[lo&31]
		lo = lo>>5 | hi<<59
		hi >>= 5
	}
	return append(b, out[:]...)
}

// ParseID reads the text form of an ID; upper case is accepted.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != idLength || s[0] > '7' {
		return id, fmt.Errorf("%w: %q", errBadID, s)
	}
	var hi, lo uint64
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		v := strings.IndexByte(idAlphabet, c)
		if v < 0 {
			return id, fmt.Errorf("%w: %q", errBadID, s)
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(v)
	}
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id, nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	got, err := ParseID(string(b))
	if err == nil {
		*id = got
	}
	return err
}

// QueueID names a queue item: the N-th next hop of a message, counted from 1.
type QueueID struct {
	Message ID
	N       uint16
}

// String returns "ID:n", the form that users see and search for.
func (q QueueID) String() string {
	return q.Message.String() + ":" + strconv.Itoa(int(q.N))
}

// ParseQueueID reads "ID:n".
func ParseQueueID(s string) (QueueID, error) {
	head, tail, ok := strings.Cut(s, ":")
	if !ok {
		return QueueID{}, fmt.Errorf("not a queue ID (want ID:n): %q", s)
	}
	id, err := ParseID(head)
	if err != nil {
		return QueueID{}, err
	}
	n, err := strconv.ParseUint(tail, 10, 16)
	if err != nil || n == 0 {
		return QueueID{}, fmt.Errorf("not a queue ID (want ID:n): %q", s)
	}
	return QueueID{Message: id, N: uint16(n)}, nil
}

// MarshalText implements encoding.TextMarshaler.
func (q QueueID) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (q *QueueID) UnmarshalText(b []byte) error {
	got, err := ParseQueueID(string(b))
	if err == nil {
		*q = got
	}
	return err
}

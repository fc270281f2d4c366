package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"gatepost/internal/mail"
)

// Every record is one byte of version, the CRC32C of key, version and payload
// (4 bytes, little-endian), then the payload. The key is in the sum so that a
// record can't pass for another one.
const (
	recordVersion = 1
	headerLen     = 5

	// envelopeFixed is what stands before the JSON of an envelope: size of the
	// body (8), number of items (2).
	envelopeFixed = 10
	// scheduleFixed is what stands before the strings of a schedule record:
	// state (1), items (2), size (8), created (8), next attempt (8).
	scheduleFixed = 27
	// maxScheduleString bounds transport and next hop in a schedule record.
	maxScheduleString = math.MaxUint16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal fills in the header of a record whose payload is in place.
func seal(key, rec []byte) {
	rec[0] = recordVersion
	binary.LittleEndian.PutUint32(rec[1:], recordSum(key, rec))
}

func recordSum(key, rec []byte) uint32 {
	sum := crc32.Update(0, castagnoli, key)
	sum = crc32.Update(sum, castagnoli, rec[:1])
	return crc32.Update(sum, castagnoli, rec[headerLen:])
}

// unseal checks a record and returns its payload, which shares its memory.
func unseal(key, rec []byte) ([]byte, error) {
	if len(rec) < headerLen {
		return nil, fmt.Errorf("%w: %d bytes are too short", ErrCorrupt, len(rec))
	}
	if binary.LittleEndian.Uint32(rec[1:]) != recordSum(key, rec) {
		return nil, fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	if rec[0] != recordVersion {
		return nil, fmt.Errorf("%w: unknown record version %d", ErrCorrupt, rec[0])
	}
	return rec[headerLen:], nil
}

// schedule is the small record that Scan reads for each item.
type schedule struct {
	state         mail.QueueState
	items         uint16 // how many items the message was committed with; 0 unknown
	size          int64  // of the body
	created, next time.Time
	dest          mail.Destination
}

// stateCodes are the states as stored. An active item is stored as deferred:
// after a restart nobody is delivering it.
func stateCode(s mail.QueueState) (byte, error) {
	switch s {
	case mail.QueueIncoming:
		return 1, nil
	case mail.QueueDeferred, mail.QueueActive:
		return 2, nil
	case mail.QueueHold:
		return 3, nil
	}
	return 0, fmt.Errorf("unknown queue state %q", s)
}

func codeState(c byte) (mail.QueueState, bool) {
	switch c {
	case 1:
		return mail.QueueIncoming, true
	case 2:
		return mail.QueueDeferred, true
	case 3:
		return mail.QueueHold, true
	}
	return "", false
}

// scheduleOf is the schedule record of an item.
func scheduleOf(it *mail.QueueItem, items uint16, size int64) schedule {
	return schedule{state: it.State, items: items, size: size, created: it.Created, next: it.NextAttempt, dest: it.Destination()}
}

func (r *schedule) len() int {
	return headerLen + scheduleFixed + 2 + len(r.dest.Transport) + 2 + len(r.dest.NextHop)
}

// check reports what can't be stored, before a batch is begun.
func (r *schedule) check() error {
	if _, err := stateCode(r.state); err != nil {
		return err
	}
	if len(r.dest.Transport) > maxScheduleString || len(r.dest.NextHop) > maxScheduleString {
		return fmt.Errorf("destination of %d bytes is too long", len(r.dest.Transport)+len(r.dest.NextHop))
	}
	return nil
}

// put writes the record into rec, which is r.len() bytes long.
func (r *schedule) put(key, rec []byte) {
	p := rec[headerLen:]
	p[0], _ = stateCode(r.state)
	binary.LittleEndian.PutUint16(p[1:], r.items)
	binary.LittleEndian.PutUint64(p[3:], uint64(r.size))
	binary.LittleEndian.PutUint64(p[11:], uint64(nanos(r.created)))
	binary.LittleEndian.PutUint64(p[19:], uint64(nanos(r.next)))
	p = putString(p[scheduleFixed:], r.dest.Transport)
	putString(p, r.dest.NextHop)
	seal(key, rec)
}

func parseSchedule(key, rec []byte) (schedule, error) {
	p, err := unseal(key, rec)
	if err != nil {
		return schedule{}, err
	}
	if len(p) < scheduleFixed {
		return schedule{}, fmt.Errorf("%w: schedule of %d bytes is too short", ErrCorrupt, len(p))
	}
	var r schedule
	var ok bool
	if r.state, ok = codeState(p[0]); !ok {
		return schedule{}, fmt.Errorf("%w: unknown queue state %d", ErrCorrupt, p[0])
	}
	r.items = binary.LittleEndian.Uint16(p[1:])
	r.size = int64(binary.LittleEndian.Uint64(p[3:]))
	r.created = fromNanos(int64(binary.LittleEndian.Uint64(p[11:])))
	r.next = fromNanos(int64(binary.LittleEndian.Uint64(p[19:])))
	transport, p, ok1 := getString(p[scheduleFixed:])
	hop, p, ok2 := getString(p)
	if !ok1 || !ok2 || len(p) != 0 || r.size < 0 {
		return schedule{}, fmt.Errorf("%w: schedule does not parse", ErrCorrupt)
	}
	r.dest = mail.Destination{Transport: string(transport), NextHop: string(hop)}
	return r, nil
}

// zeroNanos stands for the zero time, which has no Unix nanoseconds.
const zeroNanos = math.MinInt64

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return zeroNanos
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == zeroNanos {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func putString(p []byte, s string) []byte {
	binary.LittleEndian.PutUint16(p, uint16(len(s)))
	return p[2+copy(p[2:], s):]
}

func getString(p []byte) (s, rest []byte, ok bool) {
	if len(p) < 2 {
		return nil, nil, false
	}
	n := int(binary.LittleEndian.Uint16(p))
	if len(p) < 2+n {
		return nil, nil, false
	}
	return p[2 : 2+n], p[2+n:], true
}

// jsonEncoder is a reusable encoder and its buffer. It saves two allocations and
// the growth of the buffer per record.
type jsonEncoder struct {
	buf bytes.Buffer
	enc *json.Encoder
}

func newJSONEncoder() any {
	e := new(jsonEncoder)
	e.enc = json.NewEncoder(&e.buf)
	e.enc.SetEscapeHTML(false)
	return e
}

// encode returns the JSON of v, which is valid until the next call.
func (e *jsonEncoder) encode(v any) ([]byte, error) {
	e.buf.Reset()
	err := e.enc.Encode(v)
	return e.buf.Bytes(), err
}

// setEnvelope adds the envelope to the batch.
func setEnvelope(b *pebble.Batch, e *jsonEncoder, env *mail.Envelope, items uint16) error {
	js, err := e.encode(env)
	if err != nil {
		return fmt.Errorf("encode envelope %s: %w", env.ID, err)
	}
	op := b.SetDeferred(msgKeyLen, headerLen+envelopeFixed+len(js))
	putMsgKey(op.Key, famEnvelope, env.ID)
	p := op.Value[headerLen:]
	binary.LittleEndian.PutUint64(p, uint64(env.Size))
	binary.LittleEndian.PutUint16(p[8:], items)
	copy(p[envelopeFixed:], js)
	seal(op.Key, op.Value)
	return op.Finish()
}

// parseEnvelopeHead checks the record and returns the size of the body and the JSON.
func parseEnvelopeHead(key, rec []byte) (size int64, js []byte, err error) {
	p, err := unseal(key, rec)
	if err != nil {
		return 0, nil, err
	}
	if len(p) < envelopeFixed {
		return 0, nil, fmt.Errorf("%w: envelope of %d bytes is too short", ErrCorrupt, len(p))
	}
	if size = int64(binary.LittleEndian.Uint64(p)); size < 0 {
		return 0, nil, fmt.Errorf("%w: envelope says size %d", ErrCorrupt, size)
	}
	return size, p[envelopeFixed:], nil
}

func parseEnvelope(key, rec []byte) (*mail.Envelope, error) {
	size, js, err := parseEnvelopeHead(key, rec)
	if err != nil {
		return nil, err
	}
	env := new(mail.Envelope)
	if err := json.Unmarshal(js, env); err != nil {
		return nil, fmt.Errorf("%w: envelope: %w", ErrCorrupt, err)
	}
	if len(key) != msgKeyLen || env.ID != mail.ID(key[1:]) || env.Size != size {
		return nil, fmt.Errorf("%w: envelope of another message", ErrCorrupt)
	}
	return env, nil
}

// setItem adds an item and its schedule record to the batch.
func setItem(b *pebble.Batch, e *jsonEncoder, it *mail.QueueItem, r schedule) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("store item %s: %w", it.ID, err)
	}
	js, err := e.encode(it)
	if err != nil {
		return fmt.Errorf("encode item %s: %w", it.ID, err)
	}
	op := b.SetDeferred(itemKeyLen, headerLen+len(js))
	putItemKey(op.Key, famItem, it.ID)
	copy(op.Value[headerLen:], js)
	seal(op.Key, op.Value)
	if err := op.Finish(); err != nil {
		return err
	}
	op = b.SetDeferred(itemKeyLen, r.len())
	putItemKey(op.Key, famSchedule, it.ID)
	r.put(op.Key, op.Value)
	return op.Finish()
}

func parseItem(key, rec []byte) (*mail.QueueItem, error) {
	p, err := unseal(key, rec)
	if err != nil {
		return nil, err
	}
	it := new(mail.QueueItem)
	if err := json.Unmarshal(p, it); err != nil {
		return nil, fmt.Errorf("%w: item: %w", ErrCorrupt, err)
	}
	if id, ok := parseItemKey(key); !ok || it.ID != id {
		return nil, fmt.Errorf("%w: item %s under the key of another", ErrCorrupt, it.ID)
	}
	if it.State == mail.QueueActive {
		it.State = mail.QueueDeferred
	}
	if _, err := stateCode(it.State); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return it, nil
}

// setChunk adds a piece of a body to the batch.
func setChunk(b *pebble.Batch, id mail.ID, chunk uint32, data []byte) error {
	op := b.SetDeferred(bodyKeyLen, headerLen+len(data))
	putBodyKey(op.Key, id, chunk)
	copy(op.Value[headerLen:], data)
	seal(op.Key, op.Value)
	return op.Finish()
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func quote(b []byte) string {
	const most = 100
	if len(b) > most {
		b = b[:most]
	}
	return strconv.QuoteToASCII(string(b))
}

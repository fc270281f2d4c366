package spool

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

// fuzzID is the message of the seeds.
var fuzzID = mail.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// seedRecords are records as the spool writes them, by key.
func seedRecords(f *testing.F) map[string][]byte {
	s := openTest(f, memOptions(vfs.NewMem()))
	if err := tryPut(s, fuzzID, testBody(100), 1); err != nil {
		f.Fatal(err)
	}
	all := make(map[string][]byte)
	err := s.each([]byte{0}, []byte{0xff}, func(key, rec []byte) (bool, error) {
		all[string(key)] = bytes.Clone(rec)
		return true, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return all
}

// FuzzRecords gives any bytes to the decoder of each family: as they are, and with
// a checksum that is right, so that what stands behind it is reached.
func FuzzRecords(f *testing.F) {
	for key, rec := range seedRecords(f) {
		f.Add([]byte(key), rec)
	}
	f.Fuzz(func(t *testing.T, key, rec []byte) {
		if keyName(key) == "" {
			t.Error("a key without a name")
		}
		decode(t, key, rec)
		if len(rec) >= headerLen {
			rec = bytes.Clone(rec)
			seal(key, rec)
			decode(t, key, rec)
		}
	})
}

func decode(t *testing.T, key, rec []byte) {
	if r, err := parseSchedule(key, rec); err == nil {
		out := make([]byte, r.len())
		r.put(key, out)
		if !bytes.Equal(out, rec) {
			t.Errorf("schedule %+v is written as %x, read from %x", r, out, rec)
		}
	}
	if it, err := parseItem(key, rec); err == nil {
		if r := scheduleOf(it, 0, 0); len(r.dest.Transport) < maxScheduleString && len(r.dest.NextHop) < maxScheduleString {
			if err := r.check(); err != nil {
				t.Errorf("item that can't be stored: %v", err)
			}
		}
	}
	if env, err := parseEnvelope(key, rec); err == nil && !bytes.Equal(env.ID[:], key[1:]) {
		t.Errorf("envelope of %s under another key", env.ID)
	}
	_, _ = parseSetting(key, rec)
}

// FuzzLogScan gives any bytes to the reader of logs, and a log with any damage.
func FuzzLogScan(f *testing.F) {
	fs := vfs.NewMem()
	s, err := Open(memOptions(fs))
	if err != nil {
		f.Fatal(err)
	}
	for range 5 {
		if err := tryPut(s, mail.NewID(), testBody(300), 1); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	logs, err := listLogs(fs, "/spool/wal", ".log")
	if err != nil || len(logs) == 0 {
		f.Fatal(err)
	}
	for _, l := range logs {
		data, err := readFile(fs, l.name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, uint32(l.num))
		f.Add(data[:len(data)/2], uint32(l.num))
	}
	f.Fuzz(func(t *testing.T, data []byte, num uint32) {
		scan := logScan{data: data, num: num}
		n, size := 0, 0
		if err := scan.scan(func(b []byte) error { n++; size += len(b); return nil }); err != nil {
			t.Error(err)
		}
		if size > len(data) || scan.behind > n || scan.clean && scan.bad >= 0 {
			t.Errorf("%d records of %d bytes in %d bytes: %+v", n, size, len(data), scan)
		}
	})
}

// FuzzManifestScan gives any bytes to the reader of manifests.
func FuzzManifestScan(f *testing.F) {
	f.Add([]byte{})
	payload := []byte{tagComparer, 1, 'x', tagLogNumber, 7}
	chunk := make([]byte, manifestHeader, manifestHeader+len(payload))
	binary.LittleEndian.PutUint16(chunk[4:], uint16(len(payload)))
	chunk[6] = chunkFull
	f.Add(append(chunk, payload...))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := manifestScan{data: data, bad: -1}
		m.scan()
		if m.bad >= len(data) && len(data) > 0 {
			t.Errorf("damage at %d of %d", m.bad, len(data))
		}
		m.validAfter(m.bad + 1)
	})
}

func TestScheduleRecordsRoundTrip(t *testing.T) {
	key := itemKey(famSchedule, mail.QueueID{Message: fuzzID, N: 3})
	for _, it := range []*mail.QueueItem{
		testItem(fuzzID, 3),
		{State: mail.QueueIncoming},
		{State: mail.QueueHold, Transport: "t", Created: testItem(fuzzID, 1).Created},
	} {
		want := scheduleOf(it, 65535, 1<<40)
		rec := make([]byte, want.len())
		want.put(key, rec)
		got, err := parseSchedule(key, rec)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(schedule{})); d != "" {
			t.Error(d)
		}
		for i := range rec {
			bad := bytes.Clone(rec)
			bad[i] ^= 1
			if _, err := parseSchedule(key, bad); err == nil {
				t.Errorf("a flip in byte %d is not noticed", i)
			}
		}
		other := itemKey(famSchedule, mail.QueueID{Message: fuzzID, N: 4})
		if _, err := parseSchedule(other, rec); err == nil {
			t.Error("a record under the key of another is not noticed")
		}
	}
}

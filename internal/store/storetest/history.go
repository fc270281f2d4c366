package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// openHistory opens the history of a store until the end of the test.
func openHistory(t *testing.T, s *store.Store) *store.History {
	t.Helper()
	h, err := s.OpenHistory(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, h.Close()) })
	return h
}

// eventID is an ID of the n-th second.
func eventID(n int) mail.ID {
	id := mail.FirstID(time.Unix(1_700_000_000+int64(n), 0))
	id[15] = 1
	return id
}

// segmentOf is what makes a segment of these blobs.
func segmentOf(first, last int, blobs ...string) store.HistoryWrite {
	return store.HistoryWrite{Fill: func(put func([]byte) error) (store.HistorySegment, error) {
		for _, b := range blobs {
			if err := put([]byte(b)); err != nil {
				return store.HistorySegment{}, err
			}
		}
		return store.HistorySegment{First: eventID(first), Last: eventID(last), Events: int64(last - first + 1), Head: []byte("head")}, nil
	}}
}

func segmentIDs(t *testing.T, h *store.History) []int64 {
	t.Helper()
	all, err := h.Segments(t.Context())
	must(t, err)
	var ids []int64
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

func historySegments(t *testing.T, db *Database) {
	h := openHistory(t, db.Open(t))
	a, err := h.Write(t.Context(), segmentOf(1, 10, "a0", "a1\x00\xff", ""))
	must(t, err)
	b, err := h.Write(t.Context(), segmentOf(11, 30, "b0"))
	must(t, err)
	if a.ID == b.ID || a.Node != "gw1" || a.Bytes != int64(len("head")+2+4) || a.First != eventID(1) || a.Events != 10 {
		t.Errorf("written %+v and %+v", a, b)
	}
	if got := segmentIDs(t, h); !slices.Equal(got, []int64{b.ID, a.ID}) {
		t.Errorf("segments %v, want the latest first", got)
	}
	head, err := h.Head(t.Context(), a.ID)
	must(t, err)
	blob, err := h.Blob(t.Context(), a.ID, 1)
	must(t, err)
	if string(head) != "head" || !bytes.Equal(blob, []byte("a1\x00\xff")) {
		t.Errorf("head %q blob %q", head, blob)
	}
	some, err := h.Blobs(t.Context(), a.ID, []uint32{1, 0, 1})
	must(t, err)
	if len(some) != 2 || string(some[0]) != "a0" || string(some[1]) != "a1\x00\xff" {
		t.Errorf("%d blobs: %q %q", len(some), some[0], some[1])
	}
	if _, err := h.Blobs(t.Context(), a.ID, []uint32{0, 3}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("blobs of which one is missing: %v", err)
	}
	for _, n := range []uint32{3, 1 << 19} {
		if _, err := h.Blob(t.Context(), a.ID, n); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("blob %d: %v, want ErrNotFound", n, err)
		}
	}
	failed := errors.New("no more")
	_, err = h.Write(t.Context(), store.HistoryWrite{Replaces: []int64{a.ID}, Fill: func(put func([]byte) error) (store.HistorySegment, error) {
		return store.HistorySegment{}, errors.Join(put([]byte("x")), failed)
	}})
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want what Fill said", err)
	}
	if got := segmentIDs(t, h); !slices.Equal(got, []int64{b.ID, a.ID}) {
		t.Errorf("segments %v after a write that failed", got)
	}
	must(t, h.Drop(t.Context(), a.ID, 12345))
	if _, err := h.Blob(t.Context(), a.ID, 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("blob of a dropped segment: %v", err)
	}
	if _, err := h.Head(t.Context(), a.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("head of a dropped segment: %v", err)
	}
}

func historyMerging(t *testing.T, db *Database) {
	h := openHistory(t, db.Open(t))
	var small []int64
	for i := range 3 {
		s, err := h.Write(t.Context(), segmentOf(i*10, i*10+9, fmt.Sprint("blob ", i)))
		must(t, err)
		small = append(small, s.ID)
	}
	w := segmentOf(0, 29)
	w.Replaces = small
	w.Fill = func(put func([]byte) error) (store.HistorySegment, error) {
		for _, id := range small {
			// The old ones can be read while the new one is written.
			b, err := h.Blob(t.Context(), id, 0)
			if err == nil {
				err = put(b)
			}
			if err != nil {
				return store.HistorySegment{}, err
			}
		}
		return store.HistorySegment{First: eventID(0), Last: eventID(29), Events: 30}, nil
	}
	merged, err := h.Write(t.Context(), w)
	must(t, err)
	if got := segmentIDs(t, h); !slices.Equal(got, []int64{merged.ID}) {
		t.Errorf("segments %v after merging", got)
	}
	if b, err := h.Blob(t.Context(), merged.ID, 2); err != nil || string(b) != "blob 2" {
		t.Errorf("blob %q %v", b, err)
	}
	if slices.Contains(small, merged.ID) {
		t.Error("an ID was used again")
	}
}

func historyHours(t *testing.T, db *Database) {
	h := openHistory(t, db.Open(t))
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	w := segmentOf(1, 1, "x")
	w.Hours = []store.HistoryHour{{Hour: noon, Data: []byte("one")}, {Hour: noon.Add(time.Hour), Data: []byte("two")}}
	_, err := h.Write(t.Context(), w)
	must(t, err)
	w.Hours = []store.HistoryHour{{Hour: noon.Add(time.Hour), Data: []byte("three")}}
	_, err = h.Write(t.Context(), w)
	must(t, err)
	got := func(since, until time.Time) string {
		t.Helper()
		all, err := h.Hours(t.Context(), since, until)
		must(t, err)
		s := ""
		for _, hour := range all {
			s += hour.Hour.Format("15:04 ") + hour.Node + " " + string(hour.Data) + ";"
		}
		return s
	}
	if s := got(noon, noon.Add(2*time.Hour)); s != "12:00 gw1 one;13:00 gw1 three;" {
		t.Errorf("hours %q", s)
	}
	if s := got(noon.Add(time.Minute), noon.Add(2*time.Hour)); s != "13:00 gw1 three;" {
		t.Errorf("an hour that began before is there: %q", s)
	}
	must(t, h.DropHours(t.Context(), noon.Add(time.Hour)))
	if s := got(noon, noon.Add(2*time.Hour)); s != "13:00 gw1 three;" {
		t.Errorf("hours %q after the first was dropped", s)
	}
}

func historyNodes(t *testing.T, db *Database) {
	if !db.Shared() {
		t.Skip("one node only")
	}
	one := openHistory(t, db.Open(t))
	two := openHistory(t, db.Open(t, func(o *store.Options) { o.Node = "gw2" }))
	a, err := one.Write(t.Context(), segmentOf(1, 5, "from one"))
	must(t, err)
	b, err := two.Write(t.Context(), segmentOf(3, 9, "from two"))
	must(t, err)
	if got := segmentIDs(t, one); !slices.Equal(got, []int64{b.ID, a.ID}) {
		t.Errorf("segments %v", got)
	}
	if blob, err := one.Blob(t.Context(), b.ID, 0); err != nil || string(blob) != "from two" {
		t.Errorf("blob of the other node: %q %v", blob, err)
	}
	if b.Node != "gw2" {
		t.Errorf("node %q", b.Node)
	}
}

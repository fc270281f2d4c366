package spool

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

var sizes = []int{0, 1, 4096, keepSize - 1, keepSize, keepSize + 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 17}

func TestAMessageIsReadBackAsItWasWritten(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	ids := make(map[int]mail.ID)
	for _, n := range sizes {
		ids[n] = put(t, s, testBody(n), 2)
	}
	check := func(s *Spool) {
		t.Helper()
		for _, n := range sizes {
			id := ids[n]
			if got := storedBody(t, s, id); !bytes.Equal(got, testBody(n)) {
				t.Errorf("body of %d bytes differs", n)
			}
			env, err := s.Envelope(id)
			if err != nil {
				t.Fatal(err)
			}
			want := testEnvelope(id)
			want.Size, want.Session.ID = int64(n), env.Session.ID
			if d := cmp.Diff(want, env, cmp.Comparer(addrPortEqual)); d != "" {
				t.Errorf("envelope differs: %s", d)
			}
			items, err := s.Items(id)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(testItems(id, 2), items); d != "" {
				t.Errorf("items differ: %s", d)
			}
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(openTest(t, memOptions(fs)))
}

func TestTheBodyOfAWriterReadsTheSameBeforeAndAfterCommit(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	for _, n := range sizes {
		id, data := mail.NewID(), testBody(n)
		w := s.Create(id)
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		body := w.Body()
		for _, when := range []string{"before", "after"} {
			if got, err := readBody(body); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %s commit: %d bytes, %v", n, when, len(got), err)
			}
			if when == "before" {
				if err := w.Commit(testEnvelope(id), testItems(id, 1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if m := body.(*Body).Memory(); n > keepSize && m != 0 {
			t.Errorf("body of %d bytes holds %d bytes of memory after the commit", n, m)
		}
	}
}

func TestReadAtKeepsToTheRulesOfReaderAt(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	data := testBody(2*chunkSize + 100)
	b, err := s.Body(put(t, s, data, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1, chunkSize - 3, chunkSize, 2 * chunkSize, 2*chunkSize + 99} {
		for _, n := range []int{0, 1, 7, chunkSize, 2*chunkSize + 100} {
			p := make([]byte, n)
			got, err := b.ReadAt(p, off)
			want := min(int64(n), int64(len(data))-off)
			if int64(got) != want || !bytes.Equal(p[:got], data[off:off+want]) {
				t.Errorf("ReadAt(%d, %d) = %d, want %d", n, off, got, want)
			}
			if (got < n) != (err == io.EOF) {
				t.Errorf("ReadAt(%d, %d) = %d, %v", n, off, got, err)
			}
		}
	}
	if n, err := b.ReadAt(make([]byte, 1), int64(len(data))); n != 0 || err != io.EOF {
		t.Errorf("ReadAt at the end = %d, %v", n, err)
	}
	if _, err := b.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is accepted")
	}
}

func TestTheLastItemTakesTheMessageWithIt(t *testing.T) {
	for _, n := range []int{10, 2 * chunkSize} {
		for _, items := range []int{1, 3} {
			s := openTest(t, memOptions(vfs.NewMem()))
			id := put(t, s, testBody(n), items)
			for i := range items {
				if _, err := s.Body(id); err != nil {
					t.Fatalf("body is gone before item %d is done: %v", i+1, err)
				}
				if err := s.Done(mail.QueueID{Message: id, N: uint16(i + 1)}); err != nil {
					t.Fatal(err)
				}
			}
			if keys := allKeys(t, s); len(keys) != 1 { // the layout version
				t.Errorf("%d bytes, %d items: left behind %q", n, items, keys)
			}
			if err := s.Done(mail.QueueID{Message: id, N: 1}); !errors.Is(err, ErrNotFound) {
				t.Errorf("second Done = %v", err)
			}
		}
	}
}

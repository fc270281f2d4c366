package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// notesOf reads all notes.
func notesOf(t testing.TB, s *Spool) map[mail.ID]string {
	t.Helper()
	all := make(map[mail.ID]string)
	if err := s.Notes(mail.ID{}, func(n Note) (bool, error) {
		all[n.ID] = string(n.Record)
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

func commitWithNote(t testing.TB, s *Spool, id mail.ID, n Note) error {
	t.Helper()
	w := s.Create(id)
	defer w.Abort()
	if _, err := w.Write([]byte("Subject: x\r\n\r\nbody\r\n")); err != nil {
		t.Fatal(err)
	}
	w.Note(n)
	return w.Commit(testEnvelope(id), testItems(id, 1))
}

func TestANoteOfACommittedMessageSurvivesEveryCrash(t *testing.T) {
	for seed := range uint64(20) {
		fs := vfs.NewCrashableMem()
		s := openTest(t, memOptions(fs))
		want := make(map[mail.ID]string)
		for i := range 5 {
			id, n := mail.NewID(), Note{ID: mail.NewID(), Record: []byte(fmt.Sprint("accepted ", i))}
			if err := commitWithNote(t, s, id, n); err != nil {
				t.Fatal(err)
			}
			want[n.ID] = string(n.Record)
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed%3) * 50, RNG: rand.New(rand.NewPCG(1, seed))})
		got := notesOf(t, openTest(t, memOptions(clone)))
		for id, record := range want {
			if got[id] != record {
				t.Fatalf("seed %d: note %s is %q after the crash, want %q", seed, id, got[id], record)
			}
		}
	}
}

func TestWhatWasDoneToAMessageIsNeverThereWithoutItsNote(t *testing.T) {
	for seed := range uint64(50) {
		fs := vfs.NewCrashableMem()
		s := openTest(t, memOptions(fs))
		notes := make(map[mail.ID]mail.ID)
		for range 10 {
			id := put(t, s, testBody(100), 1)
			n := Note{ID: mail.NewID(), Record: []byte("delivered")}
			if err := s.PutNote(n); err != nil {
				t.Fatal(err)
			}
			notes[id] = n.ID
			if err := s.Done(mail.QueueID{Message: id, N: 1}); err != nil {
				t.Fatal(err)
			}
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed % 101), RNG: rand.New(rand.NewPCG(2, seed))})
		after := openTest(t, memOptions(clone))
		got := notesOf(t, after)
		for id, note := range notes {
			_, err := after.Item(mail.QueueID{Message: id, N: 1})
			if gone := errors.Is(err, ErrNotFound); gone && got[note] == "" {
				t.Fatalf("seed %d: item of %s is done and its note is lost", seed, id)
			}
		}
	}
}

func TestDroppedNotesAreGoneAndTheOthersComeInOrder(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	var ids []mail.ID
	for i := range 6 {
		id := mail.NewID()
		id[0] = byte(i + 1)
		ids = append(ids, id)
		if err := s.PutNote(Note{ID: id, Record: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DropNotes([]mail.ID{ids[0], ids[3]}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openTest(t, memOptions(fs))
	var got []mail.ID
	if err := s.Notes(ids[1], func(n Note) (bool, error) {
		got = append(got, n.ID)
		return len(got) < 2, nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := []mail.ID{ids[2], ids[4]}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestARefusedCommitLeavesNoNote(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	id := mail.NewID()
	w := s.Create(id)
	w.Note(Note{ID: mail.NewID(), Record: []byte("x")})
	if err := w.Commit(testEnvelope(id), nil); err == nil {
		t.Fatal("a message without items was committed")
	}
	w.Abort()
	if got := notesOf(t, s); len(got) != 0 {
		t.Errorf("notes are left: %v", got)
	}
}

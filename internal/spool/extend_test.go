package spool

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// extend gives a message of one item a second and a third one and a new subject.
func extend(t *testing.T, s *Spool, id mail.ID) {
	t.Helper()
	env := testEnvelope(id)
	env.Subject = "Scanned"
	noError(t, s.Extend(env, []*mail.QueueItem{testItem(id, 2), testItem(id, 3)}))
}

func TestExtendedMessageKeepsItsBodyUntilTheLastItemIsDone(t *testing.T) {
	for name, size := range map[string]int{"small": 100, "several chunks": 3*chunkSize + 7} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, memOptions(vfs.NewMem()))
			body := testBody(size)
			id := put(t, s, body, 1)
			extend(t, s, id)
			env, err := s.Envelope(id)
			noError(t, err)
			if env.Subject != "Scanned" {
				t.Errorf("subject %q", env.Subject)
			}
			for n := uint16(1); n <= 3; n++ {
				if !bytes.Equal(storedBody(t, s, id), body) {
					t.Fatalf("body changed before item %d was done", n)
				}
				noError(t, s.Done(mail.QueueID{Message: id, N: n}))
			}
			if keys := allKeys(t, s); len(keys) != 1 {
				t.Errorf("left behind %v", keys)
			}
		})
	}
}

func TestExtendIsDurable(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openTest(t, memOptions(mem))
	id := put(t, s, testBody(100), 1)
	extend(t, s, id)
	after := openTest(t, memOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
	items, err := after.Items(id)
	noError(t, err)
	env, err := after.Envelope(id)
	noError(t, err)
	if len(items) != 3 || env.Subject != "Scanned" {
		t.Errorf("after a crash %d items, subject %q", len(items), env.Subject)
	}
}

func TestWhatIsGoneCannotBeExtended(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	id := mail.NewID()
	if err := s.Extend(testEnvelope(id), testItems(id, 1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("Extend = %v, want ErrNotFound", err)
	}
	if keys := allKeys(t, s); len(keys) != 1 {
		t.Errorf("left behind %v", keys)
	}
}

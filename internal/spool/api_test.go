package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

func TestASecondSpoolOnTheSameDirectoryIsRefused(t *testing.T) {
	onDisk, inMemory := Options{Dir: t.TempDir()}, memOptions(vfs.NewMem())
	for _, o := range []Options{onDisk, inMemory} {
		s := openTest(t, o)
		_, err := Open(withDefaults(t, o))
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), o.Dir) {
			t.Errorf("second Open = %v, want ErrLocked with the directory", err)
		}
		put(t, s, testBody(10), 1)
		noError(t, s.Close())
		openTest(t, o)
	}
}

func TestNobodyElseMayReadTheSpool(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	o := Options{Dir: filepath.Join(t.TempDir(), "data", "spool"), MemTableSize: 1 << 20}
	s := openTest(t, o)
	id := put(t, s, testBody(3*chunkSize), 1)
	for range 30 {
		put(t, s, testBody(chunkSize), 1)
	}
	s.setAside(itemKey(famItem, mail.QueueID{Message: id, N: 9}), []byte("raw"), ErrCorrupt)
	if !s.flush(t.Context()) {
		t.Fatal("no flush")
	}
	files := 0
	check := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	}
	noError(t, filepath.WalkDir(o.Dir, check))
	noError(t, s.Close())
	s = openTest(t, o)
	noError(t, filepath.WalkDir(o.Dir, check))
	if files < 10 {
		t.Errorf("only %d files were looked at", files)
	}
	noError(t, os.Chmod(o.Dir, 0o755))
	noError(t, s.Close())
	openTest(t, o)
	noError(t, filepath.WalkDir(o.Dir, check))
}

func TestTheReserveOfTheDiskIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free, asked := int64(10<<20), 0
		o := memOptions(vfs.NewMem())
		o.Reserve = 1 << 20
		o.FreeSpace = func() (int64, error) { asked++; return free, nil }
		s := openTest(t, o)
		for _, c := range []struct {
			n  int64
			ok bool
		}{{0, true}, {9 << 20, true}, {9<<20 + 1, false}, {1 << 40, false}} {
			err := s.CheckSpace(c.n)
			if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNoSpace) {
				t.Errorf("CheckSpace(%d) = %v", c.n, err)
			}
		}
		if asked != 1 {
			t.Errorf("the disk was asked %d times within a second", asked)
		}
		id := put(t, s, testBody(100), 1)
		free = 1 << 20
		time.Sleep(2 * time.Second)
		var r interface{ SMTPReply() mail.ReplyKey }
		if err := tryPut(s, mail.NewID(), testBody(100), 1); !errors.As(err, &r) || r.SMTPReply() != mail.ReplyNoSpace {
			t.Errorf("commit = %v, want ReplyNoSpace", err)
		}
		w := s.Create(mail.NewID())
		if _, err := w.Write(testBody(3 * chunkSize)); !errors.Is(err, ErrNoSpace) {
			t.Errorf("write = %v, want ErrNoSpace", err)
		}
		w.Abort()
		// What frees space is always possible.
		noError(t, s.Update(testItem(id, 1)))
		noError(t, s.Done(mail.QueueID{Message: id, N: 1}))
		free = 2 << 20
		time.Sleep(2 * time.Second)
		put(t, s, testBody(100), 1)
	})
}

func TestChangesThatAreNotSyncedBecomeDurableWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewCrashableMem()
		s := openTest(t, memOptions(mem))
		done, kept, large := put(t, s, testBody(10), 1), put(t, s, testBody(10), 1), s.Create(mail.NewID())
		_, err := large.Write(testBody(2*chunkSize + 1))
		noError(t, err)
		time.Sleep(time.Minute) // a quiet moment
		it := testItem(kept, 1)
		it.Attempts = 3
		noError(t, s.Update(it))
		noError(t, s.Done(mail.QueueID{Message: done, N: 1}))
		large.Abort()
		time.Sleep(time.Second)
		synctest.Wait()
		s2, err := Open(memOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
		noError(t, err)
		defer s2.Close()
		if _, err := s2.Item(mail.QueueID{Message: done, N: 1}); !errors.Is(err, ErrNotFound) {
			t.Errorf("Done was not durable: %v", err)
		}
		if it, err := s2.Item(it.ID); err != nil || it.Attempts != 3 {
			t.Errorf("Update was not durable: %+v, %v", it, err)
		}
		if keys := allKeys(t, s2); len(keys) != 5 {
			t.Errorf("an aborted message was left behind: %v", keys)
		}
	})
}

func TestTheLastMessageBeforeAQuietMomentIsDurableAtOnce(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openTest(t, memOptions(mem))
	id := put(t, s, testBody(5*chunkSize), 1)
	s2, err := Open(memOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
	noError(t, err)
	defer s2.Close()
	if sum(storedBody(t, s2, id)) != sum(testBody(5*chunkSize)) {
		t.Error("body differs")
	}
}

func TestUpdateChangesWhatScanAndItemSay(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openTest(t, memOptions(mem))
	id := put(t, s, testBody(10), 2)
	it := testItem(id, 2)
	it.State, it.HoldReason, it.Attempts = mail.QueueHold, "because", 4
	it.Transport, it.NextHop = "internet", "other.example"
	it.NextAttempt, it.LastAttempt = time.Unix(1800000000, 7).UTC(), time.Time{}
	noError(t, s.UpdateSync(it))
	s2, err := Open(memOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
	noError(t, err)
	defer s2.Close()
	for _, s := range []*Spool{s, s2} {
		got, err := s.Item(it.ID)
		noError(t, err)
		if d := cmp.Diff(it, got); d != "" {
			t.Errorf("item: %s", d)
		}
		want := Entry{ID: it.ID, State: mail.QueueHold, Dest: it.Destination(), Created: it.Created, NextAttempt: it.NextAttempt}
		if d := cmp.Diff(want, scanAll(t, s)[it.ID]); d != "" {
			t.Errorf("entry: %s", d)
		}
	}
	noError(t, s.Done(it.ID))
	if err := s.Update(it); !errors.Is(err, ErrNotFound) {
		t.Errorf("Update of an item that is done = %v", err)
	}
	noError(t, s.Done(mail.QueueID{Message: id, N: 1}))
}

func TestAnItemThatWasActiveIsDeferredAfterARestart(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	it := testItem(put(t, s, nil, 1), 1)
	it.State = mail.QueueActive
	noError(t, s.Update(it))
	got, err := s.Item(it.ID)
	noError(t, err)
	if e := scanAll(t, s)[it.ID]; got.State != mail.QueueDeferred || e.State != mail.QueueDeferred {
		t.Errorf("states are %s and %s", got.State, e.State)
	}
	it.State = "nonsense"
	if err := s.Update(it); err == nil {
		t.Error("an unknown state was stored")
	}
}

func TestWalkStreamsItemsInOrderFromAKey(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	for range 500 {
		put(t, s, testBody(20), 1+rand.IntN(3))
	}
	var all []mail.QueueID
	noError(t, s.Walk(mail.QueueID{}, func(it *mail.QueueItem, env *mail.Envelope) (bool, error) {
		if env.ID != it.ID.Message {
			t.Errorf("item %s with envelope %s", it.ID, env.ID)
		}
		all = append(all, it.ID)
		// The function may change the spool.
		noError(t, s.Update(it))
		return true, nil
	}))
	if len(all) != len(scanAll(t, s)) {
		t.Errorf("Walk sees %d items, Scan %d", len(all), len(scanAll(t, s)))
	}
	for i := range all[1:] {
		if all[i].String() >= all[i+1].String() && all[i].Message != all[i+1].Message {
			t.Fatalf("%s before %s", all[i], all[i+1])
		}
	}
	n, stop := 0, errors.New("stop")
	err := s.Walk(all[100], func(it *mail.QueueItem, _ *mail.Envelope) (bool, error) {
		if it.ID != all[100+n] {
			t.Errorf("%s instead of %s", it.ID, all[100+n])
		}
		n++
		if n == 20 {
			return false, stop
		}
		return true, nil
	})
	if !errors.Is(err, stop) || n != 20 {
		t.Errorf("Walk = %v after %d items", err, n)
	}
}

func TestSettingsSurviveAPowerCut(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := openTest(t, memOptions(mem))
	for _, k := range []string{"pause/a", "pause/b", "pausf", "pause/gone"} {
		noError(t, s.PutSetting(k, []byte("v "+k)))
	}
	noError(t, s.PutSetting("pause/a", nil))
	noError(t, s.DeleteSetting("pause/gone"))
	noError(t, s.DeleteSetting("never there"))
	s2, err := Open(memOptions(mem.CrashClone(vfs.CrashCloneCfg{})))
	noError(t, err)
	defer s2.Close()
	got, err := s2.Settings("pause/")
	noError(t, err)
	if d := cmp.Diff(map[string][]byte{"pause/a": nil, "pause/b": []byte("v pause/b")}, got); d != "" {
		t.Error(d)
	}
	if v, err := s2.Setting("pausf"); err != nil || string(v) != "v pausf" {
		t.Errorf("Setting = %q, %v", v, err)
	}
	if _, err := s2.Setting("pause/gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted setting = %v", err)
	}
}

func TestAWriterCannotBeMisused(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	id := mail.NewID()
	w := s.Create(id)
	_, err := w.Write([]byte("x"))
	noError(t, err)
	for name, bad := range map[string]error{
		"no items":            w.Commit(testEnvelope(id), nil),
		"foreign envelope":    w.Commit(testEnvelope(mail.NewID()), testItems(id, 1)),
		"foreign item":        w.Commit(testEnvelope(id), testItems(mail.NewID(), 1)),
		"item without number": w.Commit(testEnvelope(id), []*mail.QueueItem{testItem(id, 0)}),
	} {
		if bad == nil {
			t.Errorf("%s: commit succeeds", name)
		}
	}
	noError(t, w.Commit(testEnvelope(id), testItems(id, 1)))
	w.Abort()
	w.Abort()
	if _, err := w.Write([]byte("y")); err == nil {
		t.Error("write after commit")
	}
	if err := w.Commit(testEnvelope(id), testItems(id, 1)); err == nil {
		t.Error("second commit")
	}
	if got := storedBody(t, s, id); string(got) != "x" {
		t.Errorf("body is %q", got)
	}
}

func TestAnAbortedMessageLeavesNothing(t *testing.T) {
	for _, n := range []int{10, 4 * chunkSize} {
		s := openTest(t, memOptions(vfs.NewMem()))
		w := s.Create(mail.NewID())
		_, err := w.Write(testBody(n))
		noError(t, err)
		b := w.Body()
		w.Abort()
		if keys := allKeys(t, s); len(keys) != 1 {
			t.Errorf("%d bytes left %v", n, keys)
		}
		if _, err := b.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("its body reads as %v", err)
		}
	}
}

func TestSweepRemovesWhatACrashLeftBetweenTwoSteps(t *testing.T) {
	mem := vfs.NewMem()
	s := openTest(t, memOptions(mem))
	id, kept := put(t, s, testBody(2*chunkSize), 2), put(t, s, testBody(10), 2)
	// Both items of the one are gone and its body is not yet, of the other one item.
	for _, q := range []mail.QueueID{{Message: id, N: 1}, {Message: id, N: 2}, {Message: kept, N: 2}} {
		b := s.db.NewBatch()
		noError(t, errors.Join(deleteItem(b, q), setMark(b, q.Message), s.unsynced(b)))
	}
	noError(t, s.Close())
	s = openTest(t, memOptions(mem))
	if _, err := s.Body(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("body of a finished message = %v", err)
	}
	storedBody(t, s, kept)
	noError(t, s.Done(mail.QueueID{Message: kept, N: 1}))
	if keys := allKeys(t, s); len(keys) != 1 {
		t.Errorf("left behind %v", keys)
	}
}

func TestSiblingsMayBeDoneAtTheSameTime(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	for range 50 {
		const items = 8
		id := put(t, s, testBody(100), items)
		var wg sync.WaitGroup
		for i := range items {
			wg.Go(func() {
				if err := s.Done(mail.QueueID{Message: id, N: uint16(i + 1)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if keys := allKeys(t, s); len(keys) != 1 {
		t.Errorf("left behind %v", keys)
	}
}

func TestIDsDoNotCollideAcrossWritersAndRestarts(t *testing.T) {
	mem := vfs.NewMem()
	want := 0
	for range 2 {
		s := openTest(t, memOptions(mem))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				for range 40 {
					if err := tryPut(s, mail.NewID(), []byte("x"), 1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		want += 50 * 40
		if n := len(scanAll(t, s)); n != want {
			t.Errorf("%d messages, want %d", n, want)
		}
		noError(t, s.Close())
	}
}

func TestAStoreOfALaterVersionIsRefused(t *testing.T) {
	mem := vfs.NewMem()
	s := openTest(t, memOptions(mem))
	key := []byte{famVersion}
	rec := make([]byte, headerLen+2)
	rec[headerLen] = layoutVersion + 1
	seal(key, rec)
	noError(t, s.synced(func(b *pebble.Batch) error { return b.Set(key, rec, nil) }))
	noError(t, s.Close())
	if _, err := Open(withDefaults(t, memOptions(mem))); err == nil || !strings.Contains(err.Error(), "later version") {
		t.Errorf("open = %v", err)
	}
}

func TestAClosedSpoolSaysSo(t *testing.T) {
	s := openTest(t, memOptions(vfs.NewMem()))
	id := put(t, s, testBody(10), 1)
	b, err := s.Body(id)
	noError(t, err)
	noError(t, s.Close())
	_, readErr := b.ReadAt(make([]byte, 1), 0)
	_, envErr := s.Envelope(id)
	for i, err := range []error{
		readErr, envErr, s.Done(mail.QueueID{Message: id, N: 1}), s.Update(testItem(id, 1)), s.PutSetting("a", nil),
		tryPut(s, mail.NewID(), testBody(10), 1), s.Scan(func(Entry) error { return nil }), s.Health(), s.Close(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("call %d = %v, want ErrClosed", i, err)
		}
	}
}

type observed struct {
	mu sync.Mutex
	n  map[bool]int
}

func (o *observed) Committed(d time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.n[err == nil]++
}

func TestTheObserverSeesEachCommit(t *testing.T) {
	obs := &observed{n: map[bool]int{}}
	o := memOptions(vfs.NewMem())
	o.Observer = obs
	s := openTest(t, o)
	put(t, s, nil, 1)
	w := s.Create(mail.NewID())
	if err := w.Commit(testEnvelope(mail.NewID()), nil); err == nil {
		t.Error("a bad commit succeeds")
	}
	if got := fmt.Sprint(obs.n); got != "map[false:1 true:1]" {
		t.Errorf("observed %s", got)
	}
}

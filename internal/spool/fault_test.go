package spool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gatepost/internal/mail"
)

// failer fails the operations that match, from the from-th to before the to-th.
type failer struct {
	match    func(errorfs.Op) bool
	err      error
	from, to int64

	ops  atomic.Int64
	hits atomic.Int64
	mu   sync.Mutex
	last string
}

func (f *failer) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpRemove || !f.match(op) {
		return nil
	}
	n := f.ops.Add(1)
	if n < f.from || n >= f.to {
		return nil
	}
	f.hits.Add(1)
	f.mu.Lock()
	f.last = fmt.Sprintf("operation %d (kind %d) on %s", n, op.Kind, op.Path)
	f.mu.Unlock()
	return f.err
}

func (f *failer) String() string { return "failer" }

func anyOp(errorfs.Op) bool { return true }

// await waits until the spool accepts mail again. It is for tests in a synctest
// bubble, where waiting takes no time.
func await(t *testing.T, s *Spool) {
	t.Helper()
	start := time.Now()
	for s.Health() != nil {
		if time.Since(start) > time.Hour {
			t.Fatalf("spool does not heal: %v", s.Health())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// smallWork is a fixed life of a spool. It returns how many commits failed.
func smallWork(t *testing.T, s *Spool, m *model) int {
	failed := 0
	for i := range 10 {
		size := 3000
		if i%4 == 3 {
			size = chunkSize + 5000
		}
		id, err := m.commit(s, testBody(size+i), 1+i%2)
		if err != nil {
			failed++
			checkRefusal(t, err)
			await(t, s)
			continue
		}
		if i%3 == 0 {
			if err := m.finish(s, mail.QueueID{Message: id, N: 1}); err != nil {
				t.Errorf("done: %v", err)
			}
		}
		if i == 5 {
			if !s.flush(t.Context()) {
				t.Error("flush did not end")
			}
		}
	}
	return failed
}

// checkRefusal checks that an SMTP session can tell the client something useful.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var r interface{ SMTPReply() mail.ReplyKey }
	if !errors.As(err, &r) || !r.SMTPReply().Reply().Temporary() {
		t.Errorf("error without a temporary reply: %v", err)
	}
	if errors.Is(err, syscall.ENOSPC) != errors.Is(err, ErrNoSpace) {
		t.Errorf("full disk is mistaken: %v", err)
	}
}

// checkAfter crashes the spool, opens what is left and compares.
func checkAfter(t *testing.T, s *Spool, fs *vfs.MemFS, m *model) {
	t.Helper()
	await(t, s)
	known := m.snapshot()
	if err := verifyOpen(s, known, true); err != nil {
		t.Errorf("while open: %v", err)
	}
	for _, percent := range []int{0, 100} {
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(3, 3))})
		if err := verify(clone, known, percent == 0); err != nil {
			t.Errorf("after a crash (%d %%): %v", percent, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := verify(fs, known, true); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// faultyCrasher crashes before each write that follows a fault, up to a number.
type faultyCrasher struct {
	crasher
	f *failer
}

// MaybeError implements errorfs.Injector.
func (c *faultyCrasher) MaybeError(op errorfs.Op) error {
	const most = 12
	if hits := c.f.hits.Load(); hits > 0 && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && c.crashes.Load() < most {
		c.crash(c.ops.Add(1))
	}
	return c.f.MaybeError(op)
}

// runFaulty runs smallWork on a file system with faults that begin after Open.
func runFaulty(t *testing.T, f *failer) (failed int) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	m := newModel()
	c := &faultyCrasher{crasher: crasher{t: t, fs: fs, m: m, percent: -1}, f: f}
	tog := errorfs.Toggle{Injector: c}
	o := memOptions(errorfs.Wrap(fs, &tog))
	o.MemTableSize = 1 << 20
	s := openTest(t, o)
	tog.On()
	failed = smallWork(t, s, m)
	tog.Off()
	await(t, s)
	if _, err := m.commit(s, testBody(100), 1); err != nil {
		t.Errorf("the next message is refused: %v", err)
	}
	checkAfter(t, s, fs, m)
	return failed
}

// stride is 1, so that every operation is failed or crashed at, or more for the
// short run under the race detector, which is after something else.
func stride() int64 {
	if testing.Short() {
		return 11
	}
	return 1
}

func TestAnyFailingWriteRefusesMailUntilItIsHealed(t *testing.T) {
	for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, length := range []int64{1, 7} {
			refused := 0
			for k := int64(1); ; k += stride() {
				f := &failer{match: anyOp, err: errno, from: k, to: k + length}
				synctest.Test(t, func(t *testing.T) { refused += runFaulty(t, f) })
				if t.Failed() {
					t.Fatalf("%v from operation %d: %s", errno, k, f.last)
				}
				if f.hits.Load() == 0 {
					t.Logf("%v, %d times: %d points, %d messages refused", errno, length, k-1, refused)
					break
				}
			}
			if refused == 0 {
				t.Error("no fault had an effect")
			}
		}
	}
}

func TestAFailedSyncRefusesTheMessageAndIsNotForgotten(t *testing.T) {
	isWAL := func(op errorfs.Op) bool {
		return strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData)
	}
	refused := 0
	for k := int64(1); ; k++ {
		f := &failer{match: isWAL, err: syscall.EIO, from: k, to: k + 1}
		synctest.Test(t, func(t *testing.T) { refused += runFaulty(t, f) })
		if f.hits.Load() == 0 {
			break
		}
	}
	// Each of the ten commits was hit once; some syncs belong to rotations.
	if refused < 10 {
		t.Errorf("%d messages were refused, want at least 10", refused)
	}
}

func TestAFullDiskInTheMiddleOfAMessageIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		tog := errorfs.Toggle{Injector: &failer{match: anyOp, err: syscall.ENOSPC, to: 1 << 60}}
		s := openTest(t, memOptions(errorfs.Wrap(fs, &tog)))
		m := newModel()
		old, err := m.commit(s, testBody(3*chunkSize), 2)
		noError(t, err)

		id, body := mail.NewID(), testBody(12*chunkSize)
		m.begin(id, body, 1)
		w := s.Create(id)
		half := len(body) / 2
		_, err = w.Write(body[:half])
		noError(t, err)
		tog.On()
		_, err = w.Write(body[half:])
		if err == nil {
			err = w.Commit(testEnvelope(id), testItems(id, 1))
		}
		if !errors.Is(err, ErrNoSpace) {
			t.Fatalf("error = %v, want ErrNoSpace", err)
		}
		w.Abort()
		m.change(id, func(f *fate) { f.refused = true })
		if err := s.CheckSpace(1); !errors.Is(err, ErrNoSpace) {
			t.Errorf("CheckSpace = %v, want ErrNoSpace", err)
		}

		// Queued mail can be read, tried and finished meanwhile.
		it, err := s.Item(mail.QueueID{Message: old, N: 2})
		noError(t, err)
		it.Attempts = 7
		noError(t, s.Update(it))
		noError(t, m.finish(s, mail.QueueID{Message: old, N: 1}))
		storedBody(t, s, old)
		time.Sleep(time.Hour)
		if err := s.Health(); !errors.Is(err, ErrNoSpace) {
			t.Errorf("Health = %v, want ErrNoSpace", err)
		}

		tog.Off()
		await(t, s)
		_, err = m.commit(s, testBody(10), 1)
		noError(t, err)
		checkAfter(t, s, fs, m)
		s, err = Open(memOptions(fs))
		noError(t, err)
		defer s.Close()
		if it, err := s.Item(it.ID); err != nil || it.Attempts != 7 {
			t.Errorf("the update made while the disk was full is lost: %+v, %v", it, err)
		}
	})
}

func TestChangesAreBoundedWhileTheDiskTakesNoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		tog := errorfs.Toggle{Injector: &failer{match: anyOp, err: syscall.EIO, to: 1 << 60}}
		o := memOptions(errorfs.Wrap(fs, &tog))
		o.MemTableSize = 1 << 20
		s := openTest(t, o)
		id := put(t, s, testBody(10), 1)
		tog.On()
		if err := tryPut(s, mail.NewID(), testBody(10), 1); !errors.Is(err, ErrNotDurable) {
			t.Fatalf("commit = %v, want ErrNotDurable", err)
		}
		it := testItem(id, 1)
		n := 0
		for ; n < 10000; n++ {
			if err := s.Update(it); err != nil {
				if !errors.Is(err, ErrNotDurable) {
					t.Errorf("update = %v, want ErrNotDurable", err)
				}
				break
			}
		}
		if n == 0 || n == 10000 {
			t.Errorf("%d updates were taken in", n)
		}
		tog.Off()
		await(t, s)
		noError(t, s.Update(it))
	})
}

func TestOpenOnAFailingDiskSaysSoAndLosesNothing(t *testing.T) {
	for _, length := range []int64{1, 3, 1 << 40} {
		for k := int64(1); ; k++ {
			f := &failer{match: anyOp, err: syscall.ENOSPC, from: k, to: k + length}
			openFaulty(t, f)
			if t.Failed() {
				t.Fatalf("from operation %d, %d times: %s", k, length, f.last)
			}
			if f.hits.Load() == 0 {
				t.Logf("%d times: %d points", length, k-1)
				break
			}
		}
	}
}

// openFaulty is not for a synctest bubble: Pebble holds a mutex while it opens, and
// the time of a bubble stands still while somebody waits for a mutex.
func openFaulty(t *testing.T, f *failer) {
	fs := vfs.NewCrashableMem()
	m := newModel()
	s := openTest(t, memOptions(fs))
	smallWork(t, s, m)
	known := m.snapshot()
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	noError(t, s.Close())
	tog := errorfs.Toggle{Injector: f}
	tog.On()
	o := memOptions(errorfs.Wrap(crashed, &tog))
	o.retryPause = time.Microsecond
	s2, err := Open(o)
	tog.Off()
	if err == nil {
		for s2.Health() != nil {
			runtime.Gosched()
		}
		if err := errors.Join(verifyOpen(s2, known, true), s2.Close()); err != nil {
			t.Errorf("opened, but: %v", err)
		}
	}
	// What was half opened closes itself now that the disk works again.
	for {
		err := verify(crashed, known, true)
		if errors.Is(err, ErrLocked) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Errorf("opened again: %v", err)
		}
		return
	}
}

func TestAShortageOfFileDescriptorsIsNoDamage(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	id := put(t, s, testBody(100), 1)
	if !s.flush(t.Context()) {
		t.Fatal("no flush")
	}
	noError(t, s.Close())
	shortage := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpOpen ||
			strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpCreate {
			return syscall.EMFILE
		}
		return nil
	})
	tog := errorfs.Toggle{Injector: shortage}
	o := memOptions(errorfs.Wrap(fs, &tog))
	o.retryPause = time.Millisecond
	tog.On()
	if _, err := Open(withDefaults(t, o)); err == nil || errors.Is(err, ErrCorrupt) || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("open = %v", err)
	}
	tog.Off()
	s = openTest(t, o)
	for s.Health() != nil {
		runtime.Gosched()
	}
	storedBody(t, s, id)
	put(t, s, testBody(100), 1)
	if keys := asideKeys(t, s); len(keys) > 0 {
		t.Errorf("set aside: %v", keys)
	}
}

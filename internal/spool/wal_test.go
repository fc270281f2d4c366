package spool

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"gatepost/internal/mail"
)

// crashedSpool is what a crash leaves of a spool with n messages; they stand in one log.
func crashedSpool(t *testing.T, n int) (*vfs.MemFS, *model) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s := openTest(t, memOptions(fs))
	m := newModel()
	fill(t, s, m, n)
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	noError(t, s.Close())
	return crashed, m
}

// lost counts the messages that are not there and whole.
func lost(s *Spool, known map[mail.ID]fate) int {
	n := 0
	for id, f := range known {
		items, err := s.Items(id)
		if err != nil || len(items) != f.items {
			n++
			continue
		}
		b, err := s.Body(id)
		if err == nil {
			var data []byte
			if data, err = readBody(b); err == nil && sum(data) != f.body {
				err = errors.New("differs")
			}
		}
		if err != nil {
			n++
		}
	}
	return n
}

func TestADamagedLogCostsTheDamagedRecordOnly(t *testing.T) {
	crashed, m := crashedSpool(t, 12)
	known := m.snapshot()
	for _, log := range filesOf(t, crashed, "/spool/wal", ".log") {
		data, err := readFile(crashed, log)
		noError(t, err)
		for at := 0; at < len(data); at += 1 + len(data)/100 {
			what := fmt.Sprintf("byte %d of %d flipped", at, len(data))
			bad := copyWith(t, crashed, log, func(b []byte) []byte { b[at] ^= 1; return b })
			s, err := Open(memOptions(bad))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			keys := asideKeys(t, s)
			n := lost(s, known)
			// What stands at the very end can't be told from what a crash tore off.
			atEnd := at > len(data)-8<<10
			if n > 2 || n > 0 && len(keys) == 0 && !atEnd {
				t.Errorf("%s: %d messages are lost, set aside: %v", what, n, keys)
			}
			found := make(map[mail.QueueID]bool)
			for q := range scanAll(t, s) {
				found[q] = true
			}
			if err := verifyNoOrphans(s, found); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			put(t, s, testBody(10), 1)
			noError(t, s.Close())
		}
	}
}

func TestAnInterruptedSalvageBeginsAnew(t *testing.T) {
	crashed, m := crashedSpool(t, 12)
	known := m.snapshot()
	log := filesOf(t, crashed, "/spool/wal", ".log")[0]
	bad := copyWith(t, crashed, log, func(b []byte) []byte { b[2000] ^= 1; return b })
	stop := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemove && strings.HasSuffix(op.Path, damagedSuffix) {
			return errorfs.ErrInjected
		}
		return nil
	})
	for range 3 {
		if _, err := Open(memOptions(errorfs.Wrap(bad, stop))); !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("open = %v", err)
		}
	}
	s := openTest(t, memOptions(bad))
	if n := lost(s, known); n > 1 {
		t.Errorf("%d messages are lost", n)
	}
	for q := range scanAll(t, s) {
		noError(t, s.Done(q))
	}
	// Deleted records must stay deleted although the log was applied four times.
	if !s.flush(t.Context()) {
		t.Fatal("no flush")
	}
	noError(t, s.db.Compact(t.Context(), []byte{0}, []byte{0xff}, false))
	if keys := allKeys(t, s); len(keys) != 1 {
		t.Errorf("came back: %v", keys)
	}
}

func TestALogThatWasClosedInOrderIsReadToItsEnd(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	m := newModel()
	fill(t, s, m, 30)
	noError(t, s.Close())
	for _, log := range filesOf(t, fs, "/spool/wal", ".log") {
		data, err := readFile(fs, log)
		noError(t, err)
		num, _, _ := strings.Cut(fs.PathBase(log), ".")
		var n uint32
		_, err = fmt.Sscanf(num, "%d", &n)
		noError(t, err)
		records := 0
		scan := logScan{data: data, num: n}
		noError(t, scan.scan(func([]byte) error { records++; return nil }))
		if !scan.clean || scan.bad >= 0 || scan.behind > 0 || records == 0 {
			t.Errorf("%s: %d records, %+v", log, records, logScan{bad: scan.bad, clean: scan.clean, behind: scan.behind})
		}
	}
}

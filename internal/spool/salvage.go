package spool

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"gatepost/internal/mail"
)

// Pebble takes damage in its latest log for the place where a crash stopped it,
// and forgets whatever stands behind. So the logs are looked at first. If one
// has whole records behind damage, it and the later ones are taken away from
// Pebble (renamed), and after Pebble has opened the store every record of theirs
// that is whole is applied once more, in order. Records are batches that are
// complete in themselves; what is applied twice, or without one that was lost,
// may at worst bring back an item that was done.

// damagedSuffix takes the place of ".log" in the name of a log that is salvaged.
const damagedSuffix = ".damaged"

// logFile is a log file by number.
type logFile struct {
	num  wal.NumWAL
	name string
}

// listLogs lists the files in Dir/wal with the suffix, in order.
func listLogs(fs vfs.FS, dir, suffix string) ([]logFile, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list log files: %w", err)
	}
	var logs []logFile
	for _, name := range names {
		base, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		num, _, ok := wal.ParseLogFilename(base + ".log")
		if ok {
			logs = append(logs, logFile{num, fs.PathJoin(dir, name)})
		}
	}
	slices.SortFunc(logs, func(a, b logFile) int { return int(int64(a.num) - int64(b.num)) })
	return logs, nil
}

// checkLogs takes away the logs from the first damaged one. Logs before oldest
// are not needed any more.
func (s *Spool) checkLogs(oldest uint64) error {
	fs, dir := s.o.FS, s.o.FS.PathJoin(s.o.Dir, walSubdir)
	logs, err := listLogs(fs, dir, ".log")
	if err != nil {
		return err
	}
	logs = slices.DeleteFunc(logs, func(l logFile) bool { return uint64(l.num) < oldest })
	for i, l := range logs {
		bad, err := s.logDamaged(l, i == len(logs)-1)
		if err != nil {
			return err
		}
		if !bad {
			continue
		}
		// The last first: should this stop in between, what is left is no gap.
		for _, l := range slices.Backward(logs[i:]) {
			if err := fs.Rename(l.name, strings.TrimSuffix(l.name, ".log")+damagedSuffix); err != nil {
				return fmt.Errorf("take away damaged log: %w", err)
			}
		}
		return nil
	}
	return nil
}

// logDamaged says whether Pebble would lose or refuse something of the log.
func (s *Spool) logDamaged(l logFile, last bool) (bool, error) {
	data, err := readFile(s.o.FS, l.name)
	if err != nil {
		return false, fmt.Errorf("read log file: %w", err)
	}
	scan := logScan{data: data, num: uint32(l.num)}
	if err := scan.scan(func([]byte) error { return nil }); err != nil {
		return false, err
	}
	bad := scan.behind > 0 || scan.proven || !last && !scan.clean
	switch {
	case !bad && scan.torn:
		// Nothing tells a crash in the middle of the last write from damage to it.
		s.o.Log.Warn("spool: the write-ahead log ends in the middle of a record, as after a crash",
			"file", l.name, "offset", scan.bad)
	case bad:
		s.o.Log.Error("spool: damaged write-ahead log; what is whole of it is recovered",
			"file", l.name, "offset", scan.bad, "records_behind", scan.behind)
	}
	return bad, nil
}

// salvage applies the logs that checkLogs took away. If it is interrupted, the next
// Open begins it anew.
func (s *Spool) salvage() error {
	fs, dir := s.o.FS, s.o.FS.PathJoin(s.o.Dir, walSubdir)
	logs, err := listLogs(fs, dir, damagedSuffix)
	if err != nil || len(logs) == 0 {
		return err
	}
	sv := salvager{s: s, touched: make(map[mail.ID]bool)}
	var reports []report
	for _, l := range logs {
		d, err := sv.log(l)
		if err != nil {
			return fmt.Errorf("salvage %s: %w", l.name, err)
		}
		reports = append(reports, report{d, l.name})
	}
	for id := range sv.touched {
		if err := sv.settle(id); err != nil {
			return fmt.Errorf("salvage message %s: %w", id, err)
		}
	}
	if err := s.flushNow(); err != nil {
		return fmt.Errorf("salvage: %w", err)
	}
	for _, r := range reports {
		s.aside.file(r)
		if err := fs.Remove(r.path); err != nil {
			return fmt.Errorf("remove salvaged log: %w", err)
		}
	}
	return nil
}

// flushNow makes everything in memory durable. It is for Open.
func (s *Spool) flushNow() error {
	done, err := s.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return s.h.state()
	case err := <-s.h.opening:
		return refusal(err)
	}
}

type salvager struct {
	s       *Spool
	touched map[mail.ID]bool
}

// log applies the records of one log.
func (sv *salvager) log(l logFile) (Damaged, error) {
	d := Damaged{Key: "log " + sv.s.o.FS.PathBase(l.name), Time: time.Now().UTC()}
	data, err := readFile(sv.s.o.FS, l.name)
	if err != nil {
		return d, err
	}
	scan := logScan{data: data, num: uint32(l.num)}
	if err := scan.scan(sv.record); err != nil {
		return d, err
	}
	switch {
	case scan.bad < 0:
		d.Reason = "follows a damaged log; all of it was recovered"
	case scan.proven:
		d.Reason = fmt.Sprintf("damaged at offset %d; %d records behind it were recovered, mail may be lost", scan.bad, scan.behind)
	default:
		d.Reason = fmt.Sprintf("torn by a crash, or damaged, at offset %d; %d records behind it were recovered", scan.bad, scan.behind)
	}
	return d, nil
}

// record applies one batch.
func (sv *salvager) record(repr []byte) error {
	if _, ok := batchrepr.ReadHeader(repr); !ok {
		return nil
	}
	b := sv.s.db.NewBatch()
	r := batchrepr.Read(repr)
	for {
		kind, key, value, ok, err := r.Next()
		if err != nil || !ok {
			break // not a batch of ours; its checksum is right, so not damage either
		}
		if err := sv.apply(b, kind, key, value); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := sv.s.db.Apply(b, pebble.NoSync); err != nil {
		return err
	}
	return b.Close()
}

func (sv *salvager) apply(b *pebble.Batch, kind pebble.InternalKeyKind, key, value []byte) error {
	if len(key) >= msgKeyLen && key[0] != famSetting {
		sv.touched[mail.ID(key[1:msgKeyLen])] = true
	}
	switch kind {
	case pebble.InternalKeyKindSet:
		// A log that is applied twice must not leave two values under a key that will
		// see a SingleDelete.
		return errors.Join(b.Delete(key, nil), b.Set(key, value, nil))
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete:
		return b.Delete(key, nil)
	case pebble.InternalKeyKindRangeDelete:
		return b.DeleteRange(key, value, nil)
	}
	return nil
}

// settle decides about a message that the logs mention: it must be whole or gone.
func (sv *salvager) settle(id mail.ID) error {
	s := sv.s
	left, err := s.hasItems(id)
	if err != nil {
		return err
	}
	size, err := s.bodySize(id)
	switch {
	case errors.Is(err, ErrNotFound):
		if !left && !sv.hasChunks(id) {
			return nil
		}
		return s.PutAside(id, "a part of it stood in the damaged part of a log")
	case err != nil:
		return ignoreDamage(err)
	case !left:
		b := s.db.NewBatch()
		return errors.Join(setMark(b, id), s.unsynced(b)) // sweep will remove it
	}
	body := &Body{s: s, id: id, size: size}
	buf := make([]byte, 1)
	for i := range chunksOf(size) {
		if _, err := body.ReadAt(buf, i*chunkSize); err != nil {
			if !damaged(err) {
				return err
			}
			return s.PutAside(id, "a part of its body stood in the damaged part of a log")
		}
	}
	return nil
}

func (sv *salvager) hasChunks(id mail.ID) bool {
	prefix := msgKey(famBody, id)
	found := false
	err := sv.s.each(prefix, prefixEnd(prefix), func(key, _ []byte) (bool, error) {
		found = bytes.HasPrefix(key, prefix)
		return false, nil
	})
	return found || err != nil
}

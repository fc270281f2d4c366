package spool

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// keep is the one background goroutine of the spool. It makes unsynced changes
// durable, heals a tainted log and files reports of damage. It ends with Close.
func (s *Spool) keep(ctx context.Context) {
	defer close(s.kept)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.lastDuties()
			return
		case <-s.h.wake:
			s.heal(ctx)
		case <-s.dirtyC:
			timer.Reset(s.o.SyncInterval)
		case <-timer.C:
			s.syncDirty()
		case d := <-s.aside.reports:
			s.aside.file(d)
		}
	}
}

// syncDirty makes everything that was written so far durable.
func (s *Spool) syncDirty() {
	s.dirty.Store(false)
	// An error of the log shows as a taint, not here.
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		s.o.Log.Error("spool: cannot sync", "error", err.Error())
	}
}

// lastDuties is what Close leaves to the keeper: reports of damage, and one attempt to
// heal. Unsynced changes become durable when Pebble closes its log.
func (s *Spool) lastDuties() {
	for len(s.aside.reports) > 0 {
		s.aside.file(<-s.aside.reports)
	}
	if !s.isTainted() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closePatience/2)
	defer cancel()
	s.h.drain()
	s.flush(ctx)
}

func (s *Spool) isTainted() bool {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return s.h.tainted != nil
}

// heal makes a tainted log whole: it goes on until everything in memory is in
// table files and a fresh log was begun, or the spool closes.
func (s *Spool) heal(ctx context.Context) {
	for n := 0; s.isTainted(); n++ {
		// The commits inside have failed; each removes what it wrote before it
		// leaves, so that a message that was refused does not come back.
		s.h.drain()
		// First flush: all of memory, the failed log included, becomes a table file.
		// The new log goes nowhere yet, see guardFS.
		if !s.flush(ctx) {
			return
		}
		epoch := s.h.mend()
		// Second flush: begins a log that is written to the disk, and covers what
		// went nowhere since the first.
		if !s.flush(ctx) {
			return
		}
		if s.h.healed(epoch) {
			s.o.Log.Info("spool: the write-ahead log is whole again")
			return
		}
		if !s.h.pause(n, nil) || ctx.Err() != nil {
			return
		}
	}
}

// mend lets the next log file be a real one.
func (h *health) mend() (epoch uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hole = false
	return h.epoch
}

// healed lets commits in again unless the log failed since the epoch.
func (h *health) healed(epoch uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.epoch != epoch {
		return false
	}
	h.tainted = nil
	h.relax()
	return true
}

// flush writes everything in memory to table files and begins a new log. It
// returns false if ctx ended first; Pebble itself repeats a flush that fails.
func (s *Spool) flush(ctx context.Context) bool {
	done, err := s.db.AsyncFlush()
	if err != nil {
		s.o.Log.Error("spool: cannot flush", "error", err.Error())
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

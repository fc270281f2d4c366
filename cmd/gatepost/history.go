package main

import (
	"context"
	"errors"
	"fmt"

	"gatepost/internal/config"
	"gatepost/internal/gateway"
	"gatepost/internal/history"
	"gatepost/internal/logs"
	"gatepost/internal/logsearch"
	"gatepost/internal/mail"
	"gatepost/internal/metrics"
	"gatepost/internal/spool"
	"gatepost/internal/store"
)

// historyService is the history with its store.
type historyService struct {
	*history.History
	store *store.History
}

// openHistory opens the history. A database that is away is no error: events wait in
// the spool.
func (a *app) openHistory(ctx context.Context, cfg *config.Config) error {
	hs, err := a.services.store.OpenHistory(ctx)
	if err != nil {
		return err
	}
	h, err := history.Open(history.Config{
		Store: hs, Outbox: a.spool, Log: a.logs.Logger("History"), Keep: cfg.History.Keep,
		MaxSize: int64(cfg.History.MaxSize), MaxOutbox: int64(cfg.History.MaxBacklog),
	})
	if err != nil {
		return errors.Join(err, hs.Close())
	}
	a.services.history = &historyService{h, hs}
	return nil
}

// Close writes what waits, and closes the store.
func (h *historyService) Close() error {
	if err := errors.Join(h.History.Close(), h.store.Close()); err != nil {
		return fmt.Errorf("close history: %w", err)
	}
	return nil
}

// historian is the history, and whoever else is told of events.
type historian struct{ s *services }

// Note implements mail.Historian.
func (h historian) Note(e *mail.Event) {
	if e.Kind == mail.EventAttempt && e.Result == mail.EventDelivered {
		switch e.Transport {
		case gateway.ScannerTransport:
			return // what the scanner decided was told
		case gateway.QuarantineTransport:
			e.Kind, e.Result = mail.EventQuarantine, mail.EventOK
		}
	}
	h.s.history.Note(e)
	h.s.events.Note(e)
}

// Prepare implements gateway.History.
func (h historian) Prepare(e *mail.Event) (spool.Note, func(kept bool)) {
	note, done := h.s.history.Prepare(e)
	return note, func(kept bool) {
		done(kept)
		if kept {
			h.s.events.Note(e)
		}
	}
}

// historian is who is told of events.
func (a *app) historian() historian { return historian{&a.services} }

// historyMetrics is how the history is, for the metrics.
func (a *app) historyMetrics() metrics.HistoryStats {
	s := a.services.history.Stats()
	return metrics.HistoryStats{Waiting: s.Waiting, Outbox: s.Outbox, Dropped: s.Dropped, Written: s.Written, Size: s.Size,
		Segments: s.Segments, Watching: s.Watching, Missed: s.Missed}
}

// logFiles finds lines in mail.log.
type logFiles struct{ *app }

// SearchLog implements admin.LogFiles.
func (l logFiles) SearchLog(ctx context.Context, r logsearch.Request) (logsearch.Result, error) {
	if state := l.state.Load(); state != nil {
		r.Dir = string(state.gen.cfg.LogDir)
	}
	r.Name = logs.MailFile
	// What was written a moment ago is to be found, too; a disk that hangs is the
	// search's to meet.
	_ = l.logs.Flush()
	return logsearch.Search(ctx, r)
}

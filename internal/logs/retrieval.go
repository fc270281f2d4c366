package logs

import (
	"context"
	"log/slog"
	"time"

	"gatepost/internal/mail"
)

// Retrieval is what POPRetrieval tells of a message that a POP3 client asked for.
type Retrieval struct {
	// ID is what history and the quarantine call the message, Verb the command: RETR or
	// TOP; Number and UIDL are the server's.
	ID           mail.ID
	Verb         string
	Number       int
	UIDL         string
	Result       string // passed, replaced, unscanned, refused, failed
	Verdict      *mail.Verdict
	Reason       string
	Cached       bool
	Fetch, Scan  time.Duration
	Took         time.Duration
	Waits        int
	SizeAtServer int64
}

// POPRetrieval writes the line for one message that a client fetched: to pop_proxy.log and
// to mail.log, at every log level.
func (l *Logs) POPRetrieval(env *mail.Envelope, m Retrieval) {
	s := &env.Session
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "message", 0)
	record.AddAttrs(
		slog.String("id", m.ID.String()),
		slog.String("session", s.ID.String()),
		slog.String("listener", s.Listener),
		slog.String("client", s.Client.String()),
		slog.String("user", s.User),
		slog.String("server", s.Server),
		slog.String("verb", m.Verb),
		slog.Int("number", m.Number),
		slog.Int64("size", m.SizeAtServer),
		slog.String("result", m.Result),
	)
	if m.Verdict != nil {
		record.AddAttrs(slog.String("verdict", string(m.Verdict.Action)))
	}
	addIfSet(&record, "reason", m.Reason)
	addIfSet(&record, "uidl", m.UIDL)
	addIfSet(&record, "tls", s.TLS.Version)
	if s.Original.IsValid() {
		record.AddAttrs(slog.String("original", s.Original.String()))
	}
	addIfSet(&record, "message_id", env.MessageID)
	addIfSet(&record, "subject", env.Subject)
	addIfSet(&record, "findings", listFindings(env.Findings))
	if m.Cached {
		record.AddAttrs(slog.Bool("cached", true))
	}
	if m.Waits > 0 {
		record.AddAttrs(slog.Int("waits", m.Waits))
	}
	record.AddAttrs(
		slog.Duration("fetch", m.Fetch.Round(time.Microsecond)),
		slog.Duration("scan", m.Scan.Round(time.Microsecond)),
		slog.Duration("took", m.Took.Round(time.Microsecond)),
	)
	// Handle, and not a Logger: the level of the configuration does not apply. It never fails.
	_ = l.retrievals.Handle(context.Background(), record)
}

// POPSession writes the line for one session that is over, as POPRetrieval does.
func (l *Logs) POPSession(s *mail.Session, attrs ...slog.Attr) {
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "session", 0)
	record.AddAttrs(
		slog.String("session", s.ID.String()),
		slog.String("listener", s.Listener),
		slog.String("client", s.Client.String()),
		slog.String("user", s.User),
		slog.String("server", s.Server),
	)
	addIfSet(&record, "tls", s.TLS.Version)
	if s.Original.IsValid() {
		record.AddAttrs(slog.String("original", s.Original.String()))
	}
	record.AddAttrs(attrs...)
	_ = l.retrievals.Handle(context.Background(), record)
}

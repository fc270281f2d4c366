// Package webhook tells web services about events: each as JSON in a POST of its own,
// signed, and again until it is taken.
//
//	h, err := webhook.New(webhook.Config{URL: "https://hooks.example.com/gatepost", Secret: secret, Client: client})
//	go h.Run(ctx)
//	h.Note(event) // mail.Historian
//
// A request has three fields in its header, as Standard Webhooks has them:
// webhook-id, webhook-timestamp (Unix seconds) and webhook-signature, "v1," and the
// base64 of HMAC-SHA256 with the secret over ID.TIMESTAMP.BODY.
//
// Invariants:
//   - Note never waits: what does not fit into the queue is dropped, counted and
//     logged.
//   - Events go out in their order, one at a time; the next one waits while one is
//     tried again, with growing pauses, and is given up after the last try.
//   - What waits when the process stops goes out after its next start, first and with
//     the same webhook-id: Close keeps it in a file. A crash may send some of it twice.
//   - Only the status of an answer counts; its body is not looked at.
//   - Where requests may go is the client's to say (weblookup.Client.Guarded).
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
)

// Config is a service to tell. URL, Secret and Client are required.
type Config struct {
	Name, URL string
	// Kinds are the events it is told; none: all.
	Kinds []mail.EventKind
	// Secret signs; at least 16 bytes.
	Secret []byte
	Client *http.Client
	// Waiting bounds the events that wait; default 1,000.
	Waiting int
	// Pauses are between tries of one event; default 5 s to 30 min, about an hour in all.
	Pauses []time.Duration
	// File keeps what waits over a stop; "": it is lost then.
	File string
	Log  *slog.Logger // default: discard
}

// Hook tells one service.
type Hook struct {
	cfg     Config
	events  chan delivery
	dropped atomic.Int64
	sent    atomic.Int64
	failed  atomic.Int64

	// kept are those of an earlier process and the one under way: Run's, and after it
	// Close's.
	kept   []delivery
	loaded int          // how many of these are in the file
	left   atomic.Int64 // len(kept), for Stats
}

// delivery is one event as it goes out, and as it is kept.
type delivery struct {
	ID   string          `json:"id"`
	Body json.RawMessage `json:"body"`
}

// payload is the body of a request.
type payload struct {
	Type  mail.EventKind `json:"type"`
	Time  time.Time      `json:"timestamp"`
	Event *mail.Event    `json:"data"`
}

// Stats is how a hook is doing, since the start.
type Stats struct {
	Sent, Failed, Dropped int64
	Waiting               int
}

// New checks the configuration.
func New(cfg Config) (*Hook, error) {
	if cfg.URL == "" || cfg.Client == nil {
		return nil, errors.New("make webhook: url and client are required")
	}
	if len(cfg.Secret) < 16 {
		return nil, errors.New("make webhook: the secret has less than 16 bytes")
	}
	if cfg.Waiting <= 0 {
		cfg.Waiting = 1000
	}
	if cfg.Pauses == nil {
		cfg.Pauses = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Hook{cfg: cfg, events: make(chan delivery, cfg.Waiting)}
	return h, h.load()
}

// Note implements mail.Historian. The event is written out here, since the caller may
// change it afterwards.
func (h *Hook) Note(e *mail.Event) {
	if len(h.cfg.Kinds) > 0 && !slices.Contains(h.cfg.Kinds, e.Kind) {
		return
	}
	told := *e
	if told.ID.IsZero() {
		told.ID = mail.NewID()
	}
	if told.Time.IsZero() {
		told.Time = time.Now()
	}
	told.Time = told.Time.UTC()
	body, err := json.Marshal(payload{Type: e.Kind, Time: told.Time, Event: &told})
	if err != nil {
		h.cfg.Log.Error("event cannot be written for a webhook", "webhook", h.cfg.Name, "error", err)
		return
	}
	select {
	case h.events <- delivery{told.ID.String(), body}:
	default:
		if n := h.dropped.Add(1); n == 1 || n%1000 == 0 {
			h.cfg.Log.Warn("webhook does not keep up: events are dropped", "webhook", h.cfg.Name, "dropped", n)
		}
	}
}

// Stats returns how it is doing.
func (h *Hook) Stats() Stats {
	return Stats{Sent: h.sent.Load(), Failed: h.failed.Load(), Dropped: h.dropped.Load(), Waiting: len(h.events) + int(h.left.Load())}
}

// Run sends what is noted until ctx ends. Close has to follow.
func (h *Hook) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if len(h.kept) == 0 {
			select {
			case <-ctx.Done():
				return
			case d := <-h.events:
				h.keep(append(h.kept, d))
			}
		}
		if h.deliver(ctx, h.kept[0]) {
			h.keep(h.kept[1:])
			h.forget()
		}
	}
}

func (h *Hook) keep(list []delivery) {
	h.kept = list
	h.left.Store(int64(len(list)))
}

// deliver tries until the service takes it, says that it never will, or too often. done
// is false where ctx has ended before that.
func (h *Hook) deliver(ctx context.Context, d delivery) (done bool) {
	for try := 0; ; try++ {
		again, err := h.send(ctx, d)
		if err == nil {
			h.sent.Add(1)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if !again || try >= len(h.cfg.Pauses) {
			h.failed.Add(1)
			h.cfg.Log.Warn("webhook was not told of an event", "webhook", h.cfg.Name, "event", d.ID, "tries", try+1, "error", err)
			return true
		}
		if try == 0 {
			h.cfg.Log.Info("webhook did not answer well, trying again", "webhook", h.cfg.Name, "event", d.ID, "error", err)
		}
		pause := time.NewTimer(h.cfg.Pauses[try])
		select {
		case <-ctx.Done():
			pause.Stop()
			return false
		case <-pause.C:
		}
	}
}

// send sends it once, and reports whether it makes sense to try again.
func (h *Hook) send(ctx context.Context, d delivery) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.cfg.URL, bytes.NewReader(d.Body))
	if err != nil {
		return false, fmt.Errorf("make request: %w", err)
	}
	// The time is that of the try: who checks it refuses what is repeated later.
	at := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "gatepost")
	req.Header.Set("Webhook-Id", d.ID)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", Sign(h.cfg.Secret, d.ID, at, d.Body))
	resp, err := h.cfg.Client.Do(req)
	if err != nil {
		// Many services have their secret in the URL: it is not told again.
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return true, err
	}
	defer resp.Body.Close()
	// Some of it, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
		return false, nil
	case s == http.StatusRequestTimeout, s == http.StatusTooManyRequests, s >= 500:
		return true, fmt.Errorf("it answered %d %s", s, http.StatusText(s))
	default:
		return false, fmt.Errorf("it answered %d %s", s, http.StatusText(s))
	}
}

// Sign is the signature of a request (HMAC: RFC 2104).
func Sign(secret []byte, id, timestamp string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(id + "." + timestamp + "."))
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

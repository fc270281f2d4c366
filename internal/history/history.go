package history

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/spool"
	"gatepost/internal/store"
)

// Store keeps segments: *store.History.
type Store interface {
	Node() string
	Health() error
	Segments(ctx context.Context) ([]store.HistorySegment, error)
	Head(ctx context.Context, segment int64) ([]byte, error)
	Blob(ctx context.Context, segment int64, n uint32) ([]byte, error)
	Blobs(ctx context.Context, segment int64, numbers []uint32) (map[uint32][]byte, error)
	Write(ctx context.Context, w store.HistoryWrite) (store.HistorySegment, error)
	Drop(ctx context.Context, segments ...int64) error
	Hours(ctx context.Context, since, until time.Time) ([]store.HistoryHour, error)
	DropHours(ctx context.Context, before time.Time) error
}

// Outbox keeps events of accepted messages until they are in the store: *spool.Spool.
type Outbox interface {
	PutNote(spool.Note) error
	PutNoteSync(spool.Note) error
	DropNotes([]mail.ID) error
	Notes(behind mail.ID, fn func(spool.Note) (bool, error)) error
}

// Config is what a History is made of.
type Config struct {
	Store Store // required
	// Outbox may be nil: then a crash loses what was not written yet.
	Outbox Outbox
	Log    *slog.Logger // nil: nothing is logged

	// Keep is how long events are kept; default 90 days.
	Keep time.Duration
	// MaxSize bounds the segments in bytes: where there is more, the oldest go before
	// their time. Default 10 GiB.
	MaxSize int64
	// MaxOutbox bounds, in bytes, the events that wait in the outbox while the store is
	// away: where there are more, the oldest are lost. Default 256 MiB.
	MaxOutbox int64
	// MaxWaiting bounds the events that wait in memory to be written; default 50,000.
	MaxWaiting int
	// MaxRefusals bounds the events in a second of clients that brought no message:
	// refusals, logins, sessions. Those above it are counted, and not kept: a flood of
	// connections must not push everything else out. Default 500, for ten seconds at once.
	MaxRefusals int
	// Interval is how long an event waits for others to be written with; default 3 s.
	Interval time.Duration
}

// Limits that apply where Config leaves them zero, and those that nobody changes.
const (
	defaultKeep       = 90 * 24 * time.Hour
	defaultMaxSize    = 10 << 30
	defaultMaxOutbox  = 256 << 20
	defaultMaxWaiting = 50_000
	defaultInterval   = 3 * time.Second
	defaultRefusals   = 500

	// writeEvents is how many events are written at once, at most: with a load at which
	// that counts, segments of this size are merged once.
	writeEvents = 16 << 10
	// syncPatience is how long Note waits for a disk that does not answer.
	syncPatience = time.Second
	// stuckAfter is how long others wait for an event that was begun before them.
	stuckAfter = 2 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Keep = orDefault(c.Keep, defaultKeep)
	c.MaxSize = orDefault(c.MaxSize, defaultMaxSize)
	c.MaxOutbox = orDefault(c.MaxOutbox, defaultMaxOutbox)
	c.MaxWaiting = orDefault(c.MaxWaiting, defaultMaxWaiting)
	c.Interval = orDefault(c.Interval, defaultInterval)
	c.MaxRefusals = orDefault(c.MaxRefusals, defaultRefusals)
	return c
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// History is the events of the past and of now. Its methods may be used by any number
// of goroutines.
type History struct {
	cfg    Config
	codec  *codec
	line   waiting
	hours  counter
	bases  bases
	watch  watchers
	heads  headCache
	floods bucket
	// buffers has *buffer.
	buffers sync.Pool

	keep    atomic.Int64 // time.Duration
	maxSize atomic.Int64

	dropped  atomic.Int64 // events that were lost
	written  atomic.Int64
	outbox   atomic.Int64 // bytes
	spilled  atomic.Bool  // the outbox holds what is not in memory
	size     atomic.Int64 // bytes of the segments
	segments atomic.Int64
	wrong    atomic.Pointer[error]

	flush  chan chan struct{}
	wake   chan struct{}
	cancel context.CancelFunc
	loop   sync.WaitGroup
}

// Open begins to keep events. What a crash left in the outbox is put into the store
// in the background.
func Open(cfg Config) (*History, error) {
	if cfg.Store == nil {
		return nil, errors.New("open history: no store")
	}
	cfg = cfg.withDefaults()
	codec, err := newCodec()
	if err != nil {
		return nil, err
	}
	h := &History{cfg: cfg, codec: codec, flush: make(chan chan struct{}), wake: make(chan struct{}, 1),
		floods: bucket{rate: float64(cfg.MaxRefusals), size: 10 * float64(cfg.MaxRefusals)}}
	h.buffers.New = func() any { return new(buffer) }
	h.SetLimits(cfg.Keep, cfg.MaxSize)
	h.line.last = mail.FirstID(time.Now().Add(time.Millisecond)) // what a crash left has earlier ones
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.loop.Go(func() { h.run(ctx) })
	return h, nil
}

// SetLimits changes how long, and how much, is kept.
func (h *History) SetLimits(keep time.Duration, maxSize int64) {
	h.keep.Store(int64(orDefault(keep, defaultKeep)))
	h.maxSize.Store(orDefault(maxSize, defaultMaxSize))
}

// Close writes what waits, as far as the store takes it now, and ends. Events that
// are noted afterwards are lost, but for those that the outbox keeps.
func (h *History) Close() error {
	h.cancel()
	h.loop.Wait()
	h.watch.close()
	h.codec.close()
	return nil
}

// Note implements mail.Historian.
func (h *History) Note(e *mail.Event) {
	if isRefusal(e) && !h.floods.take() {
		if e.Time.IsZero() {
			e.Time = time.Now()
		}
		h.hours.addFlooded(e)
		h.dropped.Add(1)
		return
	}
	s := h.begin(e)
	if h.cfg.Outbox != nil && lasts(e) {
		s.noted = h.keepNote(spool.Note{ID: s.id, Record: s.line}, e) == nil
	}
	h.end(s, e, true)
}

// bucket lets so many events a second through, and some at once.
type bucket struct {
	rate, size float64
	mu         sync.Mutex
	used       float64
	at         time.Time
}

// take reports whether there is room for one more.
func (b *bucket) take() bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = max(0, b.used-b.rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.used+1 > b.size {
		return false
	}
	b.used++
	return true
}

// isRefusal reports whether an event is one of those that strangers can make without
// bringing a message.
func isRefusal(e *mail.Event) bool {
	switch e.Kind {
	case mail.EventConnect, mail.EventSession, mail.EventLogin, mail.EventSender, mail.EventRecipient:
		return true
	}
	return false
}

// keepNote puts an event into the outbox. What was answered without a commit of the
// spool, mail that was passed through, must be on the disk before the answer.
func (h *History) keepNote(n spool.Note, e *mail.Event) error {
	if e.Kind != mail.EventMessage {
		return h.cfg.Outbox.PutNote(n)
	}
	done := make(chan error, 1)
	go func() { done <- h.cfg.Outbox.PutNoteSync(n) }()
	timer := time.NewTimer(syncPatience)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return nil // it is in the log, and will be on the disk as soon as anything
	}
}

// lasts reports whether an event is one of an accepted message, which no crash may
// lose.
func lasts(e *mail.Event) bool {
	switch e.Kind {
	case mail.EventMessage:
		return e.Result == mail.EventAccepted
	case mail.EventScanned, mail.EventAttempt, mail.EventReport, mail.EventQuarantine, mail.EventRelease,
		mail.EventDelete, mail.EventTrain, mail.EventRequest, mail.EventAdmin:
		return !e.Message.IsZero()
	}
	return false
}

// Prepare is Note for an event that comes true together with a message that is being
// committed: the note goes into the commit, and done is told whether that worked. The
// event must not change in between.
func (h *History) Prepare(e *mail.Event) (note spool.Note, done func(kept bool)) {
	s := h.begin(e)
	s.noted = h.cfg.Outbox != nil
	return spool.Note{ID: s.id, Record: s.line}, func(kept bool) { h.end(s, e, kept) }
}

// begin takes a place in the line for an event and encodes it.
func (h *History) begin(e *mail.Event) *slot {
	s := &slot{}
	h.line.reserve(s, h.cfg.MaxWaiting)
	e.ID = s.id
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Node == "" {
		e.Node = h.cfg.Store.Node()
	}
	b := h.buffers.Get().(*buffer)
	b.line, b.terms = appendEvent(b.line[:0], e), appendTerms(b.terms[:0], e)
	// What stays is as long as it must be: it waits for seconds.
	s.line, s.terms = bytes.Clone(b.line), slices.Clone(b.terms)
	if cap(b.line) <= maxBuffer {
		h.buffers.Put(b)
	}
	return s
}

// buffer is what an event is encoded in.
type buffer struct {
	line  []byte
	terms []term
}

// maxBuffer keeps the pool from holding the buffers of giant events.
const maxBuffer = 64 << 10

// end says that an event is complete, or that it did not come true.
func (h *History) end(s *slot, e *mail.Event, kept bool) {
	if !kept {
		h.line.finish(s, slotVoid)
		return
	}
	h.hours.add(e)
	h.watch.tell(e, s.line)
	if s.noted {
		h.outbox.Add(int64(len(s.line)))
	}
	if !s.queued {
		if !s.noted {
			h.dropped.Add(1)
			return
		}
		h.spilled.Store(true)
		return
	}
	if h.line.finish(s, slotReady) >= writeEvents {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// Flush waits until what was noted before is in the store, or the attempt has failed.
func (h *History) Flush(ctx context.Context) {
	done := make(chan struct{})
	select {
	case h.flush <- done:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Stats is how the history is.
type Stats struct {
	// Waiting are the events in memory that are not in the store yet, Outbox the bytes
	// of those that the spool keeps meanwhile.
	Waiting int   `json:"waiting"`
	Outbox  int64 `json:"outbox_bytes"`
	// Dropped are events that were lost since the start, Written those that are in
	// the store since then.
	Dropped int64 `json:"dropped"`
	Written int64 `json:"written"`
	// Size is what the segments take, in bytes, as this node knows.
	Size     int64 `json:"bytes"`
	Segments int64 `json:"segments"`
	Watching int   `json:"watching"`
	// Missed are live events that slow watchers did not get.
	Missed int64 `json:"missed"`
}

// Stats is how the history is now.
func (h *History) Stats() Stats {
	watching, missed := h.watch.stats()
	return Stats{Waiting: h.line.length(), Outbox: h.outbox.Load(), Dropped: h.dropped.Load(), Written: h.written.Load(),
		Size: h.size.Load(), Segments: h.segments.Load(), Watching: watching, Missed: missed}
}

// Health is nil while events reach the store, else why they do not.
func (h *History) Health() error {
	if wrong := h.wrong.Load(); wrong != nil {
		return *wrong
	}
	return h.cfg.Store.Health()
}

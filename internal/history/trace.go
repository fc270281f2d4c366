package history

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"gatepost/internal/mail"
)

// Filter chooses live events. Zero fields ask nothing; the others must all hold.
type Filter struct {
	// Client is a network that the client is in.
	Client netip.Prefix
	// Sender and Recipient are addresses, "@domain", or parts of an address.
	Sender, Recipient string
	// Domains, where not nil, are those that the watcher may see.
	Domains []string
}

// matches reports whether an event is one of those.
func (f *Filter) matches(e *mail.Event) bool {
	if f.Client.IsValid() && !(e.Client.IsValid() && f.Client.Contains(e.Client)) {
		return false
	}
	if f.Sender != "" && !matchesAddress(f.Sender, e.Sender) {
		return false
	}
	return f.Recipient == "" || slices.ContainsFunc(e.Recipients, func(r mail.Addressee) bool {
		return matchesAddress(f.Recipient, r.Address) || matchesAddress(f.Recipient, r.Original)
	})
}

// matchesAddress compares an address with what somebody types for one.
func matchesAddress(pattern, address string) bool {
	pattern, address = strings.ToLower(pattern), strings.ToLower(address)
	switch {
	case strings.HasPrefix(pattern, "@"):
		return strings.HasSuffix(address, pattern)
	case strings.Contains(pattern, "@"), pattern == "<>":
		return address == pattern
	}
	return strings.Contains(address, pattern)
}

const (
	// maxWatchers bounds those who watch at a time, maxBehind the events that one may be
	// behind.
	maxWatchers = 32
	maxBehind   = 1000
)

// watchers are those who see events as they happen.
type watchers struct {
	any    atomic.Bool
	missed atomic.Int64
	mu     sync.Mutex
	all    map[*Watch]bool
	closed bool
}

// Watch is somebody who sees events as they happen.
type Watch struct {
	filter Filter
	w      *watchers
	lines  chan []byte
	missed atomic.Int64
}

// Watch begins to see events; nil where too many do. The caller must Close it.
func (h *History) Watch(f Filter) *Watch {
	w := &h.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.all) >= maxWatchers {
		return nil
	}
	if w.all == nil {
		w.all = make(map[*Watch]bool)
	}
	watch := &Watch{filter: f, w: w, lines: make(chan []byte, maxBehind)}
	w.all[watch] = true
	w.any.Store(true)
	return watch
}

// Lines has the events as JSON; it is closed when the history is.
func (w *Watch) Lines() <-chan []byte { return w.lines }

// Missed is how many events did not fit since it was asked last, because the reader
// was slow.
func (w *Watch) Missed() int64 { return w.missed.Swap(0) }

// Close ends it.
func (w *Watch) Close() {
	w.w.mu.Lock()
	defer w.w.mu.Unlock()
	if w.w.all[w] {
		delete(w.w.all, w)
		close(w.lines)
	}
	w.w.any.Store(len(w.w.all) > 0)
}

// tell shows an event to those who want to see it.
func (w *watchers) tell(e *mail.Event, line []byte) {
	if !w.any.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for watch := range w.all {
		shown := restrict(e, watch.filter.Domains)
		if shown == nil || !watch.filter.matches(shown) {
			continue
		}
		text := line
		if shown != e {
			text = appendEvent(nil, shown)
		}
		select {
		case watch.lines <- text:
		default:
			watch.missed.Add(1)
			w.missed.Add(1)
		}
	}
}

func (w *watchers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for watch := range w.all {
		delete(w.all, watch)
		close(watch.lines)
	}
	w.any.Store(false)
}

func (w *watchers) stats() (watching int, missed int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all), w.missed.Load()
}

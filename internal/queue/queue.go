package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// stopGrace is how long Stop waits for attempts that it has cancelled.
const stopGrace = 10 * time.Second

var errUnsaved = errors.New("stop queue: outcomes of attempts could not be stored")

// Queue delivers the items of a store. All methods are safe for use by many
// goroutines.
type Queue struct {
	cfg      Config
	log      *slog.Logger
	identity atomic.Pointer[identity]
	limiter  *limiter

	// pausing orders Pause and Resume, each of which stores a setting; nothing
	// else takes it.
	pausing sync.Mutex

	mu         sync.Mutex
	sched      *scheduler
	transports map[string]TransportConfig
	pauses     pauses
	cache      cache
	pending    map[handle]operation // for items under way: done when the attempt ends
	unsaved    map[handle]result    // what could not be stored yet
	down       bool                 // the store takes no writes: no attempts
	saving     bool                 // a goroutine tries to store what is unsaved
	started    bool
	stopping   bool
	wakeAt     time.Time // when run means to look again

	kick    chan struct{}
	ctx     context.Context // of every attempt; ends when Stop loses patience
	cancel  context.CancelFunc
	loop    context.Context // of run and save; ends when Stop begins
	endLoop context.CancelFunc
	workers sync.WaitGroup
	loops   sync.WaitGroup
}

// New returns a queue that does nothing yet.
func New(cfg Config) (*Queue, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	q := &Queue{
		cfg:        cfg,
		log:        cfg.Log,
		limiter:    newLimiter(cfg.ReportsPerHour),
		sched:      newScheduler(cfg.MaxActive, cfg.MaxRest),
		transports: maps.Clone(cfg.Transports),
		cache:      newCache(cfg.MemoryBudget),
		pending:    make(map[handle]operation),
		unsaved:    make(map[handle]result),
		kick:       make(chan struct{}, 1),
	}
	if err := q.Identify(cfg.Hostname, cfg.Postmaster); err != nil {
		return nil, err
	}
	q.sched.lookup = func(name string) (TransportConfig, bool) {
		tc, ok := q.transports[name]
		return tc, ok && tc.Transport != nil
	}
	q.sched.paused = func(d mail.Destination) bool { return q.pauses.holdsDestination(d) }
	return q, nil
}

// Start loads the schedule from the store and begins to deliver. The attempts
// go on until Stop; ctx is for loading only.
func (q *Queue) Start(ctx context.Context) error {
	if err := q.loadPauses(); err != nil {
		return err
	}
	begun := time.Now()
	q.mu.Lock()
	if q.started {
		q.mu.Unlock()
		return errors.New("start queue: it was started before")
	}
	q.started = true
	q.sched.loading = true
	q.mu.Unlock()
	if err := q.load(ctx, begun); err != nil {
		return fmt.Errorf("load queue: %w", err)
	}

	q.mu.Lock()
	// Attempts outlive the caller's context: Stop ends them, in good order.
	q.ctx, q.cancel = context.WithCancel(context.WithoutCancel(ctx))
	q.loop, q.endLoop = context.WithCancel(q.ctx)
	q.sched.loadDone()
	items := q.sched.t.used
	missing := q.missing()
	q.dispatch()
	q.mu.Unlock()
	q.loops.Go(func() { q.run(q.loop) })
	q.log.Info("queue loaded", "items", items, "took", time.Since(begun))
	q.warnMissing(missing)
	return nil
}

// load fills the scheduler. The lock is let go between items, for Add.
func (q *Queue) load(ctx context.Context, now time.Time) error {
	return q.cfg.Store.Scan(func(e Entry) error {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.sched.add(e, now)
		return ctx.Err()
	})
}

// Stop begins no more attempts and waits for those under way. When ctx ends
// they are cancelled; their items stay in the store, due. Stop returns an error
// if an attempt does not heed that, or an outcome could not be stored.
func (q *Queue) Stop(ctx context.Context) error {
	q.mu.Lock()
	running := q.started && !q.stopping && q.ctx != nil
	q.stopping = true
	q.mu.Unlock()
	if !running {
		return nil
	}
	q.endLoop()
	idle := make(chan struct{})
	go func() {
		q.workers.Wait()
		q.loops.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	q.cancel()
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-idle:
	case <-grace.C:
		return errors.New("stop queue: attempts still run after they were cancelled")
	}
	return q.saveLast()
}

// identity is in whose name reports are sent.
type identity struct {
	hostname   string
	postmaster mail.Address // null: none
}

// Identify changes in whose name reports are sent, see Config.Hostname and
// Config.Postmaster.
func (q *Queue) Identify(hostname, postmaster string) error {
	who := &identity{hostname: hostname}
	if postmaster != "" {
		var err error
		if who.postmaster, err = smtp.ParseAddress(postmaster); err != nil {
			return fmt.Errorf("queue: postmaster: %w", err)
		}
	}
	q.identity.Store(who)
	return nil
}

// Reload replaces the transports and their policies. Items whose transport is
// gone stay and wait; Reroute moves them.
func (q *Queue) Reload(transports map[string]TransportConfig) {
	q.mu.Lock()
	q.transports = maps.Clone(transports)
	for _, d := range q.sched.dests[reportsNumber+1:] {
		if d != nil {
			d.configure(q.sched.lookup(d.key.Transport))
			q.sched.offer(d)
		}
	}
	missing := q.missing()
	q.dispatch()
	q.mu.Unlock()
	q.warnMissing(missing)
}

// missing counts the items of transports that are not configured, by name.
func (q *Queue) missing() map[string]int {
	found := make(map[string]int)
	for _, d := range q.sched.dests[reportsNumber+1:] {
		if d != nil && d.missing && d.items > 0 {
			found[d.key.Transport] += d.items
		}
	}
	return found
}

func (q *Queue) warnMissing(missing map[string]int) {
	for name, items := range missing {
		q.log.Warn("items wait for a transport that is not configured; reroute or delete them", "transport", name, "items", items)
	}
}

// Add schedules items that the caller has just committed to the store; they are
// not to be changed afterwards. It does no I/O and never waits for any.
func (q *Queue) Add(m mail.Message, items []*mail.QueueItem) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, item := range items {
		h := q.sched.add(entryOf(item), now)
		if h == 0 {
			continue
		}
		if r := q.sched.t.at(h); r.place == placeReady {
			q.cache.put(h, cached{item: item, m: m}, q.sched.dests[r.dest])
		}
	}
	q.dispatch()
	q.rouse(now)
}

func entryOf(item *mail.QueueItem) Entry {
	return Entry{ID: item.ID, State: item.State, Dest: item.Destination(), Created: item.Created, NextAttempt: item.NextAttempt}
}

// dispatch starts a worker for each item that can be tried now. The lock is held.
func (q *Queue) dispatch() {
	for {
		j, ok := q.next()
		if !ok {
			return
		}
		q.workers.Go(func() { q.work(j) })
	}
}

// next takes an item to be tried. The lock is held.
func (q *Queue) next() (job, bool) {
	if q.stopping || q.down || q.ctx == nil {
		return job{}, false
	}
	sl, ok := q.sched.take()
	if !ok {
		return job{}, false
	}
	j := job{slot: sl, id: q.sched.t.at(sl.h).queueID(), tc: sl.dest.tc}
	j.cached = q.cache.take(sl.h)
	return j, true
}

// work makes attempts, one after another, for as long as there are any to make.
func (q *Queue) work(j job) {
	for ok := true; ok; {
		j, ok = q.settle(j, q.attempt(q.ctx, j))
	}
}

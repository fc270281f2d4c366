package queue_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
	"gatepost/internal/smtp"
)

// memStore is a Store in memory. It copies what it takes and gives.
type memStore struct {
	mu       sync.Mutex
	items    map[mail.QueueID]*mail.QueueItem
	envs     map[mail.ID]*mail.Envelope
	bodies   map[mail.ID]string
	settings map[string][]byte
	// fail, where set, is asked before each write and may return an error.
	fail func(op string, id mail.QueueID) error
	// reads counts reads of items: those that came from memory do not show.
	reads int
}

func newMemStore() *memStore {
	return &memStore{
		items: map[mail.QueueID]*mail.QueueItem{}, envs: map[mail.ID]*mail.Envelope{},
		bodies: map[mail.ID]string{}, settings: map[string][]byte{},
	}
}

func clone(i *mail.QueueItem) *mail.QueueItem {
	c := *i
	c.Recipients = slices.Clone(i.Recipients)
	return &c
}

type body struct{ *strings.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func (s *memStore) commit(env *mail.Envelope, content string, items []*mail.QueueItem) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := *env
	s.envs[env.ID] = &e
	s.bodies[env.ID] = content
	for _, i := range items {
		s.items[i.ID] = clone(i)
	}
	return nil
}

func (s *memStore) Item(id mail.QueueID) (*mail.QueueItem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if i, ok := s.items[id]; ok {
		return clone(i), nil
	}
	return nil, fs.ErrNotExist
}

func (s *memStore) sorted() []*mail.QueueItem {
	all := slices.Collect(maps.Values(s.items))
	slices.SortFunc(all, func(a, b *mail.QueueItem) int {
		return cmp.Or(bytes.Compare(a.ID.Message[:], b.ID.Message[:]), cmp.Compare(a.ID.N, b.ID.N))
	})
	return all
}

func (s *memStore) Items(id mail.ID) ([]*mail.QueueItem, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*mail.QueueItem
	for _, i := range s.sorted() {
		if i.ID.Message == id {
			out = append(out, clone(i))
		}
	}
	return out, nil
}

func (s *memStore) Envelope(id mail.ID) (*mail.Envelope, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.envs[id]; ok {
		c := *e
		return &c, nil
	}
	return nil, fs.ErrNotExist
}

func (s *memStore) Body(id mail.ID) (mail.Body, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.bodies[id]; ok {
		return body{strings.NewReader(b)}, nil
	}
	return nil, fs.ErrNotExist
}

func (s *memStore) Update(items ...*mail.QueueItem) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if s.fail != nil {
			if err := s.fail("update", i.ID); err != nil {
				return err
			}
		}
	}
	for _, i := range items {
		s.items[i.ID] = clone(i)
	}
	return nil
}

func (s *memStore) UpdateSync(items ...*mail.QueueItem) error { return s.Update(items...) }

func (s *memStore) Done(id mail.QueueID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("done", id); err != nil {
			return err
		}
	}
	delete(s.items, id)
	if len(s.items) < 1000 { // what is left of a message in a large test does not matter
		for other := range s.items {
			if other.Message == id.Message {
				return nil
			}
		}
	}
	delete(s.envs, id.Message)
	delete(s.bodies, id.Message)
	return nil
}

func (s *memStore) Scan(fn func(queue.Entry) error) error {
	s.mu.Lock()
	all := s.sorted()
	s.mu.Unlock()
	for _, i := range all {
		e := queue.Entry{ID: i.ID, State: i.State, Dest: i.Destination(), Created: i.Created, NextAttempt: i.NextAttempt}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) Walk(from mail.QueueID, fn func(*mail.QueueItem, *mail.Envelope) (bool, error)) error {
	s.mu.Lock()
	all := s.sorted()
	s.mu.Unlock()
	for _, i := range all {
		if bytes.Compare(i.ID.Message[:], from.Message[:]) < 0 || i.ID.Message == from.Message && i.ID.N < from.N {
			continue
		}
		env, err := s.Envelope(i.ID.Message)
		if err != nil {
			continue
		}
		if more, err := fn(clone(i), env); err != nil || !more {
			return err
		}
	}
	return nil
}

func (s *memStore) PutSetting(key string, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail("setting", mail.QueueID{}); err != nil {
			return err
		}
	}
	s.settings[key] = v
	return nil
}

func (s *memStore) Setting(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings[key], nil
}

func (s *memStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

// setFail changes what fails.
func (s *memStore) setFail(fn func(op string, id mail.QueueID) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fn
}

// attempt is one call of Deliver, as a fake transport saw it.
type attempt struct {
	id  mail.QueueID
	to  []string
	at  time.Duration // since the test began
	hop string
}

// fakeTransport answers attempts with a function.
type fakeTransport struct {
	start time.Time
	mu    sync.Mutex
	seen  []attempt
	reply func(ctx context.Context, d *mail.Delivery, n int) []mail.Outcome // n counts from 1
}

func (f *fakeTransport) Deliver(ctx context.Context, d *mail.Delivery) []mail.Outcome {
	a := attempt{id: d.ID, at: time.Since(f.start), hop: d.NextHop}
	for _, r := range d.Recipients {
		a.to = append(a.to, r.Address.String())
	}
	f.mu.Lock()
	f.seen = append(f.seen, a)
	n := len(f.seen)
	reply := f.reply
	f.mu.Unlock()
	return reply(ctx, d, n)
}

func (f *fakeTransport) set(reply func(context.Context, *mail.Delivery, int) []mail.Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reply = reply
}

func (f *fakeTransport) attempts() []attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *fakeTransport) count() int { return len(f.attempts()) }

// all gives every recipient the same outcome.
func all(o mail.Outcome) func(context.Context, *mail.Delivery, int) []mail.Outcome {
	return func(_ context.Context, d *mail.Delivery, _ int) []mail.Outcome { return same(d, o) }
}

func same(d *mail.Delivery, o mail.Outcome) []mail.Outcome {
	out := make([]mail.Outcome, len(d.Recipients))
	for i := range out {
		out[i] = o
	}
	return out
}

var (
	delivered = mail.Outcome{Status: mail.Delivered, Remote: true, Stage: "eod", Host: "mx.good.example [192.0.2.1]:25",
		Reply: mail.Reply{Code: 250, Enhanced: "2.0.0", Lines: []string{"OK"}}}
	greylisted = mail.Outcome{Status: mail.Deferred, Remote: true, Stage: "rcpt", Host: "mx.slow.example [192.0.2.2]:25",
		Reply: mail.Reply{Code: 450, Enhanced: "4.2.0", Lines: []string{"greylisted"}}}
	refused = mail.Outcome{Status: mail.Failed, Remote: true, Stage: "rcpt", Host: "mx.good.example [192.0.2.1]:25",
		Reply: mail.Reply{Code: 550, Enhanced: "5.1.1", Lines: []string{"no such user"}}}
	unreachable = mail.Outcome{Status: mail.Deferred, Stage: "connect",
		Reply: mail.Reply{Code: 451, Enhanced: "4.4.1", Lines: []string{"No answer from the next hop"}}, Cause: "connection refused"}
)

// fakeBouncer keeps reports.
type fakeBouncer struct {
	mu      sync.Mutex
	err     error
	tries   int
	reports []report
}

type report struct {
	to   string
	text string
}

func (b *fakeBouncer) SubmitReport(_ context.Context, to mail.Address, r io.Reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	if b.err != nil {
		return b.err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	b.reports = append(b.reports, report{to.String(), string(text)})
	return nil
}

func (b *fakeBouncer) setErr(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *fakeBouncer) all() []report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.reports)
}

// counter is an Observer.
type counter struct {
	mu                         sync.Mutex
	attempts, bounces, dropped int
}

func (c *counter) Attempted(string, mail.OutcomeStatus, time.Duration) { c.add(&c.attempts) }
func (c *counter) Bounced(string)                                      { c.add(&c.bounces) }
func (c *counter) ReportDropped(string)                                { c.add(&c.dropped) }
func (c *counter) add(n *int) {
	c.mu.Lock()
	*n++
	c.mu.Unlock()
}

func (c *counter) get(n *int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *n
}

// store is what a test needs of a store beside the queue's part.
type store interface {
	queue.Store
	commit(env *mail.Envelope, content string, items []*mail.QueueItem) error
}

// bench is a queue with everything around it.
type bench struct {
	t       testing.TB
	store   store
	q       *queue.Queue
	cfg     queue.Config
	good    *fakeTransport // transport "good", one destination
	mx      *fakeTransport // transport "mx", by domain
	bouncer *fakeBouncer
	counter *counter
	log     *logBuffer
	start   time.Time
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var testPolicy = queue.Policy{
	Sessions:    20,
	Delays:      []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour},
	GiveUpAfter: 48 * time.Hour,
	WarnAfter:   4 * time.Hour,
}

// newBench makes a queue that was not started yet. Call it in a synctest bubble
// where time matters.
func newBench(t testing.TB) *bench {
	b := &bench{t: t, store: newMemStore(), bouncer: &fakeBouncer{}, counter: &counter{}, log: &logBuffer{}, start: time.Now()}
	b.good = &fakeTransport{start: b.start, reply: all(delivered)}
	b.mx = &fakeTransport{start: b.start, reply: all(delivered)}
	b.cfg = queue.Config{
		Transports: map[string]queue.TransportConfig{
			"good": {Transport: b.good, Policy: testPolicy},
			"mx":   {Transport: b.mx, ByDomain: true, Policy: testPolicy},
		},
		Bouncer: b.bouncer, Hostname: "gw.example", Observer: b.counter,
		Log: slog.New(slog.NewTextHandler(b.log, nil)),
	}
	return b
}

// policy changes the policy of every transport.
func (b *bench) policy(change func(*queue.Policy)) {
	for name, tc := range b.cfg.Transports {
		change(&tc.Policy)
		b.cfg.Transports[name] = tc
	}
}

// run starts the queue; it stops with the test.
func (b *bench) run() {
	b.t.Helper()
	b.cfg.Store = b.store
	q, err := queue.New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := q.Start(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	b.q = q
	b.t.Cleanup(func() { q.Stop(ended()) })
}

// restart stops the queue and starts another one on the same store.
func (b *bench) restart() {
	b.t.Helper()
	if err := b.q.Stop(context.Background()); err != nil {
		b.t.Fatal(err)
	}
	b.run()
}

// ended is a context that is over.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// letter is a message for tests.
type letter struct {
	from, transport, hop string
	to                   []string
	state                mail.QueueState
	created, next        time.Time
	notify               mail.Notify
	edit                 func(*mail.Envelope, *mail.QueueItem)
}

const testBody = "From: a@out.example\r\nSubject: hello\r\nMessage-ID: <1@out.example>\r\n\r\nbody\r\n"

func address(s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// put stores a message without telling the queue.
func (b *bench) put(l letter) (mail.Message, []*mail.QueueItem) {
	b.t.Helper()
	now := time.Now()
	id := mail.NewID()
	env := &mail.Envelope{ID: id, Received: now, Sender: address(l.from), Size: int64(len(testBody)),
		HeaderSize: int64(strings.Index(testBody, "\r\n\r\n") + 4), MessageID: "<1@out.example>"}
	item := &mail.QueueItem{ID: mail.QueueID{Message: id, N: 1}, State: cmp.Or(l.state, mail.QueueDeferred),
		Transport: cmp.Or(l.transport, "good"), NextHop: l.hop, Created: now, NextAttempt: now}
	if !l.created.IsZero() {
		item.Created = l.created
	}
	if !l.next.IsZero() {
		item.NextAttempt = l.next
	}
	for _, to := range l.to {
		r := mail.Recipient{Address: address(to), Original: address(to), Notify: l.notify,
			Route: mail.Route{Transport: item.Transport, NextHop: item.NextHop}}
		env.Recipients = append(env.Recipients, r)
		item.Recipients = append(item.Recipients, mail.QueuedRecipient{Recipient: r})
	}
	if l.edit != nil {
		l.edit(env, item)
	}
	if err := b.store.commit(env, testBody, []*mail.QueueItem{item}); err != nil {
		b.t.Fatal(err)
	}
	return mail.Message{Envelope: env, Body: body{strings.NewReader(testBody)}}, []*mail.QueueItem{item}
}

// send stores a message and adds it to the queue.
func (b *bench) send(l letter) mail.QueueID {
	b.t.Helper()
	m, items := b.put(l)
	b.q.Add(m, items)
	return items[0].ID
}

// wait lets d pass, and then everything that is due happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) list(sel queue.Selector) []queue.Row {
	b.t.Helper()
	rows, err := b.q.List(context.Background(), sel, 1000, "")
	if err != nil {
		b.t.Fatal(err)
	}
	return rows
}

func (b *bench) one(id mail.QueueID) queue.Row {
	b.t.Helper()
	rows := b.list(queue.Selector{IDs: []string{id.String()}})
	if len(rows) != 1 {
		b.t.Fatalf("%d rows for %s", len(rows), id)
	}
	return rows[0]
}

func (b *bench) wantQueue(n int) {
	b.t.Helper()
	got, err := b.q.Count(context.Background(), queue.Selector{})
	if err != nil || got != n {
		b.t.Fatalf("%d items in the queue (%v), want %d", got, err, n)
	}
}

var errDisk = errors.New("no space left on device")

// about reports whether d is within ±10 % and a bit of want.
func about(d, want time.Duration) bool {
	return d >= want*9/10-time.Second && d <= want*11/10+time.Second
}

func describe(as []attempt) string {
	var s strings.Builder
	for _, a := range as {
		fmt.Fprintf(&s, "%v %s %v\n", a.at.Round(time.Second), a.hop, a.to)
	}
	return s.String()
}

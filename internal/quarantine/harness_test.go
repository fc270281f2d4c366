package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addr(t *testing.T, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := smtp.ParseAddress(s)
	must(t, err)
	return a
}

// openStore opens an SQLite store that closes with the test.
func openStore(t *testing.T, node string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Node: node})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// text is a body in memory.
type text struct{ *strings.Reader }

func (b text) Size() int64 { return b.Reader.Size() }

func bodyOf(s string) mail.Body { return text{strings.NewReader(s)} }

// sample is a message on its way into the quarantine.
type sample struct {
	from, subject, body string
	threat              mail.Threat
	rule                string
	edits               mail.Edits
}

const sampleText = "From: a@sender.example\r\nSubject: Cheap pills\r\n\r\nBuy now.\r\n"

// delivery makes what the queue hands over, for these recipients.
func (s sample) delivery(t *testing.T, to ...string) *mail.Delivery {
	t.Helper()
	if s.body == "" {
		s.body = sampleText
	}
	if s.threat == "" {
		s.threat = mail.ThreatSpam
	}
	now := time.Now()
	env := &mail.Envelope{
		ID: mail.NewID(), Received: now, Sender: addr(t, s.from), Size: int64(len(s.body)), Subject: s.subject, MessageID: "<1@sender.example>",
		Session: mail.Session{Listener: "inbound", Client: netip.MustParseAddrPort("192.0.2.7:4711"), Helo: "mx.sender.example"},
		Ret:     mail.RetHdrs, EnvID: "xyz", Body: mail.Body8Bit, Edits: s.edits,
		Findings: []mail.Finding{{Module: "bayes", Symbol: "spam", Result: mail.Match, Score: 6, Reason: "looks like spam"}},
	}
	d := &mail.Delivery{ID: mail.QueueID{Message: env.ID, N: 2}, Message: mail.Message{Envelope: env, Body: bodyOf(s.body)}}
	for _, name := range to {
		a := addr(t, name)
		r := mail.Recipient{
			Address: a, Original: a, Notify: mail.NotifySuccess, ORcpt: "rfc822;" + name,
			Route:   mail.Route{Domain: a.Domain, Transport: "exchange", Flow: "inbound"},
			Verdict: &mail.Verdict{Action: mail.ActionQuarantine, Threat: s.threat, Block: "score", Rule: s.rule, Reason: "score 12.0 is at least 10.0", Flow: "inbound", Score: 12},
		}
		if a.Domain == "elsewhere.example" {
			r.Route.Domain = "*"
		}
		env.Recipients = append(env.Recipients, r)
		d.Recipients = append(d.Recipients, r)
	}
	return d
}

// bench is a quarantine over a real store, with what stands around it.
type bench struct {
	t     *testing.T
	store Store
	q     *Quarantine
	out   *outbox
	bayes *pupil
	count byte // of messages held
}

func newBench(t *testing.T, s Store) *bench {
	t.Helper()
	b := &bench{t: t, store: s, out: &outbox{}, bayes: &pupil{known: map[mail.ID]bool{}}}
	var err error
	b.q, err = New(Config{Store: s, Releaser: b.out, Trainer: b.bayes})
	must(t, err)
	return b
}

// hold quarantines a message and returns its ID.
func (b *bench) hold(s sample, to ...string) mail.ID {
	b.t.Helper()
	d := s.delivery(b.t, to...)
	// IDs of one millisecond are in no order of their own.
	b.count++
	d.Message.Envelope.ID[6] = b.count
	d.ID.Message = d.Message.Envelope.ID
	b.deliver(d)
	return d.ID.Message
}

func (b *bench) deliver(d *mail.Delivery) {
	b.t.Helper()
	transport, err := NewTransport(b.store, nil)
	must(b.t, err)
	for _, o := range transport.Deliver(b.t.Context(), d) {
		if o.Status != mail.Delivered {
			b.t.Fatalf("%+v", o)
		}
	}
}

func (b *bench) show(id mail.ID) *Detail {
	b.t.Helper()
	d, err := b.q.Show(b.t.Context(), id)
	must(b.t, err)
	return d
}

// states are the states of the entries: "a@x held, b@x released".
func (b *bench) states(id mail.ID) string {
	b.t.Helper()
	var list []string
	for _, e := range b.show(id).Entries {
		list = append(list, e.Recipient+" "+string(e.State))
	}
	return strings.Join(list, ", ")
}

func (b *bench) release(r Request) Result {
	b.t.Helper()
	if r.Role == "" {
		r.Role = RoleAdmin
	}
	return b.q.Release(b.t.Context(), r)[0]
}

// outbox notes what was released and what was sent.
type outbox struct {
	mu       sync.Mutex
	released []mail.Message
	bodies   []string
	sent     []sentMail
	fail     error
	// during runs while a release is under way.
	during func()
}

// count is how many mails were sent.
func (o *outbox) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sent)
}

type sentMail struct {
	at  time.Time
	to  string
	raw string
}

func (o *outbox) Release(_ context.Context, env *mail.Envelope, body mail.Body) (mail.ID, error) {
	if o.during != nil {
		o.during()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return mail.NewID(), o.fail
	}
	b, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	o.released = append(o.released, mail.Message{Envelope: env, Body: body})
	o.bodies = append(o.bodies, string(b))
	return mail.NewID(), err
}

func (o *outbox) SubmitReport(_ context.Context, to mail.Address, report io.Reader) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	b, err := io.ReadAll(report)
	o.sent = append(o.sent, sentMail{at: time.Now(), to: to.String(), raw: string(b)})
	return err
}

// to lists who got mail, with the time: "15 07:00 a@example.com".
func (o *outbox) to() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []string
	for _, m := range o.sent {
		list = append(list, m.at.UTC().Format("02 15:04 ")+m.to)
	}
	return strings.Join(list, ", ")
}

func (o *outbox) setFail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

// pupil notes what it is taught.
type pupil struct {
	mu      sync.Mutex
	lessons []string
	known   map[mail.ID]bool
}

func (p *pupil) Train(_ context.Context, m mail.Message, spam bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := m.Envelope.ID
	p.lessons = append(p.lessons, fmt.Sprintf("%s spam=%v %d bytes", id, spam, m.Body.Size()))
	was, known := p.known[id]
	p.known[id] = spam
	return !known || was != spam, nil
}

// brokenStore is a store that is away while down is set.
type brokenStore struct {
	Store
	mu   sync.Mutex
	down bool
}

func (s *brokenStore) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *brokenStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return fmt.Errorf("put: %w: %w", store.ErrUnavailable, errors.New("connection refused"))
	}
	return nil
}

func (s *brokenStore) PutQuarantined(ctx context.Context, m *store.QuarantinedMessage, body mail.Body) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.PutQuarantined(ctx, m, body)
}

func (s *brokenStore) SetQuarantineState(ctx context.Context, id mail.ID, recipients []string, change store.QuarantineChange) ([]store.QuarantineEntry, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.SetQuarantineState(ctx, id, recipients, change)
}

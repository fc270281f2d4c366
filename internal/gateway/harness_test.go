package gateway_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/route"
	"gatepost/internal/smtp"
	"gatepost/internal/spool"
)

// rig is a gateway over the real spool, on a file system in memory, and the real
// routing: in.example goes to "next", other domains to "mx" for clients that may
// relay.
type rig struct {
	t       *testing.T
	fs      *vfs.MemFS
	spool   *spool.Spool
	gateway *gateway.Gateway
	queue   *queueSpy
	traffic *trafficSpy
}

// rigOptions are what tests vary.
type rigOptions struct {
	wrap      func(*vfs.MemFS) vfs.FS // puts something between spool and file system
	freeSpace func() (int64, error)
	reserve   int64
	maxHops   int
	maxHeader int64
	// noPostmaster leaves out the one who gets the reports that have no way.
	noPostmaster bool
	// content is what the listener's flow "inbound" is made of.
	content gateway.Content
	// queued scans after the answer.
	queued bool
	// users is what users may do.
	users gateway.Users
	// proxies are those of domains with their names and ".example".
	proxies    map[string]gateway.Proxy
	deferMixed bool
	// originals are those of proxies that lead to where clients wanted to go, and adopt
	// has them queue what is for servers that are down.
	originals map[string]bool
	adopt     bool
	// mailboxes is for mail that is fetched from them.
	mailboxes gateway.Mailboxes
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, fs: vfs.NewCrashableMem(), queue: &queueSpy{}, traffic: &trafficSpy{}}
	var fs vfs.FS = r.fs
	if o.wrap != nil {
		fs = o.wrap(r.fs)
	}
	r.spool = openSpool(t, spool.Options{FS: fs, FreeSpace: o.freeSpace, Reserve: o.reserve, MemTableSize: 1 << 20})
	domains := []route.Domain{{Name: "in.example", Transport: "next"}, {Name: "*", Transport: "mx", AsksMX: true}}
	for name := range o.proxies {
		domains = append(domains, route.Domain{Name: name + ".example", Transport: name, Proxy: true, AsksMX: o.originals[name]})
	}
	table, errs := route.New(route.Config{
		Hostname:     "gw.example.com",
		Postmaster:   address(t, "postmaster@in.example"),
		ContentFlows: map[string]string{"inbound": "inbound"},
		Domains:      domains,
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var postmaster mail.Address
	if !o.noPostmaster {
		postmaster = address(t, "postmaster@in.example")
	}
	g, err := gateway.New(gateway.Config{
		Postmaster: postmaster, Hostname: "gw.example.com", Spool: r.spool, Queue: r.queue, Router: table,
		Log: slog.New(slog.DiscardHandler), Traffic: r.traffic,
		MaxHops: o.maxHops, MaxHeaderSize: o.maxHeader,
		Content: o.content, Queued: map[string]bool{"inbound": o.queued}, Users: o.users,
		Proxies: o.proxies, Originals: o.originals, ByDomain: o.originals, DeferMixed: map[string]bool{"inbound": o.deferMixed},
		Mailboxes: o.mailboxes,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.gateway = g
	return r
}

func openSpool(t *testing.T, o spool.Options) *spool.Spool {
	t.Helper()
	o.Dir = "/spool"
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the spool: %v", err)
		}
	})
	return s
}

func address(t *testing.T, s string) mail.Address {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return a
}

// arrival is when the messages of these tests arrive.
var arrival = time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)

// envelope is what a session has gathered when DATA comes: the recipients went
// through the Rcpt hook.
func (r *rig) envelope(from string, to ...string) *mail.Envelope {
	r.t.Helper()
	id := mail.NewID()
	env := &mail.Envelope{
		ID: id, Received: arrival,
		Session: mail.Session{
			ID: id, Listener: "inbound", Helo: "client.example", ESMTP: true,
			Client: netip.MustParseAddrPort("192.0.2.7:40000"),
		},
	}
	if from != "" {
		env.Sender = address(r.t, from)
	}
	r.add(env, to...)
	return env
}

// trusted makes the client one that may relay, and adds recipients.
func (r *rig) trusted(env *mail.Envelope, to ...string) *mail.Envelope {
	r.t.Helper()
	env.Session.Trusted = true
	r.add(env, to...)
	return env
}

func (r *rig) add(env *mail.Envelope, to ...string) {
	r.t.Helper()
	for _, rcpt := range to {
		a := address(r.t, rcpt)
		recipient := mail.Recipient{Address: a, Original: a}
		if d := r.gateway.Rcpt(r.t.Context(), env, &recipient); d.Act != mail.Accept {
			r.t.Fatalf("%s: %v (%s)", rcpt, d.Reply, d.Reason)
		}
		env.Recipients = append(env.Recipients, recipient)
	}
}

// write brings the data in, in pieces.
func (r *rig) write(env *mail.Envelope, data string) *gateway.Intake {
	r.t.Helper()
	in, err := r.gateway.Open(r.t.Context(), env)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(in.Abort)
	const piece = 100 << 10
	for rest := data; rest != ""; {
		n := min(len(rest), piece)
		if _, err := io.WriteString(in, rest[:n]); err != nil {
			r.t.Fatalf("write: %v", err)
		}
		rest = rest[n:]
	}
	return in
}

// receive brings a whole message in and returns the reply to the final dot.
func (r *rig) receive(env *mail.Envelope, data string) mail.Reply {
	r.t.Helper()
	return r.write(env, data).Commit(r.t.Context())
}

// accept is receive for a message that must be accepted.
func (r *rig) accept(env *mail.Envelope, data string) added {
	r.t.Helper()
	if reply := r.receive(env, data); reply.Code != 250 {
		r.t.Fatalf("reply %v, want 250", reply)
	}
	if len(r.queue.added) == 0 {
		r.t.Fatal("nothing was queued")
	}
	return r.queue.added[len(r.queue.added)-1]
}

// stored is a message as a spool on another file system has it: envelope, body
// and queue items.
type stored struct {
	env   *mail.Envelope
	body  string
	items []*mail.QueueItem
}

// storedIn opens a spool on fs and reads all messages that are due there.
func storedIn(t *testing.T, fs vfs.FS) map[mail.ID]stored {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: "/spool", FS: fs, MemTableSize: 1 << 20})
	if err != nil {
		t.Fatalf("open after a crash: %v", err)
	}
	defer s.Close()
	all := map[mail.ID]stored{}
	err = s.Scan(func(e spool.Entry) error {
		item, err := s.Item(e.ID)
		if err != nil {
			return err
		}
		m := all[e.ID.Message]
		if m.env, err = s.Envelope(e.ID.Message); err != nil {
			return err
		}
		body, err := s.Body(e.ID.Message)
		if err != nil {
			return err
		}
		m.body = readAll(t, body)
		m.items = append(m.items, item)
		all[e.ID.Message] = m
		return nil
	})
	if err != nil {
		t.Fatalf("read after a crash: %v", err)
	}
	return all
}

func readAll(t *testing.T, b mail.Body) string {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// delivered is the message as a next hop would get it.
func delivered(t *testing.T, m mail.Message) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := message.NewContent(m).Reader().WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// deliveredItem is the message as the recipients of its n-th item get it.
func (r *rig) deliveredItem(a added, n int) string {
	r.t.Helper()
	env := *a.m.Envelope
	if e := a.items[n].Edits; e != nil {
		env.Edits = *e
	}
	return delivered(r.t, mail.Message{Envelope: &env, Body: a.m.Body})
}

// crlf turns the line ends of a Go literal into those of the wire.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// added is one call of Queue.Add.
type added struct {
	m     mail.Message
	items []*mail.QueueItem
}

type queueSpy struct{ added []added }

func (q *queueSpy) Add(m mail.Message, items []*mail.QueueItem) {
	q.added = append(q.added, added{m, items})
}

// transaction is one line of smtp_proxy.log.
type transaction struct {
	id       mail.ID
	decision mail.Decision
	reply    mail.Reply
}

type trafficSpy struct{ lines []transaction }

func (s *trafficSpy) SMTPTransaction(env *mail.Envelope, d mail.Decision, r mail.Reply, _ time.Duration, _ ...mail.Outcome) {
	s.lines = append(s.lines, transaction{env.ID, d, r})
}

// last is the latest line; there must be exactly n.
func (s *trafficSpy) last(t *testing.T, n int) transaction {
	t.Helper()
	if len(s.lines) != n {
		t.Fatalf("%d lines of traffic, want %d", len(s.lines), n)
	}
	return s.lines[n-1]
}

// cancelled is a context that has ended.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"gatepost/internal/history"
	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// The part history fills a history with the events of three months and then looks for
// things in it, each search several times, always for something else.

const (
	historyDays   = 85
	historyBatch  = 4000
	historyTries  = 15
	historyPeople = 20_000
)

// keepHistory fills a history and searches it.
func (b *bench) keepHistory(ctx context.Context) (err error) {
	dir, err := b.emptyDir("history")
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{Dir: dir, Node: "gw1", URL: b.o.store})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	hs, err := s.OpenHistory(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hs.Close()) }()
	h, err := history.Open(history.Config{Store: hs, MaxSize: 1 << 40})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	w := newPast(b.o.events)
	begun, used := time.Now(), cpuTime()
	for w.left > 0 && ctx.Err() == nil {
		if err := h.Import(ctx, w.next(historyBatch)); err != nil {
			return err
		}
	}
	stats := h.Stats()
	took, used := time.Since(begun), cpuTime()-used
	fmt.Printf("\n## History with %d events\n\n", b.o.events)
	fmt.Printf("Filled in %.0f s: %.1f µs of CPU an event, merging included; %.2f GB in %d segments, %.0f bytes an event.\n",
		took.Seconds(), float64(used.Microseconds())/float64(b.o.events), float64(stats.Size)/1e9, stats.Segments, float64(stats.Size)/float64(b.o.events))
	if b.o.store == "" {
		fmt.Printf("history.db is %d MB.\n", directorySize(dir)>>20)
	}
	fmt.Printf("\n| search | found on the first page | median ms | slowest ms |\n|---|---|---|---|\n")
	for _, q := range w.searches() {
		if err := timeSearches(ctx, h, w, q); err != nil {
			return err
		}
	}
	return nil
}

// timeSearches runs one kind of search several times.
func timeSearches(ctx context.Context, h *history.History, w *past, q kindOfSearch) error {
	var took []time.Duration
	found := 0
	for range historyTries {
		text, domains := q.make(w)
		begun := time.Now()
		query, err := history.ParseQuery(text, time.Now())
		if err != nil {
			return err
		}
		page, err := h.Search(ctx, history.Search{Query: query, Limit: 50, Domains: domains})
		if err != nil {
			return err
		}
		took = append(took, time.Since(begun))
		found += len(page.Events)
	}
	slices.Sort(took)
	fmt.Printf("| %s | %.0f | %.1f | %.1f |\n", q.name, float64(found)/historyTries, took[len(took)/2].Seconds()*1000, took[len(took)-1].Seconds()*1000)
	return nil
}

// past makes the events of three months.
type past struct {
	rng   *rand.Rand
	left  int
	step  time.Duration
	at    time.Time
	known []*mail.Event // some that were made, to look for
	made  int
}

func newPast(events int) *past {
	span := historyDays * 24 * time.Hour
	return &past{rng: rand.New(rand.NewPCG(4, 7)), left: events, step: span / time.Duration(max(events, 1)), at: time.Now().Add(-span)}
}

// next makes so many events: of messages, their attempts, and refusals.
func (p *past) next(n int) []*mail.Event {
	var all []*mail.Event
	for len(all) < min(n, p.left) {
		p.at = p.at.Add(p.step)
		if p.rng.IntN(10) == 0 {
			all = append(all, p.refused())
			continue
		}
		m := p.message()
		all = append(all, m)
		if p.made++; p.made%max(p.left/2000, 1) == 0 {
			p.known = append(p.known, m)
		}
		if len(all) < min(n, p.left) && m.Action != mail.ActionQuarantine {
			p.at = p.at.Add(p.step)
			all = append(all, p.attempt(m))
		}
	}
	p.left -= len(all)
	return all
}

func (p *past) client() netip.Addr {
	return netip.AddrFrom4([4]byte{byte(11 + p.rng.IntN(200)), byte(p.rng.IntN(40)), byte(p.rng.IntN(40)), byte(p.rng.IntN(256))})
}

func (p *past) domain() string {
	// Few domains have most of the mail.
	return fmt.Sprintf("customer%d.example", int(50*p.rng.Float64()*p.rng.Float64()))
}

var subjectWords = strings.Fields("invoice order meeting report offer newsletter update question contract delivery payment holiday project reminder urgent account security notice weekly minutes")

func (p *past) subject() string {
	return fmt.Sprintf("%s %s %d", subjectWords[p.rng.IntN(len(subjectWords))], subjectWords[p.rng.IntN(len(subjectWords))], p.rng.IntN(1_000_000))
}

func (p *past) message() *mail.Event {
	domain := p.domain()
	e := &mail.Event{Kind: mail.EventMessage, Result: mail.EventAccepted, Time: p.at, Session: p.id(), Message: p.id(), Listener: "inbound",
		Client: p.client(), Helo: fmt.Sprintf("mx%d.sender%d.example", p.rng.IntN(4), p.rng.IntN(5000)),
		TLS: mail.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256"}, Sender: fmt.Sprintf("person%d@sender%d.example", p.rng.IntN(historyPeople), p.rng.IntN(5000)),
		Subject: p.subject(), MessageID: fmt.Sprintf("<%x@sender.example>", p.rng.Uint64()), Size: p.rng.Int64N(100_000), Stage: "content",
		Reply: "250 2.0.0 OK: queued", Action: mail.ActionDeliver, Took: time.Duration(p.rng.Int64N(int64(time.Second)))}
	to := mail.Addressee{Address: fmt.Sprintf("user%d@%s", p.rng.IntN(historyPeople), domain), Domain: domain, Item: 1, Transport: "exchange", Flow: "inbound"}
	e.Findings = []mail.Finding{{Module: "authres", Symbol: "spf", Result: mail.Clean, Reason: "pass"}, {Module: "authres", Symbol: "dkim", Result: mail.Clean, Reason: "pass"}}
	switch n := p.rng.IntN(1000); {
	case n < 1:
		e.Action, e.Threat = mail.ActionQuarantine, mail.ThreatVirus
		to.Block, to.Rule = "clamav", fmt.Sprintf("Win.Test.Sample-%d", p.rng.IntN(50))
		e.Findings = append(e.Findings, mail.Finding{Module: "clamav", Symbol: to.Rule, Result: mail.Match})
	case n < 200:
		e.Action, e.Threat, e.Score = mail.ActionMark, mail.ThreatSpam, 7.5
		e.Findings = append(e.Findings, mail.Finding{Module: "dnsbl", Symbol: "zen.example.org", Result: mail.Match, Score: 3}, mail.Finding{Module: "bayes", Symbol: "spam", Result: mail.Match, Score: 4.5})
	}
	to.Action, to.Threat, to.Score = e.Action, e.Threat, e.Score
	e.Recipients = []mail.Addressee{to}
	return e
}

// id is one of the moment that is told about.
func (p *past) id() mail.ID {
	id := mail.FirstID(p.at)
	for i := 6; i < len(id); i++ {
		id[i] = byte(p.rng.Uint32())
	}
	return id
}

func (p *past) attempt(m *mail.Event) *mail.Event {
	e := &mail.Event{Kind: mail.EventAttempt, Result: mail.EventDelivered, Time: p.at, Session: m.Session, Message: m.Message, Item: 1, Sender: m.Sender,
		Subject: m.Subject, Size: m.Size, Transport: "exchange", Attempt: 1, Host: "mail.inner.example [10.0.0.5]:25", Reply: "250 2.0.0 OK", Remote: true, Stage: "eod"}
	to := m.Recipients[0]
	e.Recipients = []mail.Addressee{{Address: to.Address, Domain: to.Domain, Status: mail.Delivered}}
	if p.rng.IntN(100) == 0 {
		e.Result, e.Reply, e.Recipients[0].Status = mail.EventDeferred, "451 4.2.0 Mailbox busy", mail.Deferred
	}
	return e
}

func (p *past) refused() *mail.Event {
	return &mail.Event{Kind: mail.EventConnect, Result: mail.EventRefused, Time: p.at, Session: p.id(), Listener: "inbound", Client: p.client(), Stage: "connect",
		Reply: "554 5.7.1 No service for you", Reason: "dnsbl: zen.example.org", Findings: []mail.Finding{{Module: "dnsbl", Symbol: "zen.example.org", Result: mail.Match, Score: 5}}}
}

// kindOfSearch makes searches of one kind.
type kindOfSearch struct {
	name string
	make func(p *past) (query string, domains []string)
}

// one is an event to look for.
func (p *past) one() *mail.Event { return p.known[p.rng.IntN(len(p.known))] }

func (p *past) searches() []kindOfSearch {
	simple := func(name string, make func(e *mail.Event) string) kindOfSearch {
		return kindOfSearch{name, func(p *past) (string, []string) { return make(p.one()), nil }}
	}
	return []kindOfSearch{
		simple("message ID", func(e *mail.Event) string { return "id:" + e.Message.String() }),
		simple("session ID, as a word", func(e *mail.Event) string { return e.Session.String() }),
		simple("sender", func(e *mail.Event) string { return "sender:" + e.Sender }),
		simple("recipient", func(e *mail.Event) string { return "recipient:" + e.Recipients[0].Address }),
		simple("address, as a word", func(e *mail.Event) string { return e.Recipients[0].Address }),
		simple("client", func(e *mail.Event) string { return "client:" + e.Client.String() }),
		simple("network /24", func(e *mail.Event) string { p, _ := e.Client.Prefix(24); return "client:" + p.String() }),
		simple("domain of a customer", func(e *mail.Event) string { return "domain:" + e.Recipients[0].Domain }),
		simple("word of the subject, common", func(e *mail.Event) string { return "subject:" + strings.Fields(e.Subject)[0] }),
		simple("words of the subject, rare", func(e *mail.Event) string { return "subject:" + strings.Fields(e.Subject)[2] }),
		simple("verdict, common", func(*mail.Event) string { return "verdict:mark" }),
		simple("verdict, rare", func(*mail.Event) string { return "verdict:quarantine" }),
		simple("symbol, common", func(*mail.Event) string { return "symbol:zen.example.org" }),
		simple("symbol, rare", func(e *mail.Event) string { return fmt.Sprintf("symbol:Win.Test.Sample-%d", e.Size%50) }),
		simple("a day", func(e *mail.Event) string {
			day := e.Time.UTC().Truncate(24 * time.Hour)
			return "since:" + day.Format(time.RFC3339) + " until:" + day.Add(24*time.Hour).Format(time.RFC3339)
		}),
		simple("all but the common", func(*mail.Event) string { return "-verdict:deliver -kind:connect -kind:attempt" }),
		simple("two common, seldom together", func(e *mail.Event) string {
			return "verdict:quarantine subject:" + strings.Fields(e.Subject)[0] + " recipient:@" + e.Recipients[0].Domain
		}),
		simple("nothing that is there", func(*mail.Event) string { return "sender:nobody@nowhere.example" }),
		{"common verdict, of one customer's administrator", func(p *past) (string, []string) { return "verdict:mark", []string{p.one().Recipients[0].Domain} }},
		simple("text anywhere, within an hour", func(e *mail.Event) string {
			return `text:"mailbox busy" since:` + e.Time.UTC().Format(time.RFC3339) + " until:" + e.Time.UTC().Add(time.Hour).Format(time.RFC3339)
		}),
	}
}

// cpuTime is what this process used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

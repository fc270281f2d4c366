package history

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

// message is an event of an accepted message.
func message(subject string) *mail.Event {
	return &mail.Event{Kind: mail.EventMessage, Result: mail.EventAccepted, Message: mail.NewID(), Session: mail.NewID(), Subject: subject,
		Sender: "alice@example.org", Recipients: []mail.Addressee{{Address: "bob@example.com", Domain: "example.com", Item: 1, Transport: "exchange"}}}
}

func TestEventsThatACrashLeftAreStoredOnce(t *testing.T) {
	hs := openStore(t, "", t.TempDir())
	out := &fakeOutbox{}
	first := openHistory(t, Config{Store: hs, Outbox: out})
	stored := message("stored, but not dropped")
	first.Note(stored)
	left := slices.Clone(out.notes)
	first.Flush(t.Context())
	if out.length() != 0 {
		t.Fatalf("%d notes are left after they were stored", out.length())
	}
	// The crash: what was written is in the store, and still in the outbox; the next one
	// is in the outbox only.
	lost := message("only in the outbox")
	first.Note(lost)
	out.notes = append(left, out.notes...)
	first.line.remove(1)

	second := openHistory(t, Config{Store: hs, Outbox: out})
	got := pages(t, second, Search{})
	if want := []mail.ID{lost.ID, stored.ID}; !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
	if out.length() != 0 {
		t.Errorf("%d notes are left", out.length())
	}
	counts, err := second.Statistics(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := counts.Totals["message/accept"]; n != 2 {
		t.Errorf("%d messages are counted, want 2", n)
	}
}

func TestAMessageThatWasNotCommittedLeavesNoEvent(t *testing.T) {
	h := openHistory(t, Config{Outbox: &fakeOutbox{}})
	note, done := h.Prepare(message("never"))
	if note.ID.IsZero() || len(note.Record) == 0 {
		t.Error("the note is empty")
	}
	done(false)
	kept := message("kept")
	_, done = h.Prepare(kept)
	done(true)
	if got := pages(t, h, Search{}); !slices.Equal(got, []mail.ID{kept.ID}) {
		t.Errorf("found %v", got)
	}
}

// awayStore is a store that can go away.
type awayStore struct {
	Store
	away atomic.Bool
}

func (s *awayStore) Write(ctx context.Context, w store.HistoryWrite) (store.HistorySegment, error) {
	if s.away.Load() {
		return store.HistorySegment{}, store.ErrUnavailable
	}
	return s.Store.Write(ctx, w)
}

func TestWhileTheStoreIsAwayEventsWaitUpToABound(t *testing.T) {
	hs := &awayStore{Store: openStore(t, "", t.TempDir())}
	out := &fakeOutbox{}
	h := openHistory(t, Config{Store: hs, Outbox: out, MaxWaiting: 10, MaxOutbox: 20_000})
	h.Flush(t.Context())
	hs.away.Store(true)
	for range 100 {
		h.Note(message("waits"))
		h.Note(&mail.Event{Kind: mail.EventConnect, Result: mail.EventRefused})
	}
	h.Flush(t.Context())
	if err := h.Health(); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("health is %v", err)
	}
	if s := h.Stats(); s.Waiting != 10 || s.Outbox > 20_000 || s.Dropped == 0 {
		t.Errorf("while it is away: %+v", s)
	}
	hs.away.Store(false)
	h.Flush(t.Context())
	if err := h.Health(); err != nil {
		t.Error(err)
	}
	got := pages(t, h, Search{Limit: 1000})
	s := h.Stats()
	if s.Waiting != 0 || s.Outbox != 0 || out.length() != 0 || int64(len(got))+s.Dropped != 200 {
		t.Errorf("found %d, and %+v; notes left %d", len(got), s, out.length())
	}
	if ids := slices.Compact(slices.Clone(got)); len(ids) != len(got) {
		t.Error("an event is there twice")
	}
}

func TestASlowMessageHoldsOthersUpForAMomentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &waiting{}
		var slow, quick slot
		w.reserve(&slow, 10)
		w.reserve(&quick, 10)
		w.finish(&quick, slotReady)
		if got := w.front(10, time.Now()); len(got) != 0 {
			t.Error("an event overtook one that was begun before it")
		}
		time.Sleep(stuckAfter)
		if got := w.front(10, time.Now()); !slices.Equal(got, []*slot{&quick}) {
			t.Errorf("%d events are ready, want the one behind the slow one", len(got))
		}
		w.remove(1)
		w.finish(&slow, slotReady)
		if got := w.front(10, time.Now()); !slices.Equal(got, []*slot{&slow}) {
			t.Error("the slow one is lost")
		}
	})
}

func TestManyWhoNoteAtOnceLoseNothing(t *testing.T) {
	h := openHistory(t, Config{Outbox: &fakeOutbox{}, Interval: time.Millisecond})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				if i%2 == 0 {
					h.Note(message("x"))
					continue
				}
				_, done := h.Prepare(message("y"))
				done(true)
			}
		})
	}
	wg.Wait()
	if got := pages(t, h, Search{Limit: 1000}); len(got) != 1600 {
		t.Errorf("%d events are found, want 1600", len(got))
	}
	if s := h.Stats(); s.Dropped != 0 || s.Outbox != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAWatcherSeesWhatItAsksForAndASlowOneIsToldWhatItMissed(t *testing.T) {
	h := openHistory(t, Config{})
	mine := h.Watch(Filter{Recipient: "@example.com", Client: netip.MustParsePrefix("192.0.2.0/24")})
	slow := h.Watch(Filter{})
	defer mine.Close()
	defer slow.Close()
	e := message("hello")
	e.Client = netip.MustParseAddr("192.0.2.7")
	h.Note(e)
	other := message("elsewhere")
	other.Client = netip.MustParseAddr("198.51.100.1")
	h.Note(other)
	var got mail.Event
	if err := json.Unmarshal(<-mine.Lines(), &got); err != nil || got.ID != e.ID {
		t.Errorf("got %v %v", got.ID, err)
	}
	if len(mine.Lines()) != 0 {
		t.Error("it sees what it did not ask for")
	}
	for range maxBehind + 10 {
		h.Note(message("many"))
	}
	if n := slow.Missed(); n != 12 {
		t.Errorf("missed %d, want 12", n)
	}
	if n := slow.Missed(); n != 0 {
		t.Errorf("told twice: %d", n)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	h := openHistory(t, Config{})
	for range maxWatchers {
		if w := h.Watch(Filter{}); w == nil {
			t.Fatal("refused too early")
		}
	}
	if w := h.Watch(Filter{}); w != nil {
		t.Error("no bound")
	}
}

func TestADomainAdministratorSeesNothingOfOthers(t *testing.T) {
	ours, theirs := mail.Addressee{Address: "a@example.com", Domain: "example.com", Action: mail.ActionDeliver}, mail.Addressee{Address: "b@example.net", Domain: "example.net", Action: mail.ActionReject, Reason: "secret"}
	finding := mail.Finding{Module: "filters", Recipients: []string{"b@example.net"}}
	for name, c := range map[string]struct {
		e    mail.Event
		want *mail.Event
	}{
		"mail to both":                      {mail.Event{Recipients: []mail.Addressee{ours, theirs}, Findings: []mail.Finding{finding}, Action: mail.ActionReject, Reason: "secret"}, &mail.Event{Recipients: []mail.Addressee{ours}, Findings: []mail.Finding{}, Action: mail.ActionDeliver}},
		"mail to others":                    {mail.Event{Recipients: []mail.Addressee{theirs}}, nil},
		"mail that says it is from them":    {mail.Event{Sender: "ceo@example.com", Recipients: []mail.Addressee{theirs}}, nil},
		"mail of one who logged in":         {mail.Event{Sender: "a@example.com", User: "a", Recipients: []mail.Addressee{theirs}}, &mail.Event{Sender: "a@example.com", User: "a", Recipients: []mail.Addressee{theirs}}},
		"mail that was let out":             {mail.Event{Sender: "a@example.com", Recipients: []mail.Addressee{{Address: "x@y.example", Domain: "*"}}}, &mail.Event{Sender: "a@example.com", Recipients: []mail.Addressee{{Address: "x@y.example", Domain: "*"}}}},
		"a login of theirs":                 {mail.Event{Kind: mail.EventLogin, User: "a@Example.com"}, &mail.Event{Kind: mail.EventLogin, User: "a@Example.com"}},
		"a login of others":                 {mail.Event{Kind: mail.EventLogin, User: "a@example.net"}, nil},
		"a connection":                      {mail.Event{Kind: mail.EventConnect}, nil},
		"what an administrator did":         {mail.Event{Kind: mail.EventAdmin, Actor: "ada"}, nil},
		"an alias domain, by its parent":    {mail.Event{Recipients: []mail.Addressee{{Address: "a@alias.example", Domain: "example.com"}}}, &mail.Event{Recipients: []mail.Addressee{{Address: "a@alias.example", Domain: "example.com"}}}},
		"rewritten, by the address of RCPT": {mail.Event{Recipients: []mail.Addressee{{Address: "a@inner.example", Original: "a@example.com"}}}, &mail.Event{Recipients: []mail.Addressee{{Address: "a@inner.example", Original: "a@example.com"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := restrict(&c.e, []string{"example.com"})
			if d := cmp.Diff(c.want, got, same...); d != "" {
				t.Errorf("sees %s", d)
			}
			// The index must know the same.
			asked := slices.Contains(termsOf(&c.e), hash(fieldAsker, "example.com"))
			if asked != (c.want != nil) {
				t.Errorf("the index says %v", asked)
			}
			if restrict(&c.e, nil) != &c.e || restrict(&c.e, []string{}) != nil {
				t.Error("nil must see everything, and no domain nothing")
			}
		})
	}
}

func TestTheStoryOfAMessage(t *testing.T) {
	h := openHistory(t, Config{})
	e := message("invoice")
	e.Recipients = append(e.Recipients, mail.Addressee{Address: "carol@example.com", Domain: "example.com", Item: 2, Transport: "quarantine", Action: mail.ActionQuarantine},
		mail.Addressee{Address: "dave@example.com", Domain: "example.com", Action: mail.ActionDiscard})
	id, session := e.Message, e.Session
	h.Note(&mail.Event{Kind: mail.EventLogin, Result: mail.EventOK, Session: session, User: "u"})
	h.Note(&mail.Event{Kind: mail.EventRecipient, Result: mail.EventRefused, Session: session, Message: id, Sender: "alice@example.org",
		Recipients: []mail.Addressee{{Address: "nobody@example.com"}}})
	h.Note(e)
	next := time.Now().Add(time.Hour).UTC()
	h.Note(&mail.Event{Kind: mail.EventAttempt, Result: mail.EventDeferred, Session: session, Message: id, Item: 1, Attempt: 1, Reply: "451 later", Remote: true, Next: next,
		Recipients: []mail.Addressee{{Address: "bob@example.com", Status: mail.Deferred}}})
	h.Note(&mail.Event{Kind: mail.EventQuarantine, Result: mail.EventOK, Message: id, Item: 2, Recipients: []mail.Addressee{{Address: "carol@example.com"}}})
	other := message("of the same session")
	other.Session = session
	h.Note(other)
	released := mail.NewID()
	h.Note(&mail.Event{Kind: mail.EventRelease, Result: mail.EventOK, Message: id, Related: released, Actor: "ada", Recipients: []mail.Addressee{{Address: "carol@example.com"}}})

	m, err := h.Message(t.Context(), id, nil)
	if err != nil || m == nil {
		t.Fatal(m, err)
	}
	var kinds []mail.EventKind
	for _, e := range m.Events {
		kinds = append(kinds, e.Kind)
	}
	want := []mail.EventKind{mail.EventLogin, mail.EventRecipient, mail.EventMessage, mail.EventAttempt, mail.EventQuarantine, mail.EventRelease}
	if !slices.Equal(kinds, want) {
		t.Errorf("events %v, want %v", kinds, want)
	}
	states := make(map[string]DeliveryState)
	for _, d := range m.Recipients {
		states[d.Address] = d.State
		if d.Address == "bob@example.com" && (!d.Next.Equal(next) || d.Reply != "451 later" || d.Attempts != 1) {
			t.Errorf("bob: %+v", d)
		}
	}
	if d := cmp.Diff(map[string]DeliveryState{"nobody@example.com": StateRefused, "bob@example.com": StateWaiting, "carol@example.com": StateReleased, "dave@example.com": StateDiscarded}, states); d != "" {
		t.Errorf("recipients: %s", d)
	}
	if !slices.Equal(m.Related, []mail.ID{released}) || m.Subject != "invoice" || m.Session != session {
		t.Errorf("related %v subject %q session %v", m.Related, m.Subject, m.Session)
	}
	for _, domains := range [][]string{{"example.org"}, {}} {
		if m, err := h.Message(t.Context(), id, domains); m != nil || err != nil {
			t.Errorf("%v is shown %v %v", domains, m, err)
		}
	}
	if m, err := h.Message(t.Context(), mail.NewID(), nil); m != nil || err != nil {
		t.Errorf("a message that nobody knows: %v %v", m, err)
	}
}

func TestAnExportHasNoFormulas(t *testing.T) {
	cells := map[string]string{
		`=HYPERLINK("http://x")`: `'=HYPERLINK("http://x")`, "+1": "'+1", "-1+1": "'-1+1", "@SUM(1)": "'@SUM(1)", " =1": "' =1",
		"\t=1": "'\t=1", "＝1": "'＝1", "plain": "plain", "": "", "a=b": "a=b",
	}
	for text, want := range cells {
		if got := harmless(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	var b bytes.Buffer
	c, err := NewCSV(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write([]*mail.Event{full(t), message("=1,\"\n2")}); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 || len(rows[1]) != len(csvColumns()) {
		t.Fatalf("%v %v", rows, err)
	}
	if got := rows[2][slices.Index(csvColumns(), "subject")]; got != "'=1,\"\n2" {
		t.Errorf("subject %q", got)
	}
	for _, row := range rows[1:] {
		for _, cell := range row {
			if strings.HasPrefix(cell, "=") || strings.HasPrefix(cell, "+") || strings.HasPrefix(cell, "@") || strings.HasPrefix(cell, "-") {
				t.Errorf("cell %q is a formula", cell)
			}
		}
	}
}

func TestCountsSurviveARestartAndKnowTheirDomains(t *testing.T) {
	dir := t.TempDir()
	hs := openStore(t, "", dir)
	for range 2 {
		h, err := Open(Config{Store: hs, Interval: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		e := message("x")
		e.Size, e.Action = 100, mail.ActionMark
		e.Client = netip.MustParseAddr("192.0.2.7")
		h.Note(e)
		virus := message("virus")
		virus.Result, virus.Action, virus.Threat = mail.EventRefused, mail.ActionReject, mail.ThreatVirus
		virus.Recipients[0].Threat, virus.Recipients[0].Rule, virus.Recipients[0].Domain = mail.ThreatVirus, "Eicar", "example.net"
		h.Note(virus)
		h.Note(&mail.Event{Kind: mail.EventConnect, Result: mail.EventRefused, Findings: []mail.Finding{{Module: "dnsbl", Result: mail.Match}}})
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h := openHistory(t, Config{Store: hs})
	now := time.Now()
	all, err := h.Statistics(t.Context(), now.Add(-5*time.Hour), now.Add(time.Hour), time.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int64{"message/mark": 2, "message/reject": 2, "connect/refused": 2, "bytes": 200}, all.Totals); d != "" {
		t.Errorf("totals: %s", d)
	}
	if d := cmp.Diff(map[string][]Ranked{
		TopSenders: {{"alice@example.org", 4}}, TopRecipients: {{"bob@example.com", 4}}, TopNetworks: {{"192.0.2.0/24", 2}},
		TopThreats: {{"Eicar", 2}}, TopChecks: {{"dnsbl", 2}},
	}, all.Top); d != "" {
		t.Errorf("lists: %s", d)
	}
	some, err := h.Statistics(t.Context(), now.Add(-5*time.Hour), now.Add(time.Hour), time.Hour, []string{"example.net"})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int64{"message/reject": 2}, some.Totals); d != "" || len(some.Top) != 0 {
		t.Errorf("totals of a domain: %s %v", d, some.Top)
	}
	if far, err := h.Statistics(t.Context(), now.AddDate(-5, 0, 0), now, time.Hour, nil); err != nil || len(far.Points) > maxPoints+1 {
		t.Errorf("%d points, %v", len(far.Points), err)
	}
}

func TestALongListOfNamesKeepsTheFrequentOnes(t *testing.T) {
	n := newCounts()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		n.name(TopSenders, "often@example.org")
		n.name(TopSenders, string(rune('a'+rng.IntN(26)))+time.Duration(rng.Int64()).String())
	}
	if l := n.Top[TopSenders]; len(l) > maxNames+1 || l["often@example.org"] != 50_000 {
		t.Errorf("%d names, often %d", len(l), l["often@example.org"])
	}
}

func TestAFloodOfRefusalsIsCountedAndNotKept(t *testing.T) {
	h := openHistory(t, Config{MaxRefusals: 5})
	for range 1000 {
		h.Note(&mail.Event{Kind: mail.EventConnect, Result: mail.EventRefused})
	}
	h.Note(message("mail goes on"))
	got := pages(t, h, Search{Limit: 1000})
	if len(got) < 51 || len(got) > 200 || h.Stats().Dropped != int64(1001-len(got)) {
		t.Errorf("%d are kept, %d dropped", len(got), h.Stats().Dropped)
	}
	now := time.Now()
	counts, err := h.Statistics(t.Context(), now.Add(-2*time.Hour), now.Add(time.Hour), time.Hour, nil)
	if kept := counts.Totals["connect/refused"]; err != nil || kept+counts.Totals["flooded"] != 1000 || int(kept) != len(got)-1 {
		t.Errorf("%v counted, %v", counts.Totals, err)
	}
}

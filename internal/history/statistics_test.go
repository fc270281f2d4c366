package history

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// everyKind is an event of any kind that is counted, with recipients who fare
// differently, aliases, users who log in, and checks of all sorts.
func everyKind(rng *rand.Rand) *mail.Event {
	e := randomEvent(rng)
	e.Findings, e.Recipients, e.Action, e.Threat, e.Attempt, e.Item = nil, nil, "", "", 0, 0
	pick := func(all ...string) string { return all[rng.IntN(len(all))] }
	e.Kind = mail.EventKind(pick("message", "message", "message", "fetch", "scanned", "connect", "sender", "recipient", "attempt"))
	e.Stage = pick("", "connect", "rcpt", "data")
	for range rng.IntN(3) {
		e.Findings = append(e.Findings, mail.Finding{Module: pick("greylist", "dnsbl", "rcpt"), Symbol: pick("zen.example.org", "first"), Result: mail.Match})
	}
	switch e.Kind {
	case mail.EventMessage:
		e.Result = mail.EventResult(pick("accepted", "accepted", "accepted", "refused", "deferred", "dropped"))
	case mail.EventFetch:
		e.Result = mail.EventResult(pick("passed", "replaced", "refused", "failed"))
	case mail.EventScanned:
		e.Result = mail.EventOK
	case mail.EventAttempt:
		e.Result = mail.EventResult(pick("delivered", "deferred"))
	default:
		e.Result = mail.EventResult(pick("refused", "deferred", "dropped"))
		if e.Kind == mail.EventRecipient {
			domain := pick("example.com", "example.net", "example.org")
			e.Recipients = []mail.Addressee{{Address: "x@" + domain, Domain: domain}}
		}
		return e
	}
	if rng.IntN(6) == 0 {
		e.User = pick("ann@example.com", "bert@Example.org")
	}
	for range 1 + rng.IntN(4) {
		domain := pick("example.com", "Example.org", "example.net")
		r := mail.Addressee{Address: fmt.Sprintf("r%d@%s", rng.IntN(5), domain), Domain: domain, Action: mail.Action(pick("", "deliver", "deliver", "mark", "quarantine", "discard"))}
		if rng.IntN(5) == 0 {
			r.Original = fmt.Sprintf("r%d@%s", rng.IntN(5), pick("example.com", "example.net"))
		}
		if rng.IntN(8) == 0 {
			r.Domain, r.Address = "*", "away@elsewhere.example"
		}
		if r.Action == mail.ActionQuarantine {
			r.Threat, r.Rule = mail.Threat(pick("virus", "filter", "spam")), pick("Eicar", "no programs")
		}
		if e.Action == "" || r.Action.Worse(e.Action) {
			e.Action, e.Threat = r.Action, r.Threat
		}
		e.Recipients = append(e.Recipients, r)
	}
	return e
}

// TestASearchFindsAsManyAsAreCounted holds what is counted against what the searches
// find to which pages link, for everybody and for administrators of domains.
func TestASearchFindsAsManyAsAreCounted(t *testing.T) {
	h := openHistory(t, Config{})
	rng := rand.New(rand.NewPCG(3, 5))
	for range 3000 {
		h.Note(everyKind(rng))
	}
	h.Flush(t.Context())
	now := time.Now()
	find := func(query string, since time.Time, domains []string) (n int64) {
		t.Helper()
		q, err := ParseQuery(query, now)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		q.Since = since
		return int64(len(pages(t, h, Search{Query: q, Domains: domains, Limit: 1000})))
	}
	for _, domains := range [][]string{nil, {"example.com"}, {"EXAMPLE.org", "example.net"}, {"example.com", "example.org", "example.net"}, {}} {
		counts, err := h.Statistics(t.Context(), now.Add(-2*time.Hour), now.Add(time.Hour), time.Hour, domains)
		if err != nil {
			t.Fatal(err)
		}
		all := int64(0)
		for _, o := range []Outcome{Accepted, Marked, Quarantined, Rejected, Deferred, Discarded} {
			n := int64(0)
			for _, key := range o.Keys() {
				n += counts.Totals[key]
			}
			all += n
			if found := find("outcome:"+string(o), counts.Since, domains); found != n {
				t.Errorf("%s for %v: %d are counted, %d found", o, domains, n, found)
			}
		}
		if (all == 0) != (domains != nil && len(domains) == 0) {
			t.Errorf("%d messages for %v", all, domains)
		}
		top, since := counts.Top, counts.Since
		if domains != nil {
			tops, err := h.TopOf(t.Context(), counts.Since, counts.Until, domains)
			if err != nil || !tops.All {
				t.Fatalf("%+v %v", tops, err)
			}
			top = tops.Top
		}
		for list, ask := range TopSearches() {
			if len(top[list]) == 0 && len(domains) != 0 {
				t.Errorf("no %s for %v", list, domains)
			}
			for _, r := range top[list] {
				if found := find(fmt.Sprintf("%s%q", ask, r.Name), since, domains); found != r.Count {
					t.Errorf("%s %s for %v: %d are counted, %d found", list, r.Name, domains, r.Count, found)
				}
			}
		}
	}
}

// TestSettledHoursAreNotReadAgain: a statistic is the same with and without what is
// remembered, and an hour that is written late is in it.
func TestSettledHoursAreNotReadAgain(t *testing.T) {
	h := openHistory(t, Config{})
	now := time.Now()
	at := func(age time.Duration) *mail.Event {
		e := message("old")
		e.Time, e.Action = now.Add(-age), mail.ActionDeliver
		return e
	}
	if err := h.Import(t.Context(), []*mail.Event{at(20 * time.Hour), at(5 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	count := func() int64 {
		s, err := h.Statistics(t.Context(), now.Add(-24*time.Hour), now.Add(time.Hour), time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, p := range s.Points {
			sum += p.Totals["message/deliver"]
		}
		if sum != s.Totals["message/deliver"] {
			t.Errorf("points have %d, totals %d", sum, s.Totals["message/deliver"])
		}
		return sum
	}
	if a, b := count(), count(); a != 2 || b != 2 {
		t.Errorf("%d, then %d", a, b)
	}
	fresh := message("new")
	fresh.Action = mail.ActionDeliver
	h.Note(fresh)
	h.Flush(t.Context())
	if n := count(); n != 3 {
		t.Errorf("%d with a new one", n)
	}
	if err := h.Import(t.Context(), []*mail.Event{at(7 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 4 {
		t.Errorf("%d with a late one", n)
	}
}

// TestTopsOfManyEventsSayFromWhenOn: what is too much is left out, and said.
func TestTopsOfManyEventsSayFromWhenOn(t *testing.T) {
	h := openHistory(t, Config{})
	now := time.Now()
	var all []*mail.Event
	for i := range maxTopEvents + 2500 {
		e := message("many")
		e.Time = now.Add(time.Duration(i-10_000) * time.Second)
		all = append(all, e)
	}
	if err := h.Import(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	tops, err := h.TopOf(t.Context(), now.Add(-24*time.Hour), now.Add(time.Hour), []string{"example.com"})
	if err != nil {
		t.Fatal(err)
	}
	later := 0
	for _, e := range all {
		if !e.ID.Time().Before(tops.Since) {
			later++
		}
	}
	if tops.All || tops.Events != later || tops.Events > maxTopEvents || tops.Events == 0 {
		t.Errorf("%d of %d events since %s, all: %v", tops.Events, later, tops.Since, tops.All)
	}
}

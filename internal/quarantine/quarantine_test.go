package quarantine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatepost/internal/mail"
)

func TestAReleaseIsTheBytesAndTheEnvelopeAsTheyCame(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	// Bytes that anything careless would change, and more than one chunk of them.
	body := "Subject: x\r\n\r\n.\x00\xff\r bare\n" + strings.Repeat("0123456789abcdef", 40<<10) + "no line end"
	d := sample{from: "a@sender.example", body: body, subject: "x", edits: mail.Edits{
		Prepend: []byte("Received: by us\r\n"), Cut: []mail.Span{{Start: 0, End: 12}},
		Replace: []mail.Replacement{{Span: mail.Span{Start: 14, End: 20}, Text: []byte("[removed]")}},
	}}.delivery(t, "anna@example.com", "Bob@example.com")
	b.deliver(d)

	res := b.release(Request{IDs: []mail.ID{d.ID.Message}, By: "root"})
	if res.Err != nil || res.ReleasedAs.IsZero() || strings.Join(res.Recipients, " ") != "anna@example.com Bob@example.com" {
		t.Fatalf("%+v", res)
	}
	if len(b.out.bodies) != 1 || b.out.bodies[0] != body {
		t.Error("the bytes differ")
	}
	want := *d.Message.Envelope
	want.Edits = mail.Edits{} // they are made anew for each way
	if diff := cmp.Diff(&want, b.out.released[0].Envelope, cmpopts.EquateApproxTime(time.Millisecond), cmpopts.EquateComparable(mail.Session{}.Client)); diff != "" {
		t.Errorf("the envelope differs (-want +got):\n%s", diff)
	}
	if got := b.states(d.ID.Message); got != "anna@example.com released, Bob@example.com released" {
		t.Error(got)
	}
	if e := b.show(d.ID.Message).Entries[0]; e.By != "root" || e.Changed.IsZero() {
		t.Errorf("%+v", e)
	}
}

func TestDeliveringTheSameAgainChangesNothingAndFurtherRecipientsJoin(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	all := sample{from: "a@sender.example"}.delivery(t, "anna@example.com", "bob@example.com")
	first := *all
	first.Recipients = all.Recipients[:1]
	b.deliver(&first)
	b.deliver(&first)
	if got := b.states(all.ID.Message); got != "anna@example.com held" {
		t.Error(got)
	}
	b.release(Request{IDs: []mail.ID{all.ID.Message}})
	b.deliver(all)
	if got := b.states(all.ID.Message); got != "anna@example.com released, bob@example.com held" {
		t.Error(got)
	}
	page, err := b.q.List(t.Context(), Filter{Limit: 10})
	must(t, err)
	if len(page.Items) != 1 {
		t.Errorf("%d copies", len(page.Items))
	}
}

func TestWhileTheStoreIsAwayTheQueueKeepsTheMessage(t *testing.T) {
	s := &brokenStore{Store: openStore(t, "gw1"), down: true}
	transport, err := NewTransport(s, nil)
	must(t, err)
	d := sample{}.delivery(t, "anna@example.com", "bob@example.com")
	for _, o := range transport.Deliver(t.Context(), d) {
		if o.Status != mail.Deferred || !strings.Contains(o.Cause, "connection refused") || o.Reply.Code != 451 {
			t.Errorf("%+v", o)
		}
	}
	s.set(false)
	for _, o := range transport.Deliver(t.Context(), d) {
		// DSNPassed: a sender who asked for a success report must not get one.
		if o.Status != mail.Delivered || o.Reply.String() != "250 2.0.0 Quarantined" || !o.DSNPassed || o.Time.IsZero() {
			t.Errorf("%+v", o)
		}
	}
}

func TestAMessageIsReleasedOnceUnlessForced(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	id := b.hold(sample{}, "anna@example.com", "bob@example.com")
	for _, c := range []struct {
		name string
		r    Request
		want string // recipients that it was done for
		err  error
	}{
		{"for nobody that it has", Request{Recipients: []string{"carol@example.com"}}, "", ErrNotFound},
		{"for one, in another case", Request{Recipients: []string{"ANNA@Example.COM"}}, "anna@example.com", nil},
		{"for the same again", Request{Recipients: []string{"anna@example.com"}}, "", ErrReleased},
		{"for both, by name", Request{Recipients: []string{"anna@example.com", "bob@example.com"}}, "", ErrReleased},
		{"for the rest", Request{}, "bob@example.com", nil},
		{"when nobody is left", Request{}, "", ErrReleased},
		{"by force for one", Request{Recipients: []string{"bob@example.com"}, Force: true}, "bob@example.com", nil},
		{"by force for all", Request{Force: true}, "anna@example.com bob@example.com", nil},
	} {
		before := len(b.out.released)
		c.r.IDs = []mail.ID{id}
		res := b.release(c.r)
		if !errors.Is(res.Err, c.err) || strings.Join(res.Recipients, " ") != c.want {
			t.Errorf("%s: %+v", c.name, res)
		}
		if sent := len(b.out.released) > before; sent != (c.err == nil) {
			t.Errorf("%s: sent %v", c.name, sent)
		}
	}
	if res := b.release(Request{IDs: []mail.ID{mail.NewID()}}); !errors.Is(res.Err, ErrNotFound) {
		t.Errorf("unknown: %+v", res)
	}
}

func TestWhatCouldNotBeQueuedIsStillHeld(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	id := b.hold(sample{}, "anna@example.com")
	b.out.fail = errors.New("no space left on device")
	res := b.release(Request{IDs: []mail.ID{id}})
	if res.Err == nil || !res.ReleasedAs.IsZero() || b.states(id) != "anna@example.com held" {
		t.Errorf("%+v, %s", res, b.states(id))
	}
	b.out.fail = nil
	if res := b.release(Request{IDs: []mail.ID{id}}); res.Err != nil {
		t.Errorf("%+v", res)
	}
}

func TestAReleaseThatCannotBeNotedIsToldWithItsID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &brokenStore{Store: openStore(t, "gw1")}
		b := newBench(t, s)
		id := b.hold(sample{}, "anna@example.com")
		b.out.during = func() { s.set(true) }
		res := b.release(Request{IDs: []mail.ID{id}})
		if !errors.Is(res.Err, ErrUnavailable) || res.ReleasedAs.IsZero() || len(b.out.released) != 1 {
			t.Errorf("%+v", res)
		}
	})
}

func TestAShortOutageDoesNotMakeAReleaseLookUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &brokenStore{Store: openStore(t, "gw1")}
		b := newBench(t, s)
		id := b.hold(sample{}, "anna@example.com")
		b.out.during = func() {
			s.set(true)
			time.AfterFunc(time.Second, func() { s.set(false) })
		}
		if res := b.release(Request{IDs: []mail.ID{id}}); res.Err != nil || b.states(id) != "anna@example.com released" {
			t.Errorf("%+v, %s", res, b.states(id))
		}
	})
}

func TestWhatHasBegunIsFinishedAlthoughNobodyWaits(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	first, second := b.hold(sample{}, "anna@example.com"), b.hold(sample{}, "anna@example.com")
	ctx, cancel := context.WithCancel(t.Context())
	b.out.during = cancel
	res := b.q.Release(ctx, Request{IDs: []mail.ID{first, second}, Role: RoleAdmin})
	if res[0].Err != nil || b.states(first) != "anna@example.com released" {
		t.Errorf("%+v, %s", res[0], b.states(first))
	}
	if !errors.Is(res[1].Err, context.Canceled) || b.states(second) != "anna@example.com held" {
		t.Errorf("%+v, %s", res[1], b.states(second))
	}
}

func TestTwoNodesNeverReleaseAtOnce(t *testing.T) {
	s := openStore(t, "gw1")
	one, two := newBench(t, s), newBench(t, s)
	id := one.hold(sample{}, "anna@example.com")
	var there Result
	one.out.during = func() { there = two.release(Request{IDs: []mail.ID{id}}) }
	if res := one.release(Request{IDs: []mail.ID{id}}); res.Err != nil {
		t.Fatalf("%+v", res)
	}
	if !errors.Is(there.Err, ErrBusy) || len(two.out.released) != 0 {
		t.Errorf("the other node: %+v", there)
	}
	if res := two.release(Request{IDs: []mail.ID{id}}); !errors.Is(res.Err, ErrReleased) {
		t.Errorf("afterwards: %+v", res)
	}
}

func TestALeaseOfADeadNodeEnds(t *testing.T) {
	s := openStore(t, "gw1")
	b := newBench(t, s)
	id := b.hold(sample{}, "anna@example.com")
	_, err := s.SwapSetting(t.Context(), leaseSetting+id.String(), nil, []byte(mail.FirstID(time.Now().Add(-time.Hour)).String()))
	must(t, err)
	if res := b.release(Request{IDs: []mail.ID{id}}); res.Err != nil {
		t.Errorf("%+v", res)
	}
	left, err := s.Settings(t.Context(), leaseSetting)
	must(t, err)
	if len(left) != 0 {
		t.Errorf("leases stay: %v", left)
	}
}

func TestVirusesAreReleasedByAdministratorsOnly(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	virus := b.hold(sample{threat: mail.ThreatVirus}, "anna@example.com")
	// For one recipient it is a virus, for the other a filter: the same bytes.
	d := sample{threat: mail.ThreatFilter}.delivery(t, "anna@example.com", "bob@example.com")
	d.Message.Envelope.Recipients[1].Verdict = &mail.Verdict{Action: mail.ActionReject, Threat: mail.ThreatVirus}
	d.Recipients = d.Recipients[:1]
	b.deliver(d)
	for _, id := range []mail.ID{virus, d.ID.Message} {
		for _, role := range []Role{RoleRecipient, "other"} {
			res := b.release(Request{IDs: []mail.ID{id}, Recipients: []string{"anna@example.com"}, Role: role, Force: true})
			if !errors.Is(res.Err, ErrForbidden) {
				t.Errorf("%s: %+v", role, res)
			}
		}
	}
	if len(b.out.released) != 0 {
		t.Fatal("a virus is on its way")
	}
	if res := b.release(Request{IDs: []mail.ID{virus}}); res.Err != nil {
		t.Errorf("%+v", res)
	}
}

func TestDeletingByAnAdministratorTakesTheBytesAway(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	id := b.hold(sample{}, "anna@example.com", "bob@example.com")
	r := Request{IDs: []mail.ID{id}, Recipients: []string{"anna@example.com"}, Role: RoleRecipient, By: "anna@example.com"}
	if res := b.q.Delete(t.Context(), r)[0]; res.Err != nil {
		t.Fatalf("%+v", res)
	}
	if got := b.states(id); got != "anna@example.com deleted, bob@example.com held" {
		t.Error(got)
	}
	if res := b.q.Delete(t.Context(), r)[0]; !errors.Is(res.Err, ErrDeleted) {
		t.Errorf("again: %+v", res)
	}
	r.Recipients = []string{"bob@example.com"}
	if res := b.q.Delete(t.Context(), r)[0]; res.Err != nil {
		t.Fatalf("%+v", res)
	}
	// What recipients delete is out of sight, and can be had back.
	page, err := b.q.List(t.Context(), Filter{Limit: 10})
	must(t, err)
	if len(page.Items) != 0 {
		t.Errorf("%+v", page.Items)
	}
	page, err = b.q.List(t.Context(), Filter{Limit: 10, State: Deleted})
	must(t, err)
	if len(page.Items) != 1 || page.Items[0].State != Deleted {
		t.Errorf("%+v", page.Items)
	}
	if res := b.release(Request{IDs: []mail.ID{id}}); !errors.Is(res.Err, ErrDeleted) {
		t.Errorf("%+v", res)
	}
	if res := b.release(Request{IDs: []mail.ID{id}, Recipients: []string{"bob@example.com"}, Force: true}); res.Err != nil {
		t.Errorf("%+v", res)
	}
	if res := b.q.Delete(t.Context(), Request{IDs: []mail.ID{id}, Role: RoleAdmin})[0]; res.Err != nil {
		t.Errorf("%+v", res)
	}
	if _, err := b.q.Body(t.Context(), id); !errors.Is(err, ErrNotFound) {
		t.Errorf("the bytes: %v", err)
	}
}

func TestTrainingTellsWhetherItWasNews(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	id := b.hold(sample{}, "anna@example.com")
	r := Request{IDs: []mail.ID{id}, Role: RoleAdmin}
	for i, want := range []bool{true, false} {
		if res := b.q.Train(t.Context(), r, true)[0]; res.Err != nil || res.Trained != want {
			t.Errorf("time %d: %+v", i, res)
		}
	}
	r.Train = true
	if res := b.release(r); res.Err != nil || !res.Trained || !strings.Contains(b.bayes.lessons[2], "spam=false") {
		t.Errorf("%+v %v", res, b.bayes.lessons)
	}
	q, err := New(Config{Store: b.store, Releaser: b.out})
	must(t, err)
	if res := q.Train(t.Context(), r, true)[0]; !errors.Is(res.Err, ErrNoTrainer) {
		t.Errorf("%+v", res)
	}
}

func TestMessagesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, openStore(t, "gw1"))
		old := b.hold(sample{}, "anna@example.com")
		b.q.Start(t.Context())
		time.Sleep(29 * 24 * time.Hour)
		young := b.hold(sample{}, "anna@example.com")
		b.show(old)
		time.Sleep(24*time.Hour + 2*time.Hour)
		synctest.Wait()
		if _, err := b.q.Show(t.Context(), old); !errors.Is(err, ErrNotFound) {
			t.Errorf("after 30 days: %v", err)
		}
		b.show(young)
		must(t, b.q.Stop(t.Context()))
	})
}

func TestListsAreFiltered(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	spam := b.hold(sample{from: "a@sender.example", subject: "Cheap pills"}, "anna@example.com")
	virus := b.hold(sample{threat: mail.ThreatVirus, rule: "Eicar"}, "bob@example.com")
	both := b.hold(sample{from: "c@other.example"}, "anna@example.com", "dora@example.org")
	b.release(Request{IDs: []mail.ID{both}, Recipients: []string{"dora@example.org"}})
	for _, c := range []struct {
		name string
		f    Filter
		want []mail.ID
	}{
		{"everything, the latest first", Filter{}, []mail.ID{both, virus, spam}},
		{"the sender", Filter{Sender: "a@sender.example"}, []mail.ID{spam}},
		{"the domain of the sender", Filter{Sender: "@other.example"}, []mail.ID{both}},
		{"the null sender", Filter{Sender: "<>"}, []mail.ID{virus}},
		{"the recipient", Filter{Recipient: "anna@example.com"}, []mail.ID{both, spam}},
		{"the domain", Filter{Domain: "Example.ORG"}, []mail.ID{both}},
		{"the threat", Filter{Threat: mail.ThreatVirus}, []mail.ID{virus}},
		{"the state held", Filter{State: Held}, []mail.ID{both, virus, spam}},
		{"the state released", Filter{State: Released}, []mail.ID{both}},
		{"text", Filter{Text: "CHEAP pills"}, []mail.ID{spam}},
		{"the name of a signature", Filter{Text: "eicar"}, []mail.ID{virus}},
		{"what was received before", Filter{Before: spam.Time()}, nil},
		{"what was received since", Filter{Since: spam.Time()}, []mail.ID{both, virus, spam}},
	} {
		// A page of one, so that cursors are tried too.
		var got []mail.ID
		for c.f.Limit = 1; ; {
			page, err := b.q.List(t.Context(), c.f)
			must(t, err)
			for _, row := range page.Items {
				got = append(got, row.ID)
			}
			if c.f.Cursor = page.Next; c.f.Cursor == "" {
				break
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	for _, f := range []Filter{{}, {Limit: 1001}, {Limit: 1, Cursor: "x"}, {Limit: 1, Domain: "a b"}} {
		if _, err := b.q.List(t.Context(), f); !errors.Is(err, ErrRequest) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

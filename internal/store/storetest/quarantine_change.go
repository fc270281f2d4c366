package storetest

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

func quarantineStates(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	m, body := Message("a@example.net", "states", 100, "bob@example.com", "carol@example.com")
	must(t, s.PutQuarantined(ctx, m, body))
	at := time.Now().Truncate(time.Millisecond).UTC()
	release := store.QuarantineChange{State: store.QuarantineReleased, By: "admin", At: at, Note: "false positive"}
	for _, name := range []string{"the first time", "made again by the same person at the same time"} {
		changed, err := s.SetQuarantineState(ctx, m.ID, []string{"BOB@example.com"}, release)
		must(t, err)
		if len(changed) != 1 || changed[0].Recipient.Key() != "bob@example.com" || changed[0].State != store.QuarantineReleased ||
			!changed[0].Changed.Equal(at) || changed[0].By != "admin" || changed[0].Note != "false positive" {
			t.Errorf("%s: changed %+v", name, changed)
		}
	}
	other := release
	other.By = "somebody else"
	if changed, err := s.SetQuarantineState(ctx, m.ID, []string{"bob@example.com"}, other); err != nil || len(changed) != 0 {
		t.Errorf("what is released is released again: %+v, %v", changed, err)
	}
	changed, err := s.SetQuarantineState(ctx, m.ID, nil, store.QuarantineChange{State: store.QuarantineDeleted, By: "x",
		From: []store.QuarantineState{store.QuarantineHeld, store.QuarantineReleased}})
	must(t, err)
	if len(changed) != 2 {
		t.Errorf("deleted for %d, want both", len(changed))
	}
	if _, err := s.SetQuarantineState(ctx, mail.NewID(), nil, release); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("state of an unknown message: %v", err)
	}
	stateRace(t, s, db.Open(t))
}

// stateRace lets many release the same message at once: one of them does.
func stateRace(t *testing.T, a, b *store.Store) {
	m, body := Message("a@example.net", "race", 100, "bob@example.com")
	must(t, a.PutQuarantined(t.Context(), m, body))
	var winners atomic.Int32
	var wg sync.WaitGroup
	for i := range 12 {
		s := []*store.Store{a, b}[i%2]
		wg.Go(func() {
			changed, err := s.SetQuarantineState(t.Context(), m.ID, nil,
				store.QuarantineChange{State: store.QuarantineReleased, By: string(rune('a' + i))})
			if err != nil {
				t.Error(err)
			}
			winners.Add(int32(len(changed)))
		})
	}
	wg.Wait()
	if winners.Load() != 1 {
		t.Errorf("%d released the message, want one", winners.Load())
	}
}

func quarantineExpiry(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	now := time.Now().Truncate(time.Second)
	var ids []mail.ID
	for i := range 130 {
		m, body := Message("a@example.net", "old", 100+i, "bob@example.com")
		m.ID = mail.FirstID(now.Add(-time.Duration(i) * time.Hour))
		m.ID[15] = 1
		must(t, s.PutQuarantined(ctx, m, body))
		ids = append(ids, m.ID)
	}
	n, err := s.ExpireQuarantine(ctx, now.Add(-9*time.Hour))
	must(t, err)
	if n != 120 {
		t.Errorf("expired %d, want 120", n)
	}
	found, _, err := s.FindQuarantined(ctx, store.QuarantineQuery{})
	must(t, err)
	if len(found) != 10 || found[9].ID != ids[9] {
		t.Errorf("%d messages are left", len(found))
	}
	if _, err := s.QuarantinedBody(ctx, ids[10]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the body of an expired message: %v", err)
	}
	if n, err := s.ExpireQuarantine(ctx, now.Add(-9*time.Hour)); n != 0 || err != nil {
		t.Errorf("nothing to expire: %d, %v", n, err)
	}
	must(t, s.DeleteQuarantined(ctx, ids[0]))
	must(t, s.DeleteQuarantined(ctx, ids[0]))
	if _, err := s.Quarantined(ctx, ids[0]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted message: %v", err)
	}
	stats, err := s.QuarantineStats(ctx)
	must(t, err)
	if stats.Messages != 9 || len(stats.Counts) != 1 || stats.Counts[0].Entries != 9 {
		t.Errorf("statistics after it: %+v", stats)
	}
}

func quarantineSummaries(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	begin := time.Now()
	all := fixture(t, s)
	_, err := s.SetQuarantineState(ctx, all[0].ID, nil, store.QuarantineChange{State: store.QuarantineReleased})
	must(t, err)
	_, err = s.SetQuarantineState(ctx, all[3].ID, nil, store.QuarantineChange{State: store.QuarantineDeleted})
	must(t, err)

	stats, err := s.QuarantineStats(ctx)
	must(t, err)
	want := store.QuarantineStats{Messages: 5, Bytes: 100, Counts: []store.QuarantineCount{
		{Threat: mail.ThreatFilter, State: store.QuarantineHeld, Entries: 1},
		{Threat: mail.ThreatSpam, State: store.QuarantineHeld, Entries: 2},
		{Threat: mail.ThreatSpam, State: store.QuarantineReleased, Entries: 1},
		{Threat: mail.ThreatUnscanned, State: store.QuarantineDeleted, Entries: 1},
		{Threat: mail.ThreatVirus, State: store.QuarantineHeld, Entries: 1},
	}}
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Errorf("statistics (-want +got):\n%s", diff)
	}

	until := time.Now().Add(time.Second)
	keys, err := s.QuarantineRecipients(ctx, begin, until, "", 10)
	must(t, err)
	if want := []string{"bob@example.com", "carol@example.org"}; !slices.Equal(keys, want) {
		t.Errorf("recipients of digests: %q, want %q", keys, want)
	}
	if keys, err := s.QuarantineRecipients(ctx, begin, until, "bob@example.com", 1); err != nil || !slices.Equal(keys, []string{"carol@example.org"}) {
		t.Errorf("recipients after bob: %q, %v", keys, err)
	}
	if keys, err := s.QuarantineRecipients(ctx, until, until.Add(time.Hour), "", 10); err != nil || len(keys) != 0 {
		t.Errorf("recipients of the next hour: %q, %v", keys, err)
	}
	found, _, err := s.FindQuarantined(ctx, store.QuarantineQuery{Recipients: []string{"bob@example.com"}, State: store.QuarantineHeld, StoredSince: begin, StoredUntil: until})
	must(t, err)
	if got := indexes(all, found); !slices.Equal(got, []int{4, 1}) {
		t.Errorf("bob's digest has %v", got)
	}
}

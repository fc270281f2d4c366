package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/store"
)

func mailboxes(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	one := mail.Mailed{Server: "pop.example:110", User: "joe", UIDL: "1"}
	if _, _, err := s.Mailbox(ctx, one); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a message that nobody has seen gives %v, want ErrNotFound", err)
	}
	held := mail.Judged{Rules: "r1", Hash: []byte{1, 0, 2}, Message: mail.NewID(), Held: true, Notice: []byte("Subject: held\r\n"), Size: 7,
		Verdict: &mail.Verdict{Action: mail.ActionQuarantine, Threat: mail.ThreatVirus}}
	two := mail.Mailed{Server: one.Server, User: "joe\x00\xff", UIDL: "2"}
	must(t, s.RememberMailbox(ctx, []store.MailboxEntry{{Name: one, Judged: held}, {Name: two, Judged: mail.Judged{Rules: "r1", Message: mail.NewID()}}}))
	got, asked, err := s.Mailbox(ctx, one)
	must(t, err)
	if got.Rules != "r1" || string(got.Hash) != "\x01\x00\x02" || got.Message != held.Message || !got.Held || got.Verdict.Threat != mail.ThreatVirus || time.Since(asked) > time.Hour {
		t.Errorf("recalled %+v, asked %v", got, asked)
	}
	if _, _, err := s.Mailbox(ctx, two); err != nil {
		t.Errorf("a name with bytes that databases do not take: %v", err)
	}
	for _, other := range []mail.Mailed{{Server: "other:110", User: "joe", UIDL: "1"}, {Server: one.Server, User: "jim", UIDL: "1"}, {Server: one.Server, User: "JOE", UIDL: "1"}} {
		if _, _, err := s.Mailbox(ctx, other); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%+v: %v, want ErrNotFound", other, err)
		}
	}
	names, err := s.AllowMailbox(ctx, held.Message)
	if err != nil || len(names) != 1 || names[0] != one {
		t.Errorf("allowed %v, %v", names, err)
	}
	if got, _, err = s.Mailbox(ctx, one); err != nil || !got.Allowed || got.Notice != nil {
		t.Errorf("after it was allowed: %+v, %v", got, err)
	}
	if _, err := s.AllowMailbox(ctx, mail.NewID()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a message that nobody holds: %v", err)
	}
	// A judge who was slow does not take the release back, but other content has no part in it.
	must(t, s.RememberMailbox(ctx, []store.MailboxEntry{{Name: one, Judged: held}}))
	if got, _, err = s.Mailbox(ctx, one); err != nil || !got.Allowed {
		t.Errorf("after it was judged again: %+v, %v", got, err)
	}
	held.Hash = []byte{3}
	must(t, s.RememberMailbox(ctx, []store.MailboxEntry{{Name: one, Judged: held}}))
	if got, _, err = s.Mailbox(ctx, one); err != nil || got.Allowed {
		t.Errorf("other content: %+v, %v", got, err)
	}
	mailboxClaims(t, s)
	mailboxExpiry(t, s)
}

func mailboxClaims(t *testing.T, s *store.Store) {
	ctx := t.Context()
	name := mail.Mailed{Server: "pop.example:110", User: "joe", UIDL: "claimed"}
	ids := make(chan mail.ID, 8)
	for range cap(ids) {
		go func() {
			id, err := s.ClaimMailbox(ctx, name, []byte{1}, mail.NewID())
			if err != nil {
				t.Error(err)
			}
			ids <- id
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Errorf("claimed as %s and %s", first, id)
		}
	}
	got, _, err := s.Mailbox(ctx, name)
	if err != nil || got.Rules != mail.RulesClaimed || got.Held || got.Message != first {
		t.Errorf("claimed %+v, %v", got, err)
	}
	other := mail.NewID()
	if id, err := s.ClaimMailbox(ctx, name, []byte{2}, other); err != nil || id != other {
		t.Errorf("other content is claimed as %s, %v", id, err)
	}
	// It was judged before it was claimed.
	now := time.Now()
	judged := mail.Judged{Rules: "r", Hash: []byte{2}, Message: other, Held: true, Seen: now.Add(-time.Minute)}
	must(t, s.RememberMailbox(ctx, []store.MailboxEntry{{Name: name, Judged: judged}}))
	if got, _, err := s.Mailbox(ctx, name); err != nil || !got.Held {
		t.Errorf("after it was held: %+v, %v", got, err)
	}
	// What was judged earlier is no news, however late it comes.
	must(t, s.RememberMailbox(ctx, []store.MailboxEntry{{Name: name, Judged: mail.Judged{Rules: "old", Hash: []byte{2}, Message: other, Seen: now.Add(-time.Hour)}}}))
	if got, _, err := s.Mailbox(ctx, name); err != nil || got.Rules != "r" {
		t.Errorf("after an older verdict: %+v, %v", got, err)
	}
	if id, err := s.ClaimMailbox(ctx, name, []byte{2}, mail.NewID()); err != nil || id != other {
		t.Errorf("what was judged as %s is claimed as %s, %v", other, id, err)
	}
}

func mailboxExpiry(t *testing.T, s *store.Store) {
	ctx := t.Context()
	var entries []store.MailboxEntry
	for i := range 20 {
		entries = append(entries, store.MailboxEntry{Name: mail.Mailed{Server: "s", User: "u", UIDL: fmt.Sprint(i)}, Judged: mail.Judged{Message: mail.NewID()}})
	}
	must(t, s.RememberMailbox(ctx, entries))
	must(t, s.TouchMailbox(ctx, entries[0].Name))
	if n, err := s.ExpireMailbox(ctx, time.Now().Add(-time.Hour), 1000); err != nil || n != 0 {
		t.Errorf("expired %d, %v, want none", n, err)
	}
	if n, err := s.ExpireMailbox(ctx, time.Now().Add(-time.Hour), 5); err != nil || n < 15 {
		t.Errorf("expired %d, %v, want all but 5 at most", n, err)
	}
	if _, err := s.ExpireMailbox(ctx, time.Now().Add(time.Hour), 5); err != nil {
		t.Error(err)
	}
	if _, _, err := s.Mailbox(ctx, entries[0].Name); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after its time: %v", err)
	}
}

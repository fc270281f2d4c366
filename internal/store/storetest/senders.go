package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"gatepost/internal/store"
)

func senderLists(t *testing.T, db *Database) {
	s := db.Open(t)
	put := func(owner, pattern string, kind store.SenderKind) {
		t.Helper()
		must(t, s.PutSender(t.Context(), store.SenderEntry{SenderKey: store.SenderKey{Owner: owner, Pattern: pattern}, Kind: kind,
			Note: "Ticket 4711", By: "ada", Added: time.UnixMilli(1_700_000_000_000)}, 3))
	}
	names := func(entries []store.SenderEntry) (list string) {
		for _, e := range entries {
			list += fmt.Sprintf("[%s %s %s]", e.Owner, e.Kind, e.Pattern)
		}
		return list
	}
	find := func(q store.SenderQuery, want string) {
		t.Helper()
		found, _, err := s.FindSenders(t.Context(), q)
		must(t, err)
		if got := names(found); got != want {
			t.Errorf("%+v: %s, want %s", q, got, want)
		}
	}
	put("", "@spam.example", store.SenderBlocked)
	put("@in.example", "news@shop.example", store.SenderBlocked)
	put("Ann@In.Example", "@Shop.Example", store.SenderAllowed)
	put("ann@in.example", "bad@shop.example", store.SenderAllowed)
	put("ann@in.example", "bad@shop.example", store.SenderBlocked) // the last word holds
	put("bob@in.example", "a_b@shop.example", store.SenderBlocked)

	all := "[ block @spam.example][@in.example block news@shop.example][ann@in.example allow @shop.example][ann@in.example block bad@shop.example][bob@in.example block a_b@shop.example]"
	find(store.SenderQuery{}, all)
	find(store.SenderQuery{Everybody: true}, "[ block @spam.example]")
	find(store.SenderQuery{Owner: "ann@in.example"}, "[ann@in.example allow @shop.example][ann@in.example block bad@shop.example]")
	find(store.SenderQuery{Owners: []string{"@in.example"}, Kind: store.SenderBlocked},
		"[@in.example block news@shop.example][ann@in.example block bad@shop.example][bob@in.example block a_b@shop.example]")
	find(store.SenderQuery{Owners: []string{"@other.example", "bob@in.example"}}, "[bob@in.example block a_b@shop.example]")
	find(store.SenderQuery{Text: "A_B@"}, "[bob@in.example block a_b@shop.example]")
	find(store.SenderQuery{Text: "ticket", Everybody: true}, "[ block @spam.example]")

	first, more, err := s.FindSenders(t.Context(), store.SenderQuery{Limit: 2})
	must(t, err)
	if !more || names(first) != "[ block @spam.example][@in.example block news@shop.example]" {
		t.Errorf("the first page is %s, more %v", names(first), more)
	}
	if e := first[0]; e.Note != "Ticket 4711" || e.By != "ada" || e.Added.UnixMilli() != 1_700_000_000_000 {
		t.Errorf("%+v", e)
	}
	find(store.SenderQuery{After: &first[1].SenderKey, Limit: 1}, "[ann@in.example allow @shop.example]")

	matched, err := s.MatchSenders(t.Context(), []string{"", "ann@in.example"}, []string{"bad@shop.example", "@shop.example", "@spam.example"})
	must(t, err)
	if len(matched) != 3 {
		t.Errorf("matched %s", names(matched))
	}
	full := store.SenderEntry{SenderKey: store.SenderKey{Owner: "", Pattern: "x"}, Kind: store.SenderAllowed, Added: time.Now()}
	if err := s.PutSender(t.Context(), full, 1); !errors.Is(err, store.ErrFull) {
		t.Errorf("a list that is full took one more: %v", err)
	}
	must(t, s.DropSender(t.Context(), store.SenderKey{Pattern: "@SPAM.example"}))
	if err := s.DropSender(t.Context(), store.SenderKey{Pattern: "@spam.example"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("dropped twice: %v", err)
	}
}

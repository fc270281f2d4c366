package storetest

import (
	"errors"
	"testing"
	"time"

	"gatepost/internal/store"
)

// accountRecords: of two changes at once one is told, and keys go with their account.
func accountRecords(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	if _, err := s.Account(ctx, "ada"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an account that was never made gives %v", err)
	}
	version, did, err := s.PutAccount(ctx, store.Account{Name: "Ada", Record: []byte("1")})
	must(t, err)
	if !did || version != 1 {
		t.Fatalf("first: %v, version %d", did, version)
	}
	if _, did, err = s.PutAccount(ctx, store.Account{Name: "ada", Record: []byte("2")}); err != nil || did {
		t.Errorf("a second account of the name: %v %v", did, err)
	}
	if version, did, err = s.PutAccount(ctx, store.Account{Name: "ADA", Version: 1, Record: []byte("3")}); err != nil || !did || version != 2 {
		t.Errorf("a change: %v, version %d, %v", did, version, err)
	}
	if _, did, err = s.PutAccount(ctx, store.Account{Name: "ada", Version: 1, Record: []byte("4")}); err != nil || did {
		t.Errorf("a change of what somebody else changed: %v %v", did, err)
	}
	a, err := s.Account(ctx, "ada")
	if err != nil || a.Version != 2 || string(a.Record) != "3" {
		t.Errorf("%+v %v", a, err)
	}
	now := time.Now()
	for _, k := range []store.AccountKey{
		{ID: "one", Kind: store.SessionKey, Account: "ada", Record: []byte("x"), Created: now, Expires: now.Add(time.Hour)},
		{ID: "two", Kind: store.SessionKey, Account: "ada", Record: []byte("x"), Created: now.Add(time.Second), Expires: now.Add(time.Hour)},
		{ID: "old", Kind: store.SessionKey, Account: "ada", Record: []byte("x"), Created: now, Expires: now.Add(-time.Second)},
		{ID: "token", Kind: store.TokenKey, Account: "ada", Record: []byte("x"), Created: now},
	} {
		must(t, s.PutAccountKey(ctx, k))
	}
	accountKeys(t, s)
	if did, err := s.DeleteAccount(ctx, "ADA"); err != nil || !did {
		t.Errorf("delete: %v %v", did, err)
	}
	if _, err := s.AccountKey(ctx, store.TokenKey, "token"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the token outlives its account: %v", err)
	}
	if did, err := s.DeleteAccount(ctx, "ada"); err != nil || did {
		t.Errorf("delete again: %v %v", did, err)
	}
}

func accountKeys(t *testing.T, s *store.Store) {
	ctx := t.Context()
	if _, err := s.AccountKey(ctx, store.SessionKey, "old"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an expired key gives %v", err)
	}
	if _, err := s.AccountKey(ctx, store.SessionKey, "token"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a token as a session gives %v", err)
	}
	list, err := s.AccountKeys(ctx, store.SessionKey, "Ada")
	if err != nil || len(list) != 2 || list[0].ID != "two" {
		t.Errorf("%+v %v", list, err)
	}
	if did, err := s.SwapAccountKey(ctx, "one", []byte("wrong"), []byte("y")); err != nil || did {
		t.Errorf("a swap of another record: %v %v", did, err)
	}
	if did, err := s.SwapAccountKey(ctx, "one", []byte("x"), []byte("y")); err != nil || !did {
		t.Errorf("a swap: %v %v", did, err)
	}
	if n, err := s.DeleteAccountKeys(ctx, store.SessionKey, "ada", "one"); err != nil || n != 2 {
		t.Errorf("all but one: %d %v", n, err)
	}
	if k, err := s.AccountKey(ctx, store.SessionKey, "one"); err != nil || string(k.Record) != "y" {
		t.Errorf("%+v %v", k, err)
	}
	must(t, s.TouchAccountKey(ctx, "one", time.Now(), time.Now().Add(-time.Second)))
	if n, err := s.ExpireAccountKeys(ctx); err != nil || n != 1 {
		t.Errorf("expired %d, %v", n, err)
	}
}

// auditLog: the newest first, found by who and what, and forgotten by age.
func auditLog(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i, e := range []store.AuditEntry{
		{Actor: "ada", Client: "192.0.2.1", Action: "log in", Outcome: "done"},
		{Actor: "bob", Action: "delete user", Outcome: "failed", Detail: "Carol 100%"},
		{Actor: "ada", Action: "log out", Outcome: "done", Detail: "nul \x00 and \xff"},
	} {
		e.At = now.Add(time.Duration(i-3) * time.Hour)
		must(t, s.PutAudit(ctx, e))
	}
	names := func(q store.AuditQuery) (got string, more bool) {
		list, more, err := s.Audit(ctx, q)
		must(t, err)
		for _, e := range list {
			got += e.Actor + " " + e.Action + "|"
		}
		return got, more
	}
	for _, c := range []struct {
		name string
		q    store.AuditQuery
		want string
		more bool
	}{
		{"all", store.AuditQuery{Limit: 10}, "ada log out|bob delete user|ada log in|", false},
		{"two", store.AuditQuery{Limit: 2}, "ada log out|bob delete user|", true},
		{"by ada", store.AuditQuery{Actor: "ada", Limit: 10}, "ada log out|ada log in|", false},
		{"a text", store.AuditQuery{Text: "CAROL 100%", Limit: 10}, "bob delete user|", false},
		{"a text with a wildcard", store.AuditQuery{Text: "c_rol", Limit: 10}, "", false},
		{"since", store.AuditQuery{Since: now.Add(-90 * time.Minute), Limit: 10}, "ada log out|", false},
		{"before", store.AuditQuery{Before: now.Add(-150 * time.Minute), Limit: 10}, "ada log in|", false},
	} {
		if got, more := names(c.q); got != c.want || more != c.more {
			t.Errorf("%s: %q %v", c.name, got, more)
		}
	}
	list, _, err := s.Audit(ctx, store.AuditQuery{Limit: 1})
	must(t, err)
	if got, _ := names(store.AuditQuery{After: list[0].ID, Limit: 10}); got != "bob delete user|ada log in|" {
		t.Errorf("behind the first: %q", got)
	}
	if n, err := s.ExpireAudit(ctx, now.Add(-90*time.Minute)); err != nil || n != 2 {
		t.Errorf("expired %d, %v", n, err)
	}
}

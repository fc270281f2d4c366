package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"gatepost/internal/store"
)

func settings(t *testing.T, db *Database) {
	s := db.Open(t)
	ctx := t.Context()
	if _, err := s.Setting(ctx, "none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a setting that was never set gives %v, want ErrNotFound", err)
	}
	must(t, s.SetSetting(ctx, "a.one", []byte{0, 1, 0xff}))
	must(t, s.SetSetting(ctx, "a.two", nil))
	must(t, s.SetSetting(ctx, "b", []byte("x")))
	must(t, s.SetSetting(ctx, "b", []byte("y")))
	all, err := s.Settings(ctx, "a.")
	must(t, err)
	if got := fmt.Sprintf("%x", all); got != "map[612e6f6e65:0001ff 612e74776f:]" {
		t.Errorf("settings that begin with a.: %s", got)
	}
	if v, err := s.Setting(ctx, "b"); err != nil || string(v) != "y" {
		t.Errorf("setting b is %q, %v", v, err)
	}
	must(t, s.DeleteSetting(ctx, "b"))
	must(t, s.DeleteSetting(ctx, "b"))
	if _, err := s.Setting(ctx, "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted setting gives %v, want ErrNotFound", err)
	}
	settingsSwap(t, s)
	settingsRace(t, db)
}

func settingsSwap(t *testing.T, s *store.Store) {
	ctx := t.Context()
	steps := []struct {
		name     string
		old, new []byte
		want     bool
	}{
		{"a value where none is", nil, []byte("1"), true},
		{"a second first value", nil, []byte("2"), false},
		{"the wrong old value", []byte("2"), []byte("3"), false},
		{"the right old value", []byte("1"), []byte("3"), true},
	}
	for _, step := range steps {
		if did, err := s.SwapSetting(ctx, "lease", step.old, step.new); err != nil || did != step.want {
			t.Errorf("swap of %s: %v, %v, want %v", step.name, did, err, step.want)
		}
	}
	if v, err := s.Setting(ctx, "lease"); err != nil || string(v) != "3" {
		t.Errorf("after the swaps: %q, %v", v, err)
	}
}

// settingsRace lets many make the same key at once: all must get the same.
func settingsRace(t *testing.T, db *Database) {
	a, b := db.Open(t), db.Open(t)
	got := make([]string, 16)
	var wg sync.WaitGroup
	for i := range got {
		s := a
		if i%2 == 1 {
			s = b
		}
		wg.Go(func() {
			v, err := s.InitSetting(t.Context(), "key", fmt.Appendf(nil, "key %d", i))
			if err != nil {
				t.Error(err)
			}
			got[i] = string(v)
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] == "" || got[i] != got[0] {
			t.Fatalf("nodes disagree about the key: %q", got)
		}
	}
}

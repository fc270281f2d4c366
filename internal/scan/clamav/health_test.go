package clamav

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// watcher is an Observer.
type watcher struct {
	mu      sync.Mutex
	states  []Status
	results map[mail.Result]int
	bytes   int64
}

func (w *watcher) Streamed(r mail.Result, n int64, _ time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.results == nil {
		w.results = map[mail.Result]int{}
	}
	w.results[r]++
	w.bytes += n
}

func (w *watcher) StateChanged(s State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states = append(w.states, s.Status)
}

// SCN-01.
func TestClamdIsAwayAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, w := newFake(t), &watcher{}
		f.off = true
		s := f.scanner(t, Config{Observer: w})
		defer stop(t, s, f)
		in := input(t, plain)
		// At the start.
		if found, err := s.Scan(t.Context(), in); err == nil || len(found) > 0 || !strings.Contains(err.Error(), "no such socket") {
			t.Fatalf("%v, %v", found, err)
		}
		dialled := f.dialled
		for range 100 {
			if _, err := s.Scan(t.Context(), in); err == nil {
				t.Fatal("no error")
			}
		}
		if f.dialled != dialled {
			t.Errorf("%d messages knocked at a door that is known to be shut", f.dialled-dialled)
		}
		f.with(func() { f.off = false })
		time.Sleep(6 * time.Second)
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Fatalf("6 s after it came: %v, %v", found, err)
		}
		// In the middle of the day.
		time.Sleep(time.Hour)
		f.with(func() { f.off = true })
		for range 3 {
			if _, err := s.Scan(t.Context(), in); err == nil {
				t.Fatal("no error")
			}
		}
		if st := s.State(); st.OK || st.Status != Down || !strings.Contains(st.Error, "no such socket") || time.Since(st.Since) != 0 {
			t.Errorf("state %+v", st)
		}
		time.Sleep(time.Hour)
		f.with(func() { f.off = false })
		time.Sleep(6 * time.Second)
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Fatalf("6 s after it came back: %v, %v", found, err)
		}
		if got := w.states; len(got) != 4 || got[0] != Down || got[1] != OK || got[2] != Down || got[3] != OK {
			t.Errorf("states %v", got)
		}
		if w.results[mail.Clean] != 2 || w.results[mail.Unknown] != 3 || w.results[mail.Match] != 0 {
			t.Errorf("results %v", w.results)
		}
	})
}

func TestAnOutageIsSeenWithoutMail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		time.Sleep(time.Second)
		if err := s.Health(); err != nil {
			t.Fatal(err)
		}
		f.with(func() { f.off = true })
		time.Sleep(90 * time.Second)
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "down") {
			t.Errorf("health %v", err)
		}
	})
}

func TestOneLostConnectionIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		synctest.Wait()
		in := input(t, plain)
		for range 10 {
			f.with(func() { f.off = true })
			for range 2 {
				if _, err := s.Scan(t.Context(), in); err == nil {
					t.Fatal("no error")
				}
			}
			f.with(func() { f.off = false })
			if _, err := s.Scan(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestClamdWithoutSignaturesIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.blind = true
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		in := input(t, plain)
		found, err := s.Scan(t.Context(), in)
		if err == nil || len(found) > 0 || !strings.Contains(err.Error(), "not detecting") {
			t.Fatalf("%v, %v", found, err)
		}
		f.with(func() { f.blind = false })
		time.Sleep(6 * time.Second)
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Fatalf("with signatures: %v, %v", found, err)
		}
		// An update that empties the database shows within a minute.
		f.with(func() { f.blind = true })
		time.Sleep(61 * time.Second)
		if st := s.State(); st.Status != NotDetecting {
			t.Errorf("state %+v", st)
		}
		if _, err := s.Scan(t.Context(), in); err == nil {
			t.Error("no error")
		}
	})
}

func TestClamdThatFindsEverythingIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.paranoid = true
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || s.State().Status != FalseAlarm {
			t.Errorf("%v, %v, %+v", found, err, s.State())
		}
	})
}

func TestVersionAndDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		time.Sleep(time.Second)
		want := time.Date(2024, 11, 10, 9, 35, 20, 0, time.Local)
		if st := s.State(); !st.OK || st.Version != "ClamAV 1.4.6" || st.Database != "27449" || !st.Signed.Equal(want) || st.Error != "" {
			t.Errorf("state %+v", st)
		}
		f.with(func() { f.version = "ClamAV 1.4.6/27450/Mon Nov 11 09:35:20 2024" })
		time.Sleep(time.Minute)
		if st := s.State(); st.Database != "27450" || !st.Signed.Equal(want.AddDate(0, 0, 1)) {
			t.Errorf("after an update: %+v", st)
		}
		f.with(func() { f.version = "ClamAV\r\n\x1b1.4.6" })
		time.Sleep(time.Minute)
		if st := s.State(); strings.ContainsAny(st.Version, "\r\n\x1b") || st.Database != "" || !st.Signed.IsZero() {
			t.Errorf("odd version: %+v", st)
		}
	})
}

func TestAScanWaitsForTheFirstCheckOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s, err := New(Config{Address: "unix:/fake", dial: f.dial})
		if err != nil {
			t.Fatal(err)
		}
		defer stop(t, s, f)
		if _, err := scanFor(t.Context(), s, input(t, plain), time.Second); err == nil || !strings.Contains(err.Error(), "not checked yet") {
			t.Errorf("error %v", err)
		}
		time.AfterFunc(time.Second, func() { s.Start(t.Context()) })
		if _, err := scanFor(t.Context(), s, input(t, plain), 2*time.Second); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseEndsACheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.off = true
		s := f.scanner(t, Config{})
		synctest.Wait()
		begun := time.Now()
		stop(t, s, f)
		if err := s.Close(); err != nil { // again
			t.Error(err)
		}
		if !time.Now().Equal(begun) {
			t.Error("Close waits")
		}
		if err := s.Health(); errors.Is(err, nil) {
			t.Error("well after Close")
		}
	})
}

package webhook

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// life is a process: a hook runs for so long, then is closed.
func life(t *testing.T, s *service, file string, long time.Duration, events ...*mail.Event) (stats Stats) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Name: "x", URL: "https://hooks.example.com/x", Secret: secret, Client: &http.Client{Transport: s}, File: file, Waiting: 5})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		for _, e := range events {
			h.Note(e)
		}
		time.Sleep(long)
		synctest.Wait()
		stats = h.Stats()
		cancel()
		<-done
		h.Note(&mail.Event{Kind: mail.EventSession, Subject: "the last word"})
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return stats
}

func TestWhatWaitsIsToldAfterTheNextStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.waiting")
	down := &service{statuses: []int{0, 503}}
	life(t, down, file, 6*time.Second, &mail.Event{Kind: mail.EventRelease, Subject: "one"}, &mail.Event{Kind: mail.EventRelease, Subject: "two"})
	up := &service{}
	stats := life(t, up, file, time.Second, &mail.Event{Kind: mail.EventRelease, Subject: "three"})
	all := strings.Join(up.bodies, "\n")
	if len(up.bodies) != 4 || stats.Sent != 4 || stats.Waiting != 0 {
		t.Fatalf("%d are told, %+v: %s", len(up.bodies), stats, all)
	}
	for i, want := range []string{"one", "two", "the last word", "three"} {
		if !strings.Contains(up.bodies[i], want) {
			t.Errorf("%d is %s", i, up.bodies[i])
		}
	}
	if first, again := down.got[0].Header.Get("Webhook-Id"), up.got[0].Header.Get("Webhook-Id"); first != again || first == "" {
		t.Errorf("the event has another id: %q, %q", first, again)
	}
	if up.bodies[0] != down.bodies[0] || up.got[0].Header.Get("Webhook-Signature") != Sign(secret, up.got[0].Header.Get("Webhook-Id"), up.got[0].Header.Get("Webhook-Timestamp"), []byte(up.bodies[0])) {
		t.Error("the event is another one")
	}
}

func TestWhatIsKeptIsBoundedAndGoneWhenItIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.waiting")
	var many []*mail.Event
	for range 50 {
		many = append(many, &mail.Event{Kind: mail.EventRelease})
	}
	life(t, &service{statuses: make([]int, 99)}, file, time.Second, many...)
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), "\n") > 5 || !strings.Contains(string(text), `"type":"release"`) {
		t.Errorf("kept is %s (%v)", text, err)
	}
	up := &service{}
	synctest.Test(t, func(t *testing.T) {
		h, err := New(Config{Name: "x", URL: "https://hooks.example.com/x", Secret: secret, Client: &http.Client{Transport: up}, File: file})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		synctest.Wait()
		// A crash now tells nothing again.
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("the file stays (%v)", err)
		}
		cancel()
		<-done
	})
	if err := os.WriteFile(file, []byte(`{"id":"1","body":{}}`+"\n"+`{"id":"2","bo`), 0o600); err != nil {
		t.Fatal(err)
	}
	up = &service{}
	if life(t, up, file, time.Second); len(up.got) != 1 || up.got[0].Header.Get("Webhook-Id") != "1" {
		t.Errorf("a damaged file gives %d events", len(up.got))
	}
}

func TestATestEventIsSentOnce(t *testing.T) {
	s := &service{statuses: []int{200, 503, 404}}
	h, err := New(Config{Name: "chat", URL: "https://hooks.example.com/x", Secret: secret, Client: &http.Client{Transport: s}, Kinds: []mail.EventKind{mail.EventAdmin}})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Test(t.Context()); err != nil || !strings.Contains(s.bodies[0], `"type":"test"`) || s.got[0].Header.Get("Webhook-Signature") == "" {
		t.Errorf("%v, told %s", err, s.bodies)
	}
	for _, status := range []string{"503", "404"} {
		if err := h.Test(t.Context()); err == nil || !strings.Contains(err.Error(), status) || strings.Contains(err.Error(), "ignored") {
			t.Errorf("%s: %v", status, err)
		}
	}
	h.cfg.URL = "https://hooks.example.com/services/secret-path"
	s.statuses = append(s.statuses, 0)
	if err := h.Test(t.Context()); err == nil || strings.Contains(err.Error(), "secret-path") {
		t.Errorf("a service that is down: %v", err)
	}
	if len(s.got) != 4 || h.Stats() != (Stats{}) {
		t.Errorf("%d requests, %+v", len(s.got), h.Stats())
	}
}

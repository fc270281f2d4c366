package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// service is what is told: it answers with the statuses in turn, then 200.
type service struct {
	statuses []int
	got      []*http.Request
	bodies   []string
	at       []time.Time
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	s.got, s.bodies, s.at = append(s.got, r), append(s.bodies, string(b)), append(s.at, time.Now())
	status := http.StatusOK
	if n := len(s.got); n <= len(s.statuses) {
		status = s.statuses[n-1]
	}
	if status == 0 {
		return nil, errors.New("down")
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader("ignored"))}, nil
}

var secret = []byte("0123456789abcdef")

// run notes events while a hook runs for so long, in fake time.
func run(t *testing.T, s *service, change func(*Config), long time.Duration, events ...*mail.Event) (stats Stats) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Name: "x", URL: "https://hooks.example.com/x", Secret: secret, Client: &http.Client{Transport: s}}
		if change != nil {
			change(&cfg)
		}
		h, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			h.Note(e)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.Run(ctx) }()
		time.Sleep(long)
		synctest.Wait()
		stats = h.Stats()
		cancel()
		<-done
	})
	return stats
}

func TestAnEventIsToldAndSigned(t *testing.T) {
	s := &service{}
	run(t, s, nil, time.Second, &mail.Event{Kind: mail.EventQuarantine, Subject: "hello \u202e", Sender: "<>"})
	if len(s.got) != 1 {
		t.Fatalf("%d requests", len(s.got))
	}
	r, body := s.got[0], s.bodies[0]
	id, at := r.Header.Get("Webhook-Id"), r.Header.Get("Webhook-Timestamp")
	if r.Method != "POST" || id == "" || r.Header.Get("Webhook-Signature") != Sign(secret, id, at, []byte(body)) {
		t.Errorf("%v", r.Header)
	}
	var p struct {
		Type string
		Data mail.Event
	}
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.Type != "quarantine" || p.Data.Sender != "<>" {
		t.Errorf("%s: %v", body, err)
	}
}

// The value was made with another implementation of HMAC.
func TestTheSignatureIsTheOneThatLibrariesCheck(t *testing.T) {
	if got, want := Sign(secret, "msg_1", "1614265330", []byte(`{"test": 2432232314}`)), "v1,/eq18zDSneP6GxEqBkou9aZQiMpiIJbrAyaMiIKwUGA="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestAServiceThatIsDownIsTriedAgainLaterAndInOrder(t *testing.T) {
	s := &service{statuses: []int{0, 503, 429}}
	stats := run(t, s, nil, time.Hour, &mail.Event{Kind: mail.EventLogin}, &mail.Event{Kind: mail.EventAdmin})
	if len(s.got) != 5 || stats.Sent != 2 || stats.Failed != 0 {
		t.Fatalf("%d requests, %+v", len(s.got), stats)
	}
	for i, want := range []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute} {
		if got := s.at[i+1].Sub(s.at[i]); got != want {
			t.Errorf("pause %d: %v", i, got)
		}
		if s.got[i+1].Header.Get("Webhook-Id") != s.got[0].Header.Get("Webhook-Id") {
			t.Error("the next event overtook")
		}
	}
	if !strings.Contains(s.bodies[4], "admin") {
		t.Errorf("last: %s", s.bodies[4])
	}
}

func TestAnEventIsGivenUpInTheEnd(t *testing.T) {
	s := &service{statuses: []int{500, 500, 500, 500, 500, 500}}
	if stats := run(t, s, nil, 2*time.Hour, &mail.Event{Kind: mail.EventLogin}); len(s.got) != 6 || stats.Failed != 1 {
		t.Errorf("%d requests, %+v", len(s.got), stats)
	}
	s = &service{statuses: []int{http.StatusGone}}
	if stats := run(t, s, nil, 2*time.Hour, &mail.Event{Kind: mail.EventLogin}); len(s.got) != 1 || stats.Failed != 1 {
		t.Errorf("who says never: %d requests, %+v", len(s.got), stats)
	}
}

func TestOnlyChosenEventsAreToldAndNoMoreThanFit(t *testing.T) {
	s := &service{}
	stats := run(t, s, func(c *Config) { c.Kinds, c.Waiting = []mail.EventKind{mail.EventAdmin}, 2 }, time.Second,
		&mail.Event{Kind: mail.EventLogin}, &mail.Event{Kind: mail.EventAdmin}, &mail.Event{Kind: mail.EventAdmin}, &mail.Event{Kind: mail.EventAdmin})
	if len(s.got) != 2 || stats.Dropped != 1 {
		t.Errorf("%d requests, %+v", len(s.got), stats)
	}
}

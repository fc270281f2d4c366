package dnsbl_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/dns"
	"gatepost/internal/dns/dnstest"
	"gatepost/internal/policy/dnsbl"
)

const (
	test6  = "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
	test6N = "1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
)

// SCN-09: the exact names, as they come to a name server.
func TestTheTestPointsAreAskedFor(t *testing.T) {
	s := dnstest.Start(t, "2.0.0.127.zen.example.org. 60 IN A 127.0.0.2")
	c := check(t, dnsbl.Config{Zones: zones(t, "zen.example.org"), Resolver: resolver(t, s)})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { c.Watch(ctx) })
	for _, name := range []string{"2.0.0.127.", "1.0.0.127.", test6, test6N} {
		s.Wait(t, name+"zen.example.org", "A")
	}
	cancel()
	wg.Wait()
	if n := len(s.Queries()); n != 4 {
		t.Errorf("%d questions", n)
	}
}

// watched runs the monitor of one zone on a script for a while of fake time.
func watched(t *testing.T, s *script, steps func(t *testing.T, c *dnsbl.Check, log *bytes.Buffer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := check(t, dnsbl.Config{Zones: zones(t, "zen.example.org"), Resolver: s, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Watch(ctx) })
		synctest.Wait()
		steps(t, c, &log)
		cancel()
		wg.Wait()
	})
}

func TestWhatTheTestPointsSay(t *testing.T) {
	const client4, client6 = "5.113.0.203.", "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.8.4.1.0.0.2."
	tests := []struct {
		name         string
		points       map[string]string
		err          error
		on, v4, v6   bool
		reason       string
		find4, find6 []string
	}{
		{
			name: "a list of both families", points: map[string]string{"2.0.0.127.": "127.0.0.2", test6: "127.0.0.2"},
			on: true, v4: true, v6: true, find4: []string{"match zen.example.org"}, find6: []string{"match zen.example.org"},
		},
		{
			name: "a list of IPv4 is not asked about IPv6", points: map[string]string{"2.0.0.127.": "127.0.0.9"},
			on: true, v4: true, find4: []string{"match zen.example.org"},
		},
		{
			name: "a list of IPv6 is not asked about IPv4", points: map[string]string{test6: "127.0.0.2"},
			on: true, v6: true, find6: []string{"match zen.example.org"},
		},
		{
			name: "a list that lists everything", points: map[string]string{"2.0.0.127.": "127.0.0.2", "1.0.0.127.": "127.0.0.2"},
			reason: "it lists what must not be listed (127.0.0.1): it lists everything", v4: true, v6: true,
			find4: []string{"unknown list-off zen.example.org"}, find6: []string{"unknown list-off zen.example.org"},
		},
		{
			name: "a list that lists every IPv6 address", points: map[string]string{"2.0.0.127.": "127.0.0.2", test6: "127.0.0.2", test6N: "127.0.0.2"},
			reason: "it lists what must not be listed (127.0.0.1): it lists everything", v4: true, v6: true,
			find4: []string{"unknown list-off zen.example.org"}, find6: []string{"unknown list-off zen.example.org"},
		},
		{
			name: "a list that lists nothing", points: nil,
			reason: "it does not list the test address 127.0.0.2: it lists nothing", v4: true, v6: true,
			find4: []string{"unknown list-off zen.example.org"}, find6: []string{"unknown list-off zen.example.org"},
		},
		{
			name: "a list that refuses", points: map[string]string{"2.0.0.127.": "127.255.255.254", "1.0.0.127.": "127.255.255.254"},
			reason: "it answers 127.255.255.254", v4: true, v6: true,
			find4: []string{"unknown list-off zen.example.org"}, find6: []string{"unknown list-off zen.example.org"},
		},
		{
			name: "a domain that was sold", points: map[string]string{"2.0.0.127.": "198.51.100.80", "1.0.0.127.": "198.51.100.80", test6: "198.51.100.80", test6N: "198.51.100.80"},
			reason: "it answers 198.51.100.80", v4: true, v6: true,
			find4: []string{"unknown list-off zen.example.org"}, find6: []string{"unknown list-off zen.example.org"},
		},
		{
			name: "one outage is nobody's fault", err: &dns.Error{Name: "x", Type: "A", Temporary: true, Rcode: "SERVFAIL"}, points: nil,
			on: true, v4: true, v6: true, reason: "look up A of x: server answered SERVFAIL",
			find4: []string{"unknown list-error zen.example.org"}, find6: []string{"unknown list-error zen.example.org"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &script{answers: map[string]string{client4 + "zen.example.org": "127.0.0.2", client6 + "zen.example.org": "127.0.0.2"}, err: tt.err}
			for name, a := range tt.points {
				s.answers[name+"zen.example.org"] = a
			}
			watched(t, s, func(t *testing.T, c *dnsbl.Check, log *bytes.Buffer) {
				st := c.Health()[0]
				if st.On != tt.on || st.IPv4 != tt.v4 || st.IPv6 != tt.v6 || st.Reason != tt.reason || st.Zone != "zen.example.org" || st.Checked.IsZero() {
					t.Errorf("status %+v", st)
				}
				if strings.Contains(log.String(), "list switched off") == tt.on {
					t.Errorf("log %s", log)
				}
				if diff := cmp.Diff(tt.find4, brief(asked(t, c, "203.0.113.5"))); diff != "" {
					t.Errorf("IPv4 (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(tt.find6, brief(asked(t, c, "2001:4860::5"))); diff != "" {
					t.Errorf("IPv6 (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAListGoesOffAndComesBack(t *testing.T) {
	s := &script{answers: map[string]string{"2.0.0.127.zen.example.org": "127.0.0.2", "5.113.0.203.zen.example.org": "127.0.0.2"}}
	watched(t, s, func(t *testing.T, c *dnsbl.Check, log *bytes.Buffer) {
		on := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := c.Health()[0].On; got != want {
				t.Fatalf("on %v, want %v", got, want)
			}
		}
		on(true)
		s.change(func() { s.answers["1.0.0.127.zen.example.org"] = "127.0.0.2" })
		time.Sleep(30*time.Minute - 1)
		on(true)
		time.Sleep(time.Nanosecond)
		on(false)
		off := c.Health()[0].Since
		if off.IsZero() || !off.Equal(c.Health()[0].Checked) {
			t.Errorf("off since %v", off)
		}
		s.change(func() { delete(s.answers, "1.0.0.127.zen.example.org") })
		time.Sleep(time.Minute - 1)
		on(false)
		time.Sleep(time.Nanosecond)
		on(true)
		if diff := cmp.Diff([]string{"match zen.example.org"}, brief(asked(t, c, "203.0.113.5"))); diff != "" {
			t.Errorf("findings:\n%s", diff)
		}
		if n := strings.Count(log.String(), "level=ERROR msg=\"list switched off\" zone=zen.example.org"); n != 1 {
			t.Errorf("%d alarms: %s", n, log)
		}
		if !strings.Contains(log.String(), "level=INFO msg=\"list switched on again\" zone=zen.example.org") {
			t.Errorf("log %s", log)
		}
	})
}

func TestAListThatStaysAwayIsSwitchedOff(t *testing.T) {
	s := &script{err: &dns.Error{Name: "x", Type: "A", Temporary: true}}
	watched(t, s, func(t *testing.T, c *dnsbl.Check, log *bytes.Buffer) {
		if !c.Health()[0].On {
			t.Error("off after the first try")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if c.Health()[0].On {
			t.Error("still on after the second")
		}
		s.change(func() {
			s.err, s.answers = nil, map[string]string{"2.0.0.127.zen.example.org": "127.0.0.2"}
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if st := c.Health()[0]; !st.On || st.Reason != "" {
			t.Errorf("status %+v", st)
		}
	})
}

func TestAListWithoutTestPointsNeedNotBeWatched(t *testing.T) {
	s := &script{answers: map[string]string{"5.113.0.203.own.example": "127.0.0.2"}}
	c := check(t, dnsbl.Config{Zones: zones(t, "own.example"), Resolver: s, MonitorEvery: -1})
	c.Watch(t.Context()) // returns at once
	if diff := cmp.Diff([]string{"match own.example"}, brief(asked(t, c, "203.0.113.5"))); diff != "" {
		t.Errorf("findings:\n%s", diff)
	}
}

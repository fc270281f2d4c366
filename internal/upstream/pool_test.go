package upstream_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/smtpclient/sinktest"
	"gatepost/internal/upstream"
)

func TestSessionIsReused(t *testing.T) {
	n := newNetwork(t)
	sink := n.host("192.0.2.1:25", sinktest.Config{})
	s := n.server(upstream.Config{MessagesPerSession: 10})
	for range 25 {
		mustDeliver(t, s)
	}
	if got := sink.Conns(); got != 3 {
		t.Errorf("%d connections for 25 messages, 10 each", got)
	}
	if events := n.seen(); strings.Count(events, "session 192.0.2.1 false") != 3 || strings.Count(events, "true") != 22 {
		t.Errorf("observed %s", events)
	}
}

func TestIdleSessionEndsWithQuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		sink := n.host("192.0.2.1:25", sinktest.Config{})
		s := n.server(upstream.Config{IdleTimeout: 3 * time.Second})
		for range 3 {
			mustDeliver(t, s)
			time.Sleep(3*time.Second - 1)
		}
		if sink.Conns() != 1 || count(sink, "QUIT") != 0 {
			t.Fatalf("%d connections, %d QUIT", sink.Conns(), count(sink, "QUIT"))
		}
		time.Sleep(1)
		synctest.Wait()
		if count(sink, "QUIT") != 1 || s.Health().Hosts[0].Open != 0 {
			t.Errorf("lines %q, health %+v", sink.Lines(), s.Health())
		}
	})
}

// PXY-10: nothing of a transaction that did not come to its end is in the next one.
func TestNothingLeaksIntoTheNextTransaction(t *testing.T) {
	for _, stage := range []string{"after MAIL", "after RCPT", sinktest.Data, sinktest.EOD, "content"} {
		t.Run(stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				sink := n.host("192.0.2.1:25", sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
					if e.Stage == stage && e.N == 1 {
						return sinktest.Reply("554 5.7.1 no")
					}
					return nil
				}})
				s := n.server(upstream.Config{})
				tx, _ := s.Begin(t.Context(), envelope(t))
				if stage != "after MAIL" {
					tx.Rcpt(t.Context(), recipient(t, "first@out.example"))
				}
				switch stage {
				case sinktest.Data, sinktest.EOD:
					tx.Data(t.Context(), text("X: first\r\n\r\n"))
				case "content":
					c := text("X: first\r\n\r\n")
					c.HeaderUTF8 = true // the upstream has no 8BITMIME: nothing is sent
					tx.Data(t.Context(), c)
				}
				tx.Abort()
				tx.Abort()
				synctest.Wait()
				resets := 1
				if stage == sinktest.EOD {
					resets = 0 // the end of the data ends the transaction
				}
				if got := count(sink, "RSET"); got != resets {
					t.Errorf("%d RSET before the session is needed again", got)
				}
				mustDeliver(t, s)
				m := sink.Messages()
				last := m[len(m)-1]
				if len(last.To) != 1 || !strings.Contains(last.To[0], "<r@out.example>") || last.Body() != short || sink.Conns() != 1 {
					t.Errorf("second message %+v over %d connections", last, sink.Conns())
				}
				if got := count(sink, "RSET"); got != resets {
					t.Errorf("%d RSET in %q", got, sink.Lines())
				}
			})
		})
	}
}

func TestStepsAfterTheEndSendNothing(t *testing.T) {
	n := newNetwork(t)
	sink := n.host("192.0.2.1:25", sinktest.Config{})
	s := n.server(upstream.Config{})
	tx, _ := s.Begin(t.Context(), envelope(t))
	tx.Rcpt(t.Context(), recipient(t, "r@out.example"))
	tx.Data(t.Context(), text(short))
	before := len(sink.Lines())
	if res := tx.Rcpt(t.Context(), recipient(t, "r@out.example")); res.OK() || res.Reply.Code != 451 {
		t.Errorf("RCPT: %s", brief(res))
	}
	if res := tx.Data(t.Context(), text(short)); res.OK() || res.Reply.Code != 451 {
		t.Errorf("DATA: %s", brief(res))
	}
	tx.Abort()
	if got := len(sink.Lines()); got != before {
		t.Errorf("sent %q", sink.Lines()[before:])
	}
}

func TestDataWithoutRecipientsSendsNothing(t *testing.T) {
	n := newNetwork(t)
	sink := n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Rcpt, sinktest.Reply("550 5.1.1 no"))})
	s := n.server(upstream.Config{})
	tx, _ := s.Begin(t.Context(), envelope(t))
	tx.Rcpt(t.Context(), recipient(t, "r@out.example"))
	if res := tx.Data(t.Context(), text(short)); brief(res) != "data 554 unable" || count(sink, "DATA") != 0 {
		t.Errorf("%s, lines %q", brief(res), sink.Lines())
	}
}

// A session that died in the pool is nobody's fault; one that dies later is.
func TestDeadSessionIsReplacedOnce(t *testing.T) {
	gone := &sinktest.Act{Close: true}
	for _, tc := range []struct {
		name   string
		stage  string
		act    *sinktest.Act
		second bool // RCPT is for the second recipient
		always bool // new sessions do the same
		want   string
		conns  int
	}{
		{"closed at MAIL", sinktest.Mail, gone, false, false, "eod 250 answered", 2},
		{"421 at MAIL", sinktest.Mail, sinktest.Reply("421 4.4.2 idle for too long"), false, false, "eod 250 answered", 2},
		{"silence at MAIL", sinktest.Mail, &sinktest.Act{Hang: true}, false, false, "eod 250 answered", 2},
		{"closed at RCPT", sinktest.Rcpt, gone, false, false, "eod 250 answered", 2},
		{"closed at the second RCPT", sinktest.Rcpt, gone, true, false, "rcpt 451 broken", 1},
		{"closed at DATA", sinktest.Data, gone, false, false, "data 451 broken", 1},
		{"closed at the end of the data", sinktest.EOD, gone, false, false, "eod 451 lost", 1},
		{"garbage at MAIL", sinktest.Mail, sinktest.Reply("999 x"), false, false, "mail 451 broken", 1},
		{"the new one dies as well", sinktest.Mail, gone, false, true, "mail 451 broken", 2},
		{"the new one dies as well at RCPT", sinktest.Rcpt, gone, false, true, "rcpt 451 broken", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				sink := n.host("192.0.2.1:25", sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
					nth := 2
					if tc.second && e.Stage == sinktest.Rcpt {
						nth = 3
					}
					if e.Stage == tc.stage && (e.Conn == 1 && e.N == nth || tc.always && e.Conn > 1) {
						return tc.act
					}
					return nil
				}})
				s := n.server(upstream.Config{IdleTimeout: time.Hour})
				mustDeliver(t, s)
				tx, res := s.Begin(t.Context(), envelope(t))
				if tx != nil {
					res = tx.Rcpt(t.Context(), recipient(t, "r1@out.example"))
					if res.OK() && tc.second {
						res = tx.Rcpt(t.Context(), recipient(t, "r2@out.example"))
					}
					if res.OK() {
						res = tx.Data(t.Context(), text(short))
					}
					tx.Abort()
				}
				if got := brief(res); got != tc.want || sink.Conns() != tc.conns {
					t.Errorf("%s over %d connections, want %s over %d", got, sink.Conns(), tc.want, tc.conns)
				}
				s.Close()
				if h := s.Health(); h.Hosts[0].Open != 0 {
					t.Errorf("health %+v", h)
				}
			})
		})
	}
}

func TestRestartOfAnUpstreamIsNoticedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		sink := n.host("192.0.2.1:25", sinktest.Config{})
		s := n.server(upstream.Config{})
		together := func() {
			var open []*upstream.Tx
			for range 5 {
				tx, res := s.Begin(t.Context(), envelope(t))
				if !res.OK() {
					t.Fatal(brief(res), res.Err)
				}
				open = append(open, tx)
			}
			for _, tx := range open {
				tx.Abort()
			}
			synctest.Wait()
		}
		together()
		sink.Drop()
		n.seen()
		together()
		if events := n.seen(); strings.Count(events, "failed") != 1 || strings.Count(events, "192.0.2.1 false") != 5 {
			t.Errorf("observed %s", events)
		}
		if h := s.Health().Hosts[0]; h.Open != 5 || h.Idle != 5 {
			t.Errorf("health %+v", h)
		}
	})
}

func TestSenderRefusedByTheReplacement(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
		switch {
		case e.Stage == sinktest.Rcpt && e.Conn == 1 && e.N == 2:
			return &sinktest.Act{Close: true}
		case e.Stage == sinktest.Mail && e.Conn == 2:
			return sinktest.Reply("550 5.7.1 not you")
		}
		return nil
	}})
	s := n.server(upstream.Config{})
	mustDeliver(t, s)
	tx, _ := s.Begin(t.Context(), envelope(t))
	for range 2 {
		if res := tx.Rcpt(t.Context(), recipient(t, "r@out.example")); brief(res) != "mail 550 answered" {
			t.Errorf("%s", brief(res))
		}
	}
	tx.Abort()
}

func TestSessionsAreBoundedAndTransactionsWait(t *testing.T) {
	for _, perSession := range []int{1, 3, 100} {
		t.Run(fmt.Sprintf("%d messages per session", perSession), func(t *testing.T) {
			n := newNetwork(t)
			sink := n.host("192.0.2.1:25", sinktest.Config{})
			s := n.server(upstream.Config{Sessions: 4, MessagesPerSession: perSession})
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() {
					for range 5 {
						if res := deliver(t, s, short); !res.OK() {
							t.Errorf("%s (%v)", brief(res), res.Err)
						}
					}
				})
			}
			wg.Wait()
			if got := len(sink.Messages()); got != 200 || sink.Peak() > 4 {
				t.Errorf("%d messages over %d sessions at a time", got, sink.Peak())
			}
		})
	}
}

func TestQueueOfWaitersIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		sink := n.host("192.0.2.1:25", sinktest.Config{})
		s := n.server(upstream.Config{Sessions: 1, MaxWaiting: 2, WaitTimeout: 5 * time.Second, KeepAlive: -1})
		tx, _ := s.Begin(t.Context(), envelope(t))
		results := make(chan upstream.Result, 2)
		wait := func(ctx context.Context) {
			other, res := s.Begin(ctx, envelope(t))
			if other != nil {
				defer other.Abort()
			}
			results <- res
		}
		go wait(t.Context())
		synctest.Wait()
		go wait(t.Context())
		synctest.Wait()
		if res := deliver(t, s, short); brief(res) != "connect 451 unreached" || res.Reply.Text() != "Destination is busy, try again later" {
			t.Errorf("the third one: %s %s", brief(res), res.Reply)
		}
		if w := s.Health().Waiting; w != 2 {
			t.Errorf("%d are waiting", w)
		}
		time.Sleep(4 * time.Second)
		tx.Abort() // the first one gets the session
		synctest.Wait()
		if res := <-results; !res.OK() {
			t.Errorf("the first one: %s", brief(res))
		}
		synctest.Wait()
		if res := <-results; !res.OK() {
			t.Errorf("the second one: %s", brief(res))
		}
		tx, _ = s.Begin(t.Context(), envelope(t))
		go wait(t.Context())
		time.Sleep(5 * time.Second)
		if res := <-results; brief(res) != "connect 451 unreached" {
			t.Errorf("after the wait: %s", brief(res))
		}
		ctx, cancel := context.WithCancel(t.Context())
		go wait(ctx)
		synctest.Wait()
		cancel()
		if res := <-results; brief(res) != "connect 451 unreached" || s.Health().Waiting != 0 {
			t.Errorf("a client that went: %s, %+v", brief(res), s.Health())
		}
		tx.Abort()
		synctest.Wait()
		mustDeliver(t, s)
		if sink.Peak() != 1 {
			t.Errorf("%d sessions at a time", sink.Peak())
		}
		if events := n.seen(); !strings.Contains(events, "waited 4s true") || !strings.Contains(events, "waited 5s false") {
			t.Errorf("observed %s", events)
		}
	})
}

func TestBalance(t *testing.T) {
	three := []upstream.Host{{Address: "192.0.2.1", Weight: 3}, {Address: "192.0.2.2"}, {Address: "192.0.2.3:2525"}}
	for _, tc := range []struct {
		balance upstream.Balance
		hold    bool // keep the transactions open
		want    string
	}{
		{upstream.Failover, true, "1111111111"},
		{upstream.RoundRobin, false, "1213112131"},
		{upstream.LeastSessions, true, "1 6, 2 2, 3 2"},
	} {
		t.Run(string(tc.balance), func(t *testing.T) {
			n := newNetwork(t)
			for _, a := range []string{"192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:2525"} {
				n.host(a, sinktest.Config{})
			}
			s := n.server(upstream.Config{Hosts: three, Balance: tc.balance, MessagesPerSession: 1})
			got := ""
			taken := make(map[string]int)
			for range 10 {
				tx, res := s.Begin(t.Context(), envelope(t))
				number := strings.TrimPrefix(res.Host, "[192.0.2.")[:1]
				got += number
				taken[number]++
				if tc.hold {
					defer tx.Abort()
				} else {
					tx.Abort()
				}
			}
			if tc.balance == upstream.LeastSessions {
				got = fmt.Sprintf("1 %d, 2 %d, 3 %d", taken["1"], taken["2"], taken["3"])
			}
			if got != tc.want {
				t.Errorf("hosts %s, want %s", got, tc.want)
			}
		})
	}
}

func TestFullHostIsPassedOver(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{})
	n.host("192.0.2.2:25", sinktest.Config{})
	s := n.server(upstream.Config{Hosts: hosts("192.0.2.1", "192.0.2.2"), Sessions: 2})
	got := ""
	for range 4 {
		tx, res := s.Begin(t.Context(), envelope(t))
		defer tx.Abort()
		got += res.Host + " "
	}
	if got != "[192.0.2.1]:25 [192.0.2.1]:25 [192.0.2.2]:25 [192.0.2.2]:25 " {
		t.Error(got)
	}
}

func TestNextHostIsTried(t *testing.T) {
	for name, script := range map[string]func(sinktest.Event) *sinktest.Act{
		"refused":     nil,
		"banner 421":  at(sinktest.Banner, sinktest.Reply("421 4.3.2 no")),
		"banner 554":  at(sinktest.Banner, sinktest.Reply("554 5.7.1 no")),
		"EHLO closes": at(sinktest.Ehlo, &sinktest.Act{Close: true}),
	} {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			n.names = map[string][]netip.Addr{"mx.example": {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}
			if script != nil {
				n.host("192.0.2.1:25", sinktest.Config{Script: script})
			}
			second := n.host("[2001:db8::1]:25", sinktest.Config{})
			s := n.server(upstream.Config{Hosts: hosts("nowhere.example", "mx.example")})
			if res := mustDeliver(t, s); res.Host != "mx.example [2001:db8::1]:25" || len(second.Messages()) != 1 {
				t.Errorf("delivered to %s", res.Host)
			}
		})
	}
}

func TestDownHostRestsAndComesBackSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s := n.server(upstream.Config{Sessions: 11, Rest: time.Second, RestMax: 10 * time.Second, SlowStart: 20 * time.Second,
			WaitTimeout: 5 * time.Second, MaxWaiting: 1, KeepAlive: -1})
		down := func(wait time.Duration, dials int) {
			t.Helper()
			time.Sleep(wait)
			n.dialed()
			if res := deliver(t, s, short); brief(res) != "connect 451 unreached" {
				t.Fatal(brief(res))
			}
			if got := len(strings.Fields(n.dialed())); got != dials {
				t.Errorf("%d dials, want %d", got, dials)
			}
		}
		down(0, 1)
		down(0, 1) // one failure is not an outage: there is nobody else to try
		down(0, 1)
		down(0, 0) // from the third on it is left alone
		down(4*time.Second-1, 0)
		down(1, 1)
		down(0, 0)
		n.host("192.0.2.1:25", sinktest.Config{})
		down(8*time.Second-1, 0)
		time.Sleep(1)
		var open []*upstream.Tx
		begin := func() upstream.Result {
			tx, res := s.Begin(t.Context(), envelope(t))
			if tx != nil {
				open = append(open, tx)
			}
			return res
		}
		if res := begin(); !res.OK() {
			t.Fatal(brief(res), res.Err)
		}
		begun := time.Now()
		// Room for one more every two seconds.
		for i := range 10 {
			if res := begin(); !res.OK() || time.Since(begun).Round(100*time.Millisecond) > time.Duration(2*i+4)*time.Second || time.Since(begun) < time.Duration(2*i+2)*time.Second {
				t.Errorf("session %d: %s after %v", i+2, brief(res), time.Since(begun))
			}
		}
		for _, tx := range open {
			tx.Abort()
		}
		if h := s.Health().Hosts[0]; h.Failures != 0 || h.Limit != 11 {
			t.Errorf("health %+v", h)
		}
	})
}

func TestSilenceIsBrokenByNoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		sink := n.host("192.0.2.1:25", sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Other && strings.HasPrefix(e.Line, "NOOP") && e.N > 5 {
				return &sinktest.Act{Close: true}
			}
			return nil
		}})
		s := n.server(upstream.Config{KeepAlive: time.Minute})
		tx, _ := s.Begin(t.Context(), envelope(t))
		time.Sleep(59 * time.Second)
		tx.Rcpt(t.Context(), recipient(t, "r@out.example"))
		time.Sleep(59 * time.Second)
		if got := count(sink, "NOOP"); got != 0 {
			t.Fatalf("%d NOOP without a silence", got)
		}
		time.Sleep(2 * time.Minute)
		if got := count(sink, "NOOP"); got != 2 {
			t.Errorf("%d NOOP in two minutes", got)
		}
		if res := tx.Data(t.Context(), text(short)); !res.OK() {
			t.Fatalf("%s (%v)", brief(res), res.Err)
		}
		time.Sleep(10 * time.Minute)
		if got := count(sink, "NOOP"); got != 2 {
			t.Errorf("%d NOOP after the end", got)
		}

		// A session that breaks in the meantime: the message is not lost, and not there.
		tx, _ = s.Begin(t.Context(), envelope(t))
		tx.Rcpt(t.Context(), recipient(t, "r@out.example"))
		time.Sleep(10 * time.Minute)
		if res := tx.Data(t.Context(), text(short)); brief(res) != "noop 451 broken" || !res.Adoptable() {
			t.Errorf("%s (%v)", brief(res), res.Err)
		}
		if len(sink.Messages()) != 1 {
			t.Errorf("%d messages", len(sink.Messages()))
		}
	})
}

func TestForgottenTransactionIsNotKeptAliveForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		sink := n.host("192.0.2.1:25", sinktest.Config{})
		s := n.server(upstream.Config{KeepAlive: time.Minute, MaxHold: 5*time.Minute + time.Second})
		s.Begin(t.Context(), envelope(t))
		time.Sleep(time.Hour)
		if got := count(sink, "NOOP"); got != 6 {
			t.Errorf("%d NOOP", got)
		}
	})
}

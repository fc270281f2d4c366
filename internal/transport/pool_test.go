package transport

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
)

func mustDeliver(t *testing.T, tr Transport) mail.Outcome {
	t.Helper()
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "delivered eod 250" {
		t.Fatalf("%s (%s)", briefs(out), out[0].Cause)
	}
	return out[0]
}

func TestSessionIsReused(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"PIPELINING"}})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, MessagesPerSession: 10}, nil)
	for range 25 {
		mustDeliver(t, tr)
	}
	if got := s.Conns(); got != 3 {
		t.Errorf("%d connections for 25 messages, 10 each", got)
	}
	if strings.Contains(strings.Join(s.Lines(), "|"), "RSET") {
		t.Error("RSET was sent after messages that ended well")
	}
}

func TestIdleSessionEndsWithQuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s := n.host("192.0.2.1:25", sinktest.Config{})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, IdleTimeout: 3 * time.Second}, nil)
		last := func() string {
			lines := s.Lines()
			return lines[len(lines)-1]
		}
		for range 3 {
			mustDeliver(t, tr)
			time.Sleep(3*time.Second - 1)
			if last() == "QUIT" {
				t.Fatal("QUIT too early")
			}
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if last() != "QUIT" || s.Conns() != 1 {
			t.Errorf("last command %s, %d connections", last(), s.Conns())
		}
		mustDeliver(t, tr)
		if s.Conns() != 2 {
			t.Errorf("%d connections", s.Conns())
		}
	})
}

func TestSessionsToOneHostAreBounded(t *testing.T) {
	for _, perSession := range []int{1, 3, 100} {
		t.Run(fmt.Sprintf("%d messages per session", perSession), func(t *testing.T) {
			n := newNetwork(t)
			s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"PIPELINING"}})
			tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, Sessions: 4, MessagesPerSession: perSession}, nil)
			var wg sync.WaitGroup
			for range 40 {
				wg.Go(func() {
					for range 5 {
						tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
					}
				})
			}
			wg.Wait()
			if got := len(s.Messages()); got != 200 {
				t.Errorf("%d messages of 200", got)
			}
			// The server counts a connection until it has noticed its end, which
			// Quit waits for.
			if got := s.Peak(); got > 4 {
				t.Errorf("%d sessions at the same time", got)
			}
		})
	}
}

func TestWaitingForASessionCanBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Data, &sinktest.Act{Hang: true})})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, Sessions: 1}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		results := make(chan string, 3)
		for range 3 {
			wg.Go(func() { results <- briefs(tr.Deliver(ctx, delivery(t, short, "r@out.example"))) })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		for range 3 {
			if got := <-results; got != "deferred data own 451" && got != "deferred connect own 451" {
				t.Errorf("outcome %s", got)
			}
		}
	})
}

func TestCloseEndsRunningDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		s := n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Data, &sinktest.Act{Hang: true})})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, Sessions: 1}, nil)
		results := make(chan []mail.Outcome, 2)
		for range 2 {
			go func() { results <- tr.Deliver(t.Context(), delivery(t, short, "r@out.example")) }()
		}
		synctest.Wait()
		begun := time.Now()
		tr.Close()
		for range 2 {
			out := <-results
			if out[0].Status != mail.Deferred || out[0].Reply.Enhanced != "4.3.2" {
				t.Errorf("outcome %+v", out[0])
			}
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if len(s.Messages()) != 0 {
			t.Error("a message was sent")
		}
	})
}

// A session that dies while nobody uses it must not cost a message an attempt.
func TestDeadSessionIsReplacedUnnoticed(t *testing.T) {
	second := func(act *sinktest.Act) func(sinktest.Event) *sinktest.Act {
		return func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Mail && e.N == 2 {
				return act
			}
			return nil
		}
	}
	for _, tc := range []struct {
		name   string
		script func(sinktest.Event) *sinktest.Act
		drop   bool
	}{
		{"closed by the server", nil, true},
		{"421 to the next MAIL", second(sinktest.Reply("421 4.4.2 idle too long")), false},
		{"closed at the next MAIL", second(&sinktest.Act{Close: true}), false},
		{"421 said and closed in the meantime", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.EOD {
				return &sinktest.Act{Usual: true, Wire: "421 4.4.2 idle too long\r\n", Close: true, Late: 1}
			}
			return nil
		}, false},
	} {
		for _, extension := range []string{"PIPELINING", "HELP"} {
			t.Run(tc.name+" "+extension, func(t *testing.T) {
				n := newNetwork(t)
				s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{extension}, Script: tc.script})
				tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
				mustDeliver(t, tr)
				if tc.drop {
					s.Drop()
				}
				mustDeliver(t, tr)
				if s.Conns() != 2 || len(s.Messages()) != 2 {
					t.Errorf("%d connections, %d messages", s.Conns(), len(s.Messages()))
				}
			})
		}
	}
}

func TestReplacementHappensOnce(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{Script: func(e sinktest.Event) *sinktest.Act {
		if e.Stage == sinktest.Mail && (e.Conn > 1 || e.N > 1) {
			return &sinktest.Act{Close: true}
		}
		return nil
	}})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
	mustDeliver(t, tr)
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "deferred mail own 451" || s.Conns() != 2 {
		t.Errorf("%s after %d connections", briefs(out), s.Conns())
	}
}

func TestLimitOnMessagesInASessionIsKept(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"LIMITS MAILMAX=2 RCPTMAX=1"}})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}}, nil)
	out := tr.Deliver(t.Context(), delivery(t, short, "1@out.example", "2@out.example", "3@out.example"))
	if briefs(out) != "delivered eod 250, delivered eod 250, delivered eod 250" {
		t.Errorf("outcomes %s", briefs(out))
	}
	if s.Conns() != 2 || len(s.Messages()) != 3 {
		t.Errorf("%d connections, %d messages", s.Conns(), len(s.Messages()))
	}
}

func TestForgottenHostsTakeNoMemory(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.1:25", sinktest.Config{})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, MessagesPerSession: 1}, nil).(*smtpTransport)
	mustDeliver(t, tr)
	tr.Close()
	if got := len(tr.relay.pool.peers); got != 0 {
		t.Errorf("%d addresses are remembered", got)
	}
}

func TestHangingHostDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Mail, &sinktest.Act{Hang: true})})
		n.host("192.0.2.2:25", sinktest.Config{})
		r := names{addrs: map[string][]netip.Addr{"slow.example": {netip.MustParseAddr("192.0.2.1")}, "good.example": {netip.MustParseAddr("192.0.2.2")}}}
		tr := n.transport(Config{Kind: MX, Sessions: 2}, r)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				// Two at a time run into the timeout for MAIL, RFC 5321 §4.5.3.2.2.
				if out := tr.Deliver(t.Context(), delivery(t, short, "r@slow.example")); briefs(out) != "deferred mail own 451" {
					t.Errorf("%s", briefs(out))
				}
			})
		}
		synctest.Wait()
		begun := time.Now()
		for range 20 {
			if out := tr.Deliver(t.Context(), delivery(t, short, "r@good.example")); briefs(out) != "delivered eod 250" {
				t.Errorf("%s", briefs(out))
			}
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %v", took)
		}
		wg.Wait()
		if took := time.Since(begun); took != 25*time.Minute {
			t.Errorf("the slow ones took %v", took)
		}
	})
}

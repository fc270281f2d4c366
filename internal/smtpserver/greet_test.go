package smtpserver

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

// symbols are the findings in short.
func symbols(all []mail.Finding) string {
	var words []string
	for _, f := range all {
		words = append(words, f.Symbol)
	}
	return strings.Join(words, " ")
}

// TestNobodyTalksHisWayOutOfATarpit: a client that talks while it is held back is
// known for it, and waits as long as the others.
func TestNobodyTalksHisWayOutOfATarpit(t *testing.T) {
	const tarpit = 10 * time.Second
	for name, tt := range map[string]struct {
		teaser time.Duration
		speaks []time.Duration // after it has connected
		lines  string
		after  time.Duration
		seen   string
	}{
		"who waits":                      {0, nil, "", tarpit, ""},
		"who talks":                      {0, []time.Duration{time.Second}, "NOOP\r\n", tarpit, "pregreet"},
		"who goes on talking":            {0, []time.Duration{time.Second, 2 * time.Second, 9 * time.Second}, "NOOP\r\n", tarpit, "pregreet"},
		"who talked before the tarpit":   {4 * time.Second, []time.Duration{time.Second}, "NOOP\r\n", time.Second + tarpit, "pregreet"},
		"who talked before, and after":   {4 * time.Second, []time.Duration{time.Second, 2 * time.Second}, "NOOP\r\n", time.Second + tarpit, "pregreet"},
		"who talks behind the teaser":    {4 * time.Second, []time.Duration{5 * time.Second}, "NOOP\r\n", 4*time.Second + tarpit, "pregreet"},
		"who says more than we can hold": {4 * time.Second, []time.Duration{time.Second}, strings.Repeat("NOOP\r\n", 1000), time.Second + tarpit, "pregreet"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := startServer(t, Config{PregreetDelay: tt.teaser, MaxJunk: 10_000}, Options{})
				x.hooks.connect = mail.Decision{Delay: tarpit}
				begun := time.Now()
				c := x.dial()
				for _, at := range tt.speaks {
					time.AfterFunc(at, func() { c.conn.Write([]byte(tt.lines)) })
				}
				c.expect("220")
				if took := time.Since(begun); took != tt.after {
					t.Errorf("greeted after %v, want %v", took, tt.after)
				}
				for range len(tt.speaks) * strings.Count(tt.lines, "\n") {
					c.expect("250")
				}
				c.quit()
				x.stop()
				if got := symbols(x.hooks.sessions[0].Findings); got != tt.seen {
					t.Errorf("findings %q, want %q", got, tt.seen)
				}
			})
		})
	}
}

// TestTalkingIntoATarpitMayEndTheSession: the listener's penalty holds there, too.
func TestTalkingIntoATarpitMayEndTheSession(t *testing.T) {
	for penalty, want := range map[Penalty]string{PenaltyReject: "554 5.5.0", PenaltyDefer: "421 4.5.0"} {
		synctest.Test(t, func(t *testing.T) {
			x := startServer(t, Config{Pregreet: penalty}, Options{})
			x.hooks.connect = mail.Decision{Delay: time.Minute}
			begun := time.Now()
			c := x.dial()
			c.send("EHLO early.example")
			c.expect(want)
			c.expectClosed()
			if took := time.Since(begun); took != 0 {
				t.Errorf("after %v", took)
			}
			x.stop()
		})
	}
}

// TestARefusalBehindATarpitWaits: with and without a teaser, but a client that is
// dropped is dropped at once.
func TestARefusalBehindATarpitWaits(t *testing.T) {
	for name, tt := range map[string]struct {
		teaser  time.Duration
		connect mail.Decision
		want    []string // to the greeting, and to EHLO
		after   time.Duration
	}{
		"rejected":                {0, mail.Decision{Act: mail.Reject, Delay: 9 * time.Second}, []string{"554 5.7.1", "503 5.5.1"}, 9 * time.Second},
		"rejected after a teaser": {time.Second, mail.Decision{Act: mail.Reject, Delay: 9 * time.Second}, []string{"220", "554 5.7.1"}, 10 * time.Second},
		"dropped":                 {0, mail.Decision{Act: mail.Drop, Delay: 9 * time.Second}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := startServer(t, Config{PregreetDelay: tt.teaser}, Options{})
				x.hooks.connect = tt.connect
				begun := time.Now()
				c := x.dial()
				if tt.want == nil {
					c.expectClosed()
				} else {
					c.expect(tt.want[0])
				}
				if took := time.Since(begun); took != tt.after {
					t.Errorf("after %v, want %v", took, tt.after)
				}
				if tt.want != nil {
					c.send("EHLO c")
					c.expect(tt.want[1])
					c.quit()
				}
				x.stop()
			})
		})
	}
}

// TestShutdownEndsTheWaitForTheGreeting, in whichever part of it the client is.
func TestShutdownEndsTheWaitForTheGreeting(t *testing.T) {
	for name, tt := range map[string]struct {
		teaser, tarpit time.Duration
		speaks         bool
		lines          []string
	}{
		"teased":               {time.Minute, 0, false, []string{"220-gw.example ESMTP"}},
		"held":                 {0, time.Minute, false, nil},
		"held, talking":        {0, time.Minute, true, nil},
		"teased, held":         {time.Second, time.Minute, false, []string{"220-gw.example ESMTP"}},
		"teased, held, talked": {time.Minute, time.Minute, true, []string{"220-gw.example ESMTP"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := startServer(t, Config{PregreetDelay: tt.teaser}, Options{})
				x.hooks.connect = mail.Decision{Delay: tt.tarpit}
				c := x.dial()
				if tt.speaks {
					c.send("EHLO early.example")
				}
				<-time.After(5 * time.Second)
				begun := time.Now()
				x.stop()
				if took := time.Since(begun); took != 0 {
					t.Errorf("took %v", took)
				}
				for _, want := range append(tt.lines, "421 4.3.2") {
					if got := c.line(); !strings.HasPrefix(got, want) {
						t.Errorf("got %q, want %q", got, want)
					}
				}
				c.expectClosed()
			})
		})
	}
}

// TestWhoLeavesBeforeTheFlowIsAskedIsNobody: hooks hear of the end of those only
// whom they have seen.
func TestWhoLeavesBeforeTheFlowIsAskedIsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{PregreetDelay: time.Minute}, Options{})
		c := x.dial()
		if got := c.line(); got != "220-gw.example ESMTP" {
			t.Fatalf("first line %q", got)
		}
		c.conn.Close()
		synctest.Wait()
		x.stop()
		if x.hooks.counts["connect"] != 0 || len(x.hooks.sessions) != 0 {
			t.Errorf("asked %d times, told of %d ends", x.hooks.counts["connect"], len(x.hooks.sessions))
		}
	})
}

// TestEverythingIsRefusedAfterATeaser: whatever the client says gets the decision's
// reply, but for QUIT, and what it sends with BDAT is no command.
func TestEverythingIsRefusedAfterATeaser(t *testing.T) {
	x := startServer(t, Config{PregreetDelay: time.Millisecond, MaxErrors: 100, Auth: []string{"PLAIN"}, AuthWithoutTLS: true}, Options{})
	x.hooks.connect = mail.Decision{Act: mail.Reject, Reply: mail.ReplyNoService.Reply().WithText("Listed at bl.example")}
	const want = "554 5.7.1 Listed at bl.example"
	c := x.dial()
	c.expect("220-gw.example ESMTP\n220 gw.example ESMTP")
	for _, line := range []string{
		"EHLO c", "HELO c", "MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA", "RSET", "NOOP", "FOO", "\x01", "MA\x00L",
		"STARTTLS", "AUTH PLAIN AGFsaWNlAHNlY3JldA==", "BDAT 6 LAST\r\nQUIT", "XCLIENT ADDR=192.0.2.9", "VRFY a",
	} {
		c.send(line)
		c.expect(want)
	}
	c.quit()
	x.stop()
	if got := x.hooks.counts["refused"]; got != 15 {
		t.Errorf("told of %d refusals, want 15", got)
	}
}

// TestBandwidthHoldsFromTheDecisionOn: also for what came in before the greeting was
// complete.
func TestBandwidthHoldsFromTheDecisionOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{PregreetDelay: time.Second}, Options{})
		x.hooks.connect = mail.Decision{Bandwidth: 1000}
		c := x.dial().intoData()
		begun := time.Now()
		go c.conn.Write([]byte(strings.Repeat(strings.Repeat("x", 98)+"\r\n", 100) + ".\r\n"))
		c.expect("250")
		if took := time.Since(begun); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10 kB at 1000 bytes/s took %v", took)
		}
		c.quit()
		x.stop()
	})
}

// TestXCLIENTBeginsAnew: what the connect hook said of the client before, and whom
// that one was logged in as, is not the new one's.
func TestXCLIENTBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{XClientFrom: prefixes("192.0.2.1/32"), Auth: []string{"PLAIN"}, AuthWithoutTLS: true}, Options{})
		x.hooks.connect = mail.Decision{Bandwidth: 10, Findings: []mail.Finding{{Module: "dnsbl", Symbol: "proxy", Result: mail.Match, Score: 5}}}
		c := x.dial().greet()
		c.send(loginAs("ALICE", "secret"))
		c.expect("235")
		x.hooks.connect = mail.Decision{Findings: []mail.Finding{{Module: "dnsbl", Symbol: "client", Result: mail.Match, Score: 1}}}
		c.send("XCLIENT ADDR=198.51.100.7 LOGIN=bob")
		c.expect("220")
		begun := time.Now()
		c.send("EHLO c")
		c.expect("250")
		c.send("MAIL FROM:<" + strings.Repeat("x", 60) + "@out.example>")
		c.expect("250")
		if took := time.Since(begun); took != 0 {
			t.Errorf("the proxy's limit still holds: %v", took)
		}
		c.quit()
		x.stop()
		if len(x.hooks.atConnect) != 2 || len(x.hooks.atConnect[1]) != 0 {
			t.Errorf("connect saw %+v", x.hooks.atConnect)
		}
		s := x.hooks.sessions[0]
		if symbols(s.Findings) != "client" || s.User != "bob" || !slices.Equal(s.Senders, nil) {
			t.Errorf("user %q, senders %q, findings %+v", s.User, s.Senders, s.Findings)
		}
	})
}

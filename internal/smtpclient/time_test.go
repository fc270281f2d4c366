package smtpclient_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

// timeouts differ in every stage, so that a test can tell which one fired.
var timeouts = smtpclient.Timeouts{
	Banner: 11 * time.Second, Hello: 12 * time.Second, Mail: 13 * time.Second, Rcpt: 14 * time.Second,
	DataInit: 15 * time.Second, DataBlock: 16 * time.Second, DataDone: 17 * time.Second, TLS: 18 * time.Second,
	Auth: 19 * time.Second, Reset: 20 * time.Second,
}

// converse dials, logs in and sends one message to two recipients.
func (k *talk) converse(t *testing.T, ctx context.Context, content smtpclient.Content) ([]mail.Outcome, error) {
	c, err := k.dialer.Dial(ctx, smtpclient.Target{Network: "tcp", Address: "192.0.2.25:25"})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Auth(ctx, smtpclient.Credentials{Username: "u", Password: "p", AllowCleartext: true}); err != nil {
		return nil, err
	}
	return c.Send(ctx, request(t, 2, content))
}

var hangStages = []struct {
	stage string
	want  time.Duration
}{
	{sinktest.Banner, 11 * time.Second}, {sinktest.Ehlo, 12 * time.Second}, {sinktest.Auth, 19 * time.Second}, {sinktest.Mail, 13 * time.Second},
	{sinktest.Rcpt, 14 * time.Second}, {sinktest.Data, 15 * time.Second}, {sinktest.EOD, 17 * time.Second},
}

func authPlain(e sinktest.Event) *sinktest.Act {
	if e.Stage == sinktest.Auth {
		return sinktest.Reply("334 ")
	}
	if e.Stage == sinktest.Other {
		return sinktest.Reply("235 2.7.0 ok")
	}
	return nil
}

func TestEveryStageHasItsTimeout(t *testing.T) {
	for _, how := range []string{"says nothing", "sends a byte a second"} {
		for _, tc := range hangStages {
			for way, extensions := range bothWays {
				t.Run("the server "+how+" at "+tc.stage+" "+way, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						act := &sinktest.Act{Hang: true}
						if how != "says nothing" {
							act = &sinktest.Act{Wire: "250 " + strings.Repeat("x", 1000) + "\r\n", Trickle: time.Second}
						}
						k := newTalk(t, sinktest.Config{Extensions: append([]string{"AUTH PLAIN"}, extensions...), Script: func(e sinktest.Event) *sinktest.Act {
							if e.Stage == tc.stage {
								return act
							}
							return authPlain(e)
						}}, smtpclient.Config{Timeouts: timeouts})
						begun := time.Now()
						out, err := k.converse(t, t.Context(), short)
						if took := time.Since(begun); took != tc.want {
							t.Errorf("it took %v, want %v", took, tc.want)
						}
						var e *smtpclient.Error
						if !errors.As(err, &e) || e.Outcome().Reply.Code != 451 || e.Outcome().Reply.Enhanced != "4.4.2" || e.Outcome().Status != mail.Deferred {
							t.Fatalf("error %v", err)
						}
						for _, o := range out {
							if o.Status != "" && (o.Status != mail.Deferred || o.MaybeDuplicate != (tc.stage == sinktest.EOD)) {
								t.Errorf("outcome %+v", o)
							}
						}
					})
				})
			}
		}
	}
}

// huge is content that does not fit into what a connection buffers.
var huge = text(strings.Repeat("0123456789abcdef0123456789abcd\r\n", 64<<10)) // 2 MiB

func TestServerThatTakesNoData(t *testing.T) {
	for _, extension := range []string{"PIPELINING", "CHUNKING"} {
		t.Run(extension, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTalk(t, sinktest.Config{Extensions: []string{"AUTH PLAIN", extension}, Script: func(e sinktest.Event) *sinktest.Act {
					if e.Stage == sinktest.Data {
						return &sinktest.Act{Usual: true, Stall: true}
					}
					if e.Stage == sinktest.Rcpt && extension == "CHUNKING" && e.N == 2 {
						return &sinktest.Act{Usual: true, Stall: true}
					}
					return authPlain(e)
				}}, smtpclient.Config{Timeouts: timeouts})
				begun := time.Now()
				out, err := k.converse(t, t.Context(), huge)
				if took := time.Since(begun); took != 17*time.Second { // a second to read what it may have to say
					t.Errorf("it took %v", took)
				}
				if err == nil || briefs(out) != "deferred eod own 451, deferred eod own 451" || out[0].MaybeDuplicate {
					t.Errorf("%s, %v", briefs(out), err)
				}
			})
		})
	}
}

func TestServerThatTakesDataTooSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := timeouts
		slow.MinRate = 64 << 10
		k := newTalk(t, sinktest.Config{Extensions: []string{"AUTH PLAIN"}, Script: func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Data {
				// A block every 10 seconds keeps each write within its deadline.
				return &sinktest.Act{Usual: true, Sip: 32 << 10, Trickle: 5 * time.Second}
			}
			return authPlain(e)
		}}, smtpclient.Config{Timeouts: slow})
		begun := time.Now()
		out, err := k.converse(t, t.Context(), huge)
		// Each block is taken in time, but at that pace it would be 5 minutes.
		if took := time.Since(begun); took < 20*time.Second || took > 40*time.Second {
			t.Errorf("it took %v", took)
		}
		if err == nil || briefs(out) != "deferred eod own 451, deferred eod own 451" {
			t.Errorf("%s, %v", briefs(out), err)
		}
	})
}

func TestCancelEndsAConversationAtAnyStage(t *testing.T) {
	for _, tc := range hangStages {
		t.Run(tc.stage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTalk(t, sinktest.Config{Extensions: []string{"AUTH PLAIN", "PIPELINING"}, Script: func(e sinktest.Event) *sinktest.Act {
					if e.Stage == tc.stage {
						return &sinktest.Act{Hang: true}
					}
					return authPlain(e)
				}}, smtpclient.Config{Timeouts: timeouts})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				out, err := k.converse(t, ctx, short)
				if took := time.Since(begun); took != time.Second {
					t.Errorf("it took %v", took)
				}
				var e *smtpclient.Error
				if !errors.As(err, &e) || e.Outcome().Reply.Enhanced != "4.3.2" {
					t.Fatalf("error %v", err)
				}
				for _, o := range out {
					if o.Status != "" && o.Status != mail.Deferred {
						t.Errorf("outcome %+v", o)
					}
				}
			})
		})
	}
}

func TestQuitDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalk(t, sinktest.Config{Script: at(sinktest.Quit, &sinktest.Act{Hang: true})}, smtpclient.Config{})
		c := k.mustDial(t)
		begun := time.Now()
		c.Quit()
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestRemoteThatStopsReadingIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTalk(t, sinktest.Config{Extensions: []string{"AUTH PLAIN"}, Script: func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Data {
				return &sinktest.Act{Usual: true, Wire: "552 5.3.4 too big\r\n", Late: time.Second, Stall: true}
			}
			return authPlain(e)
		}}, smtpclient.Config{Timeouts: timeouts})
		out, err := k.converse(t, t.Context(), huge)
		if err == nil || briefs(out) != "failed eod 552, failed eod 552" {
			t.Errorf("%s, %v", briefs(out), err)
		}
	})
}

func TestBigMessageArrivesWhole(t *testing.T) {
	for _, extension := range []string{"PIPELINING", "CHUNKING"} {
		k := newTalk(t, sinktest.Config{Extensions: []string{extension}}, smtpclient.Config{})
		out, err := k.mustDial(t).Send(t.Context(), request(t, 1, huge))
		if err != nil || briefs(out) != "delivered eod 250" {
			t.Fatalf("%s: %s, %v", extension, briefs(out), err)
		}
		m := k.sink.Messages()[0]
		if !bytes.Equal([]byte(m.Body()), []byte(huge)) || m.Bdat != (extension == "CHUNKING") {
			t.Errorf("%s: %d bytes arrived, by BDAT %v", extension, len(m.Body()), m.Bdat)
		}
	}
}

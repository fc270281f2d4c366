package smtpserver

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// intoData brings a client to the point where its message is expected.
func (c *client) intoData() *client {
	c.t.Helper()
	c.greet()
	c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
	c.expect("250", "250", "354")
	return c
}

func TestMailDataMustKeepComing(t *testing.T) {
	tests := []struct {
		name  string
		cfg   Config
		piece int           // bytes that the client sends …
		every time.Duration // … so often
		want  string
		after time.Duration
	}{
		{"nothing at all ends at the grace of the rate", Config{}, 0, time.Hour, "421 4.4.2 Data arrives too slowly", 2 * time.Minute},
		{"a pause ends at the command timeout", Config{CommandTimeout: 10 * time.Second}, 0, time.Hour, "421 4.4.2 Timeout", 10 * time.Second},
		{"a byte now and then ends at the rate", Config{}, 10, time.Second, "421 4.4.2 Data arrives too slowly", 122 * time.Second},
		{"just fast enough ends at the total", Config{}, 600, time.Second, "421 4.4.2 Data arrives too slowly", 10 * time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := startServer(t, tt.cfg, Options{})
				c := x.dial().intoData()
				start := time.Now()
				stop := make(chan struct{})
				go func() {
					tick := time.NewTicker(tt.every)
					defer tick.Stop()
					for {
						select {
						case <-stop:
							return
						case <-tick.C:
							c.conn.Write([]byte(strings.Repeat("x", tt.piece)))
						}
					}
				}()
				c.expect(tt.want)
				if took := time.Since(start); took < tt.after-time.Second || took > tt.after+time.Second {
					t.Errorf("after %v, want %v", took, tt.after)
				}
				close(stop)
				c.expectClosed()
				c.conn.Close()
				x.stop()
				if x.hooks.counts["aborted"] != 1 {
					t.Error("the intake was not told")
				}
			})
		})
	}
}

// TestTheRateIsOverTheWholeMessage lets a client that was quick pause for a while.
func TestTheRateIsOverTheWholeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial().intoData()
		c.sendRaw("\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000))
		<-time.After(3 * time.Minute)
		c.sendRaw(".\r\n")
		c.expect("250")
		c.quit()
		x.stop()
	})
}

func TestBetweenChunksTheMessagesTimeRunsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial().greet()
		c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "BDAT 3", "x")
		c.expect("250", "250", "250")
		start := time.Now()
		c.expect("421 4.4.2 Data arrives too slowly")
		if took := time.Since(start); took != 2*time.Minute {
			t.Errorf("after %v", took)
		}
		c.expectClosed()
		x.stop()
	})
}

// TestARefusedMessageIsNotWaitedForLong is the bound on draining.
func TestARefusedMessageIsNotWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{MaxMessageSize: 100_000}, Options{})
		c := x.dial().intoData()
		c.sendRaw("\r\n" + strings.Repeat("x", 150_000))
		start := time.Now()
		synctest.Wait()
		if x.hooks.counted("aborted") != 1 {
			t.Error("the intake still keeps what nobody will have")
		}
		c.expect("552 5.3.4")
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("after %v", took)
		}
		c.expectClosed()
		x.stop()
	})
}

func TestBandwidthIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial()
		c.expect("220")
		c.send("HELO narrow.example")
		c.expect("250")
		c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
		c.expect("250", "250", "354")
		// At 1000 bytes/s this takes longer than all that a client may take: but it
		// is not the client that is slow.
		start := time.Now()
		go c.conn.Write([]byte("\r\n" + strings.Repeat(strings.Repeat("x", 98)+"\r\n", 7000) + ".\r\n"))
		c.expect("250")
		if took := time.Since(start); took < 690*time.Second || took > 710*time.Second {
			t.Errorf("700 kB at 1000 bytes/s took %v", took)
		}
		c.quit()
		x.stop()
	})
}

// TestAClientThatDoesNotReadIsLeft sends commands whose replies fill every buffer.
func TestAClientThatDoesNotReadIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{MaxJunk: 1 << 30}, Options{})
		c := x.dial().greet()
		go func() {
			b := []byte(strings.Repeat("NOOP\r\n", 10_000))
			for {
				if _, err := c.conn.Write(b); err != nil {
					return
				}
			}
		}()
		<-time.After(2 * time.Minute)
		if n := x.server.opts.Limiter.Sessions(); n != 0 {
			t.Errorf("%d sessions", n)
		}
		x.stop()
	})
}

func TestShutdownEndsIdleSessionsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		idle := x.dial()
		idle.expect("220")
		between := x.dial().greet()
		between.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>")
		between.expect("250", "250")
		tarpit := x.dial()
		tarpit.expect("220")
		tarpit.send("HELO slow.example")
		synctest.Wait()
		start := time.Now()
		x.stop()
		if took := time.Since(start); took != 0 {
			t.Errorf("took %v", took)
		}
		for _, c := range []*client{idle, between, tarpit} {
			c.expect("421 4.3.2")
			c.expectClosed()
		}
		if _, err := x.ln.Dial(t.Context()); err == nil {
			t.Error("the listener still takes connections")
		}
	})
}

// TestShutdownLetsMessagesFinish is DUR-17.
func TestShutdownLetsMessagesFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		data, chunks := x.dial().intoData(), x.dial().greet()
		chunks.send("MAIL FROM:<b@out.example>", "RCPT TO:<v@in.example>", "BDAT 3", "x")
		chunks.expect("250", "250", "250")
		synctest.Wait()
		done := make(chan []received)
		go func() { done <- x.stop() }()
		<-time.After(5 * time.Second)
		data.send("x", ".", "NOOP")
		data.expect("250 2.0.0 OK: queued", "421 4.3.2")
		data.expectClosed()
		chunks.send("BDAT 0 LAST", "NOOP")
		chunks.expect("250 2.0.0 OK: queued", "421 4.3.2")
		chunks.expectClosed()
		if mails := <-done; len(mails) != 2 {
			t.Errorf("%d mails", len(mails))
		}
	})
}

func TestShutdownAtTheDeadlineEndsMessagesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		x.hooks.hold, x.hooks.slowDisk = make(chan struct{}), make(chan struct{})
		waiting, half := x.dial().intoData(), x.dial().intoData()
		half.sendRaw("half a mess")
		chunks := x.dial().greet()
		chunks.send("MAIL FROM:<b@out.example>", "RCPT TO:<v@in.example>", "BDAT 3", "x")
		chunks.expect("250", "250", "250")
		stuck := x.dial().intoData()
		stuck.send("x", ".")
		slow := x.dial().intoData()
		slow.send("SLOWDISK")
		// A hook that waits is told by its context.
		asking := x.dial().greet()
		asking.send("MAIL FROM:<a@out.example>", "RCPT TO:<wait@in.example>")
		synctest.Wait()
		start := time.Now()
		time.AfterFunc(10500*time.Millisecond, func() { close(x.hooks.slowDisk) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := x.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(start); took < 10*time.Second || took > 10*time.Second+2*killGrace {
			t.Errorf("took %v", took)
		}
		for _, c := range []*client{waiting, half, chunks, slow} {
			c.expect("421 4.3.2")
			c.expectClosed()
		}
		asking.expect("250", "451", "421 4.3.2")
		// A commit that does not return in time gets no answer, and no second one.
		stuck.expectClosed()
		close(x.hooks.hold)
		synctest.Wait()
		if x.hooks.counts["aborted"] != 4 {
			t.Errorf("%d messages aborted", x.hooks.counts["aborted"])
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial().greet()
		ctx, cancel := context.WithCancel(t.Context())
		y := startServer(t, Config{}, Options{})
		served := make(chan error)
		go func() { served <- x.server.Serve(ctx, y.ln) }()
		synctest.Wait()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		c.inSync() // sessions go on
		x.stop()
		if err := x.server.Serve(t.Context(), y.ln); err != nil {
			t.Errorf("Serve after Shutdown: %v", err)
		}
		y.stop()
	})
}

func TestReloadIsForNewSessions(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	old := x.dial().greet()
	if err := x.server.Reload(Config{Hostname: "new.example", MaxMessageSize: 10}, x.hooks.all()); err != nil {
		t.Fatal(err)
	}
	if err := x.server.Reload(Config{}, x.hooks.all()); err == nil {
		t.Error("a configuration without a host name was taken")
	}
	old.send("MAIL FROM:<a@out.example> SIZE=100")
	old.expect("250")
	c := x.dial()
	c.expect("220 new.example")
	c.send("EHLO c", "MAIL FROM:<a@out.example> SIZE=100")
	c.expect("250-new.example\n250-PIPELINING\n250-SIZE 10\n", "552")
	c.quit()
	old.quit()
	x.stop()
}

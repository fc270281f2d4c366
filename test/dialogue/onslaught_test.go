package dialogue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// served delivers a message from an address that has no part in an attack.
func served(t *testing.T, g *gatepost.Instance, s *sink.Sink, to string) {
	t.Helper()
	c, _, err := wire.Hello(g.SMTP, wire.Options{Source: another})
	if err != nil {
		t.Fatalf("another client: %v", err)
	}
	defer c.Close()
	give(t, c, "ada@out.example", to, message)
	theMail(t, s, to)
}

// crowd connects n times from an address, without a look at what is said.
func crowd(t *testing.T, g *gatepost.Instance, source string, n int) []*wire.Conn {
	t.Helper()
	all := make([]*wire.Conn, n)
	for i := range all {
		c, err := wire.Dial(g.SMTP, wire.Options{Source: source})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all[i] = c
	}
	return all
}

// lastWords reads replies until the server closes, and returns the last one.
func lastWords(c *wire.Conn) (last string) {
	for {
		r, err := c.Reply()
		if err != nil {
			return last
		}
		last = r.String()
	}
}

// DOS-01: who sends a command byte by byte has no more time for it than others, and
// holds nobody up.
func TestSlowCommandsEndAndHoldNobodyUp(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, on way) {
		s := next(t, sink.Options{})
		g := behind(t, s, on(t, gatepost.Settings{Limits: "command_timeout = \"3s\"\nmax_sessions_per_ip = 200"}))
		slow := crowd(t, g, stranger, 150)
		done := make(chan struct{})
		t.Cleanup(func() { <-done })
		go func() {
			defer close(done)
			tick := time.NewTicker(500 * time.Millisecond)
			defer tick.Stop()
			for open := len(slow); open > 0; <-tick.C {
				open = 0
				for _, c := range slow {
					if c.Send("E") == nil {
						open++
					}
				}
			}
		}()
		served(t, g, s, "bob@in.example")
		for i, c := range slow {
			if last := lastWords(c); !strings.HasPrefix(last, "421 4.4.2") {
				t.Errorf("slow client %d hears at last %q", i, last)
			}
			c.Close()
		}
		served(t, g, s, "eve@in.example")
	})
}

// DOS-03: one address has its share of sessions and no more, whatever else it tries;
// who left makes room.
func TestOneAddressDoesNotTakeAllSessions(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, on way) {
		s := next(t, sink.Options{})
		g := behind(t, s, on(t, gatepost.Settings{Limits: "max_sessions_per_ip = 20"}))
		all := crowd(t, g, stranger, 300)
		in, out := 0, 0
		var held []*wire.Conn
		for i, c := range all {
			r, err := c.Reply()
			switch {
			case err == nil && r.Code == 220:
				in++
				held = append(held, c)
			case err == nil && strings.HasPrefix(r.String(), "421 4.7.0"):
				out++
			default:
				t.Errorf("client %d: %v, %v", i, r, err)
			}
		}
		if in != 20 || out != 280 {
			t.Errorf("%d clients were let in and %d sent away", in, out)
		}
		served(t, g, s, "bob@in.example")
		for _, c := range held {
			c.Close()
		}
		gatepost.Eventually(t, "there is room again", patience, func() bool {
			c, err := wire.Dial(g.SMTP, wire.Options{Source: stranger})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r, err := c.Reply()
			return err == nil && r.Code == 220
		})
	})
}

// DOS-12: a handshake that does not go on ends, and others' do meanwhile.
func TestHandshakesThatDoNotGoOnEnd(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, on way) {
		s := next(t, sink.Options{})
		g := behind(t, s, on(t, gatepost.Settings{Limits: "handshake_timeout = \"2s\"\nmax_sessions_per_ip = 200"}))
		stalled := crowd(t, g, stranger, 100)
		for i, c := range stalled {
			if r, err := c.Reply(); err != nil || r.Code != 220 {
				t.Fatalf("client %d: %v, %v", i, r, err)
			}
			if r, err := c.Cmd("EHLO client.example"); err != nil || r.Code != 250 {
				t.Fatalf("client %d: %v, %v", i, r, err)
			}
			if r, err := c.Cmd("STARTTLS"); err != nil || r.Code != 220 {
				t.Fatalf("client %d: %v, %v", i, r, err)
			}
			// The head of a ClientHello, and no more of it.
			if err := c.Send("\x16\x03\x01\x02\x00\x01"); err != nil {
				t.Fatal(err)
			}
		}
		c, _ := secure(t, g, another)
		give(t, c, "ada@out.example", "bob@in.example", message)
		theMail(t, s, "bob@in.example")
		for i, c := range stalled {
			if r, err := c.Reply(); err == nil {
				t.Errorf("client %d hears %v", i, r)
			}
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
				t.Errorf("client %d is still connected: %v", i, err)
			}
		}
		served(t, g, s, "eve@in.example")
	})
}

func isTimeout(err error) bool {
	timeout, ok := err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

// PIP-04: a hundred thousand commands that bring no mail, in one write.
func TestJunkCommandsEndTheSession(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, on way) {
		g := behind(t, next(t, sink.Options{}), on(t, gatepost.Settings{}))
		for _, command := range []string{"NOOP", "RSET", "VRFY x"} {
			c := g.Hello(stranger)
			say(t, c, "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@in.example>", "250")
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				// The server goes in the middle of it.
				_ = c.Send(strings.Repeat(command+"\r\n", 100_000))
			}()
			replies := 0
			for {
				r, err := c.Reply()
				if err != nil {
					t.Errorf("%s: after %d replies: %v", command, replies, err)
					break
				}
				if replies++; r.Code == 421 || replies > 150 {
					break
				}
			}
			if replies < 90 || replies > 101 {
				t.Errorf("%s: %d replies", command, replies)
			}
			c.Close()
			<-sent
		}
		logged(t, g, "session ended", stranger)
	})
}

// DOS-09: whatever a client sends, what the log says of it is one line without
// characters that a terminal obeys.
func TestNobodyWritesLinesIntoTheLog(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, on way) {
		s := next(t, sink.Options{})
		g := behind(t, s, on(t, gatepost.Settings{}))
		c := greeted(t, g, stranger, "220")
		const forged = "2026-01-01T00:00:00Z info forged entry"
		say(t, c, "HELO a\x1b[2Jb", "5", "HELO a\u009b2J", "501", "HELO a b=\"c", "250",
			"MAIL FROM:<\"a\x1b[2J\"@out.example>", "5", "MAIL FROM:<ada@out.example>", "250", "RCPT TO:<bob@in.example>", "250", "DATA", "354")
		encoded := strings.NewReplacer(" ", "_", ":", "=3A").Replace(forged)
		if err := c.Send("Subject: \x1b[31mred\x1b[0m \u009b2J =?utf-8?q?a=0D=0A" + encoded + "=0D=0A=1B[2J=00?=\r\nFrom: \x1b]0;x\x07\r\n\r\nx\r\n.\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := c.Reply()
		if err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		theMail(t, s, "bob@in.example")
		logged(t, g, "mail id="+idOf(t, r))
		for line := range strings.Lines(g.MailLog()) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, forged) || !strings.HasPrefix(line, "20") {
				t.Errorf("a line of the client's: %q", line)
			}
			for _, r := range line {
				if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' {
					t.Errorf("%q in a line of the log: %q", r, line)
				}
			}
		}
	})
}

// DOS-05: what is nested or divided without end is seen for what it is, in the time
// that a client waits.
func TestBombsOfPartsAreHeld(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flowsOn(t, gatepost.Settings{}))
	var nested, many, attached strings.Builder
	const head = "From: ada@out.example\nSubject: bomb\nMIME-Version: 1.0\n"
	nested.WriteString(head)
	for i := range 10_000 {
		fmt.Fprintf(&nested, "Content-Type: multipart/mixed; boundary=%d\n\n--%d\n", i, i)
	}
	many.WriteString(head + "Content-Type: multipart/mixed; boundary=b\n\n")
	for range 100_000 {
		many.WriteString("--b\n\nx\n")
	}
	attached.WriteString(head)
	for range 1000 {
		attached.WriteString("Content-Type: message/rfc822\n\n" + head)
	}
	c := g.Hello(stranger)
	for i, data := range []string{nested.String() + "\nx\n", many.String() + "--b--\n", attached.String() + "\nx\n"} {
		id := give(t, c, "ada@out.example", "bob@in.example", data)
		if q := quarantine(t, g, i+1)[0]; q.ID != id || q.Threat != "unscanned" || !strings.HasPrefix(q.Rule, "limit:") {
			t.Errorf("bomb %d: %+v", i, q)
		}
	}
	served(t, g, s, "eve@in.example")
}

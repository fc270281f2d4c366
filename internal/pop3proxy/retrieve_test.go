package pop3proxy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/pop3"
	"gatepost/test/popserver"
)

// shapes are messages that a proxy could spoil.
func shapes() []string {
	return []string{
		"", "\r\n", ".", "..\r\n", ".\r\n", "x", "x\r\n.", "Subject: x\r\n\r\n.\r\n..\r\n...\r\n.hidden\r\n",
		"a\nb\nc\n", "a\n.b\n..c\nd", "\x00\x01\xff\xfe\r\n", "a\rb\r.\rc\r\n", "no end", "\n", "\n.\n", ".\n", "\r", ".\r",
		strings.Repeat("long ", 50_000) + "\r\n", strings.Repeat("line\r\n.\r\n", 20_000), strings.Repeat(".\n", 3000), "Grüße 日本\r\n",
	}
}

// TestMessagesAreNotTouched is POP-01: what was judged, and what a client sees, is what the
// server has, byte for byte.
func TestMessagesAreNotTouched(t *testing.T) {
	for _, scans := range []bool{true, false} {
		t.Run(fmt.Sprint("scanning ", scans), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mails := shapes()
				x := &tester{t: t, server: popserver.New(mails...), ln: memconn.Listen(), scanner: &scanner{}, traffic: &traffic{}, log: &logBuffer{}}
				x.start(Config{}, scans)
				c := x.login()
				for i, m := range mails {
					c.send(fmt.Sprintf("RETR %d", i+1))
					c.expect(fmt.Sprintf("+OK %d octets", len(m)))
					wire := strings.TrimSuffix(popserver.Stuffed(m), ".\r\n")
					if got := c.data(); got != wire {
						t.Errorf("%.40q: on the wire %.60q", m, got)
					}
					want := m
					if m != "" && !strings.HasSuffix(m, "\n") {
						want += "\r\n"
					}
					if scans && x.scanner.judged[i] != want {
						t.Errorf("%.40q was judged as %.40q", m, x.scanner.judged[i])
					}
				}
				c.inSync()
				c.quit()
				x.stop()
			})
		})
	}
}

// TestBareLineEndsOfServers holds servers that pass a bare LF on against what their
// clients make of it: nothing of a message is taken for its end.
func TestBareLineEndsOfServers(t *testing.T) {
	for _, tt := range []struct{ name, wire, judged, client string }{
		{"a dot that was not stuffed behind a bare LF", "a\n.\nb\r\n.\r\n", "a\n.\nb\r\n", "a\n..\nb\r\n"},
		{"a line with one behind a bare LF", "a\n.b\r\n.\r\n", "a\n.b\r\n", "a\n..b\r\n"},
		{"one that was stuffed there", "a\n..b\r\n.\r\n", "a\n.b\r\n", "a\n..b\r\n"},
		{"the end behind a bare LF", "a\n.\r\n", "a\n", "a\n"},
		{"a dot that was not stuffed at all", "a\r\n.b\r\n.\r\n", "a\r\nb\r\n", "a\r\nb\r\n"},
		{"dots before a bare CR", "\r\n.\rb\r\n.\r\n", "\r\n\rb\r\n", "\r\n\rb\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New("")
			server.Hook = answering("RETR 1", func(c *popserver.Conn) { c.Raw("+OK\r\n" + tt.wire) })
			in(t, server, Config{}, func(x *tester) {
				c := x.login()
				c.send("RETR 1")
				c.expect("+OK")
				if got := c.data(); got != tt.client {
					t.Errorf("the client gets %q, want %q", got, tt.client)
				}
				if x.scanner.judged[0] != tt.judged {
					t.Errorf("judged %q, want %q", x.scanner.judged[0], tt.judged)
				}
				c.inSync()
				c.quit()
			})
		})
	}
	t.Run("a server of bare LF only", func(t *testing.T) {
		server := popserver.New("")
		server.Hook = answering("RETR 1", func(c *popserver.Conn) { c.Raw("+OK\na\nb\n.\n") })
		in(t, server, Config{}, func(x *tester) {
			c := x.login()
			c.send("RETR 1")
			c.expect("+OK")
			if got := c.data(); got != "a\nb\n" {
				t.Errorf("%q", got)
			}
			c.inSync()
			c.quit()
		})
	})
}

// answering is a hook for one command.
func answering(command string, answer func(c *popserver.Conn)) func(*popserver.Conn, string) bool {
	return func(c *popserver.Conn, said string) bool {
		if said != command {
			return false
		}
		answer(c)
		return true
	}
}

// TestInfectedMailIsReplaced is POP-02.
func TestInfectedMailIsReplaced(t *testing.T) {
	server := popserver.New(hello, "Subject: bad\r\n\r\n"+virus+"\r\n", hello)
	in(t, server, Config{}, func(x *tester) {
		c := x.login()
		c.send("RETR 2")
		c.expect(fmt.Sprintf("+OK %d octets", len(notice)))
		if got := c.text(); got != notice {
			t.Errorf("%q", got)
		}
		c.send("TOP 2 1", "UIDL", "TOP 2 0")
		c.expect("+OK")
		if got := c.text(); got != "From: gatepost\r\nSubject: replaced\r\n\r\nA virus was found.\r\n" {
			t.Errorf("TOP 2 1 %q", got)
		}
		c.expect("+OK")
		if got := c.data(); got != "1 uid-1\r\n2 uid-2\r\n3 uid-3\r\n" {
			t.Errorf("UIDL %q", got)
		}
		c.expect("+OK")
		c.text()
		c.send("RETR 3", "RETR 2")
		c.expect("+OK")
		c.text()
		c.expect("+OK")
		if got := c.text(); got != notice {
			t.Errorf("%q", got)
		}
		c.send("DELE 2")
		c.expect("+OK")
		c.quit()
		x.settle()
		if n := strings.Count(server.Lines(), "RETR 2"); n != 1 {
			t.Errorf("fetched %d times", n)
		}
		if left := server.Left(); len(left) != 2 {
			t.Errorf("left %v", left)
		}
		if sum := x.traffic.sessions[0]; sum.Replaced != 4 || sum.Messages != 5 {
			t.Errorf("%+v", sum)
		}
	})
}

func TestReplacedMailCanBeKept(t *testing.T) {
	server := popserver.New(virus+"\r\n", hello, hello)
	in(t, server, Config{KeepReplaced: true}, func(x *tester) {
		x.scanner.known = map[string]bool{"uid-3": true}
		c := x.login()
		c.send("RETR 1", "DELE 1", "DELE 2", "DELE 3")
		c.expect("+OK")
		c.text()
		c.expect("-ERR [SYS/PERM]", "+OK", "-ERR [SYS/PERM]")
		c.quit()
		if left := server.Left(); fmt.Sprint(left) != "[1 3]" {
			t.Errorf("left %v", left)
		}
	})
}

func TestMarkedMailHasTheRightCount(t *testing.T) {
	in(t, popserver.New(hello), Config{}, func(x *tester) {
		x.scanner.edits = mail.Edits{Prepend: []byte("X-Spam: yes\r\n"), Cut: []mail.Span{{Start: 0, End: 19}}}
		c := x.login()
		want := "X-Spam: yes\r\n" + hello[19:]
		c.send("RETR 1", "TOP 1 0")
		c.expect(fmt.Sprintf("+OK %d octets", len(want)))
		if got := c.text(); got != want {
			t.Errorf("%q", got)
		}
		c.expect("+OK")
		if got := c.text(); got != "X-Spam: yes\r\nSubject: hello\r\n\r\n" {
			t.Errorf("%q", got)
		}
		c.quit()
		if n := strings.Count(x.server.Lines(), "RETR"); n != 1 {
			t.Errorf("fetched %d times", n)
		}
	})
}

// TestTopIsJudgedAsAWhole: what a client does not get decides as well.
func TestTopIsJudgedAsAWhole(t *testing.T) {
	server := popserver.New("Subject: x\r\n\r\n1\r\n2\r\n3\r\n", "Subject: innocent\r\n\r\n1\r\n"+virus+"\r\n", "no header section ends here", "A: b\n\n1\n2\n")
	in(t, server, Config{}, func(x *tester) {
		c := x.login()
		for _, tt := range []struct{ command, want string }{
			{"TOP 1 0", "Subject: x\r\n\r\n"}, {"TOP 1 2", "Subject: x\r\n\r\n1\r\n2\r\n"}, {"TOP 1 99", "Subject: x\r\n\r\n1\r\n2\r\n3\r\n"},
			{"TOP 2 0", "From: gatepost\r\nSubject: replaced\r\n\r\n"}, {"TOP 3 5", "no header section ends here\r\n"}, {"TOP 4 1", "A: b\n\n1\n"},
		} {
			c.send(tt.command)
			c.expect("+OK")
			if got := c.text(); got != tt.want {
				t.Errorf("%s: %q, want %q", tt.command, got, tt.want)
			}
		}
		c.quit()
		if strings.Contains(server.Lines(), "TOP") {
			t.Error("TOP was passed on")
		}
	})
}

// TestASlowScanKeepsBothSidesWaiting is POP-07.
func TestASlowScanKeepsBothSidesWaiting(t *testing.T) {
	for _, tt := range []struct{ name, mail, want string }{
		{"clean", hello, hello}, {"infected", virus + "\r\n", notice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New(tt.mail)
			in(t, server, Config{}, func(x *tester) {
				x.scanner.delay = 85 * time.Second
				c := x.login()
				c.send("RETR 1")
				last := time.Now()
				c.expect("+OK")
				var lines []string
				for {
					line := c.line()
					if gap := time.Since(last); gap > 30*time.Second {
						t.Errorf("%v without a word", gap)
					}
					last = time.Now()
					if line == ".\r\n" {
						break
					}
					lines = append(lines, strings.TrimPrefix(line, "."))
				}
				text := strings.Join(lines, "")
				if n := strings.Count(text, waitLine); n != 5 || !strings.HasPrefix(text, waitLine) {
					t.Errorf("%d lines to wait by in %q", n, text)
				}
				if got := strings.ReplaceAll(text, waitLine, ""); got != tt.want {
					t.Errorf("%q", got)
				}
				c.inSync()
				c.quit()
				x.settle()
				if n := strings.Count(server.Lines(), "NOOP"); n < 3 {
					t.Errorf("%d NOOP", n)
				}
				if m := x.traffic.messages[0]; m.Waits != 5 || m.Scan != 85*time.Second {
					t.Errorf("%+v", m)
				}
			})
		})
	}
}

// TestASlowServerKeepsTheClientWaiting is a large message over a slow line.
func TestASlowServerKeepsTheClientWaiting(t *testing.T) {
	server := popserver.New(hello)
	server.Hook = answering("RETR 1", func(c *popserver.Conn) {
		c.Line("+OK")
		c.Slowly(c.Mail(1), 1, 2*time.Second)
	})
	in(t, server, Config{}, func(x *tester) {
		c := x.login()
		c.send("RETR 1")
		c.expect("+OK")
		text := c.text()
		if got := strings.ReplaceAll(text, waitLine, ""); got != hello || strings.Count(text, waitLine) < 4 {
			t.Errorf("%q", text)
		}
		if strings.Contains(server.Lines(), "NOOP") {
			t.Error("NOOP in the middle of a message")
		}
		c.inSync()
		c.quit()
	})
}

func TestAFailedJudgement(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(s *scanner)
	}{
		{"an error", func(s *scanner) { s.fault = errors.New("no scanner") }},
		{"a panic", func(s *scanner) { s.panics = true }},
		{"no room", func(s *scanner) { s.full = errors.New("disk full") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, popserver.New(hello), Config{}, func(x *tester) {
				tt.set(x.scanner)
				c := x.login()
				c.send("RETR 1", "TOP 1 0")
				c.expect("-ERR [SYS/TEMP]", "-ERR [SYS/TEMP]")
				c.inSync()
				c.quit()
				x.settle()
				if m := x.traffic.messages; len(m) != 2 || m[0].Fate != FateFailed || m[0].Reason == "" {
					t.Errorf("%+v", m)
				}
			})
		})
	}
	t.Run("after the client was kept waiting", func(t *testing.T) {
		in(t, popserver.New(hello), Config{}, func(x *tester) {
			x.scanner.fault, x.scanner.delay = errors.New("no scanner"), 40*time.Second
			c := x.login()
			c.send("RETR 1", "STAT")
			if got := c.rest(); got != "+OK message follows\r\n"+waitLine+waitLine {
				t.Errorf("%q", got)
			}
		})
		// Nothing that a client could take for the end of a message.
	})
}

// TestAServerThatBreaksOff is POP-08, at every byte of the answer.
func TestAServerThatBreaksOff(t *testing.T) {
	whole := "+OK 44 octets\r\n" + popserver.Stuffed(hello)
	for _, scans := range []bool{true, false} {
		for n := range len(whole) {
			synctest.Test(t, func(t *testing.T) {
				server := popserver.New(hello)
				server.Hook = answering("RETR 1", func(c *popserver.Conn) {
					c.Raw(whole[:n])
					c.Close()
				})
				x := &tester{t: t, server: server, ln: memconn.Listen(), scanner: &scanner{}, traffic: &traffic{}, log: &logBuffer{}}
				x.start(Config{}, scans)
				c := x.login()
				c.send("RETR 1", "QUIT")
				got := c.rest()
				if scans && got != "" || strings.Contains(got, "\r\n.\r\n") {
					t.Errorf("cut at %d: %q", n, got)
				}
				x.stop()
				if len(x.scanner.judged) != 0 {
					t.Errorf("cut at %d: judged %q", n, x.scanner.judged)
				}
				if m := x.traffic.messages; n > len("+OK 44 octets\r\n") && (len(m) != 1 || m[0].Fate != FateFailed) {
					t.Errorf("cut at %d: %+v", n, m)
				}
			})
		}
	}
}

func TestASilentServer(t *testing.T) {
	for _, silent := range []string{"STAT", "RETR 1", "LIST", "PASS secret", "QUIT"} {
		t.Run(silent, func(t *testing.T) {
			server := popserver.New(hello)
			server.Hook = answering(silent, func(*popserver.Conn) {})
			in(t, server, Config{UpstreamTimeout: time.Minute}, func(x *tester) {
				c := x.connect()
				c.send("USER joe", "PASS secret", silent)
				begun := time.Now()
				got := c.rest()
				if time.Since(begun) > 2*time.Minute || strings.Contains(got, "octets") {
					t.Errorf("after %v: %q", time.Since(begun), got)
				}
			})
		})
	}
	t.Run("in the middle of a message", func(t *testing.T) {
		server := popserver.New(hello)
		server.Hook = answering("RETR 1", func(c *popserver.Conn) { c.Raw("+OK\r\nSubject: x\r\n") })
		in(t, server, Config{UpstreamTimeout: time.Minute}, func(x *tester) {
			c := x.login()
			c.send("RETR 1")
			if got := c.rest(); strings.Contains(got, "Subject") || strings.Contains(got, "\r\n.\r\n") {
				t.Errorf("%q", got)
			}
		})
	})
}

// TestDesynchronisation: a server that says more than it was asked is not believed.
func TestDesynchronisation(t *testing.T) {
	for _, tt := range []struct{ name, command, answer string }{
		{"a second answer", "STAT", "+OK 1 44\r\n+OK " + virus + "\r\n"},
		{"data behind a single line", "NOOP", "+OK\r\nSubject: x\r\n\r\n" + virus + "\r\n.\r\n"},
		{"data behind a message", "RETR 1", "+OK\r\nhello\r\n.\r\n" + virus + "\r\n.\r\n"},
		{"a message in a list", "LIST", "+OK\r\nSubject: x\r\n\r\n" + virus + "\r\n.\r\n"},
		{"a message in a list of names", "UIDL", "+OK\r\n1 uid-1\r\n" + virus + " x\r\n.\r\n"},
		{"numbers and a message", "LIST", "+OK\r\n1 " + virus + "\r\n.\r\n"},
		{"an endless line", "LIST", "+OK\r\n" + strings.Repeat("1", 100_000)},
		{"an endless first line", "STAT", "+OK " + strings.Repeat("1", 100_000)},
		{"no answer of POP3", "STAT", virus + "\r\n"},
		{"a challenge", "NOOP", "+ abc\r\n"},
		{"an empty line", "STAT", "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New(hello)
			server.Hook = answering(tt.command, func(c *popserver.Conn) { c.Raw(tt.answer) })
			in(t, server, Config{}, func(x *tester) {
				c := x.login()
				c.send(tt.command, "STAT", "LIST", "UIDL", "NOOP")
				if got := c.rest(); strings.Contains(got, virus) || strings.Contains(got, "1111") {
					t.Errorf("%.300q", got)
				}
			})
		})
	}
}

// TestAClientThatVanishes never says QUIT to the server.
func TestAClientThatVanishes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		vanish func(x *tester, c *client)
	}{
		{"while idle", func(_ *tester, c *client) { c.conn.Close() }},
		{"with a reset", func(_ *tester, c *client) { c.raw.Reset() }},
		{"in a command", func(_ *tester, c *client) { c.sendRaw("QUI"); c.conn.Close() }},
		{"while its message is judged", func(x *tester, c *client) {
			x.scanner.delay = time.Hour
			c.send("RETR 2")
			synctest.Wait()
			c.raw.Reset()
			<-time.After(time.Minute)
		}},
		{"while its message comes", func(x *tester, c *client) {
			c.send("RETR 3")
			c.expect("+OK")
			c.raw.Reset()
			<-time.After(10 * time.Minute)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := popserver.New(hello, hello, hello)
			server.Hook = answering("RETR 3", func(c *popserver.Conn) { c.Line("+OK"); c.Slowly(c.Mail(3), 1, 10*time.Second) })
			in(t, server, Config{}, func(x *tester) {
				c := x.login()
				c.send("DELE 1")
				c.expect("+OK")
				tt.vanish(x, c)
			})
			if strings.Contains(server.Lines(), "QUIT") || len(server.Left()) != 3 || fmt.Sprint(server.Ended()) != "[closed]" {
				t.Errorf("%q, left %v, ended %v", server.Lines(), server.Left(), server.Ended())
			}
		})
	}
}

// TestLargeMessages is POP-06 as far as sessions are concerned.
func TestLargeMessages(t *testing.T) {
	large := "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 10_000)
	for _, tt := range []struct {
		name string
		pass bool
		fate Fate
	}{{"refused", false, FateRefused}, {"passed", true, FateUnscanned}} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, popserver.New(large, hello), Config{MaxMessageSize: 100_000, PassLarge: tt.pass}, func(x *tester) {
				c := x.login()
				c.send("RETR 1")
				if tt.pass {
					c.expect("+OK")
					if got := c.text(); got != large {
						t.Errorf("%d bytes", len(got))
					}
				} else {
					c.expect("-ERR [SYS/PERM]")
				}
				c.send("RETR 2")
				c.expect("+OK")
				if got := c.text(); got != hello {
					t.Errorf("%q", got)
				}
				c.quit()
				x.settle()
				if got := x.traffic.messages[0].Fate; got != tt.fate {
					t.Errorf("%s", got)
				}
			})
		})
	}
	t.Run("one without an end", func(t *testing.T) {
		server := popserver.New(hello)
		server.Hook = answering("RETR 1", func(c *popserver.Conn) {
			c.Line("+OK")
			for range 1000 {
				if _, err := c.Write([]byte(strings.Repeat("x", 10_000))); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		in(t, server, Config{MaxMessageSize: 100_000, DrainTimeout: 10 * time.Second}, func(x *tester) {
			c := x.login()
			c.send("RETR 1")
			if got := c.rest(); strings.Contains(got, "xxx") || strings.Contains(got, "\r\n.\r\n") {
				t.Errorf("%.200q", got)
			}
		})
	})
}

func TestUIDLIsAskedForOnlyWhereItHelps(t *testing.T) {
	server := popserver.New(hello, hello, hello, hello, hello)
	server.Hook = func(c *popserver.Conn, said string) bool {
		if strings.HasPrefix(said, "UIDL") {
			c.Line("-ERR what?")
			return true
		}
		return false
	}
	in(t, server, Config{}, func(x *tester) {
		c := x.login()
		for i := range 5 {
			c.send(fmt.Sprintf("RETR %d", i+1))
			c.expect("+OK")
			c.text()
		}
		c.quit()
		x.settle()
		if n := strings.Count(server.Lines(), "UIDL"); n != 3 {
			t.Errorf("asked %d times", n)
		}
		if x.scanner.keys[4].UIDL != "" {
			t.Errorf("%+v", x.scanner.keys[4])
		}
	})
}

// TestTwoSessions is POP-12: one does not wait for the scan of the other.
func TestTwoSessions(t *testing.T) {
	server := popserver.New(hello)
	in(t, server, Config{}, func(x *tester) {
		x.scanner.delay = 10 * time.Second
		first := x.login()
		first.send("RETR 1")
		synctest.Wait()
		server.Hook = answering("PASS secret", func(c *popserver.Conn) { c.Line("-ERR [IN-USE] mailbox is locked") })
		begun := time.Now()
		second := x.connect()
		second.send("USER joe", "PASS secret")
		second.expect("+OK", "+OK", "-ERR [IN-USE] mailbox is locked")
		if time.Since(begun) > 0 {
			t.Errorf("waited %v", time.Since(begun))
		}
		second.quit()
		first.expect("+OK")
		first.text()
		first.quit()
	})
}

func TestStoppingWaitsForTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := start(t, popserver.New(hello), Config{})
		x.scanner.delay = 5 * time.Second
		busy, idle := x.login(), x.login()
		busy.send("DELE 1", "RETR 1", "QUIT")
		busy.expect("+OK")
		synctest.Wait()
		x.wg.Go(func() { busy.conn.SetReadDeadline(time.Now().Add(time.Minute)) })
		done := make(chan struct{})
		go func() { defer close(done); x.stop() }()
		idle.closed()
		busy.rest()
		<-done
	})
}

func TestPassThroughOfOnePieceIsStuffedOnce(t *testing.T) {
	var b strings.Builder
	s := pop3.Stuffer{W: &b}
	for _, p := range []string{"a\r\n", ".", "b\n", "\n.", ".c"} {
		if _, err := s.Write([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil || b.String() != "a\r\n..b\n\n...c\r\n.\r\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

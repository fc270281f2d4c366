package spamd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/message"
	"gatepost/internal/scan"
	"gatepost/test/engines"
)

// fake is a spamd that gives every message the same answer; "" hangs.
type fake struct {
	t  testing.TB
	l  *memconn.Listener
	wg sync.WaitGroup
	// deaf says that it answers before it has read the message.
	deaf   bool
	answer string
	hang   chan struct{}

	mu      sync.Mutex
	dialled int
	heads   []string
	bodies  []string
}

func newFake(t testing.TB, answer string) *fake {
	f := &fake{t: t, l: memconn.Listen(), answer: answer, hang: make(chan struct{})}
	f.wg.Go(func() {
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer c.Close()
				f.serve(c)
			})
		}
	})
	return f
}

func (f *fake) serve(c net.Conn) {
	r := bufio.NewReader(c)
	var head strings.Builder
	length := 0
	for !f.deaf {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" {
			break
		}
		head.WriteString(line)
		if n, ok := strings.CutPrefix(line, "Content-length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(n))
		}
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return
	}
	f.mu.Lock()
	f.heads, f.bodies = append(f.heads, head.String()), append(f.bodies, string(text))
	f.mu.Unlock()
	if f.answer == "" {
		<-f.hang
		return
	}
	_, _ = io.WriteString(c, f.answer) // it may have heard enough
}

func (f *fake) dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	f.dialled++
	f.mu.Unlock()
	return f.l.Dial(ctx)
}

func (f *fake) stop() {
	close(f.hang)
	if err := f.l.Close(); err != nil {
		f.t.Error(err)
	}
	f.wg.Wait()
}

func (f *fake) scanner(t testing.TB, cfg Config) *Scanner {
	t.Helper()
	cfg.dial = f.dial
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type body struct{ *bytes.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func input(t testing.TB, msg string) *scan.Input {
	t.Helper()
	env := &mail.Envelope{
		Received: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Sender:   mail.Address{Local: "sender", Domain: "client.example", Raw: "sender@client.example"},
		Session:  mail.Session{Client: netip.MustParseAddrPort("192.0.2.77:4025"), Helo: "client.example", ESMTP: true},
	}
	env.Edits.Prepend = message.FormatReceived(message.ReceivedInfo{Session: &env.Session, By: "gw.example", Time: env.Received})
	in, err := scan.NewInput(context.WithoutCancel(t.Context()), mail.Message{Envelope: env, Body: body{bytes.NewReader([]byte(msg))}}, scan.Inbound, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const plain = "X-Forged: 1\r\nSubject: lunch\r\n\r\nAt noon?\r\n"

func ok(spam, symbols string) string {
	return fmt.Sprintf("SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: %s\r\n\r\n%s", len(symbols), spam, symbols)
}

func TestOnlyACompleteAnswerCounts(t *testing.T) {
	for name, c := range map[string]struct {
		answer, want, err string
		score             float64
	}{
		"ham":                         {answer: ok("False ; -1.2 / 5.0", "NICE_ONE"), want: "clean ham SpamAssassin scores -1.2 of 5: NICE_ONE", score: -2.4},
		"spam":                        {answer: ok("True ; 7.5 / 5.0", "BAD_ONE,WORSE\r\n"), want: "match spam SpamAssassin scores 7.5 of 5: BAD_ONE, WORSE", score: 15},
		"no rule":                     {answer: ok("False ; 0 / 5", ""), want: "clean ham SpamAssassin scores 0 of 5"},
		"other words":                 {answer: ok("Yes;7/5", ""), want: "match spam SpamAssassin scores 7 of 5", score: 14},
		"fields that are not known":   {answer: strings.Replace(ok("No ; 0 / 5", ""), "\r\n", "\r\nDidSet: x\r\n", 1), want: "clean ham SpamAssassin scores 0 of 5"},
		"bare LF":                     {answer: strings.ReplaceAll(ok("No ; 0 / 5", ""), "\r", ""), want: "clean ham SpamAssassin scores 0 of 5"},
		"hostile names":               {answer: ok("No ; 0 / 5", "A\x1b[1m\r\nX: \u202e,B"), want: `clean ham SpamAssassin scores 0 of 5: A?[1m??X: \u202e, B`},
		"too many names":              {answer: ok("No ; 0 / 5", strings.Repeat("A,", 500)), want: "clean ham SpamAssassin scores 0 of 5: " + strings.Repeat("A, ", 40) + "…"},
		"an error":                    {answer: "SPAMD/1.0 76 Bad header line: \x1b[1m\r\n\r\n", err: `"76 Bad header line: ?[1m"`},
		"a time-out of its own":       {answer: "SPAMD/1.1 79 Timeout: (30 second timeout while trying to CHECK)\r\n", err: "79 Timeout"},
		"HTTP":                        {answer: "HTTP/1.1 200 OK\r\n\r\n", err: "no answer"},
		"garbage":                     {answer: "\x00\x01\x02\r\n\r\n", err: "no answer"},
		"a line without end":          {answer: strings.Repeat("x", 100_000), err: "too long a head"},
		"a head without end":          {answer: "SPAMD/1.1 0 EX_OK\r\n" + strings.Repeat("X-A: b\r\n", 10_000), err: "too long a head"},
		"no head":                     {answer: "SPAMD/1.1 0 EX_OK\r\n", err: "unexpected EOF"},
		"no score":                    {answer: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\n\r\n", err: "without a length or a score"},
		"no length":                   {answer: "SPAMD/1.1 0 EX_OK\r\nSpam: True ; 7 / 5\r\n\r\n", err: "without a length or a score"},
		"two scores":                  {answer: strings.Replace(ok("No ; 0 / 5", ""), "Spam", "Spam: No ; 1 / 5\r\nSpam", 1), err: "Spam:"},
		"two lengths":                 {answer: strings.Replace(ok("No ; 0 / 5", ""), "Content", "Content-Length: 0\r\nContent", 1), err: "announces"},
		"a length that is none":       {answer: strings.Replace(ok("No ; 0 / 5", ""), "length: 0", "length: -1", 1), err: "announces"},
		"a length without end":        {answer: strings.Replace(ok("No ; 0 / 5", ""), "length: 0", "length: 999999999", 1), err: "announces"},
		"less than announced":         {answer: strings.TrimSuffix(ok("No ; 0 / 5", "ABC"), "C"), err: "unexpected EOF"},
		"a score that is no number":   {answer: ok("True ; much / 5.0", ""), err: "Spam:"},
		"a score that is NaN":         {answer: ok("True ; NaN / 5.0", ""), err: "Spam:"},
		"a score without end":         {answer: ok("True ; -Inf / 5.0", ""), err: "Spam:"},
		"a score that is absurd":      {answer: ok("True ; 1e9 / 5.0", ""), err: "Spam:"},
		"neither spam nor ham":        {answer: ok("Maybe ; 1 / 5.0", ""), err: "Spam:"},
		"an answer that is cut short": {answer: "SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: Tr", err: "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, c.answer)
				defer f.stop()
				found, err := f.scanner(t, Config{Scale: 2}).Scan(t.Context(), input(t, plain))
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || len(found) > 0 {
						t.Errorf("%v, %v, want error %q", found, err, c.err)
					}
					return
				}
				if err != nil || len(found) != 1 {
					t.Fatalf("%v, %v", found, err)
				}
				g := found[0]
				if got := fmt.Sprintf("%s %s %s", g.Result, g.Symbol, g.Reason); got != c.want || math.Abs(g.Score-c.score) > 1e-9 || g.Module != "spamd" {
					t.Errorf("%s, score %v\nwant %s, %v", got, g.Score, c.want, c.score)
				}
			})
		})
	}
}

func TestWhatSpamdIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, ok("No ; 0 / 5", ""))
		defer f.stop()
		in := input(t, plain+strings.Repeat("line\r\n", 50_000))
		in.Message.Envelope.Edits.Cut = []mail.Span{in.Header.Fields()[0].Span}
		if _, err := f.scanner(t, Config{User: "gatepost"}).Scan(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		want := "Return-Path: <sender@client.example>\r\n" + string(in.Message.Envelope.Edits.Prepend) + "Subject: lunch\r\n\r\nAt noon?\r\n" + strings.Repeat("line\r\n", 50_000)
		if f.bodies[0] != want {
			t.Errorf("sent %.500q", f.bodies[0])
		}
		if head := fmt.Sprintf("SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\nUser: gatepost\r\n", len(want)); f.heads[0] != head {
			t.Errorf("head %q", f.heads[0])
		}
	})
}

func TestWhatIsTooLargeIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, ok("No ; 0 / 5", ""))
		defer f.stop()
		found, err := f.scanner(t, Config{MaxSize: 1000}).Scan(t.Context(), input(t, plain+strings.Repeat("x", 1000)))
		if err != nil || len(found) != 1 || found[0].Symbol != "limit:spamd-size" || found[0].Result != mail.Unknown || f.dialled > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// A spamd that answers before it has read the message does not keep us writing.
func TestAnErrorBeforeTheEndOfTheMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "SPAMD/1.0 74 too busy\r\n\r\n")
		f.deaf = true
		defer f.stop()
		begun := time.Now()
		found, err := f.scanner(t, Config{}).Scan(t.Context(), input(t, plain+strings.Repeat("x", 1<<20)))
		if err == nil || len(found) > 0 || time.Since(begun) > time.Second {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// The bubble of synctest does not end while a goroutine is left.
func TestASpamdThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "")
		defer f.stop()
		s := f.scanner(t, Config{Timeout: 10 * time.Second})
		begun := time.Now()
		for i := range 20 {
			if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || i < 3 && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v, %v", found, err)
			}
		}
		if took := time.Since(begun); took != 30*time.Second || s.Health() == nil || f.dialled != 3 {
			t.Errorf("took %v, %d tries, health %v", took, f.dialled, s.Health())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(time.Minute)
		if _, err := s.Scan(ctx, input(t, plain)); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

// broken is a body that can't be read behind its header section.
type broken struct{ body }

func (b broken) ReadAt(p []byte, at int64) (int, error) {
	return 0, errors.New("a bad block")
}

func TestAMessageThatCannotBeReadIsNotSpamdsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, ok("No ; 0 / 5", ""))
		defer f.stop()
		s := f.scanner(t, Config{Failures: 1})
		in := input(t, plain)
		in.Message.Body = broken{in.Message.Body.(body)}
		var source *scan.SourceError
		if found, err := s.Scan(t.Context(), in); !errors.As(err, &source) || len(found) > 0 || s.Health() != nil {
			t.Errorf("%v, %v, %v", found, err, s.Health())
		}
	})
}

func TestManyMessagesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, ok("True ; 7 / 5", "A"))
		defer f.stop()
		s := f.scanner(t, Config{})
		in := input(t, plain)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if found, err := s.Scan(t.Context(), in); err != nil || len(found) != 1 || found[0].Score != 7 {
					t.Errorf("%v, %v", found, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestConfigurationsThatCannotBeMeant(t *testing.T) {
	for _, c := range []Config{{}, {Address: "localhost:783"}, {Address: "tcp:localhost"}, {Address: "unix:/x", User: "a\r\nb"}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if s, err := New(Config{Address: "unix:/x", Scale: NoScale}); err != nil || s.finding(answer{score: 7}).Score != 0 {
		t.Errorf("%v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(ok("True ; 7.5 / 5.0", "A,B"))
	f.Add("SPAMD/1.0 76 Bad header line\r\n\r\n")
	f.Add("SPAMD/1.1 0 EX_OK\r\nSpam: False ; -1 / 5\r\nContent-length: 3\r\n\r\nab")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := readAnswer(bufio.NewReaderSize(strings.NewReader(text), 4<<10))
		if err != nil {
			return
		}
		g := (&Scanner{cfg: Config{Scale: 1}}).finding(a)
		if math.IsNaN(g.Score) || math.Abs(g.Score) > maxScore || len(g.Reason) > 4<<10 || strings.ContainsAny(g.Reason, "\r\n\x00\x1b") {
			t.Errorf("%+v", g)
		}
	})
}

func TestRealSpamd(t *testing.T) {
	s, err := New(Config{Address: engines.Spamd(t), User: "gatepost"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		subject string
		want    mail.Finding
	}{
		"ham":  {"lunch", mail.Finding{Symbol: "ham", Result: mail.Clean, Score: 0.8, Reason: "SpamAssassin scores 0.8 of 5: GATEPOST_CLIENT, GATEPOST_SENDER"}},
		"spam": {engines.Word, mail.Finding{Symbol: "spam", Result: mail.Match, Score: 8.3, Reason: "SpamAssassin scores 8.3 of 5: GATEPOST_CLIENT, GATEPOST_SENDER, GATEPOST_WORD"}},
	} {
		found, err := s.Scan(t.Context(), input(t, "From: sender@client.example\r\nSubject: "+c.subject+"\r\n\r\nHello\r\n"))
		if err != nil || len(found) != 1 {
			t.Errorf("%s: %v, %v", name, found, err)
			continue
		}
		if g := found[0]; g.Symbol != c.want.Symbol || g.Result != c.want.Result || g.Score != c.want.Score || g.Reason != c.want.Reason {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

package clamav

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
)

func TestOnlyACompleteAnswerIsBelieved(t *testing.T) {
	for name, c := range map[string]struct{ answer, symbol, err string }{
		"clean":                          {answer: "stream: OK\x00"},
		"a signature":                    {answer: "stream: Win.Test FOUND\x00", symbol: "Win.Test"},
		"a name that looks like a class": {answer: "stream: limit:x FOUND\x00", symbol: "limit_x"},
		"clean without its end":          {answer: "stream: OK", err: "cut off"},
		"the beginning of clean":         {answer: "stream: O\x00", err: "clamd answers"},
		"bytes behind the answer":        {answer: "stream: OK\x00x", err: "more than one answer"},
		"two answers":                    {answer: "stream: OK\x00stream: Win.Test FOUND\x00", err: "more than one answer"},
		"a space behind":                 {answer: "stream: OK \x00", err: "clamd answers"},
		"a line end behind":              {answer: "stream: OK\n\x00", err: "clamd answers"},
		"another case":                   {answer: "stream: ok\x00", err: "clamd answers"},
		"another file":                   {answer: "/etc/passwd: OK\x00", err: "clamd answers"},
		"an answer of a session":         {answer: "1: stream: OK\x00", err: "clamd answers"},
		"nothing at all":                 {answer: "", err: "unexpected EOF"},
		"NUL alone":                      {answer: "\x00", err: "clamd answers"},
		"no name":                        {answer: "stream:  FOUND\x00", err: "clamd answers"},
		"a name cut off":                 {answer: "stream: Win.Te", err: "cut off"},
		"an error":                       {answer: "stream: Can't allocate memory ERROR\x00", err: "Can't allocate memory"},
		"a size limit":                   {answer: "INSTREAM size limit exceeded. ERROR\x00", symbol: "limit:clamav-size"},
		"too many bytes":                 {answer: strings.Repeat("a", 1<<20), err: "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.answer = func([]byte) string { return c.answer }
				s := f.scanner(t, Config{})
				defer stop(t, s, f)
				found, err := s.Scan(t.Context(), input(t, plain))
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || len(found) > 0 {
						t.Errorf("findings %v, error %v, want error %q", found, err, c.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if c.symbol == "" && len(found) > 0 || c.symbol != "" && (len(found) != 1 || found[0].Symbol != c.symbol) {
					t.Errorf("findings %v, want %q", found, c.symbol)
				}
			})
		})
	}
}

// SCN-05, SCN-06.
func TestNamesOfSignatures(t *testing.T) {
	for name, c := range map[string]struct {
		symbol string
		result mail.Result
	}{
		"Heuristics.Limits.Exceeded.MaxFileSize":                 {"limit:clamav", mail.Unknown},
		"Heuristics.Limits.Exceeded":                             {"limit:clamav", mail.Unknown},
		"Heuristics.Email.ExceedsMaxPart":                        {"limit:clamav", mail.Unknown},
		"Heuristics.Encrypted.Zip":                               {"encrypted:clamav", mail.Unknown},
		"Heuristics.Encrypted.PDF":                               {"encrypted:clamav", mail.Unknown},
		"Heuristics.Broken.Executable":                           {"heuristic:Heuristics.Broken.Executable", mail.Match},
		"Heuristics.Broken.Media.JPEG":                           {"heuristic:Heuristics.Broken.Media.JPEG", mail.Match},
		"Heuristics.Phishing.Email.SpoofedDomain":                {"heuristic:Heuristics.Phishing.Email.SpoofedDomain", mail.Match},
		"PUA.Win.Packer.Upx":                                     {"PUA.Win.Packer.Upx", mail.Match},
		"Win.Test.EICAR_HDB-1":                                   {"Win.Test.EICAR_HDB-1", mail.Match},
		"<img src=x onerror=alert(1)>\r\nX: y":                   {"<img src=x onerror=alert(1)>??X_ y", mail.Match},
		"a\u202eb":                                               {`a\u202eb`, mail.Match},
		strings.Repeat("long", 1000):                             {strings.Repeat("long", 49) + "l…", mail.Match},
		"\x1b]0;owned\x07":                                       {"?]0;owned?", mail.Match},
		"Heuristics.Encrypted\r\nSubject: owned":                 {"encrypted:clamav", mail.Unknown},
		"stream: OK":                                             {"stream_ OK", mail.Match},
		"Heuristics.Limits.Exceeded FOUND\nstream: Win.Test":     {"limit:clamav", mail.Unknown},
		"Win.Test FOUND\nstream: Heuristics.Limits.ExceededFile": {"Win.Test FOUND?stream_ Heuristics.Limits.ExceededFile", mail.Match},
	} {
		t.Run(name[:min(len(name), 60)], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.answer = func([]byte) string { return "stream: " + name + " FOUND\x00" }
				s := f.scanner(t, Config{})
				defer stop(t, s, f)
				found, err := s.Scan(t.Context(), input(t, plain))
				if err != nil || len(found) != 1 {
					t.Fatalf("%v, %v", found, err)
				}
				g := found[0]
				if g.Symbol != c.symbol || g.Result != c.result || g.Module != "clamav" {
					t.Errorf("symbol %q result %q, want %q %q", g.Symbol, g.Result, c.symbol, c.result)
				}
				if strings.ContainsAny(g.Symbol+g.Reason, "\r\n\x00\x1b\u202e") || len(g.Symbol) > 250 || len(g.Reason) > 400 {
					t.Errorf("not safe: %+q", g.Symbol+g.Reason)
				}
			})
		})
	}
}

// A limit or a heuristic does not keep clamd from being asked about the rest.
func TestAVirusBehindALimitIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer = func(b []byte) string {
			if bytes.Contains(b, []byte("\r\nSubject: ")) {
				return "stream: Heuristics.Limits.Exceeded.MaxFiles FOUND\x00"
			}
			return "stream: Win.Test FOUND\x00"
		}
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		found, err := s.Scan(t.Context(), input(t, uuencoded))
		if err != nil || len(found) != 2 || found[0].Symbol != "limit:clamav" || found[1].Symbol != "Win.Test" || found[1].Name != "a.txt" {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// SCN-04.
func TestALargeMailArrivesInChunksAsItIs(t *testing.T) {
	msg := lines("From: a@b.example", "MIME-Version: 1.0", "Content-Type: application/octet-stream", "Content-Transfer-Encoding: base64", "") +
		strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 25<<20/78)
	in := input(t, msg)
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
		sent := f.sent()
		if len(sent) != 1 {
			t.Fatalf("%d streams", len(sent))
		}
		if sha256.Sum256(sent[0]) != sha256.Sum256([]byte(prefix+msg)) {
			t.Error("clamd got something else")
		}
		for i, n := range f.chunks {
			if n > chunkSize || n < chunkSize && i < len(f.chunks)-1 {
				t.Errorf("chunk %d has %d bytes", i, n)
			}
		}
	})
}

func TestChunkBorders(t *testing.T) {
	for _, size := range []int{1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t)
			s := f.scanner(t, Config{})
			defer stop(t, s, f)
			want := bytes.Repeat([]byte("x"), size)
			a, n, err := s.client.scan(t.Context(), bytes.NewReader(want))
			if err != nil || a.verdict != clean || n != int64(size) {
				t.Fatalf("%d: %v, %d, %v", size, a, n, err)
			}
			synctest.Wait()
			if got := f.sent(); len(got) != 1 || !bytes.Equal(got[0], want) {
				t.Errorf("%d: something else arrives", size)
			}
		})
	}
}

func TestNothingIsAskedAboutNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		synctest.Wait()
		before := f.dialled
		if a, n, err := s.client.scan(t.Context(), strings.NewReader("")); err != nil || a.verdict != clean || n != 0 {
			t.Errorf("%v, %d, %v", a, n, err)
		}
		if f.dialled != before {
			t.Error("connected")
		}
	})
}

// SCN-11.
func TestALargerMessageIsUnknownWithoutAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{MaxSize: 100})
		defer stop(t, s, f)
		synctest.Wait()
		before := f.dialled
		found, err := s.Scan(t.Context(), input(t, plain+strings.Repeat("x", 100)))
		if err != nil || len(found) != 1 || found[0].Symbol != "limit:clamav-size" || found[0].Result != mail.Unknown {
			t.Errorf("%v, %v", found, err)
		}
		if f.dialled != before {
			t.Error("connected")
		}
	})
}

func TestAReaderThatFailsIsNotClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		for _, at := range []int{0, 10, chunkSize, chunkSize + 10} {
			r := io.MultiReader(strings.NewReader(strings.Repeat("x", at)), failing{})
			if a, _, err := s.client.scan(t.Context(), r); !errors.Is(err, errDisk) {
				t.Errorf("after %d bytes: %v, %v", at, a, err)
			}
		}
		synctest.Wait()
		if n := len(f.sent()); n > 0 {
			t.Errorf("%d complete streams", n)
		}
	})
}

var errDisk = errors.New("disk is gone")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

func TestClamdHangsUpInTheMiddle(t *testing.T) {
	large := input(t, plain+strings.Repeat("0123456789abcdef\r\n", 1<<16))
	for name, c := range map[string]struct {
		say    string
		reset  bool
		symbol string
	}{
		"without a word":       {},
		"with a reset":         {reset: true},
		"and says clean":       {say: "stream: OK\x00"},
		"and says found":       {say: "stream: Win.Test FOUND\x00"},
		"and names its limit":  {say: "INSTREAM size limit exceeded. ERROR\x00", symbol: "limit:clamav-size"},
		"in half of an answer": {say: "stream: OK"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.scanner(t, Config{})
				defer stop(t, s, f)
				synctest.Wait()
				f.with(func() {
					f.takeover = func(conn net.Conn, r *bufio.Reader) {
						if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
							t.Error(err)
						}
						if c.reset {
							conn.(*memconn.Conn).Reset()
							return
						}
						_, _ = io.WriteString(conn, c.say)
						if c.symbol != "" {
							_, _ = io.Copy(io.Discard, r)
						}
					}
				})
				found, err := s.Scan(t.Context(), large)
				switch {
				case c.symbol != "":
					if err != nil || len(found) != 1 || found[0].Symbol != c.symbol {
						t.Errorf("%v, %v", found, err)
					}
				case err == nil || len(found) > 0:
					t.Errorf("%v, %v", found, err)
				}
			})
		})
	}
}

// SCN-02: the bubble of synctest does not end while a goroutine is left.
func TestClamdThatHangsCostsOneTimeoutAndThenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{Timeout: 30 * time.Second})
		defer stop(t, s, f)
		synctest.Wait()
		f.with(func() { f.takeover = func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) } })
		begun := time.Now()
		for i := range 100 {
			found, err := s.Scan(t.Context(), input(t, plain))
			if err == nil || len(found) > 0 {
				t.Fatalf("try %d: %v, %v", i, found, err)
			}
			if i == 0 && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("first try: %v", err)
			}
		}
		if took := time.Since(begun); took != 90*time.Second {
			t.Errorf("took %v, want three timeouts", took)
		}
		if st := s.State(); st.Status != Down {
			t.Errorf("state %+v", st)
		}
	})
}

func TestASlowAnswerIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		synctest.Wait()
		f.with(func() {
			f.takeover = func(c net.Conn, r *bufio.Reader) {
				if _, _, err := readStream(r); err != nil {
					t.Error(err)
				}
				for _, b := range []byte("stream: Win.Slow FOUND\x00") {
					time.Sleep(time.Second)
					_, _ = c.Write([]byte{b})
				}
			}
		})
		found, err := s.Scan(t.Context(), input(t, plain))
		if err != nil || len(found) != 1 || found[0].Symbol != "Win.Slow" {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestAnAnswerThatDripsIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		synctest.Wait()
		f.with(func() {
			f.takeover = func(c net.Conn, r *bufio.Reader) {
				for {
					time.Sleep(time.Second)
					if _, err := c.Write([]byte("s")); err != nil {
						return
					}
				}
			}
		})
		begun := time.Now()
		found, err := scanFor(t.Context(), s, input(t, plain), 10*time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || len(found) > 0 || time.Since(begun) != 10*time.Second {
			t.Errorf("%v, %v after %v", found, err, time.Since(begun))
		}
	})
}

func TestTheSenderIsGoneWhileClamdScans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{Canary: time.Hour}) // it would hang as well
		defer stop(t, s, f)
		synctest.Wait()
		f.with(func() { f.takeover = func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) } })
		for range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Second, cancel)
			if _, err := s.Scan(ctx, input(t, plain)); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		}
		if st := s.State(); !st.OK {
			t.Errorf("clients that go away make clamd count as down: %+v", st)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{Sessions: 3})
		defer stop(t, s, f)
		synctest.Wait()
		var now, top, done atomic.Int32
		release := make(chan struct{})
		f.with(func() {
			f.takeover = func(c net.Conn, r *bufio.Reader) {
				if n := now.Add(1); n > top.Load() {
					top.Store(n)
				}
				_, _, err := readStream(r)
				<-release
				now.Add(-1)
				if err == nil {
					_, _ = io.WriteString(c, "stream: OK\x00")
				}
			}
		})
		var wg sync.WaitGroup
		in := input(t, plain)
		for range 10 {
			wg.Go(func() {
				if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
					t.Errorf("%v, %v", found, err)
				}
				done.Add(1)
			})
		}
		synctest.Wait()
		if now.Load() != 3 {
			t.Errorf("%d at once", now.Load())
		}
		if _, err := scanFor(t.Context(), s, in, time.Second); !errors.Is(err, errBusy) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting in vain ends with %v", err)
		}
		close(release)
		wg.Wait()
		if top.Load() != 3 || done.Load() != 10 {
			t.Errorf("at most %d at once, %d done", top.Load(), done.Load())
		}
		if !s.State().OK {
			t.Error("waiting counts as a failure of clamd")
		}
	})
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{
		"unix:/run/clamd.ctl": true, "tcp:127.0.0.1:3310": true, "tcp:[::1]:3310": true,
		"": false, "unix:": false, "/run/clamd.ctl": false, "tcp:host": false, "udp:host:1": false,
	} {
		if _, err := New(Config{Address: address}); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"stream: OK\x00", "stream: a FOUND\x00", "stream: OK\x00\x00", "stream: OK", "INSTREAM size limit exceeded. ERROR\x00", "", "\x00", "stream: \r\n FOUND\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := readAnswer(bytes.NewReader(b))
		if err == nil {
			var a answer
			if a, err = parseAnswer(text); err == nil && a.verdict == infected {
				if g := named(a.name, target{what: "x"}); g.Symbol == "" || strings.ContainsFunc(g.Symbol+g.Reason, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("%+q", g.Symbol+g.Reason)
				}
				return
			}
			if err == nil && a.verdict == clean && string(b) != "stream: OK\x00" {
				t.Errorf("%q is taken for clean", b)
			}
		}
	})
}

package icap

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
)

func TestOnlyACompleteAnswerIsBelieved(t *testing.T) {
	replaced := "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=26\r\n\r\nHTTP/1.0 403 Forbidden\r\n\r\n5\r\nvirus\r\n0\r\n\r\n"
	for name, c := range map[string]struct {
		answer      func(request) string
		text        string
		symbol, err string
	}{
		"unmodified":                    {text: clean},
		"what was sent":                 {answer: echo},
		"what was sent, but less":       {answer: func(r request) string { r.body = r.body[1:]; return echo(r) }, symbol: "replaced"},
		"what was sent, with a refusal": {answer: func(r request) string { return strings.Replace(echo(r), "HTTP/1.1 200", "HTTP/1.1 403", 1) }, symbol: "replaced"},
		"what was sent, cut off":        {answer: func(r request) string { return strings.TrimSuffix(echo(r), "0\r\n\r\n") }, err: "read answer"},
		"an infection":                  {text: infected, symbol: "Eicar"},
		"an infection with 204":         {text: "ICAP/1.0 204 x\r\nX-Virus-ID: Bad: One\r\n\r\n", symbol: "Bad_ One"},
		"a violation":                   {text: "ICAP/1.0 200 OK\r\nX-Violations-Found: 1\r\n\t-\r\n\tWin.Test\r\n\t0\r\n\t0\r\nEncapsulated: null-body=0\r\n\r\n", symbol: "Win.Test"},
		"a virus without a name":        {text: "ICAP/1.0 200 OK\r\nX-Infection-Found: yes\r\nEncapsulated: null-body=0\r\n\r\n", symbol: "a threat without a name"},
		"a container":                   {text: "ICAP/1.0 200 OK\r\nX-Infection-Found: Type=2; Resolution=2; Threat=Too deep;\r\nEncapsulated: null-body=0\r\n\r\n", symbol: "limit:icap"},
		"a hostile name":                {text: "ICAP/1.0 200 OK\r\nX-Virus-ID: <b>\x1b[1m\u202e\x00x\r\nEncapsulated: null-body=0\r\n\r\n", symbol: `<b>?[1m\u202e?x`},
		"a page in its place":           {text: replaced, symbol: "replaced"},
		"200 and nothing":               {text: "ICAP/1.0 200 OK\r\nEncapsulated: null-body=0\r\n\r\n", err: "nothing with it"},
		"an answer that is cut off":     {text: "ICAP/1.0 204 Unmod", err: "unexpected EOF"},
		"a head that is cut off":        {text: "ICAP/1.0 204 Unmodified\r\nISTag: x\r\n", err: "unexpected EOF"},
		"a page that is cut off":        {text: replaced[:len(replaced)-9], err: "read answer"},
		"nothing":                       {text: "", err: "EOF"},
		"HTTP":                          {text: "HTTP/1.1 200 OK\r\n\r\n", err: "no ICAP"},
		"too busy":                      {text: "ICAP/1.0 503 Overloaded\r\n\r\n", err: "503"},
		"no such service":               {text: "ICAP/1.0 404 Service not found\r\nConnection: close\r\n\r\n", err: "404"},
		"a part of what was sent":       {text: "ICAP/1.0 206 Partial\r\nEncapsulated: null-body=0\r\n\r\n", err: "206"},
		"a head without end":            {text: "ICAP/1.0 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 100_000), err: "head of more than"},
		"Encapsulated backwards":        {text: "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=9, res-body=3\r\n\r\nxxx", err: "Encapsulated"},
		"Encapsulated without end":      {text: "ICAP/1.0 200 OK\r\nEncapsulated: res-body=999999999\r\n\r\nxxx", err: "Encapsulated"},
		"a body without end":            {text: "ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\nfffffffffffffff\r\n" + strings.Repeat("x", 1<<20), err: "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.answer = c.answer
				if f.answer == nil {
					f.answer = func(request) string { return c.text }
				}
				s := f.scanner(t, Config{MaxSize: 100_000, Timeout: time.Second})
				defer stop(t, s, f)
				found, err := s.Scan(t.Context(), input(t, plain))
				// What is cut off here is so by a time-out: the fake waits for the next request.
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) && !errors.Is(err, context.DeadlineExceeded) || len(found) > 0 {
						t.Errorf("%v, %v, want error %q", found, err, c.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if c.symbol == "" && len(found) > 0 || c.symbol != "" && (len(found) != 1 || found[0].Symbol != c.symbol || found[0].Module != "icap") {
					t.Errorf("%v, want %q", found, c.symbol)
				}
				for _, g := range found {
					if strings.ContainsAny(g.Reason+g.Symbol, "\x00\x1b\r\n\u202e") || (g.Result == mail.Unknown) != (c.symbol == "limit:icap") {
						t.Errorf("%+q", g.Reason)
					}
				}
			})
		})
	}
}

func TestWhatTheServerIsSent(t *testing.T) {
	large := attachment(base64.StdEncoding.EncodeToString([]byte("MZ\x90\x00" + strings.Repeat("Q", 300_000))))
	for name, c := range map[string]struct{ options, method string }{
		"without a preview":       {"Methods: RESPMOD\r\n", "RESPMOD"},
		"with a preview":          {"Methods: REQMOD, RESPMOD\r\nPreview: 1024\r\n", "RESPMOD"},
		"with an empty preview":   {"Methods: RESPMOD\r\nPreview: 0\r\n", "RESPMOD"},
		"with REQMOD":             {"Methods: REQMOD\r\n", "REQMOD"},
		"with REQMOD and preview": {"Methods: REQMOD\r\nPreview: 100\r\n", "REQMOD"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.options = c.options
				s := f.scanner(t, Config{})
				defer stop(t, s, f)
				if found, err := s.Scan(t.Context(), input(t, large)); err != nil || len(found) > 0 {
					t.Fatalf("%v, %v", found, err)
				}
				seen := f.seen()
				if len(seen) != 2 || seen[0].body != large || !strings.HasPrefix(seen[1].body, "MZ\x90\x00QQ") || len(seen[1].body) != 300_004 {
					t.Fatalf("%d requests", len(seen))
				}
				for _, r := range seen {
					if r.line != c.method+" icap://192.0.2.1/avscan ICAP/1.0" || r.head.get("Allow") != "204" || r.head.get("Host") != "192.0.2.1" {
						t.Errorf("%q %v", r.line, r.head)
					}
					if strings.ContainsAny(r.http, "\x00\x01") {
						t.Errorf("HTTP %q", r.http)
					}
				}
				if !strings.Contains(seen[1].http, "/a%3F%20b.exe HTTP/1.1\r\n") {
					t.Errorf("HTTP %q", seen[1].http)
				}
				if f.dialled != 1 {
					t.Errorf("%d connections", f.dialled)
				}
			})
		})
	}
}

// The server may make up its mind before it saw everything.
func TestTheServerDecidesAfterThePreview(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		symbol string
	}{
		"clean":    {clean, ""},
		"infected": {infected, "Eicar"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.options = "Methods: RESPMOD\r\nPreview: 10\r\n"
				f.early = c.answer
				s := f.scanner(t, Config{SkipCanary: true})
				defer stop(t, s, f)
				found, err := s.Scan(t.Context(), input(t, plain))
				if err != nil || c.symbol == "" && len(found) > 0 || c.symbol != "" && (len(found) != 1 || found[0].Symbol != c.symbol) {
					t.Errorf("%v, %v", found, err)
				}
				if len(f.seen()) > 0 || f.dialled != 1 {
					t.Errorf("%d whole requests, %d connections", len(f.seen()), f.dialled)
				}
			})
		})
	}
}

func TestAStaleConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{Refresh: time.Hour})
		defer stop(t, s, f)
		in := input(t, plain)
		if _, err := s.Scan(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		for _, c := range s.idle {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestTheServerIsAwayAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.off = true
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		in := input(t, plain)
		for range 100 {
			if found, err := s.Scan(t.Context(), in); err == nil || len(found) > 0 {
				t.Fatalf("%v, %v", found, err)
			}
		}
		if f.dialled != 1 {
			t.Errorf("knocked %d times", f.dialled)
		}
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "nobody is there") {
			t.Errorf("health %v", err)
		}
		f.with(func() { f.off = false })
		time.Sleep(6 * time.Second)
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 || s.Health() != nil {
			t.Errorf("%v, %v, %v", found, err, s.Health())
		}
		if st := s.State(); st.Service != "fake" || st.Tag != "t1" {
			t.Errorf("state %+v", st)
		}
	})
}

func TestAServerThatFindsNothingIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.answer = func(request) string { return "blind" }
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || !strings.Contains(err.Error(), "EICAR") || len(found) > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// The bubble of synctest does not end while a goroutine is left.
func TestAServerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		release := make(chan struct{})
		f.answer = func(r request) string {
			if r.body != testFile() {
				<-release
			}
			return clean
		}
		s := f.scanner(t, Config{Refresh: time.Hour})
		defer stop(t, s, f)
		defer close(release)
		begun := time.Now()
		for i := range 100 {
			if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || i == 0 && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("try %d: %v, %v", i, found, err)
			}
		}
		if took := time.Since(begun); took != 90*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.options = "Methods: RESPMOD\r\nMax-Connections: 2\r\n"
		var now atomic.Int32
		release := make(chan struct{})
		f.answer = func(r request) string {
			if r.body != testFile() {
				now.Add(1)
				<-release
			}
			return clean
		}
		s := f.scanner(t, Config{})
		defer stop(t, s, f)
		in := input(t, plain)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 {
					t.Errorf("%v, %v", found, err)
				}
			})
		}
		synctest.Wait()
		if now.Load() != 2 {
			t.Errorf("%d at once", now.Load())
		}
		close(release)
		wg.Wait()
	})
}

func TestSizeAndNumberAreLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.scanner(t, Config{MaxSize: 200, Requests: 1})
		defer stop(t, s, f)
		found, err := s.Scan(t.Context(), input(t, plain+strings.Repeat("x", 200)))
		if err != nil || len(found) != 1 || found[0].Symbol != "limit:icap-size" || found[0].Result != mail.Unknown {
			t.Errorf("%v, %v", found, err)
		}
		s.cfg.MaxSize = 1 << 20
		found, err = s.Scan(t.Context(), input(t, attachment("TVqQAAAA")))
		if err != nil || len(found) != 1 || found[0].Symbol != "limit:icap-requests" || found[0].Result != mail.Unknown {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestURLs(t *testing.T) {
	for text, ok := range map[string]bool{
		"icap://h/avscan": true, "icap://h:1345/a?allow204=on": true, "icap://[::1]/x": true,
		"": false, "icap://h": false, "icap://h/": false, "http://h/x": false, "icap:///x": false,
	} {
		if _, err := New(Config{URL: text}); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(clean))
	f.Add([]byte(infected))
	f.Add([]byte("ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=19\r\n\r\nHTTP/1.1 200 OK\r\n\r\n1\r\nx\r\n0\r\n\r\n"))
	f.Add([]byte("ICAP/1.0 200 OK\r\nX-Violations-Found: 1\r\n -\r\n x\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReaderSize(strings.NewReader(string(b)), 64)
		h, err := readHead(r)
		if err != nil {
			return
		}
		c, err := readContent(h, r, 1000)
		if err != nil {
			return
		}
		a, err := judge(h, c, make([]byte, 32))
		if err == nil && a.clean && !strings.HasPrefix(string(b), "ICAP/1.0 204") {
			t.Errorf("%q is taken for clean", b)
		}
		if strings.ContainsAny(a.threat+a.instead, "\x00\r\n\x1b") {
			t.Errorf("%+v", a)
		}
	})
}

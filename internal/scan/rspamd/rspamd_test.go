package rspamd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/scan"
	"gatepost/test/engines"
)

// fake is an rspamd whose answers are scripted, in its bubble's time.
type fake struct {
	t   testing.TB
	l   *memconn.Listener
	srv *http.Server
	wg  sync.WaitGroup

	mu      sync.Mutex
	dialled int
	heads   []http.Header
	bodies  []string
}

// newFake serves with h; raw, where set, is all that comes of a connection.
func newFake(t testing.TB, raw string, h http.HandlerFunc) *fake {
	f := &fake{t: t, l: memconn.Listen()}
	f.srv = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.heads, f.bodies = append(f.heads, r.Header), append(f.bodies, string(text))
		f.mu.Unlock()
		if r.Method != http.MethodPost || r.URL.Path != "/checkv2" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		h(w, r)
	})}
	f.wg.Go(func() {
		if raw == "" {
			_ = f.srv.Serve(f.l) // always an error, that it was closed
			return
		}
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				// The whole request comes first: a client that still writes when
				// nonsense comes back may report either.
				if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(c, raw)
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			})
		}
	})
	return f
}

// says is a handler that answers every message with this text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func (f *fake) scanner(t testing.TB, cfg Config) *Scanner {
	t.Helper()
	cfg.URL = "http://192.0.2.1:11333"
	cfg.dial = func(ctx context.Context) (net.Conn, error) {
		f.mu.Lock()
		f.dialled++
		f.mu.Unlock()
		return f.l.Dial(ctx)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *fake) stop(s *Scanner) {
	if err := errors.Join(s.Close(), f.srv.Close(), f.l.Close()); err != nil {
		f.t.Error(err)
	}
	f.wg.Wait()
}

type body struct{ *bytes.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func input(t testing.TB, msg string) *scan.Input {
	t.Helper()
	address := func(local, domain string) mail.Address {
		return mail.Address{Local: local, Domain: domain, Raw: local + "@" + domain}
	}
	env := &mail.Envelope{
		ID:      mail.ID{1, 2, 3},
		Sender:  address("sender", "client.example"),
		Session: mail.Session{Client: netip.MustParseAddrPort("192.0.2.77:4025"), Helo: "client.example", TLS: mail.TLS{Version: "TLSv1.3", Cipher: "X"}},
		Recipients: []mail.Recipient{
			{Address: address("one", "here.example")}, {Address: address("moved", "there.example"), Original: address("two", "here.example")},
		},
	}
	in, err := scan.NewInput(context.WithoutCancel(t.Context()), mail.Message{Envelope: env, Body: body{bytes.NewReader([]byte(msg))}}, scan.Inbound, scan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

const (
	plain   = "From: a@b.example\r\nSubject: lunch\r\n\r\nAt noon?\r\n"
	noSpam  = `{"score": 0.5, "required_score": 15, "action": "no action", "symbols": {}}`
	twoSyms = `{"is_skipped":false,"score":7.5,"required_score":15.0,"action":%q,"symbols":{"B:AD":{"name":"x","score":8.25,"description":"very\nbad","options":["a"]},"NICE":{"score":-0.75},"NOTE":{"score":0}},"messages":{},"message-id":"undef"}`
)

func TestOnlyACompleteAnswerCounts(t *testing.T) {
	answer := func(text string) http.HandlerFunc { return says(text) }
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		raw       string
		want, err string
	}{
		"no action":       {answer: answer(noSpam), want: "clean no-action 1"},
		"add header":      {answer: answer(fmt.Sprintf(twoSyms, "add header")), want: "clean add-header 15, clean B_AD 0, clean NICE 0"},
		"rewrite subject": {answer: answer(fmt.Sprintf(twoSyms, "rewrite subject")), want: "clean rewrite-subject 15, clean B_AD 0, clean NICE 0"},
		"greylist":        {answer: answer(fmt.Sprintf(twoSyms, "greylist")), want: "clean greylist 15, clean B_AD 0, clean NICE 0"},
		"soft reject":     {answer: answer(fmt.Sprintf(twoSyms, "soft reject")), want: "unknown soft-reject 15, clean B_AD 0, clean NICE 0"},
		"reject":          {answer: answer(fmt.Sprintf(twoSyms, "reject")), want: "match reject 15, clean B_AD 0, clean NICE 0"},
		"discard":         {answer: answer(fmt.Sprintf(twoSyms, "discard")), want: "match discard 15, clean B_AD 0, clean NICE 0"},
		"quarantine":      {answer: answer(fmt.Sprintf(twoSyms, "quarantine")), want: "match quarantine 15, clean B_AD 0, clean NICE 0"},

		"an action to come":       {answer: answer(fmt.Sprintf(twoSyms, "explode\n")), err: `"explode?"`},
		"no action at all":        {answer: answer(`{"score": 1}`), err: "without a score or an action"},
		"no score":                {answer: answer(`{"action": "no action"}`), err: "without a score or an action"},
		"an absurd score":         {answer: answer(`{"score": 1e300, "action": "no action"}`), err: "absurd"},
		"a score in words":        {answer: answer(`{"score": "much", "action": "no action"}`), err: "no JSON as it should be"},
		"nothing":                 {answer: answer(""), err: "no JSON"},
		"garbage":                 {answer: answer("\x00\x01\x02"), err: "no JSON"},
		"a list":                  {answer: answer("[]"), err: "no JSON"},
		"JSON that is cut off":    {answer: answer(noSpam[:len(noSpam)-1]), err: "no JSON"},
		"two objects":             {answer: answer(noSpam + noSpam), err: "more than one"},
		"more than anyone wants":  {answer: answer(strings.Repeat(" ", maxAnswer+1)), err: "more than"},
		"an error in a success":   {answer: answer(`{"error": "no\r\nworkers", "score": 0, "action": "no action"}`), err: "an error: no??workers"},
		"an error":                {answer: status(500, `{"error": "too\r\nbusy"}`), err: `"500 Internal Server Error": too??busy`},
		"an error without words":  {answer: status(403, "Unauthorized"), err: `"403 Forbidden"`},
		"an answer with 204":      {answer: status(204, ""), err: `"204 No Content"`},
		"another place":           {answer: elsewhere, err: `"302 Found"`},
		"no HTTP":                 {raw: "220 smtp.example ESMTP\r\n", err: "malformed HTTP"},
		"a head without end":      {raw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 100_000), err: "server response headers exceeded"},
		"a body that is cut off":  {answer: short, err: "unexpected EOF"},
		"too long and announced":  {raw: "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat(" ", 2*maxAnswer), err: "more than"},
		"chunks that are nothing": {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", err: "read answer"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, c.raw, c.answer)
				s := f.scanner(t, Config{Scale: 2, Timeout: time.Minute})
				defer f.stop(s)
				found, err := s.Scan(t.Context(), input(t, plain))
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || len(found) > 0 {
						t.Errorf("%v, %v, want error %q", found, err, c.err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				var list []string
				for _, g := range found {
					list = append(list, fmt.Sprintf("%s %s %v", g.Result, g.Symbol, g.Score))
					if g.Module != "rspamd" || strings.ContainsAny(g.Reason+g.Symbol, "\x00\x1b\r\n") {
						t.Errorf("%+v", g)
					}
				}
				if got := strings.Join(list, ", "); got != c.want {
					t.Errorf("%s, want %s", got, c.want)
				}
				if len(found) > 1 && (!strings.HasSuffix(found[0].Reason, "; B_AD 8.25, NICE -0.75") || found[1].Reason != "rspamd: 8.25 for very?bad") {
					t.Errorf("%q, %q", found[0].Reason, found[1].Reason)
				}
			})
		})
	}
}

func status(code int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, text)
	}
}

func elsewhere(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "http://192.0.2.99/steal", http.StatusFound)
}

func short(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, noSpam)
}

func TestSymbolsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, `,"S%d":{"score":%d}`, i, i-250)
	}
	a, err := parse([]byte(`{"score":1,"action":"reject","symbols":{` + b.String()[1:] + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	found := (&Scanner{cfg: Config{Scale: 1}}).findings(a)
	if len(found) != 11 || found[1].Symbol != "S0" || found[1].Reason != "rspamd: -250" || len(found[0].Reason) > 400 {
		t.Errorf("%d: %+v", len(found), found)
	}
}

func TestWhatRspamdIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "", says(noSpam))
		s := f.scanner(t, Config{Password: "secret word", Hostname: "gw.example"})
		defer f.stop(s)
		in := input(t, plain+strings.Repeat("line\r\n", 50_000))
		in.Message.Envelope.Session.Helo = "evil\r\nIP: 127.0.0.1"
		for range 5 {
			if _, err := s.Scan(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		if f.dialled != 1 || f.bodies[4] != plain+strings.Repeat("line\r\n", 50_000) {
			t.Errorf("%d connections, %.100q", f.dialled, f.bodies[4])
		}
		for name, want := range map[string][]string{
			"Password": {"secret word"}, "Queue-Id": {in.Message.Envelope.ID.String()}, "Ip": {"192.0.2.77"}, "Helo": {"evil??IP: 127.0.0.1"}, "Mta-Name": {"gw.example"},
			"From": {"<sender@client.example>"}, "Rcpt": {"<one@here.example>", "<two@here.example>"}, "Tls-Version": {"TLSv1.3"}, "User": nil, "Deliver-To": nil,
		} {
			if got := f.heads[0][name]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		in = input(t, "")
		in.Message.Envelope.Recipients = in.Message.Envelope.Recipients[1:]
		if _, err := s.Scan(t.Context(), in); err != nil || f.heads[5].Get("Deliver-To") != "moved@there.example" || f.bodies[5] != "" {
			t.Errorf("%v, %v", err, f.heads[5])
		}
	})
}

func TestWhatIsTooLargeIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "", says(noSpam))
		s := f.scanner(t, Config{MaxSize: 10})
		defer f.stop(s)
		found, err := s.Scan(t.Context(), input(t, plain))
		if err != nil || len(found) != 1 || found[0].Symbol != "limit:rspamd-size" || found[0].Result != mail.Unknown || f.dialled > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// The bubble of synctest does not end while a goroutine is left.
func TestAnRspamdThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		s := f.scanner(t, Config{Timeout: 10 * time.Second})
		defer f.stop(s)
		begun := time.Now()
		for i := range 20 {
			if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || i < 3 && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v, %v", found, err)
			}
		}
		if took := time.Since(begun); took != 30*time.Second || s.Health() == nil {
			t.Errorf("took %v, health %v", took, s.Health())
		}
	})
}

func TestCancelIsHonouredAndBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		s := f.scanner(t, Config{Failures: 1})
		defer f.stop(s)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		if found, err := s.Scan(ctx, input(t, plain)); !errors.Is(err, context.Canceled) || len(found) > 0 || s.Health() != nil {
			t.Errorf("%v, %v, %v", found, err, s.Health())
		}
	})
}

// watched is a body that knows who reads it when.
type watched struct {
	body
	mu   sync.Mutex
	over bool
	late bool
	bad  bool
}

func (w *watched) ReadAt(p []byte, at int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = w.late || w.over
	if w.bad {
		return 0, errors.New("a bad block")
	}
	return w.body.ReadAt(p, at)
}

// A server that answers early leaves net/http in the middle of the message.
func TestNothingIsReadWhenTheScanIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", nil)
		s := f.scanner(t, Config{})
		defer f.stop(s)
		in := input(t, plain+strings.Repeat("x", 10<<20))
		w := &watched{body: in.Message.Body.(body)}
		in.Message.Body = w
		_, _ = s.Scan(t.Context(), in) // whatever it says
		w.mu.Lock()
		w.over = true
		w.mu.Unlock()
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.late {
			t.Error("the body was read behind the end of Scan")
		}
	})
}

func TestAMessageThatCannotBeReadIsNotRspamdsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "", says(noSpam))
		s := f.scanner(t, Config{Failures: 1})
		defer f.stop(s)
		in := input(t, plain)
		in.Message.Body = &watched{body: in.Message.Body.(body), bad: true}
		var source *scan.SourceError
		if found, err := s.Scan(t.Context(), in); !errors.As(err, &source) || len(found) > 0 || s.Health() != nil {
			t.Errorf("%v, %v, %v", found, err, s.Health())
		}
	})
}

func TestManyMessagesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, "", says(fmt.Sprintf(twoSyms, "reject")))
		s := f.scanner(t, Config{Sessions: 3})
		defer f.stop(s)
		in := input(t, plain)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if found, err := s.Scan(t.Context(), in); err != nil || len(found) != 3 {
					t.Errorf("%v, %v", found, err)
				}
			})
		}
		wg.Wait()
		if f.dialled > 3 {
			t.Errorf("%d connections", f.dialled)
		}
	})
}

func TestConfigurationsThatCannotBeMeant(t *testing.T) {
	for _, c := range []Config{{}, {URL: "ftp://x"}, {URL: "http://"}, {URL: "http://x", Password: "a\r\nb"}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if s, err := New(Config{URL: "http://x", Scale: NoScale}); err != nil || s.cfg.Scale != 0 {
		t.Errorf("%v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(noSpam))
	f.Add([]byte(fmt.Sprintf(twoSyms, "reject")))
	f.Add([]byte(`{"error":"x"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		complaint(text)
		a, err := parse(text)
		if err != nil {
			return
		}
		for _, g := range (&Scanner{cfg: Config{Scale: 1}}).findings(a) {
			if math.IsNaN(g.Score) || math.Abs(g.Score) > maxScore || len(g.Reason) > 2<<10 || strings.ContainsAny(g.Reason+g.Symbol, "\r\n\x00\x1b") {
				t.Errorf("%+v", g)
			}
		}
	})
}

func TestRealRspamd(t *testing.T) {
	s, err := New(Config{URL: engines.Rspamd(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for name, c := range map[string]struct {
		subject, symbols string
		result           mail.Result
		score            float64
	}{
		"ham":   {"lunch", "no-action GATEPOST_ENVELOPE", mail.Clean, 0.5},
		"spam":  {engines.Word, "add-header GATEPOST_WORD GATEPOST_ENVELOPE", mail.Clean, 8},
		"later": {"come back later", "soft-reject GATEPOST_ENVELOPE", mail.Unknown, 0.5},
	} {
		found, err := s.Scan(t.Context(), input(t, "From: sender@client.example\r\nSubject: "+c.subject+"\r\n\r\n"+strings.Repeat("Hello\r\n", 50_000)))
		if err != nil || len(found) == 0 {
			t.Errorf("%s: %v, %v", name, found, err)
			continue
		}
		var symbols []string
		for _, g := range found {
			symbols = append(symbols, g.Symbol)
		}
		if strings.Join(symbols, " ") != c.symbols || found[0].Result != c.result || found[0].Score != c.score {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func TestReaderOfAMailboxIsNobodyWhoSends(t *testing.T) {
	env := input(t, plain).Message.Envelope
	env.Session.Protocol, env.Session.User = mail.POP3, "joe"
	h := http.Header{}
	(&Scanner{}).describe(h, env)
	for _, name := range []string{"IP", "Helo", "Hostname", "User", "TLS-Version", "TLS-Cipher"} {
		if v := h.Get(name); v != "" {
			t.Errorf("%s: %s", name, v)
		}
	}
	if h.Get("Queue-Id") != env.ID.String() || h.Get("Rcpt") == "" {
		t.Errorf("%v", h)
	}
}

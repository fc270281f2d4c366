package milter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

func TestWhatTheMilterWants(t *testing.T) {
	eom := func(packets ...string) script { return on(cmdEOM, packets...) }
	for name, c := range map[string]struct {
		answer    script
		raw       string
		want, err string
		reason    string
	}{
		"continue to the end":          {answer: eom("c")},
		"accept at the end":            {answer: eom("a")},
		"accept at once":               {answer: on(cmdConnect, "a")},
		"reject at the end":            {answer: eom("r"), want: "match reject"},
		"reject the client":            {answer: on(cmdConnect, "r"), want: "match reject"},
		"reject the greeting":          {answer: on(cmdHelo, "r"), want: "match reject"},
		"reject the sender":            {answer: on(cmdMail, "r"), want: "match reject"},
		"reject at DATA":               {answer: on(cmdData, "r"), want: "match reject"},
		"reject a field":               {answer: on(cmdHeader, "r"), want: "match reject"},
		"reject the header":            {answer: on(cmdEOH, "r"), want: "match reject"},
		"reject the body":              {answer: on(cmdBody, "r"), want: "match reject"},
		"discard":                      {answer: eom("d"), want: "match discard"},
		"temporary failure":            {answer: eom("t"), want: "unknown tempfail"},
		"end of the session":           {answer: eom("4"), want: "unknown tempfail"},
		"no connection":                {answer: on(cmdConnect, "f"), want: "unknown tempfail"},
		"a 5xx reply":                  {answer: eom("y550 5.7.1 100%% spam\x00"), want: "match reject", reason: "rejects it (550): 5.7.1 100% spam"},
		"a reply of two lines":         {answer: eom("y554-5.7.1 a\r\n554 5.7.1 b\x00"), want: "match reject", reason: "rejects it (554): 5.7.1 a 5.7.1 b"},
		"a 4xx reply":                  {answer: eom("y451 4.7.1 later\x00"), want: "unknown tempfail", reason: "(451): 4.7.1 later"},
		"a hostile reply":              {answer: eom("y550 a\r\nX-Evil: b\x1b[1m\u202e\x00"), want: "match reject", reason: `a X-Evil: b?[1m\u202e`},
		"a 2xx reply":                  {answer: eom("y250 fine\x00"), err: "no reply"},
		"a reply without a code":       {answer: eom("yno\x00"), err: "no reply"},
		"one recipient refused":        {answer: onRcpt("Two", "r"), want: "match reject [two@here.example]"},
		"one recipient later":          {answer: onRcpt("one", "t"), want: "unknown tempfail [one@here.example]"},
		"one refused, then all":        {answer: both(onRcpt("one", "y550 no\x00"), eom("r")), want: "match reject [one@here.example], match reject"},
		"all recipients refused":       {answer: on(cmdRcpt, "r"), want: "match reject [one@here.example], match reject [two@here.example]"},
		"discard at a recipient":       {answer: onRcpt("one", "d"), want: "match discard"},
		"accept at a recipient":        {answer: onRcpt("one", "a")},
		"quarantine":                   {answer: eom("qtoo odd\x00", "c"), want: "match quarantine", reason: "in the quarantine: too odd"},
		"another body":                 {answer: eom("bnew", "b body", "c"), want: "match replace-body"},
		"a recipient taken out":        {answer: eom("-<TWO@here.example>\x00", "c"), want: "match delete-recipient [two@here.example]"},
		"nobody taken out":             {answer: eom("-<else@here.example>\x00", "c")},
		"a recipient more":             {answer: eom("+<spy@here.example>\x00", "2<x@y.example>\x00NOTIFY=NEVER\x00", "c"), want: "clean add-recipient, clean add-recipient"},
		"another sender":               {answer: eom("e<srs@here.example>\x00", "c"), want: "clean change-sender"},
		"changes and then a rejection": {answer: eom("hX-A\x00b\x00", "qheld\x00", "r"), want: "match reject"},
		"progress":                     {answer: eom("p", "p", "p", "c")},

		"hangs up at once":                {answer: on(cmdConnect), err: "unexpected EOF"},
		"hangs up at the end":             {answer: eom(), err: "unexpected EOF"},
		"hangs up after some edits":       {answer: eom("hX-A\x00b\x00"), err: "deadline"},
		"an answer that does not exist":   {answer: eom("Z"), err: "no answer here"},
		"skip where nothing is skipped":   {answer: on(cmdMail, "s"), err: "no answer here"},
		"a change before the end":         {answer: on(cmdMail, "hX-A\x00b\x00"), err: "no answer here"},
		"an edit that is cut off":         {answer: eom("hX-A", "c"), err: "cut off"},
		"an edit without a value":         {answer: eom("hX-A\x00", "c"), err: "cut off"},
		"an edit without a place":         {answer: eom("i\x00", "c"), err: "cut off"},
		"a packet without end":            {answer: eom("h"+strings.Repeat("x", maxPacket), "c"), err: "packet of"},
		"talk without end":                {answer: endless, err: "more than a message may be changed"},
		"HTTP":                            {raw: "HTTP/1.1 400 Bad Request\r\n\r\n", err: "packet of"},
		"a negotiation that is cut off":   {raw: "\x00\x00\x00\x05O\x00\x00\x00\x06", err: "negotiation"},
		"a version of old":                {raw: string(pack("O" + number(1) + number(0) + number(0))), err: "version 1"},
		"actions that nobody offered":     {raw: string(pack("O" + number(6) + number(0x100) + number(0))), err: "not offered"},
		"steps that nobody offered":       {raw: string(pack("O" + number(6) + number(0) + number(1<<28))), err: "not offered"},
		"something else than negotiation": {raw: string(pack("c")), err: "negotiation"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, c.answer)
				f.raw = c.raw
				defer f.stop()
				s := f.scanner(t, Config{Timeout: time.Minute})
				found, err := s.Scan(t.Context(), input(t, plain))
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || len(found) > 0 {
						t.Errorf("%v, %v, want error %q", found, err, c.err)
					}
					return
				}
				if err != nil || summary(found) != c.want {
					t.Fatalf("%q, %v, want %q", summary(found), err, c.want)
				}
				for _, g := range found {
					if g.Module != "milter" || strings.ContainsAny(g.Reason+g.Symbol, "\x00\x1b\r\n\u202e") {
						t.Errorf("%+v", g)
					}
				}
				if c.reason != "" && !strings.HasSuffix(found[0].Reason, c.reason) {
					t.Errorf("reason %q, want %q", found[0].Reason, c.reason)
				}
			})
		})
	}
}

// onRcpt answers for one recipient.
func onRcpt(local, answer string) script {
	return func(c byte, data string) []string {
		if c == cmdRcpt && strings.HasPrefix(data, "<"+local+"@") {
			return []string{answer}
		}
		return []string{"c"}
	}
}

// both is what the first does not continue with, else the second.
func both(a, b script) script {
	return func(c byte, data string) []string {
		if got := a(c, data); got[0] != "c" {
			return got
		}
		return b(c, data)
	}
}

func endless(c byte, _ string) []string {
	if c != cmdEOM {
		return []string{"c"}
	}
	var list []string
	for range maxTalk/60_000 + 1 {
		list = append(list, "b"+strings.Repeat("x", 60_000))
	}
	return list
}

func TestTheMilterHearsTheWholeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(0))
		defer f.stop()
		text := strings.Repeat("x", maxChunk) + "tail"
		env := envelope("one@here.example")
		env.Body, env.SMTPUTF8, env.Session.User = mail.Body8Bit, true, "joe"
		in := inputOf(t, env, "X-Gatepost-Verdict: forged\r\nFrom: a@b.example\r\nnonsense\r\nSubject: lunch\r\n\tat noon\r\nX-Empty:\r\n\r\n"+text)
		env.Edits.Cut = []mail.Span{in.Header.Fields()[0].Span}
		if found, err := f.scanner(t, Config{}).Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
		synctest.Wait()
		want := []string{
			"C[192.0.2.77]\x004\x0f\xb9192.0.2.77\x00", "Hclient.example\x00",
			"M<sender@client.example>\x00SIZE=" + strconv.FormatInt(in.Message.Body.Size(), 10) + "\x00BODY=8BITMIME\x00SMTPUTF8\x00", "R<one@here.example>\x00", "T",
			"LFrom\x00a@b.example\x00", "LX-Malformed\x00nonsense\x00", "LSubject\x00lunch\n\tat noon\x00", "LX-Empty\x00\x00", "N",
			"B" + text[:maxChunk], "Btail", "E", "Q",
		}
		if got := f.transcript(); got != strings.Join(want, "|") {
			t.Errorf("heard %.1000q", strings.ReplaceAll(got, text[:maxChunk], "…"))
		}
		for name, want := range map[string]string{
			"j": "gw.example", "i": env.ID.String(), "{client_addr}": "192.0.2.77", "{mail_addr}": "sender@client.example", "_": "[192.0.2.77] [192.0.2.77]",
			"{rcpt_addr}": "one@here.example", "{auth_authen}": "joe", "{tls_version}": "TLSv1.3", "{cipher}": "TLS_AES_128_GCM_SHA256", "{daemon_name}": "mx",
		} {
			if got := f.macros[name]; got != want {
				t.Errorf("macro %s is %q, want %q", name, got, want)
			}
		}
	})
}

func TestWhatTheMilterDoesNotWantToHear(t *testing.T) {
	for name, c := range map[string]struct {
		version, steps uint32
		want           string
	}{
		"everything":         {version: 6, want: "C H M R T L L N B E Q"},
		"the envelope alone": {version: 6, steps: noHelo | noHeaders | noEOH | noBody | noData, want: "C M R E Q"},
		"the content alone":  {version: 6, steps: noConnect | noHelo | noMail | noRcpt | noData, want: "L L N B E Q"},
		"quietly":            {version: 6, steps: quietHeader | quietBody, want: "C H M R T L L N B E Q"},
		"the protocol of 2":  {version: 2, want: "C H M R L L N B E Q"},
		"a protocol to come": {version: 7, want: "C H M R T L L N B E Q"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, on(0))
				f.version, f.steps = c.version, c.steps
				defer f.stop()
				if found, err := f.scanner(t, Config{}).Scan(t.Context(), inputOf(t, envelope("one@here.example"), plain)); err != nil || len(found) > 0 {
					t.Fatalf("%v, %v", found, err)
				}
				synctest.Wait()
				var codes []string
				for _, h := range f.heard {
					codes = append(codes, h[:1])
				}
				if got := strings.Join(codes, " "); got != c.want {
					t.Errorf("heard %s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestTheMilterHasSeenEnoughOfTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(cmdBody, "s"))
		f.steps = canSkip
		defer f.stop()
		if found, err := f.scanner(t, Config{}).Scan(t.Context(), input(t, plain+strings.Repeat("x", 5*maxChunk))); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
		synctest.Wait()
		if n := strings.Count(f.transcript(), "|B"); n != 1 || !strings.HasSuffix(f.transcript(), "|E|Q") {
			t.Errorf("%d chunks", n)
		}
	})
}

func TestAFieldThatNoMilterCanBeShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(0))
		defer f.stop()
		found, err := f.scanner(t, Config{}).Scan(t.Context(), input(t, "X-Long: "+strings.Repeat("x", maxData)+"\r\n\r\n"))
		if err == nil || !strings.Contains(err.Error(), "X-Long") || len(found) > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// The bubble of synctest does not end while a goroutine is left.
func TestAMilterThatHangs(t *testing.T) {
	for _, at := range []byte{cmdConnect, cmdBody, cmdEOM} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, on(at, "-"))
			defer f.stop()
			s := f.scanner(t, Config{Timeout: 30 * time.Second})
			begun := time.Now()
			for i := range 100 {
				if found, err := s.Scan(t.Context(), input(t, plain)); err == nil || len(found) > 0 || i < 3 && !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("try %d: %v, %v", i, found, err)
				}
			}
			if took := time.Since(begun); took != 90*time.Second || s.Health() == nil {
				t.Errorf("took %v, health %v", took, s.Health())
			}
		})
	}
}

func TestAMilterThatOnlyMakesProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(c byte, _ string) []string {
			if c == cmdEOM {
				time.Sleep(time.Second)
				return []string{"p"}
			}
			return []string{"c"}
		})
		defer f.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if found, err := f.scanner(t, Config{}).Scan(ctx, input(t, plain)); !errors.Is(err, context.DeadlineExceeded) || len(found) > 0 {
			t.Errorf("%v, %v", found, err)
		}
	})
}

func TestAMilterIsAwayAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(0))
		f.off = true
		defer f.stop()
		s := f.scanner(t, Config{})
		in := input(t, plain)
		for range 100 {
			if found, err := s.Scan(t.Context(), in); err == nil || len(found) > 0 {
				t.Fatalf("%v, %v", found, err)
			}
		}
		if f.dialled != 3 || s.Health() == nil || !strings.Contains(s.Health().Error(), "nobody is there") {
			t.Errorf("knocked %d times, health %v", f.dialled, s.Health())
		}
		f.mu.Lock()
		f.off = false
		f.mu.Unlock()
		time.Sleep(6 * time.Second)
		if found, err := s.Scan(t.Context(), in); err != nil || len(found) > 0 || s.Health() != nil {
			t.Errorf("%v, %v, %v", found, err, s.Health())
		}
	})
}

func TestCancelIsHonouredAndBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(cmdEOM, "-"))
		defer f.stop()
		s := f.scanner(t, Config{})
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				time.Sleep(time.Second)
				cancel()
			}()
			if found, err := s.Scan(ctx, input(t, plain)); !errors.Is(err, context.Canceled) || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
		}
		if err := s.Health(); err != nil {
			t.Error(err)
		}
	})
}

// broken is a body that can't be read behind its header section.
type broken struct{ body }

func (b broken) ReadAt(p []byte, at int64) (int, error) {
	if at > 20 {
		return 0, errors.New("a bad block")
	}
	return b.body.ReadAt(p, at)
}

func TestAMessageThatCannotBeReadIsNotTheMiltersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(0))
		defer f.stop()
		s := f.scanner(t, Config{})
		for range 5 {
			in := input(t, plain)
			whole := in.Message.Body.(body)
			in.Message.Body = broken{whole}
			var source *scan.SourceError
			if found, err := s.Scan(t.Context(), in); !errors.As(err, &source) || len(found) > 0 {
				t.Errorf("%v, %v", found, err)
			}
		}
		if err := s.Health(); err != nil {
			t.Error(err)
		}
	})
}

func TestManyMessagesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(cmdEOM, "hX-A\x00b\x00", "c"))
		defer f.stop()
		s := f.scanner(t, Config{Sessions: 3})
		in := input(t, plain)
		before, _ := io.ReadAll(io.NewSectionReader(in.Message.Body, 0, in.Message.Body.Size()))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if found, err := s.Scan(t.Context(), in); err != nil || summary(found) != "clean add-header" {
					t.Errorf("%v, %v", found, err)
				}
			})
		}
		wg.Wait()
		after, _ := io.ReadAll(io.NewSectionReader(in.Message.Body, 0, in.Message.Body.Size()))
		if !bytes.Equal(before, after) || f.dialled != 50 {
			t.Errorf("%d conversations", f.dialled)
		}
	})
}

func TestAddressesThatCannotBeMeant(t *testing.T) {
	for _, a := range []string{"", "inet:8891@localhost", "unix:", "tcp:localhost", "/run/x.sock"} {
		if _, err := New(Config{Address: a}); err == nil {
			t.Errorf("%q is taken", a)
		}
	}
}

func TestReaderOfAMailboxIsNobodyWhoSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, on(0))
		defer f.stop()
		env := envelope("one@here.example")
		env.Sender, env.Session.Protocol, env.Session.User = mail.Address{}, mail.POP3, "joe"
		text := body{bytes.NewReader([]byte("From: a@b.example\n\nhello\n"))}
		in, err := scan.NewInput(t.Context(), mail.Message{Envelope: env, Body: text}, scan.POP3, scan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if found, err := f.scanner(t, Config{}).Scan(t.Context(), in); err != nil || len(found) > 0 {
			t.Fatalf("%v, %v", found, err)
		}
		synctest.Wait()
		if got := f.transcript(); !strings.HasPrefix(got, "Cmailbox\x00U|H\x00|M<>\x00") || !strings.Contains(got, "LFrom\x00a@b.example\x00|N|") {
			t.Errorf("heard %q", got)
		}
		for _, name := range []string{"{client_addr}", "{auth_authen}", "{tls_version}", "s"} {
			if got := f.macros[name]; got != "" {
				t.Errorf("macro %s is %q", name, got)
			}
		}
	})
}

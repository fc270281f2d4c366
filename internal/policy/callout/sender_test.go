package callout

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient/sinktest"
)

func TestOnlyTheAnswerToRcptCounts(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(sinktest.Event) *sinktest.Act
		want   string
	}{
		{"taken", knows(noUser, "bob"), SymbolExists},
		{"refused", knows(noUser), SymbolRejected},
		{"refused without an enhanced code", knows("550 no such user"), SymbolRejected},
		{"refused by 551", knows("551 user not local"), SymbolRejected},
		{"refused by 553", knows("553 5.1.3 no"), SymbolRejected},
		{"refused by 554", knows("554 5.4.1 no access"), SymbolRejected},
		{"disabled", knows("550 5.2.1 disabled"), SymbolRejected},
		{"a full mailbox", knows("552 5.2.2 full"), SymbolExists},
		{"a full mailbox in other words", knows("552 over quota"), SymbolExists},
		{"deferred", knows("450 4.2.0 greylisted"), SymbolUnavailable},
		{"too many recipients", knows("452 4.5.3 enough"), SymbolUnavailable},
		{"we are not wanted", knows("550 5.7.1 your network is listed"), SymbolUnavailable},
		{"TLS is wanted at RCPT", knows("530 5.7.0 STARTTLS first"), SymbolUnavailable},
		{"a command that is not known", knows("500 5.5.1 what"), SymbolUnavailable},
		{"out of order", knows("503 5.5.1 MAIL first"), SymbolUnavailable},
		{"421 to RCPT", knows("421 4.3.2 bye"), SymbolUnavailable},
		{"nonsense to RCPT", knows("hello"), SymbolUnavailable},
		{"354 to RCPT", knows("354 go"), SymbolUnavailable},
		{"554 as banner", at(sinktest.Banner, "554 5.7.1 go away"), SymbolUnavailable},
		{"550 to EHLO and HELO", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Ehlo || e.Stage == sinktest.Helo {
				return sinktest.Reply("550 5.7.1 go away")
			}
			return nil
		}, SymbolUnavailable},
		{"550 to the null sender", at(sinktest.Mail, "550 5.7.1 no bounces here"), SymbolUnavailable},
		{"451 to the null sender", at(sinktest.Mail, "451 4.3.0 later"), SymbolUnavailable},
		{"closed after the connection", func(sinktest.Event) *sinktest.Act { return &sinktest.Act{Close: true} }, SymbolUnavailable},
		{"silent", func(sinktest.Event) *sinktest.Act { return &sinktest.Act{Hang: true} }, SymbolUnavailable},
		{"silent at RCPT", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Rcpt {
				return &sinktest.Act{Hang: true}
			}
			return nil
		}, SymbolUnavailable},
		{"any address is taken", nil, SymbolCatchAll},
		{"a catch-all that cannot tell now", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Rcpt && e.N == 2 {
				return sinktest.Reply("450 4.2.0 later")
			}
			return nil
		}, SymbolExists},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
				server := w.host(t, "out.example", "203.0.113.1", c.script)
				begin := time.Now()
				f := expect(t, s, input(t, "Bob@out.example", "a@in.example"), c.want)
				if took := time.Since(begin); took > 10*time.Second {
					t.Errorf("it took %v", took)
				}
				if f.Module != SenderName || f.Name != "bob@out.example" {
					t.Errorf("got %+v", f)
				}
				for _, line := range server.Lines() {
					if verb, _, _ := strings.Cut(line, " "); verb == "DATA" || verb == "BDAT" || verb == "MAIL" && line != "MAIL FROM:<>" {
						t.Errorf("the server was told %q", line)
					}
				}
				server.Close()
			})
		})
	}
}

func TestWhoIsNotAskedAbout(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		expect(t, s, input(t, "<>", "a@in.example"), "")
		expect(t, s, input(t, "bob@in.example", "a@in.example"), "")
		expect(t, s, input(t, "bob@[203.0.113.1]", "a@in.example"), "")
		for _, change := range []func(*mail.Session){func(s *mail.Session) { s.Trusted = true }, func(s *mail.Session) { s.User = "x" }} {
			in := input(t, "bob@out.example", "a@in.example")
			change(in.Session)
			expect(t, s, in, "")
		}
		if w.called() != 0 {
			t.Errorf("called %v", w.dials)
		}
	})
}

func TestWhereNobodyIsCalled(t *testing.T) {
	own := func(c *Config) { c.Own = []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:25")} }
	inWorld(t, own, func(t *testing.T, w *world, s *Sender) {
		for domain, a := range map[string]string{
			"loop.example": "127.0.0.1", "priv.example": "10.0.0.1", "six.example": "::1", "link.example": "169.254.169.254", "us.example": "203.0.113.9",
		} {
			w.exchanger(domain, a)
		}
		w.exchanger("behind.example", "203.0.113.9") // a backup behind us
		w.exchanger("behind.example", "203.0.113.10")
		w.mx["null.example"] = []dns.MX{{Host: "."}}
		w.mx["name.example"] = []dns.MX{{Host: "GW.in.example"}}
		w.addrs["GW.in.example"] = []netip.Addr{netip.MustParseAddr("203.0.113.77")}
		w.mx["dead.example"] = []dns.MX{{Host: "nowhere.example"}}
		for _, domain := range []string{"loop.example", "priv.example", "six.example", "link.example", "us.example", "behind.example",
			"null.example", "name.example", "dead.example", "none.example", "down.example"} {
			expect(t, s, input(t, "bob@"+domain, "a@in.example"), SymbolUnavailable)
		}
		if w.called() != 0 {
			t.Errorf("called %v", w.dials)
		}
	})
	private := func(c *Config) { c.Private = true }
	inWorld(t, private, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "loop.example", "127.0.0.1", knows(noUser))
		expect(t, s, input(t, "bob@loop.example", "a@in.example"), SymbolRejected)
		server.Close()
	})
}

func TestAnotherExchangerIsTriedUntilOneAnswers(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		w.exchanger("out.example", "203.0.113.1") // nobody there
		second := w.host(t, "out.example", "203.0.113.2", knows(noUser, "bob"))
		expect(t, s, input(t, "bob@out.example", "a@in.example"), SymbolExists)
		expect(t, s, input(t, "eve@out.example", "a@in.example"), SymbolRejected)
		w.exchanger("three.example", "203.0.113.1")
		w.exchanger("three.example", "203.0.113.3")
		third := w.host(t, "three.example", "203.0.113.4", knows(noUser))
		expect(t, s, input(t, "bob@three.example", "a@in.example"), SymbolUnavailable)
		if third.Conns() != 0 {
			t.Error("more than two addresses were tried")
		}
		refuses := w.host(t, "four.example", "203.0.113.5", at(sinktest.Banner, "554 go away"))
		fourth := w.host(t, "four.example", "203.0.113.6", knows(noUser))
		expect(t, s, input(t, "bob@four.example", "a@in.example"), SymbolRejected)
		for _, server := range []*sinktest.Server{second, third, refuses, fourth} {
			server.Close()
		}
	})
}

func TestAnswersAreRemembered(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", knows(noUser, "bob"))
		steps := []struct {
			after time.Duration
			who   string
			want  string
			calls int
		}{
			{0, "bob", SymbolExists, 1},
			{time.Hour, "BOB", SymbolExists, 1},
			{0, "eve", SymbolRejected, 2},
			{time.Hour, "eve", SymbolRejected, 2},
			{time.Hour + time.Minute, "eve", SymbolRejected, 3},
			{12 * time.Hour, "bob", SymbolExists, 3},
			{12 * time.Hour, "bob", SymbolExists, 4},
		}
		for i, step := range steps {
			wait(step.after)
			expect(t, s, input(t, step.who+"@out.example", "a@in.example"), step.want)
			if n := w.called(); n != step.calls {
				t.Errorf("step %d: %d callouts, want %d", i, n, step.calls)
			}
		}
		// A random address was tried for the first user, not for those after him.
		if n := strings.Count(strings.Join(server.Lines(), "\n"), "no-such-user-"); n != 2 {
			t.Errorf("a random address was tried %d times, want once a day", n)
		}
		server.Close()
	})
}

func TestACatchAllIsAskedOnceADay(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", nil)
		for n := range 10 {
			expect(t, s, input(t, fmt.Sprintf("u%d@out.example", n), "a@in.example"), SymbolCatchAll)
		}
		if n := w.called(); n != 1 {
			t.Errorf("%d callouts", n)
		}
		wait(24 * time.Hour)
		expect(t, s, input(t, "x@out.example", "a@in.example"), SymbolCatchAll)
		if n := w.called(); n != 2 {
			t.Errorf("%d callouts", n)
		}
		server.Close()
	})
}

func TestAnOutageIsRememberedForTheDomainAndShortly(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		w.exchanger("out.example", "203.0.113.1")
		for n := range 10 {
			expect(t, s, input(t, fmt.Sprintf("u%d@out.example", n), "a@in.example"), SymbolUnavailable)
		}
		if n := w.called(); n != 1 {
			t.Errorf("%d callouts", n)
		}
		wait(2 * time.Minute)
		delete(w.mx, "out.example")
		server := w.host(t, "out.example", "203.0.113.1", knows(noUser))
		expect(t, s, input(t, "u1@out.example", "a@in.example"), SymbolRejected)
		server.Close()
	})
}

func TestAGreylistedCalloutHoldsForThatAddressOnly(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Rcpt && strings.Contains(e.Line, "bob") {
				return sinktest.Reply("450 4.7.1 greylisted")
			}
			return knows(noUser)(e)
		})
		expect(t, s, input(t, "bob@out.example", "a@in.example"), SymbolUnavailable)
		expect(t, s, input(t, "eve@out.example", "a@in.example"), SymbolRejected)
		server.Close()
	})
}

func TestEqualQuestionsAreOneCallout(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Banner {
				return &sinktest.Act{Wire: "220 slowly\r\n", Trickle: 100 * time.Millisecond}
			}
			return knows(noUser)(e)
		})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { expect(t, s, input(t, "bob@out.example", "a@in.example"), SymbolRejected) })
		}
		// A client that leaves takes nothing from the others.
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if _, err := s.Check(ctx, input(t, "bob@out.example", "a@in.example")); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		all.Wait()
		if n := server.Conns(); n != 1 {
			t.Errorf("%d sessions", n)
		}
		server.Close()
	})
}

func TestAServerBearsOnlySoMuch(t *testing.T) {
	inWorld(t, func(c *Config) { c.PerTarget, c.PerMinute = 3, 20 }, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Banner {
				return &sinktest.Act{Wire: "220 slowly\r\n", Trickle: 10 * time.Millisecond}
			}
			return knows(noUser)(e)
		})
		// Domains cost nothing: it is the address that counts.
		w.mx["alias.example"] = w.mx["out.example"]
		var all sync.WaitGroup
		var mu sync.Mutex
		count := map[string]int{}
		for n := range 50 {
			domain := []string{"out.example", "alias.example"}[n%2]
			all.Go(func() {
				f, err := s.Check(t.Context(), input(t, fmt.Sprintf("u%d@%s", n, domain), "a@in.example"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				count[f[0].Symbol]++
				mu.Unlock()
			})
		}
		all.Wait()
		if count[SymbolRejected] != 20 || count[SymbolUnavailable] != 30 || w.peak != 3 {
			t.Errorf("%v, %d sessions at once", count, w.peak)
		}
		expect(t, s, input(t, "later@out.example", "a@in.example"), SymbolUnavailable)
		wait(30 * time.Second)
		for n := range 10 {
			expect(t, s, input(t, fmt.Sprintf("v%d@out.example", n), "a@in.example"), SymbolRejected)
		}
		server.Close()
	})
}

func TestATrapForCalloutsEndsInTime(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", func(e sinktest.Event) *sinktest.Act {
			return &sinktest.Act{Wire: strings.Repeat("220-slowly\r\n", 1000), Trickle: time.Second}
		})
		begin := time.Now()
		expect(t, s, input(t, "bob@out.example", "a@in.example"), SymbolUnavailable)
		if took := time.Since(begin); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		server.Close()
	})
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		server := w.host(t, "out.example", "203.0.113.1", func(sinktest.Event) *sinktest.Act { return &sinktest.Act{Hang: true} })
		var asked sync.WaitGroup
		asked.Go(func() { expect(t, s, input(t, "bob@out.example", "a@in.example"), SymbolUnavailable) })
		synctest.Wait()
		begin := time.Now()
		s.Close()
		asked.Wait()
		if took := time.Since(begin); took != 0 {
			t.Errorf("it took %v", took)
		}
		expect(t, s, input(t, "eve@out.example", "a@in.example"), SymbolUnavailable)
		if w.called() != 1 {
			t.Errorf("called %v", w.dials)
		}
		server.Close()
	})
}

func TestMemoryIsBounded(t *testing.T) {
	c := newCache(100)
	for n := range 10_000 {
		c.put(fmt.Sprint(n), answer{until: time.Now().Add(time.Hour)})
	}
	if n := len(c.young) + len(c.old); n > 100 {
		t.Errorf("%d answers", n)
	}
	synctest.Test(t, func(t *testing.T) {
		targets := newTargets(Config{Sessions: 1, PerTarget: 1, PerMinute: 2})
		for n := range maxTargets {
			if targets.use(fmt.Sprint(n)) == nil {
				t.Fatal("refused")
			}
		}
		if targets.use("more") != nil {
			t.Error("there is no bound")
		}
		for _, one := range targets.list {
			targets.unuse(one)
		}
		time.Sleep(time.Minute)
		if targets.use("more") == nil || len(targets.list) != 1 {
			t.Errorf("%d servers are remembered for nothing", len(targets.list))
		}
	})
}

func TestAddressesThatNeedUTF8(t *testing.T) {
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		plain := w.host(t, "plain.example", "203.0.113.1", knows(noUser))
		modern := w.server(t, "modern.example", "203.0.113.2", sinktest.Config{Extensions: []string{"SMTPUTF8"}, Script: knows(noUser)})
		expect(t, s, input(t, "jürgen@plain.example", "a@in.example"), SymbolUnavailable)
		expect(t, s, input(t, "bob@plain.example", "a@in.example"), SymbolRejected)
		expect(t, s, input(t, "jürgen@modern.example", "a@in.example"), SymbolRejected)
		if lines := strings.Join(modern.Lines(), "\n"); !strings.Contains(lines, "MAIL FROM:<> SMTPUTF8\n") {
			t.Errorf("the server was told\n%s", lines)
		}
		plain.Close()
		modern.Close()
	})
}

func TestExchangersAreSpokenToUnderTLS(t *testing.T) {
	site := httptest.NewTLSServer(nil) // for its certificate, which nobody signed
	certificate := &tls.Config{Certificates: site.TLS.Certificates}
	site.Close()
	inWorld(t, nil, func(t *testing.T, w *world, s *Sender) {
		good := w.server(t, "good.example", "203.0.113.1", sinktest.Config{TLS: certificate, Script: func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Mail && !e.TLS {
				return sinktest.Reply("530 5.7.0 STARTTLS first")
			}
			return knows(noUser)(e)
		}})
		broken := w.server(t, "broken.example", "203.0.113.2", sinktest.Config{Extensions: []string{"STARTTLS"}, Script: knows(noUser)})
		expect(t, s, input(t, "bob@good.example", "a@in.example"), SymbolRejected)
		expect(t, s, input(t, "bob@broken.example", "a@in.example"), SymbolUnavailable)
		if strings.Contains(good.Clear(), "bob") {
			t.Error("the address was sent in clear text")
		}
		good.Close()
		broken.Close()
	})
}

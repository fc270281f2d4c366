package rate_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/policy/rate"
)

func limits(t testing.TB, pairs ...string) map[rate.Kind]rate.Limit {
	t.Helper()
	m := map[rate.Kind]rate.Limit{}
	for i := 0; i < len(pairs); i += 2 {
		l, err := rate.ParseLimit(pairs[i+1])
		if err != nil {
			t.Fatal(err)
		}
		m[rate.Kind(pairs[i])] = l
	}
	return m
}

func limiter(t testing.TB, cfg rate.Config) *rate.Limiter {
	t.Helper()
	l, err := rate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func client(s string) rate.Who { return rate.Who{Client: netip.MustParseAddr(s)} }

func session(addr string) *mail.Session {
	return &mail.Session{ID: mail.NewID(), Client: netip.AddrPortFrom(netip.MustParseAddr(addr), 4711)}
}

// charges charges one after the other and returns how many are within the limit.
func charges(l *rate.Limiter, kind rate.Kind, who rate.Who, n int) int {
	within := 0
	for range n {
		if !l.Charge(kind, who, 1).Exceeded {
			within++
		}
	}
	return within
}

func TestARateIsExact(t *testing.T) {
	tests := []struct {
		limit string
		first int           // at once
		every time.Duration // until the next one
	}{
		{"60/m", 60, time.Second},
		{"60/m burst 1", 1, time.Second},
		{"60/m burst 5", 5, time.Second},
		{"1/h", 1, time.Hour},
		{"10/s", 10, 100 * time.Millisecond},
		{"2/d burst 4", 4, 12 * time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.limit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limiter(t, rate.Config{Limits: limits(t, "errors", tt.limit)})
				who := client("192.0.2.1")
				if got := charges(l, rate.Errors, who, tt.first+100); got != tt.first {
					t.Fatalf("%d at once, want %d", got, tt.first)
				}
				if a := l.Charge(rate.Errors, who, 1); a.RetryAfter != tt.every {
					t.Errorf("the next after %v, want %v", a.RetryAfter, tt.every)
				}
				for range 3 {
					time.Sleep(tt.every - 1)
					if charges(l, rate.Errors, who, 1) != 0 {
						t.Fatal("too early")
					}
					time.Sleep(time.Nanosecond)
					if got := charges(l, rate.Errors, who, 3); got != 1 {
						t.Fatalf("%d after %v, want 1", got, tt.every)
					}
				}
				time.Sleep(tt.every * time.Duration(tt.first) * 10)
				if got := charges(l, rate.Errors, who, tt.first+100); got != tt.first {
					t.Errorf("%d after a quiet time, want %d", got, tt.first)
				}
			})
		})
	}
}

func TestARateThatDoesNotDivideItsPeriod(t *testing.T) {
	for _, limit := range []string{"7/m", "13/s", "999/h", "3/d"} {
		synctest.Test(t, func(t *testing.T) {
			l := limiter(t, rate.Config{Limits: limits(t, "errors", limit)})
			count := int(limits(t, "errors", limit)["errors"].Count)
			period := limits(t, "errors", limit)["errors"].Period
			who := client("192.0.2.1")
			if got := charges(l, rate.Errors, who, count+10); got != count {
				t.Errorf("%s: %d at once", limit, got)
			}
			// As much again in the next period, neither more nor less, however often it tries.
			got := 0
			for range 1000 {
				time.Sleep(period / 1000)
				got += charges(l, rate.Errors, who, 1)
			}
			if got < count-1 || got > count {
				t.Errorf("%s: %d in the next period", limit, got)
			}
		})
	}
}

func TestWhatIsRefusedIsNotCharged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Limits: limits(t, "errors", "6/m burst 1")})
		who := client("192.0.2.1")
		within := 0
		for range 600 { // ten times as often as it may
			within += charges(l, rate.Errors, who, 1)
			time.Sleep(time.Second)
		}
		if within != 60 {
			t.Errorf("%d in ten minutes, want 60", within)
		}
	})
}

func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Limits: limits(t, "bytes", "1MiB/h burst 2MiB")})
		who := client("192.0.2.1")
		first, second := l.Charge(rate.Bytes, who, 1<<20), l.Charge(rate.Bytes, who, 1<<20)
		if first.Exceeded || second.Exceeded {
			t.Fatal("two messages are within the burst")
		}
		a := l.Charge(rate.Bytes, who, 1<<19)
		if !a.Exceeded || a.RetryAfter.Round(time.Second) != 30*time.Minute {
			t.Errorf("half a MiB more: %+v", a)
		}
		time.Sleep(time.Hour)
		// A message that is larger than the burst needs all of it, and gets it some day.
		if a := l.Charge(rate.Bytes, who, 1<<40); !a.Exceeded || a.RetryAfter.Round(time.Second) != time.Hour {
			t.Errorf("a TiB: %+v", a)
		}
		time.Sleep(time.Hour)
		if l.Charge(rate.Bytes, who, 1<<40).Exceeded {
			t.Error("a large message never gets through")
		}
		if !l.Exceeded(rate.Bytes, who).Exceeded {
			t.Error("behind it there is room")
		}
		if l.Charge(rate.Bytes, who, 0).Exceeded || l.Charge(rate.Bytes, who, -5).Exceeded {
			t.Error("nothing is too much")
		}
	})
}

func TestKeys(t *testing.T) {
	alice, bob := mail.Address{Local: "alice", Domain: "example.com", Raw: "alice@example.com"}, mail.Address{Local: "Alice", Domain: "example.com", Raw: "Alice@example.com"}
	tests := []struct {
		name     string
		per      rate.Per
		one, two rate.Who
		same     bool
		counts   bool
	}{
		{"an address", rate.Address, client("192.0.2.1"), client("192.0.2.1"), true, true},
		{"another address", rate.Address, client("192.0.2.1"), client("192.0.2.2"), false, true},
		{"an address in IPv6 dress", rate.Address, client("192.0.2.1"), client("::ffff:192.0.2.1"), true, true},
		{"a network", rate.Network, client("192.0.2.1"), client("192.0.2.254"), true, true},
		{"another network", rate.Network, client("192.0.2.1"), client("192.0.3.1"), false, true},
		{"an IPv6 network", rate.Network, client("2001:db8::1"), client("2001:db8::ffff:0:0:1"), true, true},
		{"another IPv6 network", rate.Network, client("2001:db8::1"), client("2001:db8:0:1::1"), false, true},
		{"a network by default", "", client("192.0.2.1"), client("192.0.2.254"), true, true},
		{"no client", rate.Network, rate.Who{}, rate.Who{}, false, false},
		{"a sender", rate.Sender, rate.Who{Sender: alice}, rate.Who{Sender: bob}, true, true},
		{"bounces are nobody's", rate.Sender, rate.Who{}, rate.Who{}, false, false},
		{"a user", rate.User, rate.Who{User: "Alice"}, rate.Who{User: "alice"}, true, true},
		{"no user", rate.User, client("192.0.2.1"), client("192.0.2.1"), false, false},
		{"a domain", rate.RecipientDomain, rate.Who{Domain: "example.com"}, rate.Who{Domain: "example.com"}, true, true},
		{"another domain", rate.RecipientDomain, rate.Who{Domain: "example.com"}, rate.Who{Domain: "example.org"}, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := limiter(t, rate.Config{Per: tt.per, Limits: limits(t, "errors", "1/h")})
			if l.Charge(rate.Errors, tt.one, 1).Exceeded {
				t.Fatal("the first is too much")
			}
			if got := l.Charge(rate.Errors, tt.two, 1).Exceeded; got != tt.same {
				t.Errorf("the second: exceeded %v, want %v", got, tt.same)
			}
			if got := l.Keys() > 0; got != tt.counts {
				t.Errorf("%d keys", l.Keys())
			}
		})
	}
}

func TestKindsAreCountedApart(t *testing.T) {
	l := limiter(t, rate.Config{Limits: limits(t, "errors", "1/h", "logins", "1/h")})
	who := client("192.0.2.1")
	if charges(l, rate.Errors, who, 3) != 1 || charges(l, rate.Logins, who, 3) != 1 || charges(l, rate.Messages, who, 3) != 3 {
		t.Error("errors and logins are counted together, or messages at all")
	}
}

func found(t *testing.T, l *rate.Limiter, in *policy.Input) string {
	t.Helper()
	findings, err := l.Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range findings {
		if f.Module != rate.Use || f.Result != mail.Match || f.Reason == "" || len(f.Properties) != 1 {
			t.Errorf("finding %+v", f)
		}
		list = append(list, f.Symbol)
	}
	return strings.Join(list, " ")
}

func TestABlockAtConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Limits: limits(t, "connections", "2/m", "logins", "1/h", "messages", "1/h")})
		in := &policy.Input{Stage: policy.Connect, Session: session("192.0.2.1")}
		for i, want := range []string{"", "", "connections"} {
			if got := found(t, l, in); got != want {
				t.Errorf("connection %d: %q, want %q", i+1, got, want)
			}
		}
		time.Sleep(time.Minute)
		if a := l.Charge(rate.Connections, rate.WhoOf(in.Session), 1); a.Exceeded {
			t.Error("the check's own kind is charged twice")
		}
		if l.Charge(rate.Logins, rate.WhoOf(in.Session), 1).Exceeded {
			t.Error("the first failed login is too much")
		}
		// Who failed to log in too often is known when the next session begins.
		if got := found(t, l, in); got != "logins" {
			t.Errorf("after a failed login: %q", got)
		}
		time.Sleep(time.Hour)
		if got := found(t, l, in); got != "" {
			t.Errorf("an hour later: %q", got)
		}
	})
}

func TestABlockAtRecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Stage: policy.Recipient, Per: rate.Sender, Limits: limits(t, "messages", "2/h", "recipients", "3/h")})
		env := &mail.Envelope{Sender: mail.Address{Local: "a", Domain: "example.com", Raw: "a@example.com"}}
		in := &policy.Input{Stage: policy.Recipient, Session: session("192.0.2.1"), Envelope: env, Recipient: &mail.Recipient{Address: mail.Address{Local: "b", Domain: "example.org", Raw: "b@example.org"}}}
		rcpt := func(want string) {
			t.Helper()
			got := found(t, l, in)
			if got != want {
				t.Errorf("recipient %d: %q, want %q", len(env.Recipients)+1, got, want)
			}
			if got == "" {
				env.Recipients = append(env.Recipients, *in.Recipient)
			}
		}
		rcpt("")
		rcpt("")
		rcpt("")
		rcpt("recipients")
		env.Recipients = nil // the second message
		time.Sleep(20 * time.Minute)
		rcpt("")
		env.Recipients = nil
		time.Sleep(time.Minute)
		rcpt("messages recipients")
	})
}

func TestAFindingSaysWhenToTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Limits: limits(t, "errors", "1/h")})
		l.Charge(rate.Errors, client("192.0.2.1"), 1)
		time.Sleep(time.Second / 2)
		a := l.Charge(rate.Errors, client("192.0.2.9"), 1)
		if a.Finding.Reason != "192.0.2.0/24: more than 1/h errors" || a.Finding.Properties[0] != (mail.Property{Name: "wait", Value: "3600"}) {
			t.Errorf("finding %+v", a.Finding)
		}
	})
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	for _, tt := range []struct {
		cfg  rate.Config
		want string
	}{
		{rate.Config{}, "rate: it needs a limit"},
		{rate.Config{Per: "planet", Limits: limits(t, "errors", "1/h")}, `rate: per: there is no "planet"`},
		{rate.Config{Limits: limits(t, "cats", "1/h")}, `rate: there is no "cats" to be limited`},
		{rate.Config{Limits: map[rate.Kind]rate.Limit{rate.Errors: {}}}, "rate: errors: counts are from 1"},
		{rate.Config{Limits: map[rate.Kind]rate.Limit{rate.Errors: {Count: 1, Period: 1, Burst: 1}}}, "rate: errors: a period is from 1s"},
		{rate.Config{IPv4Bits: 33, Limits: limits(t, "errors", "1/h")}, "rate: a network has 1 to 32 bits"},
		{rate.Config{Stage: policy.Recipient, Limits: limits(t, "connections", "1/h")}, "rate: connections: they are limited in a flow of the stage connect"},
		{rate.Config{Per: rate.User, Limits: limits(t, "connections", "1/h")}, "rate: connections: they cannot be counted per user"},
		{rate.Config{Per: rate.Sender, Limits: limits(t, "logins", "1/h")}, "rate: logins: they cannot be counted per sender"},
		{rate.Config{Per: rate.RecipientDomain, Limits: limits(t, "messages", "1/h")}, "rate: messages: they cannot be counted per recipient_domain"},
	} {
		if _, err := rate.New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func address(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestMemoryIsBounded(t *testing.T) {
	const most = 200_000
	before := heap()
	l := limiter(t, rate.Config{Per: rate.Address, Limits: limits(t, "errors", "1/d"), MaxKeys: most})
	for i := range uint32(1_000_000) {
		l.Charge(rate.Errors, rate.Who{Client: address(i * 2654435761)}, 1)
	}
	used := heap() - before
	t.Logf("%d keys, %d bytes each", l.Keys(), used/int64(l.Keys()))
	if l.Keys() > most || l.Keys() < most*9/10 {
		t.Errorf("%d keys, at most %d", l.Keys(), most)
	}
	if used > 20<<20 {
		t.Errorf("%d bytes for %d keys", used, l.Keys())
	}
	runtime.KeepAlive(l)
}

func TestKeysThatAreOverMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Per: rate.Address, Limits: limits(t, "errors", "60/m"), MaxKeys: 100_000})
		for i := range uint32(50_000) {
			l.Charge(rate.Errors, rate.Who{Client: address(i)}, 1)
		}
		time.Sleep(time.Hour)
		for i := range uint32(50_000) {
			l.Charge(rate.Errors, rate.Who{Client: address(1<<30 + i)}, 1)
		}
		if n := l.Keys(); n > 60_000 {
			t.Errorf("%d keys, of which 50,000 count", n)
		}
	})
}

func TestAFullTableForgetsWhoWouldBeOverFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, rate.Config{Per: rate.Address, Limits: limits(t, "errors", "10/d"), MaxKeys: 6400})
		bad := rate.Who{Client: address(7)}
		charges(l, rate.Errors, bad, 10)
		r := rand.New(rand.NewPCG(1, 1))
		for range 20_000 {
			l.Charge(rate.Errors, rate.Who{Client: address(r.Uint32())}, 1)
		}
		if l.Keys() > 6400 {
			t.Errorf("%d keys", l.Keys())
		}
		if !l.Exceeded(rate.Errors, bad).Exceeded {
			t.Error("who used all of its rate up is forgotten before those who used a tenth")
		}
	})
}

func TestManyAtOnceGetNoMoreThanOne(t *testing.T) {
	l := limiter(t, rate.Config{Limits: limits(t, "errors", "100/d")})
	var wg sync.WaitGroup
	var within atomic.Int64
	for range 8 {
		wg.Go(func() { within.Add(int64(charges(l, rate.Errors, client("192.0.2.1"), 1000))) })
	}
	wg.Wait()
	if within.Load() != 100 {
		t.Errorf("%d within 100", within.Load())
	}
}

func TestConcurrency(t *testing.T) {
	c, err := rate.NewConcurrency(rate.ConcurrencyConfig{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	enter := func(s *mail.Session, want bool) {
		t.Helper()
		findings, err := c.Check(t.Context(), &policy.Input{Stage: policy.Connect, Session: s})
		if err != nil || (len(findings) == 0) != want {
			t.Errorf("%v: %v, %v", s.Client, findings, err)
		}
	}
	one, two, three, other := session("192.0.2.1"), session("192.0.2.2"), session("::ffff:192.0.2.3"), session("192.0.3.1")
	enter(one, true)
	enter(one, true) // the same session again
	enter(two, true)
	enter(three, false)
	enter(other, true)
	c.Leave(three.ID) // it never came in
	enter(three, false)
	c.Leave(one.ID)
	c.Leave(one.ID)
	enter(three, true)
	enter(one, false)
	// By XCLIENT a session becomes another client's.
	three.Client = netip.MustParseAddrPort("[2001:db8::1]:25")
	enter(three, true)
	enter(one, true)
	for _, s := range []*mail.Session{one, two, three, other} {
		c.Leave(s.ID)
	}
	if c.Sessions() != 0 {
		t.Errorf("%d sessions are left", c.Sessions())
	}
	for _, cfg := range []rate.ConcurrencyConfig{{}, {Limit: -1}, {Limit: 1, IPv4Bits: 40}} {
		if _, err := rate.NewConcurrency(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

func BenchmarkCharge(b *testing.B) {
	l := limiter(b, rate.Config{Limits: limits(b, "errors", "60/m")})
	who := make([]rate.Who, 1<<14)
	for i := range who {
		who[i] = rate.Who{Client: address(uint32(i) << 12)}
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		i := rand.IntN(len(who))
		for pb.Next() {
			l.Charge(rate.Errors, who[i&(1<<14-1)], 1)
			i++
		}
	})
}

func ExampleParseLimit() {
	l, err := rate.ParseLimit("60/m burst 10")
	fmt.Println(l, err)
	// Output: 60/m burst 10 <nil>
}

func TestATransactionIsChargedToAllThatItIsKnownBy(t *testing.T) {
	s := session("192.0.2.7")
	s.User = "alice"
	env := &mail.Envelope{Sender: mail.Address{Local: "a", Domain: "from.example", Raw: "a@from.example"}}
	for _, domain := range []string{"one.example", "two.example", "one.example"} {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: mail.Address{Local: "b", Domain: domain, Raw: "b@" + domain}})
	}
	cases := []struct {
		per  rate.Per
		who  rate.Who
		left int // of ten bytes
	}{
		{rate.Address, rate.Who{Client: s.Client.Addr()}, 6},
		{rate.User, rate.Who{User: "alice"}, 6},
		{rate.Sender, rate.Who{Sender: env.Sender}, 6},
		{rate.RecipientDomain, rate.Who{Domain: "one.example"}, 6}, // once for each domain
		{rate.RecipientDomain, rate.Who{Domain: "two.example"}, 6},
		{rate.RecipientDomain, rate.Who{Domain: "other.example"}, 10},
	}
	for _, c := range cases {
		l := limiter(t, rate.Config{Per: c.per, Limits: limits(t, "bytes", "10/d")})
		l.ChargeTransaction(rate.Bytes, s, env, 4)
		if left := charges(l, rate.Bytes, c.who, 20); left != c.left {
			t.Errorf("%s: %d are left, want %d", c.per, left, c.left)
		}
	}
	l := limiter(t, rate.Config{Per: rate.Address, Limits: limits(t, "errors", "3/d")})
	l.ChargeTransaction(rate.Errors, s, nil, 1)
	if left := charges(l, rate.Errors, rate.WhoOf(s), 20); left != 2 {
		t.Errorf("outside of a transaction: %d are left, want 2", left)
	}
}

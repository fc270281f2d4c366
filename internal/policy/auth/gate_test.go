package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend knows these passwords by user.
type backend struct {
	users map[string]string
	takes time.Duration // for a user that it knows
	fails error
	asked atomic.Int32
}

func (b *backend) Authenticate(ctx context.Context, _ *mail.Session, user, password string) (policy.AuthAnswer, error) {
	b.asked.Add(1)
	want, ok := b.users[strings.ToLower(user)]
	if ok && b.takes > 0 {
		select {
		case <-time.After(b.takes):
		case <-ctx.Done():
			return policy.AuthAnswer{}, ctx.Err()
		}
	}
	switch {
	case b.fails != nil:
		return policy.AuthAnswer{}, b.fails
	case !ok:
		return policy.AuthAnswer{Result: policy.AuthNobody, Reason: "no such user"}, nil
	case want != password:
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "wrong password"}, nil
	}
	return policy.AuthAnswer{Result: policy.AuthYes, User: strings.ToLower(user), Senders: []string{"@example.com"}}, nil
}

func from(ip string) *mail.Session {
	return &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(ip), 4711)}
}

func gate(t *testing.T, cfg Config, backends ...*backend) *Gate {
	t.Helper()
	for i, b := range backends {
		cfg.Blocks = append(cfg.Blocks, Block{Use: fmt.Sprintf("b%d", i), Backend: b})
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func accounts() map[string]string { return map[string]string{"a": "right", "b": "right", "c": "right"} }

func TestBackendsAreAskedInTheirOrder(t *testing.T) {
	one := func() *backend { return &backend{users: map[string]string{"a": "1"}} }
	two := func() *backend { return &backend{users: map[string]string{"a": "2", "b": "2"}} }
	down := func() *backend { return &backend{fails: errors.New("down")} }
	for _, tt := range []struct {
		name           string
		backends       []*backend
		user, password string
		want           int
		symbols        string
	}{
		{"the first says yes", []*backend{one(), two()}, "a", "1", 235, "b0=yes"},
		{"the first says no", []*backend{one(), two()}, "a", "2", 535, "b0=no"},
		{"the first does not know the user", []*backend{one(), two()}, "b", "2", 235, "b0=nobody b1=yes"},
		{"nobody knows the user", []*backend{one(), two()}, "x", "2", 535, "b0=nobody b1=nobody"},
		{"the first is down", []*backend{down(), two()}, "a", "2", 235, "b0=unknown b1=yes"},
		{"the first is down, the second says no", []*backend{down(), two()}, "a", "1", 535, "b0=unknown b1=no"},
		{"one is down, the other does not know the user", []*backend{two(), down()}, "x", "1", 454, "b0=nobody b1=unknown"},
		{"all are down", []*backend{down(), down()}, "a", "1", 454, "b0=unknown b1=unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := gate(t, Config{}, tt.backends...).Authenticate(t.Context(), from("192.0.2.1"), tt.user, tt.password)
			var symbols []string
			for _, f := range d.Findings {
				symbols = append(symbols, f.Module+"="+f.Symbol)
			}
			if d.Reply.Code != tt.want || strings.Join(symbols, " ") != tt.symbols || d.Reason == "" {
				t.Errorf("%+v, %q", d, symbols)
			}
			if (d.Act == mail.Accept) != (tt.want == 235) || (d.Act == mail.Accept) != slices.Equal(d.Senders, []string{"@example.com"}) {
				t.Errorf("%+v", d)
			}
			if strings.Contains(fmt.Sprintf("%+v", d), "password: 1") {
				t.Errorf("%+v holds the password", d)
			}
		})
	}
}

func TestABackendThatIsSlowOrObservedLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &backend{users: accounts(), takes: time.Hour}
		g, err := New(Config{Blocks: []Block{{Use: "slow", Backend: slow, Timeout: time.Second}}})
		if err != nil {
			t.Fatal(err)
		}
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "right"); d.Act != mail.Defer || d.Findings[0].Result != mail.Unknown {
			t.Errorf("slow: %+v", d)
		}
		g, err = New(Config{Blocks: []Block{{Use: "tried", Backend: &backend{users: accounts()}, Observe: true}}})
		if err != nil {
			t.Fatal(err)
		}
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "right"); d.Act != mail.Reject || d.Findings[0].Symbol != "yes" {
			t.Errorf("observed: %+v", d)
		}
	})
}

func TestNamesOfBackendsAreSafe(t *testing.T) {
	for name, want := range map[string]string{"Bob": "Bob", "b\nob": "", "\xff": "", strings.Repeat("x", 256): ""} {
		if got := canonical(name); got != want {
			t.Errorf("%.9q: %q", name, got)
		}
	}
}

// DOS-14: the answer is the same for a wrong password and for a user who does not
// exist, in text and in time.
func TestUnknownUsersLookLikeWrongPasswords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The first backend takes long for users that it knows, the second for others.
		g := gate(t, Config{}, &backend{users: map[string]string{"a": "right"}, takes: 130 * time.Millisecond},
			&backend{users: map[string]string{"b": "right"}, takes: 700 * time.Millisecond})
		answer := func(n int, user string) (mail.Reply, time.Duration) {
			start := time.Now()
			d := g.Authenticate(t.Context(), from(fmt.Sprintf("192.0.%d.1", n)), user, "wrong")
			return d.Reply, time.Since(start) + d.Delay
		}
		answer(0, "b") // the slowest was seen once
		want, length := answer(1, "a")
		for i, user := range []string{"b", "x", "a", "y"} {
			if reply, took := answer(2+i, user); reply.String() != want.String() || took != length || took != time.Second {
				t.Errorf("%s: %q after %s, want %q after %s", user, reply, took, want, length)
			}
		}
	})
}

func TestGuessingGetsSlowerAndIsLockedForTheNetwork(t *testing.T) {
	for _, user := range []string{"a", "nobody"} {
		synctest.Test(t, func(t *testing.T) {
			b := &backend{users: accounts()}
			g := gate(t, Config{Pad: -1}, b)
			var delays []time.Duration
			for i := range 10 {
				d := g.Authenticate(t.Context(), from("192.0.2.1"), user, fmt.Sprint("guess ", i))
				if d.Reply.Code != 535 {
					t.Fatalf("attempt %d: %+v", i, d)
				}
				delays = append(delays, d.Delay/time.Second)
			}
			if want := []time.Duration{0, 0, 0, 1, 2, 4, 8, 15, 15, 15}; !slices.Equal(delays, want) {
				t.Errorf("delays %d", delays)
			}
			asked := b.asked.Load()
			for range 100 {
				if d := g.Authenticate(t.Context(), from("192.0.2.99"), strings.ToUpper(user), "right"); d.Reply.Code != 454 || d.Delay != 15*time.Second {
					t.Fatalf("locked: %+v", d)
				}
			}
			if b.asked.Load() != asked {
				t.Error("the backend was asked all the same")
			}
			// Another account of the same network, and the same from another network.
			if d := g.Authenticate(t.Context(), from("192.0.2.1"), "b", "right"); d.Act != mail.Accept {
				t.Errorf("another account: %+v", d)
			}
			if d := g.Authenticate(t.Context(), from("198.51.100.1"), "a", "right"); d.Act != mail.Accept {
				t.Errorf("another network: %+v", d)
			}
			time.Sleep(15*time.Minute + time.Second)
			d := g.Authenticate(t.Context(), from("192.0.2.1"), user, "right")
			if (d.Act == mail.Accept) != (user == "a") || d.Act == mail.Defer || d.Delay != 0 {
				t.Errorf("after the lock: %+v", d)
			}
		})
	}
}

func TestALockThatComesAgainLastsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(t, Config{Pad: -1}, &backend{users: accounts()})
		for _, minutes := range []time.Duration{15, 30, 60, 120, 240, 240} {
			for i := range 10 {
				if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", fmt.Sprint(i)); d.Act != mail.Reject {
					t.Fatalf("%d minutes: %+v", minutes, d)
				}
			}
			time.Sleep(minutes*time.Minute - time.Second)
			if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "right"); d.Act != mail.Defer {
				t.Fatalf("before %d minutes: %+v", minutes, d)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

func TestSprayingLocksTheNetworkAndSparesItsUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(t, Config{Pad: -1}, &backend{users: accounts()})
		if d := g.Authenticate(t.Context(), from("192.0.2.7"), "a", "right"); d.Act != mail.Accept {
			t.Fatal(d)
		}
		var delays []time.Duration
		for i := range 30 {
			d := g.Authenticate(t.Context(), from("192.0.2.1"), fmt.Sprint("user", i), "123456")
			if d.Act != mail.Reject {
				t.Fatalf("%d: %+v", i, d)
			}
			delays = append(delays, d.Delay/time.Second)
		}
		if want := []time.Duration{0, 1, 2, 4, 8, 15, 15}; !slices.Equal(delays[10:17], want) || slices.Max(delays[:10]) > 0 {
			t.Errorf("delays %d", delays)
		}
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "b", "right"); d.Reply.Code != 421 || !d.Close || d.Delay == 0 {
			t.Errorf("somebody new: %+v", d)
		}
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "A", "right"); d.Act != mail.Accept || d.Delay != 0 {
			t.Errorf("who was here before: %+v", d)
		}
		if d := g.Authenticate(t.Context(), from("198.51.100.1"), "b", "right"); d.Act != mail.Accept {
			t.Errorf("elsewhere: %+v", d)
		}
		time.Sleep(15*time.Minute + time.Second)
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "b", "right"); d.Act != mail.Accept {
			t.Errorf("after the lock: %+v", d)
		}
	})
}

// Thousands of addresses that guess at one account make it slow for strangers, and
// lock nobody out.
func TestAnAccountIsNeverLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(t, Config{Pad: -1}, &backend{users: accounts()})
		g.Authenticate(t.Context(), from("192.0.2.7"), "a", "right")
		for i := range 5000 {
			g.Authenticate(t.Context(), from(fmt.Sprintf("10.%d.%d.1", i>>8, i&255)), "a", fmt.Sprint(i))
		}
		if d := g.Authenticate(t.Context(), from("192.0.2.8"), "a", "right"); d.Act != mail.Accept || d.Delay != 0 {
			t.Errorf("where the user was before: %+v", d)
		}
		if d := g.Authenticate(t.Context(), from("198.51.100.1"), "a", "right"); d.Act != mail.Accept || d.Delay != 15*time.Second {
			t.Errorf("where nobody was: %+v", d)
		}
		if d := g.Authenticate(t.Context(), from("198.51.100.1"), "b", "right"); d.Act != mail.Accept || d.Delay != 0 {
			t.Errorf("another account: %+v", d)
		}
	})
}

func TestADeviceWithAnOldPasswordLocksNobodyOut(t *testing.T) {
	g := gate(t, Config{Pad: -1}, &backend{users: accounts()})
	for i := range 200 {
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "old"); d.Act != mail.Reject || d.Delay != 0 {
			t.Fatalf("%d: %+v", i, d)
		}
	}
	if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "right"); d.Act != mail.Accept {
		t.Errorf("%+v", d)
	}
}

func TestOutagesAreNoFailures(t *testing.T) {
	b := &backend{users: accounts(), fails: errors.New("down")}
	g := gate(t, Config{Pad: -1}, b)
	for i := range 100 {
		if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", fmt.Sprint(i)); d.Reply.Code != 454 || d.Delay != 0 || d.Close {
			t.Fatalf("%d: %+v", i, d)
		}
	}
	b.fails = nil
	if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "right"); d.Act != mail.Accept || d.Delay != 0 {
		t.Errorf("%+v", d)
	}
}

// Who guesses over many connections at once has no more guesses than over one.
func TestGuessesAtTheSameTimeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{users: accounts(), takes: time.Second}
		g := gate(t, Config{Pad: -1}, b)
		var rejected, deferred atomic.Int32
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				switch g.Authenticate(t.Context(), from("192.0.2.1"), "a", fmt.Sprint(i)).Act {
				case mail.Reject:
					rejected.Add(1)
				case mail.Defer:
					deferred.Add(1)
				}
			})
		}
		wg.Wait()
		if rejected.Load() != 10 || deferred.Load() != 190 || b.asked.Load() != 10 {
			t.Errorf("%d guesses, %d refused", rejected.Load(), deferred.Load())
		}
	})
}

func TestHonestLoginsAtTheSameTimeAllSucceed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate(t, Config{Pad: -1}, &backend{users: accounts(), takes: 100 * time.Millisecond})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if d := g.Authenticate(t.Context(), from("192.0.2.1"), "a", "right"); d.Act != mail.Accept {
					t.Errorf("%+v", d)
				}
			})
		}
		wg.Wait()
	})
}

func TestTrustedClientsAreManyUsers(t *testing.T) {
	g := gate(t, Config{Pad: -1}, &backend{users: accounts()})
	webmail := from("10.0.0.1")
	webmail.Trusted = true
	for i := range 500 {
		if d := g.Authenticate(t.Context(), webmail, fmt.Sprint("user", i), "x"); d.Act != mail.Reject || d.Delay != 0 {
			t.Fatalf("%d: %+v", i, d)
		}
	}
	for i := range 10 {
		g.Authenticate(t.Context(), webmail, "a", fmt.Sprint(i))
	}
	if d := g.Authenticate(t.Context(), webmail, "a", "right"); d.Act != mail.Defer {
		t.Errorf("guessing through it: %+v", d)
	}
}

type panics struct{}

func (panics) Authenticate(context.Context, *mail.Session, string, string) (policy.AuthAnswer, error) {
	panic("bug")
}

func TestABackendThatPanicsLeavesNoAttemptBehind(t *testing.T) {
	g, err := New(Config{Blocks: []Block{{Use: "x", Backend: panics{}}}})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			g.Authenticate(t.Context(), from("192.0.2.1"), "a", "x")
		}()
	}
}

func TestMemoryIsBounded(t *testing.T) {
	guard, err := NewGuard(GuardConfig{MaxKeys: 1000})
	if err != nil {
		t.Fatal(err)
	}
	g := gate(t, Config{Pad: -1, Guard: guard}, &backend{users: accounts()})
	size := func() int {
		n := 0
		for _, tb := range []*table[tally]{guard.accounts, guard.networks, guard.pairs} {
			n = max(n, len(tb.young)+len(tb.old))
		}
		return n
	}
	for i := range 20_000 {
		g.Authenticate(t.Context(), from(fmt.Sprintf("2001:db8:%x:%x::1", i>>8, i)), fmt.Sprint("user", i), "x")
	}
	if size() > 1000 {
		t.Errorf("%d entries", size())
	}
	// A network that is locked adds nothing.
	for i := range 100 {
		g.Authenticate(t.Context(), from("192.0.2.1"), fmt.Sprint("spray", i), "x")
	}
	before := len(guard.pairs.young)
	for i := range 100 {
		g.Authenticate(t.Context(), from("192.0.2.1"), fmt.Sprint("more", i), "x")
	}
	if len(guard.pairs.young) != before {
		t.Errorf("%d entries more", len(guard.pairs.young)-before)
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a flow without blocks was taken")
	}
	if _, err := New(Config{Blocks: []Block{{Use: "x"}}}); err == nil {
		t.Error("a block without a backend was taken")
	}
	for _, cfg := range []GuardConfig{{Free: -1}, {AccountFailures: 30}, {NetworkFailures: 10}, {IPv4Bits: 33}, {IPv6Bits: -1}, {Lock: -1}, {MaxKeys: 1}} {
		if _, err := NewGuard(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if _, err := NewLimits(LimitsConfig{MessagesPerDay: -1}); err == nil {
		t.Error("a limit below 0 was taken")
	}
	if _, err := ParseSendAs("all"); err == nil {
		t.Error("a rule that there is none was taken")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	g, err := New(Config{Blocks: []Block{{Use: "x", Backend: &backend{users: accounts()}}}})
	if err != nil {
		b.Fatal(err)
	}
	s := from("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		g.Authenticate(b.Context(), s, "a", "right")
	}
}

package greylist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/store"
)

// fakeStore stands for records that may be away; it counts what it is asked. The
// tests of the rules take a real one.
type fakeStore struct {
	mu      sync.Mutex
	asked   int
	lists   int
	err     error
	hangs   bool
	answer  store.GreylistAnswer
	learnt  []store.GreylistPair
	entries []store.GreylistEntry
}

func (f *fakeStore) SeeGreylist(ctx context.Context, _ store.GreylistTriplet, _ store.GreylistRules) (store.GreylistAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.hangs {
		<-ctx.Done()
		return store.GreylistAnswer{}, ctx.Err()
	}
	return f.answer, f.err
}

func (f *fakeStore) LearnGreylist(_ context.Context, pairs []store.GreylistPair, _ time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.learnt = append(f.learnt, pairs...)
	return f.err
}

func (f *fakeStore) FindGreylist(context.Context, store.GreylistQuery) ([]store.GreylistEntry, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	return f.entries, false, f.err
}

func (f *fakeStore) AllowGreylist(context.Context, string, string) error { return f.err }
func (f *fakeStore) ExpireGreylist(context.Context) (int64, error)       { return 0, f.err }
func (f *fakeStore) ForgetGreylist(context.Context, store.GreylistQuery) (int64, error) {
	return 1, f.err
}

func newGreylist(t testing.TB, c Config) *Greylist {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// withStore runs a test in a bubble with a check on a real store.
func withStore(t *testing.T, c Config, run func(t *testing.T, g *Greylist, s *store.Store)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// Weeks pass here: nothing else shall wake every few seconds.
		quiet := store.ReputationOptions{FlushEvery: 24 * time.Hour}
		s, err := store.Open(t.Context(), store.Options{Dir: dir, Reputation: quiet})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c.Store = s
		g, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		defer g.Close()
		run(t, g, s)
	})
}

func input(t testing.TB, client, sender, recipient string) *policy.Input {
	s := &mail.Session{ID: mail.NewID(), Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4711)}
	return &policy.Input{Stage: policy.Recipient, Session: s,
		Envelope:  &mail.Envelope{Sender: address(t, sender), Session: *s},
		Recipient: &mail.Recipient{Address: address(t, recipient)}}
}

// symbol is what the check says, in a word.
func symbol(t testing.TB, g *Greylist, in *policy.Input) string {
	t.Helper()
	findings, err := g.Check(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return symbolOf(t, findings)
}

func symbolOf(t testing.TB, findings []mail.Finding) string {
	t.Helper()
	if len(findings) == 0 {
		return ""
	}
	f := findings[0]
	want := mail.Clean
	switch f.Symbol {
	case SymbolWait:
		want = mail.Match
	case SymbolUnavailable:
		want = mail.Unknown
	}
	if len(findings) != 1 || f.Module != Name || f.Reason == "" || f.Result != want {
		t.Errorf("findings %+v", findings)
	}
	return f.Symbol
}

// expect checks what is said of client, sender and recipient at this moment.
func expect(t *testing.T, g *Greylist, who, want string) {
	t.Helper()
	f := strings.Fields(who)
	if got := symbol(t, g, input(t, f[0], f[1], f[2])); got != want {
		t.Errorf("%s: %q, want %q", who, got, want)
	}
}

const bob = "192.0.2.7 bob@example.net carol@example.com"

func TestAStrangerWaitsOnceAndIsTrustedForWeeks(t *testing.T) {
	withStore(t, Config{TidyEvery: 24 * time.Hour}, func(t *testing.T, g *Greylist, _ *store.Store) {
		expect(t, g, bob, SymbolWait)
		time.Sleep(4 * time.Minute)
		expect(t, g, bob, SymbolWait)
		time.Sleep(time.Minute)
		expect(t, g, "192.0.2.200 Bob+x@example.net Carol@example.com", SymbolPassed)
		for range 5 { // each message begins the weeks anew
			time.Sleep(35 * 24 * time.Hour)
			expect(t, g, bob, SymbolPassed)
		}
		time.Sleep(36*24*time.Hour + time.Minute)
		expect(t, g, bob, SymbolWait)
	})
}

func TestARetryMustComeWithinTheWindow(t *testing.T) {
	withStore(t, Config{}, func(t *testing.T, g *Greylist, _ *store.Store) {
		expect(t, g, bob, SymbolWait)
		time.Sleep(28*time.Hour - time.Minute)
		expect(t, g, bob, SymbolPassed)
		const late = "198.51.100.7 bob@example.net carol@example.com"
		expect(t, g, late, SymbolWait)
		time.Sleep(28*time.Hour + time.Minute)
		expect(t, g, late, SymbolWait)
		time.Sleep(5 * time.Minute)
		expect(t, g, late, SymbolPassed)
	})
}

func TestTriesDuringTheDelayDoNotProlongIt(t *testing.T) {
	withStore(t, Config{Delay: 10 * time.Minute}, func(t *testing.T, g *Greylist, _ *store.Store) {
		for range 10 {
			expect(t, g, bob, SymbolWait)
			time.Sleep(time.Minute)
		}
		expect(t, g, bob, SymbolPassed)
	})
}

func TestAMatchSaysHowLong(t *testing.T) {
	withStore(t, Config{Score: 0.5}, func(t *testing.T, g *Greylist, _ *store.Store) {
		expect(t, g, bob, SymbolWait)
		time.Sleep(60 * time.Second)
		findings, err := g.Check(t.Context(), input(t, "192.0.2.7", "bob@example.net", "carol@example.com"))
		if err != nil || len(findings) != 1 || findings[0].Score != 0.5 || findings[0].Properties[0] != policy.Wait(240*time.Second) {
			t.Errorf("got %+v, %v", findings, err)
		}
		if got := Reply(&findings[0]).String(); got != "451 4.7.1 Greylisted, try again in 240 seconds" {
			t.Errorf("reply %q", got)
		}
	})
	if got := Reply(&mail.Finding{}).String(); got != "451 4.7.1 Greylisted, try again later" {
		t.Errorf("reply without a time %q", got)
	}
}

func TestASourceThatHasPassedOftenNeverWaits(t *testing.T) {
	withStore(t, Config{TidyEvery: 24 * time.Hour}, func(t *testing.T, g *Greylist, _ *store.Store) {
		who := func(n int) string { return fmt.Sprintf("192.0.2.7 u%c@example.net carol@example.com", 'a'+n) }
		for n := range 5 {
			expect(t, g, who(n), SymbolWait)
		}
		time.Sleep(5 * time.Minute)
		for n := range 5 {
			expect(t, g, who(n), SymbolPassed)
		}
		expect(t, g, who(5), SymbolSource)
		expect(t, g, "192.0.3.7 x@example.net carol@example.com", SymbolWait)
		time.Sleep(30 * 24 * time.Hour)
		expect(t, g, who(6), SymbolSource) // and is refreshed by it
		time.Sleep(30 * 24 * time.Hour)
		expect(t, g, who(7), SymbolSource)
		time.Sleep(37 * 24 * time.Hour)
		expect(t, g, who(8), SymbolWait)
	})
}

func TestAProvenDomainMayTryAgainFromElsewhere(t *testing.T) {
	withStore(t, Config{AutoAllow: -1}, func(t *testing.T, g *Greylist, _ *store.Store) {
		proven := func(client string) *policy.Input {
			in := input(t, client, "bob@example.net", "carol@example.com")
			in.Session.Findings = []mail.Finding{{Module: "spf", Symbol: "spf:pass", Name: "example.net"}}
			return in
		}
		if got := symbol(t, g, proven("192.0.2.7")); got != SymbolWait {
			t.Errorf("first: %q", got)
		}
		time.Sleep(5 * time.Minute)
		if got := symbol(t, g, proven("2001:db8::7")); got != SymbolPassed {
			t.Errorf("from elsewhere: %q", got)
		}
		expect(t, g, bob, SymbolWait) // who cannot prove it is somebody else
	})
}

func TestWhoWasWrittenToMayAnswerAtOnce(t *testing.T) {
	withStore(t, Config{}, func(t *testing.T, g *Greylist, _ *store.Store) {
		g.Outgoing(address(t, "Carol@example.com"), address(t, "bob+tag@example.net"))
		g.Outgoing(mail.Address{}, address(t, "bob@example.net"))
		time.Sleep(pairsEvery + time.Second)
		expect(t, g, bob, SymbolKnown)
		expect(t, g, "192.0.2.7 bob@example.net dave@example.com", SymbolWait)
		time.Sleep(35 * 24 * time.Hour)
		expect(t, g, bob, SymbolPassed)
	})
}

func TestWhoDoesNotWaitAtAll(t *testing.T) {
	withStore(t, Config{Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/25")}}, func(t *testing.T, g *Greylist, _ *store.Store) {
		user := input(t, "192.0.2.7", "bob@example.net", "carol@example.com")
		user.Session.User = "bob"
		trusted := input(t, "192.0.2.7", "bob@example.net", "carol@example.com")
		trusted.Session.Trusted = true
		for name, in := range map[string]*policy.Input{
			"an authenticated client": user, "a trusted client": trusted,
			"the null sender": input(t, "192.0.2.7", "<>", "carol@example.com"),
			"a connection":    {Stage: policy.Connect, Session: trusted.Session},
		} {
			if got := symbol(t, g, in); got != "" {
				t.Errorf("%s: %q", name, got)
			}
		}
		expect(t, g, "198.51.100.7 x@example.net carol@example.com", SymbolAllowed)
		expect(t, g, "198.51.100.200 x@example.net carol@example.com", SymbolWait)
		found, _, err := g.List(t.Context(), store.GreylistQuery{})
		if err != nil || len(found) != 1 {
			t.Errorf("who does not wait leaves no entry: %+v, %v", found, err)
		}
	})
}

func TestTheNullSenderWaitsAtData(t *testing.T) {
	withStore(t, Config{}, func(t *testing.T, g *Greylist, _ *store.Store) {
		data := func(sender string, to ...string) string {
			in := input(t, "192.0.2.7", sender, "carol@example.com")
			for _, r := range to {
				in.Envelope.Recipients = append(in.Envelope.Recipients, mail.Recipient{Address: address(t, "alias@example.com"), Original: address(t, r)})
			}
			findings, err := g.CheckData(t.Context(), in.Session, in.Envelope)
			if err != nil {
				t.Fatal(err)
			}
			return symbolOf(t, findings)
		}
		if got := data("<>"); got != "" {
			t.Errorf("nobody named: %q", got)
		}
		if got := data("bob@example.net", "carol@example.com"); got != "" {
			t.Errorf("another sender was asked about at RCPT: %q", got)
		}
		if got := data("<>", "carol@example.com"); got != SymbolWait {
			t.Errorf("the first time: %q", got)
		}
		time.Sleep(5 * time.Minute)
		if got := data("<>", "carol@example.com", "dave@example.com"); got != SymbolPassed {
			t.Errorf("the second time: %q", got)
		}
	})
}

func TestAdministratorsAllowAndForget(t *testing.T) {
	withStore(t, Config{}, func(t *testing.T, g *Greylist, s *store.Store) {
		ctx := t.Context()
		if err := g.Allow(ctx, "192.0.2.0/33", ""); !errors.Is(err, ErrAllow) {
			t.Errorf("nonsense: %v", err)
		}
		for _, c := range []struct{ what, who string }{
			{"192.0.0.0/20", "192.0.15.1 a@example.net carol@example.com"},
			{"2001:db8::7", "2001:db8::7 a@example.net carol@example.com"},
			{"example.org", "198.51.100.1 a@sub.example.org carol@example.com"},
			{"a@example.info", "198.51.100.1 A@example.info carol@example.com"},
			{"to:dave@example.com", "198.51.100.1 a@example.net dave@example.com"},
			{"to:example.edu", "198.51.100.1 a@example.net x@example.edu"},
		} {
			expect(t, g, c.who, SymbolWait)
			if err := g.Allow(ctx, c.what, "test"); err != nil {
				t.Fatal(err)
			}
			expect(t, g, c.who, SymbolAllowed)
			if n, err := g.Forget(ctx, store.GreylistQuery{Source: c.what}); n != 1 || err != nil {
				t.Errorf("forget %s: %d, %v", c.what, n, err)
			}
			expect(t, g, c.who, SymbolWait)
		}
		time.Sleep(5 * time.Minute)
		const mine = "198.51.100.1 a@example.net dave@example.com"
		expect(t, g, mine, SymbolPassed)
		if n, err := g.Forget(ctx, store.GreylistQuery{Recipient: "dave@example.com"}); n != 1 || err != nil {
			t.Errorf("forget: %d, %v", n, err)
		}
		expect(t, g, mine, SymbolWait)
		// What another node allowed is known here a minute later.
		if err := s.AllowGreylist(ctx, "198.51.100.1", ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		expect(t, g, mine, SymbolAllowed)
	})
}

func TestExpiredEntriesAreDeleted(t *testing.T) {
	withStore(t, Config{}, func(t *testing.T, g *Greylist, _ *store.Store) {
		expect(t, g, bob, SymbolWait)
		time.Sleep(30 * time.Hour)
		found, _, err := g.List(t.Context(), store.GreylistQuery{Expired: true})
		if err != nil || len(found) != 0 {
			t.Errorf("still there: %+v, %v", found, err)
		}
	})
}

func TestALostStoreCostsOneMoreDelay(t *testing.T) { // SCN-13
	withStore(t, Config{}, func(t *testing.T, g *Greylist, s *store.Store) {
		expect(t, g, bob, SymbolWait)
		time.Sleep(5 * time.Minute)
		expect(t, g, bob, SymbolPassed)
		if _, err := s.ForgetGreylist(t.Context(), store.GreylistQuery{Kind: store.GreylistTripletKind}); err != nil {
			t.Fatal(err)
		}
		again := newGreylist(t, Config{Store: s}) // after a restart
		defer again.Close()
		expect(t, again, bob, SymbolWait)
		time.Sleep(5 * time.Minute)
		expect(t, again, bob, SymbolPassed)
	})
}

func TestAClockThatWentBackCostsOneMoreDelay(t *testing.T) { // SCN-13
	dir := t.TempDir()
	// What was written while the clock was years ahead: a bubble begins in 2000, so
	// that the present is the future to it.
	s, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, g, bob, SymbolWait)
	rules := g.rules
	rules.Delay = -time.Hour
	passed := store.GreylistTriplet{Source: "198.51.100.0/24", Sender: "bob@example.net", Recipient: "carol@example.com"}
	for range 2 {
		if _, err := s.SeeGreylist(t.Context(), passed, rules); err != nil {
			t.Fatal(err)
		}
	}
	g.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(t.Context(), store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		g := newGreylist(t, Config{Store: s})
		defer g.Close()
		expect(t, g, "198.51.100.1 bob@example.net carol@example.com", SymbolPassed)
		expect(t, g, bob, SymbolWait)
		time.Sleep(5 * time.Minute)
		expect(t, g, bob, SymbolPassed)
	})
}

func TestWhileTheStoreIsAwayItIsUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{answer: store.GreylistAnswer{Passed: true}}
		g := newGreylist(t, Config{Store: f, CacheFor: time.Hour})
		defer g.Close()
		expect(t, g, bob, SymbolPassed)
		f.hangs = true
		const other = "192.0.2.7 eve@example.net carol@example.com"
		begin := time.Now()
		expect(t, g, other, SymbolUnavailable)
		if took := time.Since(begin); took != 2*time.Second {
			t.Errorf("the first client waited %v", took)
		}
		begin = time.Now()
		expect(t, g, other, SymbolUnavailable)
		expect(t, g, bob, SymbolPassed) // what is remembered holds
		if took := time.Since(begin); took != 0 || f.asked != 2 {
			t.Errorf("the next waited %v, %d looks", took, f.asked)
		}
		f.hangs, f.err = false, store.ErrUnavailable
		time.Sleep(3 * time.Second)
		expect(t, g, other, SymbolUnavailable)
		f.err = nil
		time.Sleep(3 * time.Second)
		expect(t, g, other, SymbolPassed)

		f.hangs = true
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := g.Check(ctx, input(t, "192.0.2.7", "x@example.net", "carol@example.com")); !errors.Is(err, context.Canceled) {
			t.Errorf("a session that ends: %v", err)
		}
		f.hangs = false
		expect(t, g, "192.0.2.7 y@example.net carol@example.com", SymbolPassed)
	})
}

func TestATripletCostsOneLookAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{answer: store.GreylistAnswer{Wait: 5 * time.Minute}}
		g := newGreylist(t, Config{Store: f, CacheSize: 100})
		defer g.Close()
		for range 50 {
			expect(t, g, bob, SymbolWait)
		}
		if f.asked != 1 || f.lists != 1 {
			t.Errorf("%d looks, %d lists", f.asked, f.lists)
		}
		for n := range 1000 {
			expect(t, g, fmt.Sprintf("192.0.2.7 a@d%d.example.net carol@example.com", n), SymbolWait)
		}
		if f.asked != 1001 {
			t.Errorf("%d looks", f.asked)
		}
		if n := len(g.cache.young) + len(g.cache.old); n > 100 {
			t.Errorf("%d are remembered", n)
		}
		f.answer = store.GreylistAnswer{Source: true}
		expect(t, g, "198.51.100.1 a@example.org carol@example.com", SymbolSource)
		expect(t, g, "198.51.100.2 b@example.org dave@example.com", SymbolSource)
		if f.asked != 1002 {
			t.Errorf("a source that is allowed is looked up again: %d looks", f.asked)
		}
	})
}

func TestOutgoingNeverWaitsAndIsWrittenAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeStore{}
		g := newGreylist(t, Config{Store: f})
		f.mu.Lock() // the store takes its time
		for n := range 3 * maxPairs {
			g.Outgoing(address(t, "carol@example.com"), address(t, fmt.Sprintf("x@d%d.example", n)))
		}
		f.mu.Unlock()
		g.Close()
		if n := len(f.learnt); n < maxPairs || n > maxPairs+pairsAtOnce {
			t.Errorf("%d were written, want %d and those that were on their way", n, maxPairs)
		}
		if f.learnt[0] != (store.GreylistPair{Sender: "x@d0.example", Recipient: "carol@example.com"}) {
			t.Errorf("got %+v", f.learnt[0])
		}
	})
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	s := &fakeStore{}
	for want, c := range map[string]Config{
		"it needs a store": {},
		"delay is 100ms":   {Store: s, Delay: 100 * time.Millisecond},
		"delay is 25h":     {Store: s, Delay: 25 * time.Hour},
		"window is 1m0s and must be longer than the delay of 5m0s": {Store: s, Window: time.Minute},
		"keep is 1h0m0s": {Store: s, Keep: time.Hour},
		"ipv4_bits is 4": {Store: s, IPv4Bits: 4},
		"ipv6_bits is 8": {Store: s, IPv6Bits: 8},
		"timeout is -1s": {Store: s, Timeout: -time.Second},
		"cache_size":     {Store: s, CacheSize: -1},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

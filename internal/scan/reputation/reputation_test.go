package reputation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/store"
)

// fakeStore stands for a database that may be away or never answer.
type fakeStore struct {
	mu      sync.Mutex
	known   map[string]store.Reputation
	added   map[string]store.ReputationCounts
	lookups int
	err     error
	hangs   bool
}

func (f *fakeStore) Reputations(ctx context.Context, keys []string, _ time.Duration) (map[string]store.Reputation, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups++
	if f.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	got := map[string]store.Reputation{}
	for _, key := range keys {
		if r, ok := f.known[key]; ok {
			got[key] = r
		}
	}
	return got, f.err
}

func (f *fakeStore) AddReputation(key string, n store.ReputationCounts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.added == nil {
		f.added = map[string]store.ReputationCounts{}
	}
	was := f.added[key]
	f.added[key] = store.ReputationCounts{Ham: was.Ham + n.Ham, Spam: was.Spam + n.Spam, Virus: was.Virus + n.Virus, Unknown: was.Unknown + n.Unknown}
}

// keys are those that were added to, in order.
func (f *fakeStore) keys() string {
	var all []string
	for key, n := range f.added {
		all = append(all, fmt.Sprintf("%s %d/%d/%d/%d", key, n.Ham, n.Spam, n.Virus, n.Unknown))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func seen(ham, spam int64) store.Reputation {
	return store.Reputation{Total: store.ReputationCounts{Ham: ham, Spam: spam}, WeightedHam: float64(ham), WeightedSpam: float64(spam)}
}

// input is a message that came in for us from a client, with what authres says.
func input(client, sender string, passes ...string) *scan.Input {
	e := &mail.Envelope{ID: mail.NewID(), Session: mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 25)}}
	if local, domain, ok := strings.Cut(sender, "@"); ok {
		e.Sender = mail.Address{Local: local, Domain: domain, Raw: sender}
	}
	authres := scan.Report{Use: "authres"}
	for _, p := range passes {
		symbol, domain, _ := strings.Cut(p, "=")
		authres.Findings = append(authres.Findings, mail.Finding{Module: "authres", Symbol: symbol, Result: mail.Clean, Name: domain})
	}
	return &scan.Input{Message: mail.Message{Envelope: e}, Direction: scan.Inbound,
		Reports: []scan.Report{authres, {Use: "bayes"}}}
}

func newModule(t *testing.T, s Store, change ...func(*Config)) *Module {
	t.Helper()
	c := Config{Store: s}
	for _, f := range change {
		f(&c)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func scanned(t *testing.T, m *Module, in *scan.Input) []mail.Finding {
	t.Helper()
	findings, err := m.Scan(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

func TestSources(t *testing.T) {
	trusted := input("203.0.113.5", "a@example.com", "spf:pass=example.com")
	trusted.Message.Envelope.Session.Trusted = true
	user := input("203.0.113.5", "a@example.com", "dkim:pass=example.com")
	user.Message.Envelope.Session.User = "alice"
	outbound := input("203.0.113.5", "a@example.com", "dkim:pass=example.com")
	outbound.Direction = scan.Outbound
	pop3 := input("203.0.113.5", "a@example.com", "dkim:pass=example.com")
	pop3.Direction, pop3.Message.Envelope.Session.User = scan.POP3, "alice"
	cases := []struct {
		name string
		in   *scan.Input
		want string
	}{
		{"a network is a /24", input("203.0.113.5", ""), "net:203.0.113.0/24"},
		{"a network of IPv6 is a /64", input("2a00:1450:4001:80b::200e", ""), "net:2a00:1450:4001:80b::/64"},
		{"an IPv4 address in IPv6 form is one", input("::ffff:203.0.113.5", ""), "net:203.0.113.0/24"},
		{"private addresses are nobody", input("10.1.2.3", ""), ""},
		{"loopback is nobody", input("127.0.0.1", ""), ""},
		{"a sender that nothing proves is nobody", input("203.0.113.5", "a@example.com"), "net:203.0.113.0/24"},
		{"SPF proves the sender", input("10.0.0.1", "a@example.com", "spf:pass=example.com"), "from:example.com"},
		{"SPF of another name proves nothing", input("10.0.0.1", "a@example.com", "spf:pass=helo.example.net"), ""},
		{"SPF that fails proves nothing", input("10.0.0.1", "a@example.com", "spf:fail=example.com"), ""},
		{"DMARC before SPF", input("10.0.0.1", "a@bounce.example.net", "spf:pass=bounce.example.net", "dmarc:pass=example.com"), "from:example.com"},
		{"names below a registered domain are one", input("10.0.0.1", "a@x1.example.co.uk", "spf:pass=x1.example.co.uk"), "from:example.co.uk"},
		{"a public suffix belongs to nobody", input("10.0.0.1", "", "dkim:pass=co.uk"), ""},
		{"signers, each once, at most three", input("10.0.0.1", "", "dkim:pass=a.example.com", "dkim:pass=Example.Com.", "dkim:pass=b.net", "dkim:pass=c.net", "dkim:pass=d.net"),
			"dkim:example.com dkim:b.net dkim:c.net"},
		{"what is no domain is left out", input("10.0.0.1", "", "dkim:pass=evil\r\n.example", "dkim:pass=a b.com", "dkim:pass="), ""},
		{"trusted clients are nobody", trusted, ""},
		{"authenticated users are nobody", user, ""},
		{"outbound mail is ours", outbound, ""},
		{"the client of POP3 is the reader", pop3, "dkim:example.com"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var keys []string
			for _, s := range sourcesOf(c.in) {
				keys = append(keys, s.key)
			}
			if got := strings.Join(keys, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestScores(t *testing.T) {
	s := &fakeStore{known: map[string]store.Reputation{
		"net:203.0.113.0/24": seen(3, 40),
		"from:good.com":      seen(100_000, 0),
		"dkim:good.com":      seen(100_000, 0),
		"from:bad.com":       seen(0, 100_000),
		"dkim:bad.com":       seen(0, 100_000),
		"dkim:new.com":       seen(1, 0),
		"from:even.com":      seen(50, 50),
		"from:virus.com":     {Total: store.ReputationCounts{Virus: 3, Unknown: 7}, WeightedVirus: 3, WeightedUnknown: 7},
	}}
	m := newModule(t, s)
	cases := []struct {
		name string
		in   *scan.Input
		want string
	}{
		{"nothing is known", input("198.51.100.1", "a@example.com", "spf:pass=example.com"), ""},
		{"a bad network", input("203.0.113.9", ""), "net match 1.81 203.0.113.0/24: 3 ham, 40 spam in the last weeks"},
		{"a good domain", input("10.0.0.1", "a@good.com", "spf:pass=good.com"), "from clean -2.5 good.com: 100000 ham, 0 spam in the last weeks"},
		{"a domain that is seen once", input("10.0.0.1", "", "dkim:pass=new.com"), "dkim clean -0.28 new.com: 1 ham, 0 spam in the last weeks"},
		{"as much good as bad", input("10.0.0.1", "a@even.com", "spf:pass=even.com"), "from clean 0 even.com: 50 ham, 50 spam in the last weeks"},
		{"viruses and unknown recipients", input("10.0.0.1", "a@virus.com", "spf:pass=virus.com"),
			"from match 1.23 virus.com: 0 ham, 0 spam, 3 viruses, 7 unknown recipients in the last weeks"},
		{"much good is bounded", input("10.0.0.1", "a@good.com", "spf:pass=good.com", "dkim:pass=good.com"),
			"from clean -1.25 good.com: 100000 ham, 0 spam in the last weeks; dkim clean -1.25 good.com: 100000 ham, 0 spam in the last weeks"},
		{"much bad is bounded", input("10.0.0.1", "a@bad.com", "spf:pass=bad.com", "dkim:pass=bad.com"),
			"from match 1.25 bad.com: 0 ham, 100000 spam in the last weeks; dkim match 1.25 bad.com: 0 ham, 100000 spam in the last weeks"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range scanned(t, m, c.in) {
				got = append(got, fmt.Sprintf("%s %s %v %s", f.Symbol, f.Result, f.Score, f.Reason))
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestScoresNeverLeaveTheLimits(t *testing.T) {
	for _, limits := range [][2]float64{{2.5, -2.5}, {1, -3}, {NoScore, -1}, {0.01, NoScore}} {
		m := newModule(t, &fakeStore{}, func(c *Config) { c.MaxScore, c.MinScore = limits[0], limits[1] })
		for _, counts := range [][2]int64{{0, 1}, {1, 0}, {7, 3}, {1 << 40, 0}, {0, 1 << 40}, {123, 456}} {
			var findings []mail.Finding
			sum := 0.0
			for range 5 {
				f := m.judge(newSource("dkim", "x.com"), seen(counts[0], counts[1]))
				sum += f.Score
				findings = append(findings, f)
			}
			m.bound(findings, sum)
			total := 0.0
			for _, f := range findings {
				total += f.Score
			}
			if total > limits[0]+1e-9 || total < limits[1]-1e-9 || math.IsNaN(total) {
				t.Errorf("limits %v, seen %v: the sum is %v", limits, counts, total)
			}
		}
	}
}

func TestLookupsAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{known: map[string]store.Reputation{"net:203.0.113.0/24": seen(0, 10)}}
		m := newModule(t, s)
		for range 100 {
			scanned(t, m, input("203.0.113.9", "a@example.com", "spf:pass=example.com"))
		}
		if s.lookups != 1 {
			t.Errorf("%d lookups for the same sources, want 1", s.lookups)
		}
		time.Sleep(2 * time.Minute)
		s.known["net:203.0.113.0/24"] = seen(0, 1000)
		if f := scanned(t, m, input("203.0.113.9", "")); s.lookups != 2 || !strings.Contains(f[0].Reason, "1000 spam") {
			t.Errorf("later: %d lookups, %+v", s.lookups, f)
		}
	})
}

func TestDatabaseThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{known: map[string]store.Reputation{"net:203.0.113.0/24": seen(0, 10)}}
		m := newModule(t, s)
		scanned(t, m, input("203.0.113.9", ""))
		time.Sleep(2 * time.Minute)
		s.hangs = true
		begun := time.Now()
		if f := scanned(t, m, input("203.0.113.9", "")); len(f) != 1 || f[0].Score <= 0 {
			t.Errorf("what was known is not used: %+v", f)
		}
		f := scanned(t, m, input("198.51.100.1", ""))
		if len(f) != 1 || f[0].Result != mail.Unknown || f[0].Score != 0 {
			t.Errorf("what was not known: %+v", f)
		}
		for range 100 {
			scanned(t, m, input("198.51.100.2", ""))
		}
		if took := time.Since(begun); took > 300*time.Millisecond || s.lookups != 2 {
			t.Errorf("it took %v and %d lookups", took, s.lookups)
		}
		s.hangs, s.err = false, store.ErrUnavailable
		time.Sleep(3 * time.Second)
		scanned(t, m, input("198.51.100.3", ""))
		s.err = nil
		time.Sleep(3 * time.Second)
		if f := scanned(t, m, input("198.51.100.1", "")); len(f) != 0 {
			t.Errorf("when it is back: %+v", f)
		}
	})
}

func TestScanEndsWithItsContext(t *testing.T) {
	m := newModule(t, &fakeStore{hangs: true})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Scan(ctx, input("203.0.113.9", "")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLearn(t *testing.T) {
	own := func(score float64) func(*scan.Input) {
		return func(in *scan.Input) {
			in.Reports = append(in.Reports, scan.Report{Use: Name, Findings: []mail.Finding{{Module: Name, Score: score}}})
		}
	}
	nobodyJudged := func(in *scan.Input) { in.Reports = in.Reports[:1] }
	bayesFailed := func(in *scan.Input) { in.Reports[1].Findings = []mail.Finding{{Module: "bayes", Result: mail.Unknown}} }
	spam := mail.Verdict{Action: mail.ActionQuarantine, Threat: mail.ThreatSpam, Block: "score", Score: 9}
	ham := mail.Verdict{Action: mail.ActionDeliver}
	cases := []struct {
		name     string
		change   func(*scan.Input)
		verdicts []mail.Verdict
		want     string // ham/spam/virus/unknown; "" for not counted
	}{
		{"ham", nil, []mail.Verdict{ham}, "1/0/0/0"},
		{"spam", nil, []mail.Verdict{spam}, "0/1/0/0"},
		{"a virus", nil, []mail.Verdict{{Action: mail.ActionQuarantine, Threat: mail.ThreatVirus}}, "0/0/1/0"},
		{"many recipients count once", nil, []mail.Verdict{ham, ham, ham}, "1/0/0/0"},
		{"the worst of several verdicts", nil, []mail.Verdict{ham, spam}, "0/1/0/0"},
		{"a filter says nothing", nil, []mail.Verdict{{Action: mail.ActionReject, Threat: mail.ThreatFilter}}, ""},
		{"a failed scan says nothing", nil, []mail.Verdict{{Action: mail.ActionQuarantine, Threat: mail.ThreatUnscanned}}, ""},
		{"what is marked is not ham", nil, []mail.Verdict{{Action: mail.ActionMark, Score: 0}}, ""},
		{"what is doubtful is not ham", nil, []mail.Verdict{{Action: mail.ActionDeliver, Score: 3}}, ""},
		{"ham only because of its good name is not counted", own(-2.5), []mail.Verdict{{Action: mail.ActionDeliver, Score: 0.5}}, ""},
		{"spam only because of its bad name is not counted", own(2.5), []mail.Verdict{{Action: mail.ActionMark, Threat: mail.ThreatSpam, Block: "score", Score: 5}}, ""},
		{"spam with a bad name is counted", own(2.5), []mail.Verdict{spam}, "0/1/0/0"},
		{"where nobody looks for spam, nothing is ham", nobodyJudged, []mail.Verdict{ham}, ""},
		{"where who looks for spam failed, nothing is ham", bayesFailed, []mail.Verdict{ham}, ""},
		{"no verdicts", nil, nil, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &fakeStore{}
			m := newModule(t, s)
			in := input("203.0.113.9", "a@example.com", "spf:pass=example.com", "dkim:pass=esp.example.net")
			if c.change != nil {
				c.change(in)
			}
			m.Learn(in, c.verdicts...)
			m.Learn(in, c.verdicts...) // another try for the same message
			want := ""
			if c.want != "" {
				want = fmt.Sprintf("dkim:example.net %[1]s, from:example.com %[1]s, net:203.0.113.0/24 %[1]s", c.want)
			}
			if got := s.keys(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestUnknownRecipients(t *testing.T) {
	s := &fakeStore{}
	m := newModule(t, s)
	client := netip.MustParseAddrPort("203.0.113.9:25")
	m.UnknownRecipient(&mail.Session{Client: client})
	m.UnknownRecipient(&mail.Session{Client: client, Trusted: true})
	m.UnknownRecipient(&mail.Session{Client: client, User: "alice"})
	m.UnknownRecipient(&mail.Session{Client: netip.MustParseAddrPort("192.168.1.1:25")})
	if got := s.keys(); got != "net:203.0.113.0/24 0/0/0/1" {
		t.Errorf("got %q", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache(100)
	for i := range 10_000 {
		c.put(fmt.Sprint(i), entry{})
		c.get("0")
	}
	if n := len(c.young) + len(c.old); n > 100 {
		t.Errorf("%d entries", n)
	}
	if _, ok := c.get("0"); !ok {
		t.Error("what is used all the time was forgotten")
	}
	r := newRecent(10)
	first := mail.NewID()
	for i := range 30 {
		if id := mail.NewID(); !r.add(id) || r.add(id) {
			t.Fatalf("message %d", i)
		}
	}
	if !r.add(first) || len(r.set) > 10 {
		t.Errorf("%d are remembered", len(r.set))
	}
}

func TestConcurrentUse(t *testing.T) {
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := newModule(t, s, func(c *Config) { c.CacheSize = 10 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				in := input(fmt.Sprintf("203.0.%d.9", i%20), "a@example.com", "spf:pass=example.com")
				if _, err := m.Scan(t.Context(), in); err != nil {
					t.Error(err)
				}
				m.Learn(in, mail.Verdict{Action: mail.ActionDeliver})
				m.UnknownRecipient(&in.Message.Envelope.Session)
			}
		})
	}
	wg.Wait()
}

func TestBadConfig(t *testing.T) {
	for _, c := range []Config{{}, {Store: &fakeStore{}, MaxScore: -1}, {Store: &fakeStore{}, MinScore: 1}, {Store: &fakeStore{}, Confidence: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestTheNetworkOfAClientAlone(t *testing.T) {
	m := newModule(t, &fakeStore{known: map[string]store.Reputation{"net:203.0.113.0/24": seen(3, 40), "from:good.com": seen(100_000, 0)}})
	session := func(client string) *mail.Session {
		return &mail.Session{Client: netip.AddrPortFrom(netip.MustParseAddr(client), 25)}
	}
	trusted := session("203.0.113.9")
	trusted.Trusted = true
	for _, c := range []struct {
		name string
		s    *mail.Session
		want string
	}{
		{"known", session("203.0.113.9"), "net match 1.81"},
		{"not known", session("198.51.100.1"), ""},
		{"private", session("10.0.0.1"), ""},
		{"trusted", trusted, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings, err := m.Client(t.Context(), c.s)
			got := ""
			for _, f := range findings {
				got += fmt.Sprintf("%s %s %v", f.Symbol, f.Result, f.Score)
			}
			if err != nil || got != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

package harvest

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

func newHarvest(t *testing.T, c Config) *Harvest {
	t.Helper()
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func session(client string) *mail.Session {
	return &mail.Session{ID: mail.NewID(), Client: netip.AddrPortFrom(netip.MustParseAddr(client), 4711)}
}

// named counts unknown recipients.
func named(h *Harvest, s *mail.Session, n int) {
	for range n {
		h.UnknownRecipient(s)
	}
}

func TestASessionIsSlowedDownAndEnded(t *testing.T) { // DOS-11
	h := newHarvest(t, Config{})
	s := session("192.0.2.7")
	var waited time.Duration
	for n := range 500 {
		d := h.Decide(s)
		switch {
		case n < 3:
			if d.Delay != 0 || d.Act != mail.Accept {
				t.Fatalf("%d: %+v", n, d)
			}
		case n < 20:
			if want := min(time.Duration(n-2)*time.Second, 10*time.Second); d.Delay != want || d.Act != mail.Accept || d.Close {
				t.Fatalf("%d: %+v, want a delay of %v", n, d, want)
			}
		default:
			if d.Act != mail.Defer || d.Reply.Code != 421 || !d.Close || d.Reason == "" || len(d.Findings) != 1 {
				t.Fatalf("%d: %+v", n, d)
			}
		}
		if waited += d.Delay; d.Close {
			break
		}
		h.UnknownRecipient(s)
	}
	if waited < time.Minute {
		t.Errorf("20 guesses took %v", waited)
	}
}

func TestWhatIsSaidDoesNotDependOnTheRecipient(t *testing.T) { // DOS-11
	h := newHarvest(t, Config{})
	s := session("192.0.2.7")
	named(h, s, 10)
	known, unknown := mail.Recipient{Address: mail.Address{Raw: "bob@in.example"}}, mail.Recipient{Address: mail.Address{Raw: "none@in.example"}}
	a, err := h.Check(t.Context(), &policy.Input{Session: s, Recipient: &known})
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Check(t.Context(), &policy.Input{Session: s, Recipient: &unknown})
	if err != nil || len(a) != 1 || len(b) != 1 || a[0].Reason != b[0].Reason || a[0].Properties[0] != b[0].Properties[0] {
		t.Errorf("%+v and %+v, %v", a, b, err)
	}
	if a[0].Symbol != SymbolSlow || a[0].Result != mail.Clean || a[0].Properties[0] != (mail.Property{Name: PropertyDelay, Value: "8000"}) {
		t.Errorf("got %+v", a)
	}
}

func TestANetworkIsCountedOverItsSessionsAndForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarvest(t, Config{Score: 1.5})
		for range 10 {
			s := session("192.0.2.7")
			named(h, s, 10)
			h.End(s)
		}
		fresh := session("192.0.2.200")
		f, err := h.Check(t.Context(), &policy.Input{Session: fresh})
		if err != nil || len(f) != 1 || f[0].Symbol != SymbolLimit || f[0].Result != mail.Match || f[0].Score != 1.5 || !strings.Contains(f[0].Reason, "192.0.2.0/24") {
			t.Errorf("got %+v, %v", f, err)
		}
		if d := h.Decide(session("192.0.3.7")); d.Act != mail.Accept || d.Delay != 0 {
			t.Errorf("the neighbour: %+v", d)
		}
		time.Sleep(time.Minute)
		if d := h.Decide(fresh); d.Act != mail.Accept || d.Delay != 10*time.Second {
			t.Errorf("a minute later: %+v", d)
		}
		time.Sleep(30 * time.Minute)
		if d := h.Decide(fresh); d.Delay != 0 {
			t.Errorf("half an hour later: %+v", d)
		}
		// Who names one now and then is never slowed down.
		for range 1000 {
			time.Sleep(time.Minute)
			h.UnknownRecipient(session("2001:db8::7"))
		}
		if d := h.Decide(session("2001:db8::1")); d.Act != mail.Accept || d.Delay != 0 {
			t.Errorf("one in a minute: %+v", d)
		}
	})
}

func TestWhoIsSpared(t *testing.T) {
	h := newHarvest(t, Config{Except: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	trusted, user, relay, nobody := session("192.0.2.7"), session("192.0.2.7"), session("::ffff:198.51.100.1"), &mail.Session{}
	trusted.Trusted, user.User = true, "bob"
	for _, s := range []*mail.Session{trusted, user, relay, nobody} {
		named(h, s, 1000)
		if d := h.Decide(s); d.Act != mail.Accept || d.Delay != 0 {
			t.Errorf("%+v: %+v", s, d)
		}
	}
	if d := h.Decide(session("192.0.2.7")); d.Delay != 0 {
		t.Errorf("they count for others: %+v", d)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	h := newHarvest(t, Config{MaxSessions: 100, MaxNetworks: 60})
	busy := session("203.0.113.1")
	for n := range 5000 {
		h.UnknownRecipient(session(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}).String()))
		if n%20 == 0 {
			h.UnknownRecipient(busy)
		}
	}
	if s, n := len(h.sessions.young)+len(h.sessions.old), len(h.networks.young)+len(h.networks.old); s > 100 || n > 60 {
		t.Errorf("%d sessions and %d networks are remembered", s, n)
	}
	if d := h.Decide(busy); d.Act != mail.Defer {
		t.Errorf("who goes on is not forgotten: %+v", d)
	}
	h.End(busy)
	if c := h.sessions.get(busy.ID); c.n != 0 {
		t.Errorf("a session that is over: %+v", c)
	}
}

func TestConfigsThatCannotBeMeant(t *testing.T) {
	for want, c := range map[string]Config{
		"slow_after is -1":         {SlowAfter: -1},
		"session_limit is 2":       {SessionLimit: 2},
		"network_slow_after is -1": {NetworkSlowAfter: -1},
		"network_limit is 1":       {NetworkLimit: 1},
		"half_life is 1ms":         {HalfLife: time.Millisecond},
		"max_delay 2m0s":           {MaxDelay: 2 * time.Minute},
		"delay is 20s":             {Delay: 20 * time.Second},
		"ipv4_bits is 40":          {IPv4Bits: 40},
		"ipv6_bits is 1":           {IPv6Bits: 1},
		"max_networks -1":          {MaxNetworks: -1},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestAHookWithAnotherAct(t *testing.T) {
	cases := []struct {
		name string
		act  mail.Act
		text string
		want string
	}{
		{"the usual one", mail.Defer, "", "defer 421 4.7.0 Too many errors"},
		{"another text", mail.Defer, "Come back later", "defer 421 4.7.0 Come back later"},
		{"a refusal", mail.Reject, "", "reject 550 5.7.1 Refused by policy"},
		{"not a word", mail.Drop, "Go away", "drop "},
		{"others decide", mail.Accept, "", "accept "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newHarvest(t, Config{SlowAfter: 1, SessionLimit: 2})
			s := session("192.0.2.7")
			hook := h.Hook(c.act, c.text)
			named(h, s, 1)
			if d := hook(s); d.Act != mail.Accept || d.Delay != time.Second || len(d.Findings) != 1 {
				t.Errorf("below the limit: %+v", d)
			}
			named(h, s, 1)
			d := hook(s)
			if got := d.Act.String() + " " + d.Reply.String(); !strings.HasPrefix(got, c.want) || d.Delay != 2*time.Second {
				t.Errorf("got %q after %v, want %q", got, d.Delay, c.want)
			}
			if d.Close == (c.act == mail.Accept) {
				t.Errorf("close: %v", d.Close)
			}
		})
	}
}

package transport

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
	"gatepost/internal/smtpclient/sinktest"
)

func TestFailover(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first func(sinktest.Event) *sinktest.Act // nil: nobody there
		want  string
		next  bool // the second host got the message
	}{
		{"the first one takes it", func(sinktest.Event) *sinktest.Act { return nil }, "delivered eod 250, delivered eod 250", false},
		{"the first one refuses connections", nil, "delivered eod 250, delivered eod 250", true},
		{"banner 421", at(sinktest.Banner, sinktest.Reply("421 4.3.2 no")), "delivered eod 250, delivered eod 250", true},
		{"banner 554", at(sinktest.Banner, sinktest.Reply("554 5.7.1 no")), "delivered eod 250, delivered eod 250", true},
		{"EHLO 451", at(sinktest.Ehlo, sinktest.Reply("451 4.3.2 no")), "delivered eod 250, delivered eod 250", true},
		{"MAIL 421", at(sinktest.Mail, sinktest.Reply("421 4.3.2 no")), "delivered eod 250, delivered eod 250", true},
		{"lost at RCPT", at(sinktest.Rcpt, &sinktest.Act{Close: true}), "delivered eod 250, delivered eod 250", true},
		{"lost at the second RCPT, the first refused", func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.Rcpt && e.N == 1 {
				return sinktest.Reply("550 5.1.1 no")
			}
			return at(sinktest.Rcpt, &sinktest.Act{Close: true})(e)
		}, "failed rcpt 550, delivered eod 250", true},
		{"MAIL 451 is an answer", at(sinktest.Mail, sinktest.Reply("451 4.7.1 no")), "deferred mail 451, deferred mail 451", false},
		{"RCPT 550 is an answer", at(sinktest.Rcpt, sinktest.Reply("550 5.1.1 no")), "failed rcpt 550, failed rcpt 550", false},
		{"broken replies end the attempt", at(sinktest.Mail, sinktest.Reply("999 x")), "deferred mail own 451, deferred mail own 451", false},
		{"lost after the final dot", at(sinktest.EOD, &sinktest.Act{Close: true}), "deferred eod own 451, deferred eod own 451", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			if tc.first != nil {
				n.host("192.0.2.1:25", sinktest.Config{Script: tc.first})
			}
			second := n.host("192.0.2.2:25", sinktest.Config{})
			tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}}, nil)
			out := tr.Deliver(t.Context(), delivery(t, short, "r1@out.example", "r2@out.example"))
			if got := briefs(out); got != tc.want {
				t.Errorf("outcomes %s, want %s", got, tc.want)
			}
			if got := len(second.Messages()) == 1; got != tc.next {
				t.Errorf("the second host got it: %v", got)
			}
		})
	}
}

func TestLastReasonIsReported(t *testing.T) {
	n := newNetwork(t)
	n.host("192.0.2.2:25", sinktest.Config{Script: at(sinktest.Banner, sinktest.Reply("450 4.7.1 come back"))})
	tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}}, nil)
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if o := out[0]; brief(o) != "deferred connect 450" || o.Host != "[192.0.2.2]:25" || o.Reply.Text() != "come back" {
		t.Errorf("outcome %+v", o)
	}
}

func TestNotMoreThanMaxHostsAreTried(t *testing.T) {
	n := newNetwork(t)
	tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"}, MaxHosts: 2}, nil)
	tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if got := n.dialed(); got != "192.0.2.1:25 192.0.2.2:25" {
		t.Errorf("dialled %s", got)
	}
}

func TestUnhealthyHostRestsAndIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.host("192.0.2.2:25", sinktest.Config{})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}, Rest: 10 * time.Second, RestMax: 30 * time.Second, MessagesPerSession: 1}, nil)
		step := func(wait time.Duration, want string) {
			t.Helper()
			time.Sleep(wait)
			n.dialed()
			if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" {
				t.Fatal(briefs(out))
			}
			if got := n.dialed(); got != want {
				t.Errorf("dialled %s, want %s", got, want)
			}
		}
		step(0, "192.0.2.1:25 192.0.2.2:25") // fails, rests 10s
		step(0, "192.0.2.2:25")
		step(9*time.Second, "192.0.2.2:25")
		step(time.Second, "192.0.2.1:25 192.0.2.2:25") // the probe fails, rests 20s
		step(19*time.Second, "192.0.2.2:25")
		step(time.Second, "192.0.2.1:25 192.0.2.2:25") // rests 30s, not 40s
		step(29*time.Second, "192.0.2.2:25")
		n.host("192.0.2.1:25", sinktest.Config{})
		step(time.Second, "192.0.2.1:25") // it is back
		step(0, "192.0.2.1:25")
	})
}

func TestOneDeliveryProbesWhileTheOthersGoElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.host("192.0.2.2:25", sinktest.Config{})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}, Rest: 10 * time.Second}, nil)
		mustDeliver(t, tr)
		time.Sleep(10 * time.Second)
		// It takes connections now, and says nothing.
		n.host("192.0.2.1:25", sinktest.Config{Script: at(sinktest.Banner, &sinktest.Act{Hang: true})})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tr.Deliver(ctx, delivery(t, short, "r@out.example"))
		}()
		synctest.Wait()
		begun := time.Now()
		for range 3 {
			if o := mustDeliver(t, tr); o.Host != "[192.0.2.2]:25" {
				t.Errorf("delivered to %s", o.Host)
			}
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %v", took)
		}
		cancel()
		<-done
	})
}

func TestRestingHostsAreTriedWhenThereAreNoOthers(t *testing.T) {
	n := newNetwork(t)
	tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}}, nil)
	for range 2 {
		tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
		if got := n.dialed(); got != "192.0.2.1:25 192.0.2.2:25" {
			t.Errorf("dialled %s", got)
		}
	}
}

func TestRoundRobin(t *testing.T) {
	n := newNetwork(t)
	var servers []*sinktest.Server
	var hosts []string
	for _, h := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		servers = append(servers, n.host(h+":25", sinktest.Config{}))
		hosts = append(hosts, h)
	}
	tr := n.transport(Config{Hosts: hosts, Balance: RoundRobin}, nil)
	for range 9 {
		if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" {
			t.Fatal(briefs(out))
		}
	}
	for i, s := range servers {
		if got := len(s.Messages()); got != 3 {
			t.Errorf("host %d got %d of 9 messages", i+1, got)
		}
	}
	n.remove("192.0.2.2:25")
	servers[1].Close()
	for range 4 {
		if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" {
			t.Fatal(briefs(out))
		}
	}
}

func TestRoundRobinByWeight(t *testing.T) {
	n := newNetwork(t)
	for _, h := range []string{"192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25"} {
		n.host(h, sinktest.Config{})
	}
	tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, Weights: []int{3, 1, 1}, Balance: RoundRobin}, nil)
	got := ""
	for range 10 {
		got += strings.TrimPrefix(mustDeliver(t, tr).Host, "[192.0.2.")[:1]
	}
	if got != "1213112131" {
		t.Errorf("hosts %s", got)
	}
}

func TestLeastSessionsByWeight(t *testing.T) {
	p := newPool(Config{})
	hops := make([]hop, 2)
	taken := [2]int{}
	for i, a := range []string{"192.0.2.1", "192.0.2.2"} {
		hops[i] = tcpHop("", netip.MustParseAddr(a), 25)
	}
	hops[0].weight = 3
	for range 8 {
		order := slices.Clone(hops)
		p.sortByBusy(order)
		i := slices.IndexFunc(hops, func(h hop) bool { return h.target == order[0].target })
		taken[i]++
		p.peer(order[0].target.Address).open++
	}
	if taken != [2]int{6, 2} {
		t.Errorf("sessions %v, want 6 and 2", taken)
	}
}

func TestLeastSessionsGoesWhereFewestAreBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		slow := func(e sinktest.Event) *sinktest.Act {
			if e.Stage == sinktest.EOD {
				return &sinktest.Act{Wire: "250 2.0.0 after a while\r\n", Trickle: time.Second}
			}
			return nil
		}
		stuck := n.host("192.0.2.1:25", sinktest.Config{Script: slow})
		quick := n.host("192.0.2.2:25", sinktest.Config{})
		tr := n.transport(Config{Hosts: []string{"192.0.2.1", "192.0.2.2"}, Balance: LeastSessions}, nil)
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() { tr.Deliver(t.Context(), delivery(t, short, "r@out.example")) })
			synctest.Wait()
		}
		wg.Wait()
		if a, b := len(stuck.Messages()), len(quick.Messages()); a > 2 || b < 10 {
			t.Errorf("the slow host got %d, the quick one %d", a, b)
		}
	})
}

func TestHostWithoutAnAddressIsSkipped(t *testing.T) {
	for _, balance := range []Balance{Failover, RoundRobin} {
		n := newNetwork(t)
		n.host("192.0.2.2:25", sinktest.Config{})
		r := names{addrs: map[string][]netip.Addr{"b.example": {netip.MustParseAddr("192.0.2.2")}}}
		tr := n.transport(Config{Hosts: []string{"a.example", "b.example"}, Balance: balance}, r)
		if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" || out[0].Host != "b.example [192.0.2.2]:25" {
			t.Errorf("%s: %s at %s", balance, briefs(out), out[0].Host)
		}
		// A configured name that is gone is the administrator's mistake: nothing bounces.
		tr = n.transport(Config{Hosts: []string{"a.example"}, Balance: balance}, r)
		if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "deferred dns own 451" {
			t.Errorf("%s: %s", balance, briefs(out))
		}
	}
}

func TestAllAddressesOfAHostAreTried(t *testing.T) {
	n := newNetwork(t)
	n.host("[2001:db8::2]:25", sinktest.Config{})
	r := names{addrs: map[string][]netip.Addr{"b.example": {netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")}}}
	tr := n.transport(Config{Hosts: []string{"b.example"}}, r)
	if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" || out[0].Host != "b.example [2001:db8::2]:25" {
		t.Errorf("%s at %s", briefs(out), out[0].Host)
	}
}

func TestLogin(t *testing.T) {
	n := newNetwork(t)
	s := n.host("192.0.2.1:25", sinktest.Config{Extensions: []string{"AUTH PLAIN"}, Script: func(e sinktest.Event) *sinktest.Act {
		switch {
		case e.Stage == sinktest.Auth:
			return sinktest.Reply("334 ")
		case e.Line == "AHUAcA==":
			return sinktest.Reply("235 2.7.0 ok")
		case e.Stage == sinktest.Other:
			return sinktest.Reply("535 5.7.8 no")
		}
		return nil
	}})
	auth := smtpclient.Credentials{Mechanism: "PLAIN", Username: "u", Password: "p", AllowCleartext: true}
	tr := n.transport(Config{Hosts: []string{"192.0.2.1"}, Auth: &auth}, nil)
	if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" {
		t.Error(briefs(out))
	}
	wrong := auth
	wrong.Password = "q"
	tr = n.transport(Config{Hosts: []string{"192.0.2.1"}, Auth: &wrong}, nil)
	out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
	if briefs(out) != "deferred auth 535" {
		t.Error(briefs(out))
	}
	secret := auth
	secret.AllowCleartext = false
	tr = n.transport(Config{Hosts: []string{"192.0.2.1"}, Auth: &secret}, nil)
	if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "deferred auth own 451" || strings.Contains(out[0].Cause, "p@") {
		t.Errorf("%s %s", briefs(out), out[0].Cause)
	}
	if n := len(s.Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

func TestMXListIsTriedByPreference(t *testing.T) {
	n := newNetwork(t)
	last := n.host("192.0.2.3:25", sinktest.Config{})
	r := names{
		mx: map[string][]dns.MX{"out.example": {{Host: "a.example", Pref: 5}, {Host: "b.example", Pref: 10}, {Host: "c.example", Pref: 20}, {Host: "d.example", Pref: 30}}},
		addrs: map[string][]netip.Addr{"b.example": {netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")},
			"c.example": {netip.MustParseAddr("192.0.2.3")}, "d.example": {netip.MustParseAddr("192.0.2.4")}},
	}
	tr := n.transport(Config{Kind: MX}, r)
	d := delivery(t, short, "r@elsewhere.example")
	d.NextHop = "out.example"
	if out := tr.Deliver(t.Context(), d); briefs(out) != "delivered eod 250" || out[0].Host != "c.example [192.0.2.3]:25" {
		t.Errorf("%s at %s", briefs(out), out[0].Host)
	}
	if got := n.dialed(); got != "192.0.2.2:25 [2001:db8::2]:25 192.0.2.3:25" {
		t.Errorf("dialled %s", got)
	}
	if len(last.Messages()) != 1 {
		t.Error("no message at c.example")
	}
}

func TestEqualExchangersShareTheLoad(t *testing.T) {
	n := newNetwork(t)
	r := names{mx: map[string][]dns.MX{}, addrs: map[string][]netip.Addr{}}
	var servers []*sinktest.Server
	for _, h := range []string{"1", "2", "3"} {
		servers = append(servers, n.host("192.0.2."+h+":25", sinktest.Config{}))
		r.mx["out.example"] = append(r.mx["out.example"], dns.MX{Host: "mx" + h + ".example", Pref: 10})
		r.addrs["mx"+h+".example"] = []netip.Addr{netip.MustParseAddr("192.0.2." + h)}
	}
	tr := n.transport(Config{Kind: MX}, r)
	for range 60 {
		if out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example")); briefs(out) != "delivered eod 250" {
			t.Fatal(briefs(out))
		}
	}
	for i, s := range servers {
		// A fair die misses one of three hosts 60 times once in 10^10 runs.
		if len(s.Messages()) == 0 {
			t.Errorf("host %d got nothing", i+1)
		}
	}
}

func TestLoopsAreCut(t *testing.T) {
	addrs := map[string][]netip.Addr{"a.example": {netip.MustParseAddr("192.0.2.1")}, "b.example": {netip.MustParseAddr("192.0.2.2")},
		"self.example": {netip.MustParseAddr("192.0.2.9")}, "loop.example": {netip.MustParseAddr("127.0.0.1")}}
	mx := func(hosts ...string) []dns.MX {
		var list []dns.MX
		for i, h := range hosts {
			list = append(list, dns.MX{Host: h, Pref: uint16(10 * i)})
		}
		return list
	}
	for _, tc := range []struct {
		name  string
		mx    []dns.MX
		own   string
		want  string
		dials string
	}{
		{"we are the best, by name", mx("gw.example", "b.example"), "", "failed dns own 554", ""},
		{"we are the best, by address", mx("self.example", "b.example"), "192.0.2.9:25", "failed dns own 554", ""},
		{"we listen on all addresses", mx("loop.example"), "0.0.0.0:25", "failed dns own 554", ""},
		{"we are one of the best", []dns.MX{{Host: "a.example"}, {Host: "self.example"}}, "192.0.2.9:25", "failed dns own 554", ""},
		{"we are a backup", mx("a.example", "gw.example", "b.example"), "", "deferred connect own 451", "192.0.2.1:25"},
		{"we listen on another port", mx("self.example"), "192.0.2.9:587", "deferred connect own 451", "192.0.2.9:25"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNetwork(t)
			cfg := Config{Kind: MX}
			if tc.own != "" {
				cfg.Own = []netip.AddrPort{netip.MustParseAddrPort(tc.own)}
			}
			tr := n.transport(cfg, names{mx: map[string][]dns.MX{"out.example": tc.mx}, addrs: addrs})
			out := tr.Deliver(t.Context(), delivery(t, short, "r@out.example"))
			if got := briefs(out); got != tc.want {
				t.Errorf("outcomes %s, want %s", got, tc.want)
			}
			if out[0].Status == mail.Failed && out[0].Reply.Enhanced != "5.4.6" {
				t.Errorf("reply %s", out[0].Reply)
			}
			if got := n.dialed(); got != tc.dials {
				t.Errorf("dialled %s, want %s", got, tc.dials)
			}
		})
	}
}

func TestWithoutNextHopEachDomainGoesItsWay(t *testing.T) {
	n := newNetwork(t)
	a := n.host("192.0.2.1:25", sinktest.Config{})
	b := n.host("192.0.2.2:25", sinktest.Config{Script: at(sinktest.Rcpt, sinktest.Reply("550 5.1.1 no"))})
	r := names{addrs: map[string][]netip.Addr{"a.example": {netip.MustParseAddr("192.0.2.1")}, "b.example": {netip.MustParseAddr("192.0.2.2")}}}
	tr := n.transport(Config{Kind: MX}, r)
	out := tr.Deliver(t.Context(), delivery(t, short, "1@a.example", "2@b.example", "3@a.example"))
	if got := briefs(out); got != "delivered eod 250, failed rcpt 550, delivered eod 250" {
		t.Errorf("outcomes %s", got)
	}
	if m := a.Messages(); len(m) != 1 || len(m[0].To) != 2 || len(b.Messages()) != 0 {
		t.Errorf("messages %+v", m)
	}
}

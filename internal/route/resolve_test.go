package route

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/lookup"
	"gatepost/internal/mail"
	"gatepost/internal/recipients"
	"gatepost/internal/rewrite"
	"gatepost/internal/rewrite/srs"
	"gatepost/internal/smtp"
)

// Mail to one recipient of a domain that is passed through is; where one answer would
// have to stand for several, or the transport map leads elsewhere, it is relayed.
func TestWhoIsPassedThrough(t *testing.T) {
	engine, errs := rewrite.New(rewrite.Config{
		Virtual:      []rewrite.Table{{Lines: []string{"all@live.example a@live.example, b@live.example", "one@live.example a@live.example"}}},
		TransportMap: []rewrite.Table{{Lines: []string{"far@live.example other:", "near@live.example live:"}}},
		BCC:          []rewrite.Table{{Lines: []string{"watched@live.example archive@relayed.example"}}},
		Ours:         func(string) bool { return true }, HasTransport: func(string) bool { return true },
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	table, errs := New(Config{Hostname: "gw.example.com", Rewrite: engine, Domains: []Domain{
		{Name: "live.example", Transport: "live", Proxy: true}, {Name: "relayed.example", Transport: "next"},
	}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for local, want := range map[string]bool{
		"a": true, "one": true, "near": true, "all": false, "far": false, "watched": false, "c@relayed.example": false,
	} {
		domain := "live.example"
		if l, d, ok := strings.Cut(local, "@"); ok {
			local, domain = l, d
		}
		a := mail.Address{Local: local, Domain: domain, Raw: local + "@" + domain}
		r := mail.Recipient{Address: a, Original: a}
		all, d := table.Resolve(t.Context(), "inbound", &mail.Session{}, &r)
		if d.Act != mail.Accept || r.Route.Proxy != want {
			t.Errorf("%s: passed through %v, want %v (%v %v)", a.Raw, r.Route.Proxy, want, d.Act, d.Reason)
		}
		for i := range all {
			if all[i].Route.Proxy != want {
				t.Errorf("%s: %s is passed through: %v", a.Raw, all[i].Address.Raw, all[i].Route.Proxy)
			}
		}
	}
	if way, err := table.RouteInternal(mail.Address{Local: "a", Domain: "live.example", Raw: "a@live.example"}); err != nil || way.Proxy || way.Transport != "live" {
		t.Errorf("mail of our own: %+v, %v", way, err)
	}
}

// directory knows some recipients.
type directory struct {
	known string // addresses, each with a space behind it
	down  atomic.Bool
	asked atomic.Int32
	last  atomic.Value // the recipient of the last question
}

func (d *directory) Knows(_ context.Context, r *mail.Recipient) (bool, error) {
	d.asked.Add(1)
	d.last.Store(*r)
	if d.down.Load() {
		return false, errors.New("no\r\nanswer")
	}
	return strings.Contains(" "+d.known, " "+r.Address.Key()+" "), nil
}

func named(name string, d *directory) recipients.Named {
	return recipients.Named{Name: name, Source: d}
}

// resolve says who gets what stands behind RCPT TO:, "address transport/next hop",
// or the reply.
func resolve(t testing.TB, table *Table, c client, path string) string {
	t.Helper()
	a, rest, err := smtp.ParsePath(path, true)
	if err != nil || rest != "" {
		return "syntax"
	}
	r := mail.Recipient{Address: a, Original: a, ORcpt: "rfc822;original@x.example", Notify: mail.NotifyFailure}
	before := r
	all, d := table.Resolve(t.Context(), "inbound", c.session(), &r)
	if d.Act != mail.Accept {
		if len(all) > 0 || r.Address != before.Address || r.Route != before.Route {
			t.Errorf("%s was refused, and changed: %+v, %+v", path, all, r)
		}
		return d.Reply.String()
	}
	if r.Address != all[0].Address || r.Route != all[0].Route {
		t.Errorf("the recipient is %+v, the first is %+v", r, all[0])
	}
	var parts []string
	for _, m := range all {
		s := m.Address.String() + " " + m.Route.Transport
		if m.Route.NextHop != "" {
			s += "/" + m.Route.NextHop
		}
		if m.Route.Flow != "" {
			s += " flow " + m.Route.Flow
		}
		switch {
		case m.Notify == mail.NotifyNever && m.ORcpt == "" && m.Original == m.Address:
			s += " copy"
		case m.Original != a || m.ORcpt != before.ORcpt || m.Notify != before.Notify:
			t.Errorf("%s: the original recipient is lost: %+v", path, m)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

const (
	down    = "451 4.3.0 Lookup failed, try again later"
	noUser  = "550 5.1.1 No such recipient"
	noRelay = "550 5.7.1 Relaying denied"
)

func TestSourcesAreJoined(t *testing.T) {
	list := "file@in.example\n"
	tests := []struct {
		name string
		path string
		down string // the sources that are down
		want string
	}{
		{"listed in the file", "<file@in.example>", "", "file@in.example exchange"},
		{"known to the first source", "<one@in.example>", "", "one@in.example exchange"},
		{"known to the second source", "<two@in.example>", "", "two@in.example exchange"},
		{"known to nobody", "<none@in.example>", "", noUser},
		{"in an alias, known in the parent", "<one@alias.example>", "", "one@alias.example exchange"},
		{"in an alias, known there", "<only@alias.example>", "", "only@alias.example exchange"},
		{"in the parent, known in an alias", "<only@in.example>", "", noUser},
		{"with an extension", "<one+x@in.example>", "", "one+x@in.example exchange"},
		{"with an extension, in an alias", "<one+x@alias.example>", "", "one+x@alias.example exchange"},
		{"all sources down", "<none@in.example>", "one two", down},
		{"one source down, known to nobody else", "<none@in.example>", "one", down},
		{"one source down, known to the other", "<two@in.example>", "one", "two@in.example exchange"},
		{"the other down, known to the one", "<one@in.example>", "two", "one@in.example exchange"},
		{"all down, listed in the file", "<file@in.example>", "one two", "file@in.example exchange"},
		{"all down, the postmaster waits as well", "<postmaster@in.example>", "one two", down},
		{"the postmaster whom nobody knows", "<postmaster@in.example>", "", "admin@other.example other"},
		{"a catch-all for those whom nobody knows", "<none@catch.example>", "", "all@catch.example catch"},
		{"no catch-all for those whom somebody knows", "<one@catch.example>", "", "one@catch.example catch"},
		{"no catch-all while a source is down", "<none@catch.example>", "one", down},
		{"a domain without sources", "<none@other.example>", "", "none@other.example other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			one, two := &directory{known: "one@in.example only@alias.example one@catch.example "}, &directory{known: "two@in.example "}
			one.down.Store(strings.Contains(tt.down, "one"))
			two.down.Store(strings.Contains(tt.down, "two"))
			table := newTable(t, Config{
				Hostname: "gw.example", Postmaster: address(t, "admin@other.example"),
				Domains: []Domain{
					{Name: "in.example", Aliases: []string{"alias.example"}, Transport: "exchange", Delimiter: "+", RecipientFiles: []string{writeList(t, list)}, Sources: []recipients.Named{named("ldap:one", one), named("http:two", two)}},
					{Name: "catch.example", Transport: "catch", Sources: []recipients.Named{named("ldap:one", one)}, CatchAll: address(t, "all@catch.example")},
					{Name: "other.example", Transport: "other"},
				},
			})
			if tt.name == "the postmaster whom nobody knows" {
				// The address is the administrator's then, not an alias of the original.
				r := mail.Recipient{Address: address(t, "postmaster@in.example")}
				if _, d := table.Resolve(t.Context(), "inbound", stranger.session(), &r); d.Act != mail.Accept || r.Address.String() != "admin@other.example" {
					t.Errorf("got %s, %v", r.Address, d)
				}
				return
			}
			if got := resolve(t, table, stranger, tt.path); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := smtp.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestWhyARecipientHasToWaitIsForTheLogAlone(t *testing.T) {
	d := &directory{}
	d.down.Store(true)
	table := newTable(t, Config{Domains: []Domain{{Name: "in.example", Transport: "x", Sources: []recipients.Named{named("ldap:ad", d)}}}})
	r := mail.Recipient{Address: address(t, "a@in.example")}
	_, decision := table.Resolve(t.Context(), "inbound", stranger.session(), &r)
	if want := "recipients of in.example: ldap:ad: no??answer"; decision.Reason != want || strings.Contains(decision.Reply.String(), "ldap") {
		t.Errorf("reason %q, want %q; reply %s", decision.Reason, want, decision.Reply)
	}
}

func TestACalloutIsAskedForTheVeryAddressWithItsRoute(t *testing.T) {
	d := &directory{known: "a@in.example "}
	table := newTable(t, Config{
		AsksMX:  map[string]bool{"hub": true},
		Rewrite: engine(t, rewrite.Config{TransportMap: []rewrite.Table{{Lines: []string{"a+x@alias.example hub:hub.example"}}}}),
		Domains: []Domain{{Name: "in.example", Aliases: []string{"alias.example"}, Transport: "exchange", Delimiter: "+", Sources: []recipients.Named{{Name: "callout", Source: d, Exact: true}}}},
	})
	if got := resolve(t, table, stranger, "<a+x@alias.example>"); got != noUser || d.asked.Load() != 1 {
		t.Errorf("got %s after %d questions", got, d.asked.Load())
	}
	if r := d.last.Load().(mail.Recipient); r.Address.String() != "a+x@alias.example" || r.Route.Transport != "hub" || r.Route.NextHop != "hub.example" {
		t.Errorf("asked for %+v", r)
	}
}

func TestAnswersOfSourcesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{known: "one@in.example "}
		kept := recipients.Named{Name: "ldap:ad", Source: recipients.Cached(d, lookup.Config{Positive: time.Hour, Negative: time.Minute})}
		table := newTable(t, Config{Domains: []Domain{{Name: "in.example", Transport: "exchange", Sources: []recipients.Named{kept}}}})
		want := func(to, want string, asked int32) {
			t.Helper()
			if got := resolve(t, table, stranger, "<"+to+"@in.example>"); got != want || d.asked.Load() != asked {
				t.Errorf("%s: got %s after %d questions, want %s after %d", to, got, d.asked.Load(), want, asked)
			}
		}
		want("one", "one@in.example exchange", 1)
		want("none", noUser, 2)
		d.down.Store(true)
		want("ONE", "ONE@in.example exchange", 2)
		want("none", noUser, 2)
		time.Sleep(time.Minute)
		want("none", down, 3)
		want("one", "one@in.example exchange", 3)
		d.known += "none@in.example "
		d.down.Store(false)
		time.Sleep(3 * time.Second)
		want("none", "none@in.example exchange", 4)
	})
}

// silent never answers.
type silent struct{}

func (silent) Knows(ctx context.Context, _ *mail.Recipient) (bool, error) {
	<-ctx.Done()
	return false, context.Cause(ctx)
}

func TestASourceThatHangsCostsABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []recipients.Named{{Name: "one", Source: silent{}}, {Name: "two", Source: silent{}}}
		table := newTable(t, Config{LookupTimeout: 20 * time.Second, Domains: []Domain{{Name: "in.example", Aliases: []string{"alias.example"}, Transport: "x", Delimiter: "+", Sources: all}}})
		start := time.Now()
		if got := resolve(t, table, stranger, "<a+b@alias.example>"); got != down || time.Since(start) != 20*time.Second {
			t.Errorf("got %s after %s", got, time.Since(start))
		}
	})
}

func TestRouteAsksNoNetwork(t *testing.T) {
	d := &directory{known: "one@in.example "}
	table := newTable(t, Config{Domains: []Domain{{Name: "in.example", Transport: "exchange", RecipientFiles: []string{writeList(t, "file\n")}, Sources: []recipients.Named{named("ldap:ad", d)}}}})
	if got := rcpt(t, table, "inbound", stranger, "<file@in.example>"); got != "exchange" {
		t.Error(got)
	}
	if got := rcpt(t, table, "inbound", stranger, "<one@in.example>"); got != "451 4.3.0" || d.asked.Load() > 0 {
		t.Errorf("got %s after %d questions", got, d.asked.Load())
	}
}

func engine(t testing.TB, cfg rewrite.Config) *rewrite.Engine {
	t.Helper()
	e, errs := rewrite.New(cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return e
}

// rewriting is a table with every stage in use.
func rewriting(t testing.TB) *Table {
	lines := func(all ...string) []rewrite.Table { return []rewrite.Table{{Lines: all}} }
	domains := []Domain{
		{Name: "in.example", Aliases: []string{"alias.example"}, Transport: "exchange", ContentFlow: "strict", Delimiter: "+",
			RecipientFiles: []string{writeList(t, "anna\nbert\nsales\nmapped\n")}},
		{Name: "lists.example", Transport: "lists"},
		{Name: "*", Transport: "internet", AsksMX: true},
	}
	ours, parent := Names(domains)
	e := engine(t, rewrite.Config{
		Canonical: lines("a.berg anna@in.example"),
		Virtual: lines("info anna@in.example, bert@in.example", "away@in.example away@out.example", "dead@in.example nobody@in.example", "half@in.example nobody@in.example, anna@in.example",
			"loop@in.example pool@in.example", "pool@in.example loop@in.example", "literal@in.example x@[192.0.2.1]", "host@in.example x@gw.example", "movers@in.example gone@in.example, anna@in.example",
			"@lists.example anna@in.example"),
		TransportMap: lines("mapped@in.example hub:hub.example", "out.example smart"),
		Relocated:    lines("gone@in.example gone@new.example"),
		RecipientBCC: lines("bert@in.example archive@store.example, anna@in.example"),
		Generic:      lines("@store.example @archive.example"), GenericTransports: []string{"internet"},
		Ours: ours, Parent: parent, Delimiters: "+",
	})
	return newTable(t, Config{
		Hostname: "gw.example", Domains: domains, Rewrite: e, AsksMX: map[string]bool{"internet": true, "hub": true},
		ContentFlows: map[string]string{"inbound": "normal"},
	})
}

func TestResolveRewrites(t *testing.T) {
	tests := []struct {
		name   string
		client client
		path   string
		want   string
	}{
		{"nothing to do", stranger, "<anna@in.example>", "anna@in.example exchange flow strict"},
		{"canonical", stranger, "<a.berg@in.example>", "anna@in.example exchange flow strict"},
		{"canonical, in an alias, with an extension", stranger, "<A.Berg+x@alias.example>", "anna+x@in.example exchange flow strict"},
		{"one to many, and a copy for one who gets it already", stranger, "<info@in.example>", "anna@in.example exchange flow strict, bert@in.example exchange flow strict"},
		{"an alias need not be a known recipient", stranger, "<info@alias.example>", "anna@in.example exchange flow strict, bert@in.example exchange flow strict"},
		{"copies", stranger, "<bert@in.example>", "bert@in.example exchange flow strict, archive@store.example internet/store.example flow strict copy, anna@in.example exchange flow strict copy"},
		{"an alias leads outside, through the transport map; the flow goes with it", stranger, "<away@in.example>", "away@out.example smart flow strict"},
		{"what a client may not reach himself", stranger, "<away@out.example>", noRelay},
		{"for a client that may relay", trusted, "<away@out.example>", "away@out.example smart flow normal"},
		{"the transport map for one address", stranger, "<mapped@in.example>", "mapped@in.example hub/hub.example flow strict"},
		{"an alias to nobody", stranger, "<dead@in.example>", noUser},
		{"an alias to nobody and somebody", stranger, "<half@in.example>", "anna@in.example exchange flow strict"},
		{"a circle is nobody's fault outside", stranger, "<loop@in.example>", down},
		{"an address literal is no way out", stranger, "<literal@in.example>", "550 5.7.1 Mail to address literals is not accepted"},
		{"nor is this host", stranger, "<host@in.example>", noUser},
		{"relocated", stranger, "<gone@in.example>", "550 5.1.6 Recipient has moved to gone@new.example"},
		{"relocated, in an alias", stranger, "<gone+x@alias.example>", "550 5.1.6 Recipient has moved to gone@new.example"},
		{"one member has moved", stranger, "<movers@in.example>", "anna@in.example exchange flow strict"},
		{"a domain of aliases only", stranger, "<x@lists.example>", "anna@in.example exchange flow strict"},
		{"nobody", stranger, "<none@in.example>", noUser},
		{"a route in the local part", stranger, "<a%b@in.example>", noRelay},
	}
	table := rewriting(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := resolve(t, table, tt.client, tt.path); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestWhileATableIsDownMailWaits(t *testing.T) {
	bad := rewrite.LookupFunc(func(context.Context, string) ([]string, error) { return nil, errors.New("no answer") })
	tables := []rewrite.Table{{Lookup: bad, Name: "ldap:ad"}}
	for name, cfg := range map[string]rewrite.Config{
		"canonical": {Canonical: tables}, "virtual": {Virtual: tables}, "bcc": {BCC: tables}, "transport map": {TransportMap: tables}, "relocated": {Relocated: tables},
	} {
		table := newTable(t, Config{Hostname: "gw.example", Domains: []Domain{{Name: "in.example", Transport: "exchange"}}, Rewrite: engine(t, cfg)})
		if got := resolve(t, table, stranger, "<a@in.example>"); got != down {
			t.Errorf("%s: %s", name, got)
		}
		if got := resolve(t, table, stranger, "<a@out.example>"); got != noRelay {
			t.Errorf("%s: relaying is denied first: %s", name, got)
		}
	}
}

func TestOurOwnMailFollowsTheTransportMap(t *testing.T) {
	d := rewrite.LookupFunc(func(_ context.Context, key string) ([]string, error) {
		return map[string][]string{"far.example": {"smart"}}[key], nil
	})
	table := newTable(t, Config{
		Hostname: "gw.example", AsksMX: map[string]bool{"mx": true},
		Rewrite: engine(t, rewrite.Config{TransportMap: []rewrite.Table{{Lines: []string{"out.example smart", "hub.example mx:x.example"}}, {Lookup: d, Name: "ldap:ad"}}}),
		Domains: []Domain{{Name: "in.example", Transport: "exchange"}},
	})
	for to, want := range map[string][2]mail.Route{
		"a@out.example": {{Domain: "*", Transport: "smart"}, {Domain: "*", Transport: "smart"}},
		"a@hub.example": {{Domain: "*", Transport: "mx", NextHop: "x.example"}, {Domain: "*", Transport: "mx", NextHop: "x.example"}},
		"a@far.example": {{Domain: "*", Transport: BuiltinInternet, NextHop: "far.example"}, {Domain: "*", Transport: "smart"}},
		"a@in.example":  {{Domain: "in.example", Transport: "exchange"}, {Domain: "in.example", Transport: "exchange"}},
	} {
		if got, err := table.RouteInternal(address(t, to)); err != nil || got != want[0] {
			t.Errorf("%s without network: %+v, %v", to, got, err)
		}
		if got, err := table.ResolveInternal(t.Context(), address(t, to)); err != nil || got != want[1] {
			t.Errorf("%s: %+v, %v", to, got, err)
		}
	}
}

func TestBouncesToSRSFindTheirWay(t *testing.T) {
	r, err := srs.New(srs.Config{Secrets: []string{"0123456789abcdef"}, Domain: "srs.example"})
	if err != nil {
		t.Fatal(err)
	}
	local, err := r.Forward("anna", "far.example", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	table := newTable(t, Config{Hostname: "gw.example", SRS: r, Domains: []Domain{
		{Name: "in.example", Transport: "exchange"}, {Name: "*", Transport: "internet", AsksMX: true},
	}})
	for path, want := range map[string]string{
		"<" + local + "@srs.example>":                                    "anna@far.example internet/far.example",
		"<" + strings.ToLower(local) + "@SRS.example>":                   "anna@far.example internet/far.example",
		"<" + strings.Replace(local, "anna", "eve", 1) + "@srs.example>": noUser,
		"<other@srs.example>":                                            noRelay,
		"<" + local + "@in.example>":                                     local + "@in.example exchange",
		"<" + local + "@other.example>":                                  noRelay,
	} {
		if got := resolve(t, table, stranger, path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestExplainTellsEveryStep(t *testing.T) {
	x := rewriting(t).Explain(t.Context(), "inbound", stranger.session(), address(t, "b@in.example"))
	if x.Action != "reject" || x.Reply != noUser || len(x.Recipients) > 0 {
		t.Errorf("got %+v", x)
	}
	x = rewriting(t).Explain(t.Context(), "inbound", stranger.session(), address(t, "bert@alias.example"))
	got, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "address": "bert@alias.example",
 "listener": "inbound",
 "action": "accept",
 "steps": [
  {
   "stage": "domain",
   "address": "bert@alias.example",
   "text": "the domain entry in.example, of which alias.example is an alias"
  },
  {
   "stage": "bcc",
   "address": "bert@alias.example",
   "table": "inline:1",
   "pattern": "bert@in.example",
   "result": [
    "archive@store.example",
    "anna@in.example"
   ]
  },
  {
   "stage": "recipients",
   "address": "bert@alias.example",
   "text": "known (file)"
  },
  {
   "stage": "generic",
   "address": "archive@store.example",
   "table": "inline:1",
   "pattern": "@store.example",
   "result": [
    "archive@archive.example"
   ]
  }
 ],
 "recipients": [
  {
   "address": "bert@alias.example",
   "domain": "in.example",
   "transport": "exchange",
   "flow": "strict"
  },
  {
   "address": "archive@store.example",
   "sent": "archive@archive.example",
   "domain": "*",
   "transport": "internet",
   "next_hop": "store.example",
   "flow": "strict",
   "copy": true
  },
  {
   "address": "anna@in.example",
   "domain": "in.example",
   "transport": "exchange",
   "flow": "strict",
   "copy": true
  }
 ]
}`
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
}

// FuzzStrangersReachOnlyWhatTablesName: the rewriting opens no way out that is not
// in a table.
func FuzzStrangersReachOnlyWhatTablesName(f *testing.F) {
	for _, s := range []string{"<anna@in.example>", "<info+x@alias.example>", "<away@in.example>", "<away@out.example>", `<"a@b"@in.example>`, "<postmaster>", "<x@lists.example>", "<a.berg@gw.example>"} {
		f.Add(s)
	}
	table := rewriting(f)
	ours := map[string]bool{"exchange": true, "lists": true, "hub": true}
	f.Fuzz(func(t *testing.T, path string) {
		a, _, err := smtp.ParsePath(path, true)
		if err != nil {
			return
		}
		r := mail.Recipient{Address: a, Original: a}
		all, d := table.Resolve(t.Context(), "inbound", stranger.session(), &r)
		if d.Act != mail.Accept {
			return
		}
		for _, m := range all {
			if to := m.Address.Key(); !ours[m.Route.Transport] && to != "away@out.example" && to != "away+"+strings.TrimPrefix(to, "away+") && to != "archive@store.example" {
				t.Fatalf("%q: %q goes to %+v", path, m.Address, m.Route)
			}
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	table := rewriting(b)
	a, session := address(b, "anna@in.example"), stranger.session()
	b.ReportAllocs()
	for b.Loop() {
		r := mail.Recipient{Address: a, Original: a}
		if _, d := table.Resolve(b.Context(), "inbound", session, &r); d.Act != mail.Accept {
			b.Fatal(d)
		}
	}
}

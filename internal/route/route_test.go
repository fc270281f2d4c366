package route

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// client is who sends: a stranger, a host in trusted_networks, an authenticated user.
type client int

const (
	stranger client = iota
	trusted
	user
)

func (c client) session() *mail.Session {
	s := &mail.Session{Client: netip.MustParseAddrPort("192.0.2.9:4711"), Trusted: c == trusted}
	if c == user {
		s.User = "anna"
	}
	return s
}

// example is the routing of most tests: two domains of ours, one of them only
// on the listener "partner", and the Internet for those who may.
func example(t testing.TB) *Table {
	return newTable(t, Config{
		Hostname:   "gw.example",
		Postmaster: mail.Address{Local: "admin", Domain: "in.example", Raw: "admin@in.example"},
		Domains: []Domain{
			{Name: "in.example", Aliases: []string{"alias.example", "xn--bcher-kva.example"}, Transport: "exchange"},
			{Name: "lists.example", Transport: "lists", RecipientFiles: []string{writeList(t, "one@lists.example\ntwo\n@free.example\nonly@old.example\n")},
				Aliases: []string{"old.example", "free.example"}, Delimiter: "+"},
			{Name: "partner.example", Listener: "partner", Transport: "partner"},
			{Name: "in.example", Listener: "special", Transport: "special"},
			{Name: "*", Transport: "internet", AsksMX: true},
			{Name: "*", Listener: "smarthost", Transport: "smarthost"},
		},
	})
}

func newTable(t testing.TB, cfg Config) *Table {
	t.Helper()
	table, errs := New(cfg)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return table
}

func writeList(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recipients.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rcpt routes what stands behind RCPT TO: and returns the outcome in one word
// list: "transport/next hop" or the code and enhanced code of the refusal.
func rcpt(t testing.TB, table *Table, listener string, c client, path string) string {
	t.Helper()
	a, rest, err := smtp.ParsePath(path, true)
	if err != nil || rest != "" {
		return "syntax"
	}
	r := &mail.Recipient{Address: a, Original: a}
	return outcome(table.Route(listener, c.session(), r), r)
}

func outcome(d mail.Decision, r *mail.Recipient) string {
	if d.Act != mail.Accept {
		if r.Route != (mail.Route{}) {
			return "refused with a route"
		}
		return strings.Join(strings.Fields(d.Reply.String())[:2], " ")
	}
	s := r.Route.Transport
	if r.Route.NextHop != "" {
		s += "/" + r.Route.NextHop
	}
	if r.Address != r.Original {
		s += " to " + r.Address.String()
	}
	return s
}

func TestRoute(t *testing.T) {
	const denied, literal, unknown = "550 5.7.1", "550 5.7.1", "550 5.1.1"
	tests := []struct {
		name     string
		listener string
		client   client
		path     string
		want     string
	}{
		{"a domain of ours", "inbound", stranger, "<v@in.example>", "exchange"},
		{"in upper case", "inbound", stranger, "<V@IN.EXAMPLE>", "exchange"},
		{"with a final dot", "inbound", stranger, "<v@in.example.>", "exchange"},
		{"an alias", "inbound", stranger, "<v@alias.example>", "exchange"},
		{"an alias by its IDN", "inbound", stranger, "<v@bücher.example>", "exchange"},
		{"a subdomain is another domain", "inbound", stranger, "<v@sub.in.example>", denied},
		{"a parent is another domain", "inbound", stranger, "<v@example>", denied},
		{"a name that only ends like ours", "inbound", stranger, "<v@notin.example>", denied},
		{"a source route is ignored, not followed", "inbound", stranger, "<@out.example:v@in.example>", "exchange"},
		{"a source route does not make a domain ours", "inbound", stranger, "<@in.example:v@out.example>", denied},
		{"a quoted local part of ours", "inbound", stranger, `<"a b"@in.example>`, "exchange"},
		{"a percent route for a client that may relay anyway", "inbound", trusted, "<a%b@in.example>", "exchange"},

		{"the Internet is closed to strangers", "inbound", stranger, "<v@out.example>", denied},
		{"and open to trusted clients", "inbound", trusted, "<v@out.example>", "internet/out.example"},
		{"and to authenticated users", "inbound", user, "<v@Out.Example>", "internet/out.example"},
		{"a trusted client's mail for our own domain stays here", "inbound", trusted, "<v@in.example>", "exchange"},
		{"an address literal", "inbound", stranger, "<v@[127.0.0.1]>", literal},
		{"an address literal from a trusted client", "inbound", trusted, "<v@[IPv6:::1]>", literal},

		{"a domain of another listener", "inbound", stranger, "<v@partner.example>", denied},
		{"a domain of this listener", "partner", stranger, "<v@partner.example>", "partner"},
		{"a listener's own entry comes first", "special", stranger, "<v@in.example>", "special"},
		{"the alias only exists for the others", "special", stranger, "<v@alias.example>", "exchange"},
		{"a listener's own * comes before names for all listeners", "smarthost", trusted, "<v@in.example>", "smarthost"},
		{"but never for strangers", "smarthost", stranger, "<v@in.example>", "exchange"},
		{"nor for their other mail", "smarthost", stranger, "<v@out.example>", denied},

		{"a listed recipient", "inbound", stranger, "<One@lists.example>", "lists"},
		{"an unlisted one", "inbound", stranger, "<none@lists.example>", unknown},
		{"an unlisted one from a trusted client", "inbound", trusted, "<none@lists.example>", unknown},
		{"listed by local part", "inbound", stranger, "<two@lists.example>", "lists"},
		{"listed by local part, in an alias", "inbound", stranger, "<two@old.example>", "lists"},
		{"listed in the parent, asked for in an alias", "inbound", stranger, "<one@old.example>", "lists"},
		{"listed in one alias, asked for there", "inbound", stranger, "<only@old.example>", "lists"},
		{"listed in one alias, asked for in the parent", "inbound", stranger, "<only@lists.example>", unknown},
		{"everyone of one domain", "inbound", stranger, "<whoever@free.example>", "lists"},
		{"an extension of a listed user", "inbound", stranger, "<one+news@lists.example>", "lists"},
		{"an extension in an alias", "inbound", stranger, "<one+news@old.example>", "lists"},
		{"an extension of nobody", "inbound", stranger, "<+news@lists.example>", unknown},
		{"an extension of an unlisted user", "inbound", stranger, "<none+news@lists.example>", unknown},

		{"postmaster without a domain", "inbound", stranger, "<Postmaster>", "exchange to admin@in.example"},
		{"postmaster at our host name", "inbound", stranger, "<postmaster@gw.example>", "exchange to admin@in.example"},
		{"postmaster at a domain that does not list him", "inbound", stranger, "<postmaster@lists.example>", "exchange to admin@in.example"},
		{"postmaster at a domain without a list", "inbound", stranger, "<postmaster@in.example>", "exchange"},
		{"someone else at our host name", "inbound", stranger, "<v@gw.example>", denied},
		{"our host name is never relayed to", "inbound", trusted, "<v@gw.example>", unknown},
	}
	table := example(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := rcpt(t, table, tt.listener, tt.client, tt.path); got != tt.want {
				t.Errorf("RCPT TO:%s: got %s, want %s", tt.path, got, tt.want)
			}
		})
	}
}

// TestNoSpellingRelays is the list of nmap's smtp-open-relay: t@d is the target
// out there, srv and ip are this host, which here is also a domain of ours.
func TestNoSpellingRelays(t *testing.T) {
	table := newTable(t, Config{Hostname: "srv.example", Domains: []Domain{
		{Name: "srv.example", Transport: "exchange"},
		{Name: "*", Transport: "internet", AsksMX: true},
	}})
	for _, path := range []string{
		"<t@d.example>", "<t%d.example@[192.0.2.1]>", "<t%d.example@srv.example>", `<"t@d.example">`, `<"t%d.example">`,
		"<t@d.example@[192.0.2.1]>", `<"t@d.example"@[192.0.2.1]>`, "<t@d.example@srv.example>", `<"t@d.example"@srv.example>`,
		"<@[192.0.2.1]:t@d.example>", "<@srv.example:t@d.example>", "<d.example!t>", "<d.example!t@[192.0.2.1]>", "<d.example!t@srv.example>",
		`<"t%d.example"@srv.example>`, `<"d.example!t"@srv.example>`, `<t\@d.example@srv.example>`, `<"t\@d.example"@srv.example>`,
		`<"t@d.example"@SRV.example.>`, "<t%d.example%e.example@srv.example>", "<@srv.example,@srv.example:t%d.example@srv.example>",
	} {
		switch got := rcpt(t, table, "inbound", stranger, path); got {
		case "550 5.7.1", "syntax":
		default:
			t.Errorf("RCPT TO:%s: %s", path, got)
		}
	}
}

func TestRelayIsDeniedInTheSameWordsForAll(t *testing.T) {
	table := example(t)
	var replies []string
	for _, path := range []string{"<v@out.example>", "<a%b@in.example>", `<"a@b"@lists.example>`, "<v@gw.example>", "<v@partner.example>"} {
		a, _, err := smtp.ParsePath(path, true)
		if err != nil {
			t.Fatal(err)
		}
		replies = append(replies, table.Route("inbound", stranger.session(), &mail.Recipient{Address: a}).Reply.String())
	}
	for _, r := range replies {
		if r != mail.ReplyRelayDenied.Reply().String() {
			t.Errorf("got %q", r)
		}
	}
}

func TestPostmasterOutsideOurDomains(t *testing.T) {
	outside := mail.Address{Local: "ops", Domain: "hoster.example", Raw: "ops@hoster.example"}
	table := newTable(t, Config{Hostname: "gw.example", Postmaster: outside, Domains: []Domain{
		{Name: "in.example", Listener: "inbound", Transport: "exchange"},
		{Name: "*", Listener: "*", Transport: "internet", AsksMX: true},
	}})
	if got := rcpt(t, table, "inbound", stranger, "<postmaster>"); got != "exchange to postmaster@in.example" {
		t.Errorf("a stranger's mail for the postmaster: %s", got)
	}
	if got := rcpt(t, table, "inbound", trusted, "<postmaster>"); got != "internet/hoster.example to ops@hoster.example" {
		t.Errorf("a trusted client's mail for the postmaster: %s", got)
	}
	if got := rcpt(t, table, "other", stranger, "<postmaster>"); got != "550 5.1.1" {
		t.Errorf("a listener without domains: %s", got)
	}
}

func TestPostmasterDefaultsToTheFirstDomain(t *testing.T) {
	table := newTable(t, Config{Hostname: "gw.example", Domains: []Domain{
		{Name: "*", Transport: "internet"}, {Name: "a.example", Transport: "a"}, {Name: "b.example", Transport: "b"},
	}})
	if got := rcpt(t, table, "inbound", stranger, "<postmaster>"); got != "a to postmaster@a.example" {
		t.Error(got)
	}
}

func TestARecipientThatIsNoneIsRefused(t *testing.T) {
	r := &mail.Recipient{}
	if got := outcome(example(t).Route("inbound", trusted.session(), r), r); got != "501 5.1.3" {
		t.Error(got)
	}
}

func TestRouteInternal(t *testing.T) {
	withAny := example(t)
	without := newTable(t, Config{Hostname: "gw.example", Domains: []Domain{
		{Name: "in.example", Aliases: []string{"alias.example"}, Listener: "inbound", Transport: "exchange"},
	}})
	listenerAny := newTable(t, Config{Hostname: "gw.example", Domains: []Domain{{Name: "*", Listener: "out", Transport: "smarthost"}}})
	tests := []struct {
		name  string
		table *Table
		to    string
		want  mail.Route
	}{
		{"a domain of ours", withAny, "v@in.example", mail.Route{Domain: "in.example", Transport: "exchange"}},
		{"an unlisted recipient is no reason to lose a report", withAny, "none@lists.example", mail.Route{Domain: "lists.example", Transport: "lists"}},
		{"a domain of one listener", withAny, "v@partner.example", mail.Route{Domain: "partner.example", Transport: "partner"}},
		{"elsewhere, by the entry for any domain", withAny, "v@out.example", mail.Route{Domain: "*", Transport: "internet", NextHop: "out.example"}},
		{"an alias on one listener", without, "v@alias.example", mail.Route{Domain: "in.example", Transport: "exchange"}},
		{"elsewhere without such an entry", without, "v@out.example", mail.Route{Domain: "*", Transport: BuiltinInternet, NextHop: "out.example"}},
		{"elsewhere by an entry of some listener", listenerAny, "v@out.example", mail.Route{Domain: "*", Transport: "smarthost"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			to, err := smtp.ParseAddress(tt.to)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tt.table.RouteInternal(to)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := withAny.RouteInternal(mail.Address{Local: "x", Domain: "gw.example", Raw: "x@gw.example"}); !errors.Is(err, ErrLoop) {
		t.Errorf("our own host name: %v", err)
	}
	for _, bad := range []mail.Address{{}, {Local: "postmaster", Raw: "postmaster"}, {Local: "x", Domain: "[192.0.2.1]", Raw: "x@[192.0.2.1]"}} {
		if r, err := withAny.RouteInternal(bad); err == nil {
			t.Errorf("%q got the route %+v", bad, r)
		}
	}
}

func TestNewReportsEverythingThatIsWrong(t *testing.T) {
	bad := writeList(t, "fine@in.example\nnot fine\n")
	_, errs := New(Config{Domains: []Domain{
		{Name: "a.example"},
		{Name: "b.example", Transport: "x", RecipientFiles: []string{"/nowhere/list", bad}},
		{Name: "c.example", Transport: "x", Aliases: []string{"d.example"}},
		{Name: "d.example", Transport: "x"},
		{Name: "*", Transport: "x"}, {Name: "*", Transport: "y"},
		{Name: "e.example", Transport: "x", Aliases: []string{"*"}},
	}})
	want := []string{"a.example: no transport", "/nowhere/list: no such file", bad + `:2: "not fine" is no entry`, "d.example is configured twice", "domain *: configured twice", `alias "*" is no domain`}
	if len(errs) != len(want) {
		t.Fatalf("got %d errors: %v", len(errs), errs)
	}
	for i, w := range want {
		if !strings.Contains(errs[i].Error(), w) {
			t.Errorf("error %d is %q, want %q in it", i, errs[i], w)
		}
	}
}

// FuzzStrangersReachOnlyOurDomains: whatever a stranger writes behind RCPT TO,
// what is accepted goes to a transport of a domain of ours, and with an address
// that no server behind us can read as another one.
func FuzzStrangersReachOnlyOurDomains(f *testing.F) {
	for _, s := range []string{
		"<v@in.example>", "<v@OUT.example>", `<"t@d.example"@in.example>`, "<t%d@in.example>", "<d!t@in.example>", "<@in.example:t@out.example>",
		"<postmaster>", "<postmaster@gw.example>", "<x@gw.example>", "<v@[127.0.0.1]>", "<v@in.example.>", "<v@bücher.example>", `<"\@"@lists.example>`,
	} {
		f.Add("inbound", s)
		f.Add("smarthost", s)
	}
	table := example(f)
	ours := map[string]bool{"exchange": true, "lists": true, "partner": true, "special": true}
	f.Fuzz(func(t *testing.T, listener, path string) {
		a, _, err := smtp.ParsePath(path, true)
		if err != nil {
			return
		}
		r := &mail.Recipient{Address: a, Original: a}
		d := table.Route(listener, stranger.session(), r)
		switch {
		case d.Act == mail.Reject && d.Reply.Permanent():
		case d.Act != mail.Accept:
			t.Fatalf("%q: %+v", path, d)
		case !ours[r.Route.Transport] || r.Route.NextHop != "" || r.Route.Domain == AnyDomain:
			t.Fatalf("%q goes to %+v", path, r.Route)
		case strings.ContainsAny(r.Address.Local, "%!@"):
			t.Fatalf("%q is accepted as %q", path, r.Address)
		}
	})
}

func BenchmarkRoute(b *testing.B) {
	table := example(b)
	a := mail.Address{Local: "two", Domain: "old.example", Raw: "two@old.example"}
	session := stranger.session()
	b.ReportAllocs()
	for b.Loop() {
		r := mail.Recipient{Address: a, Original: a}
		if d := table.Route("inbound", session, &r); d.Act != mail.Accept {
			b.Fatal(d)
		}
	}
}

func TestContentFlowIsTheDomainsOrElseTheListeners(t *testing.T) {
	table, errs := New(Config{
		Hostname: "gw.example.com",
		Domains: []Domain{
			{Name: "in.example", Transport: "exchange"},
			{Name: "strict.example", Aliases: []string{"alias.example"}, Transport: "exchange", ContentFlow: "strict"},
			{Name: "*", Transport: "internet"},
		},
		ContentFlows: map[string]string{"inbound": "normal"},
	})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	tests := []struct{ listener, to, want string }{
		{"inbound", "v@in.example", "normal"},
		{"inbound", "v@strict.example", "strict"},
		{"inbound", "v@alias.example", "strict"},
		{"inbound", "v@out.example", "normal"},
		{"other", "v@in.example", ""},
		{"other", "v@strict.example", "strict"},
		{"inbound", "postmaster", "normal"},
	}
	for _, tt := range tests {
		a, _, err := smtp.ParsePath("<"+tt.to+">", true)
		if err != nil {
			t.Fatal(err)
		}
		r := &mail.Recipient{Address: a, Original: a}
		if d := table.Route(tt.listener, trusted.session(), r); d.Act != mail.Accept || r.Route.Flow != tt.want {
			t.Errorf("%s on %s: %s, flow %q, want %q", tt.to, tt.listener, d.Act, r.Route.Flow, tt.want)
		}
	}
	if r, err := table.RouteInternal(mail.Address{Local: "v", Domain: "strict.example", Raw: "v@strict.example"}); err != nil || r.Flow != "" {
		t.Errorf("mail of our own has the flow %q (%v)", r.Flow, err)
	}
}

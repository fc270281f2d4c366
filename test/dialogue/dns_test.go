package dialogue

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

const zone = `
good.example.        60 IN MX  10 mx.good.example.
mx.good.example.     60 IN A   127.0.0.1
implicit.example.    60 IN A   127.0.0.1
second.example.      60 IN MX  10 gone.second.example.
second.example.      60 IN MX  20 mx.good.example.
null.example.        60 IN MX  0 .
noaddress.example.   60 IN MX  10 gone.noaddress.example.
noaddress.example.   60 IN MX  20 also.noaddress.example.
loop.example.        60 IN MX  10 gw.example.com.
worse.example.       60 IN MX  10 mx.good.example.
worse.example.       60 IN MX  20 gw.example.com.
toolong.example.     60 IN MX  10 mx.good.example.
cut.example.         60 IN MX  10 mx.good.example.
servfail.example.    60 IN MX  10 mx.good.example.
refused.example.     60 IN MX  10 mx.good.example.
silent.example.      60 IN MX  10 mx.good.example.
noanswer.example.    60 IN MX  10 mx.noanswer.example.
`

// DUR-25: what the name service says, and what becomes of the mail.
func TestNameServiceDecidesWhatBecomesOfTheMail(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, zone)
	names.Script("servfail.example", "MX", dnstest.Behaviour{Rcode: "SERVFAIL"})
	names.Script("refused.example", "MX", dnstest.Behaviour{Rcode: "REFUSED"})
	names.Script("silent.example", "MX", dnstest.Behaviour{Drop: true})
	names.Script("cut.example", "MX", dnstest.Behaviour{Truncate: true, CloseTCP: true})
	names.Script("toolong.example", "MX", dnstest.Behaviour{Truncate: true})
	for _, kind := range []string{"A", "AAAA"} {
		names.Script("mx.noanswer.example", kind, dnstest.Behaviour{Rcode: "SERVFAIL"})
	}
	tests := []struct {
		domain string
		want   string // "delivered", "deferred", or the status that is reported
		code   string // of the outcome, for deferred
	}{
		{"good.example", "delivered", ""},
		{"implicit.example", "delivered", ""},
		{"second.example", "delivered", ""},
		{"worse.example", "delivered", ""},
		{"toolong.example", "delivered", ""},
		{"servfail.example", "deferred", "4.4.3"},
		{"refused.example", "deferred", "4.4.3"},
		{"silent.example", "deferred", "4.4.3"},
		{"cut.example", "deferred", "4.4.3"},
		{"noanswer.example", "deferred", "4.4.3"},
		{"unknown.example", "5.1.2", ""},
		{"null.example", "5.1.10", ""},
		{"noaddress.example", "5.4.4", ""},
		{"loop.example", "5.4.6", ""},
	}
	s, reports := next(t, sink.Options{}), next(t, sink.Options{})
	g := mxGateway(t, s, reports, names)
	c := g.Hello("")
	for _, tt := range tests {
		give(t, c, "ada@out.example", "bob@"+tt.domain, "Subject: "+tt.domain+"\n\nbody\n")
	}
	s.WaitMails(t, 5, patience)
	reports.WaitMails(t, 4, patience)
	for _, tt := range tests {
		switch tt.want {
		case "delivered":
			n := 0
			for _, m := range s.Mails() {
				n += strings.Count(m.To[0], "<bob@"+tt.domain+">")
			}
			if n != 1 {
				t.Errorf("%s: delivered %d times", tt.domain, n)
			}
		case "deferred":
			gatepost.Eventually(t, tt.domain+" is deferred", patience, func() bool {
				rows, err := g.Queue()
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rows {
					if r["next_hop"] == tt.domain && strings.Contains(orEmpty(r["last_error"]), "451 "+tt.code) {
						return true
					}
				}
				return false
			})
		default:
			theReport(t, reports, "bob@"+tt.domain, "failed", tt.want)
		}
	}
	if n := len(s.Mails()); n != 5 {
		t.Errorf("%d mails delivered", n)
	}
	if out, err := g.Run("queue", "delete", "--all", "--yes"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
}

// mxGateway is a gateway that asks the name server for mail exchangers, and finds
// the sink there. Reports go to another sink.
func mxGateway(t *testing.T, s, reports *sink.Sink, names *dnstest.Server) *gatepost.Instance {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var more strings.Builder
	fmt.Fprintf(&more, "[dns]\nservers = [%q]\ntimeout = \"500ms\"\n", names.Addr())
	fmt.Fprintf(&more, "[[transport]]\nname = \"mx\"\nkind = \"mx\"\nport = %s\nretry = { delays = [\"1h\"] }\n", port)
	for line := range strings.Lines(zone + "unknown.example. x IN MX 1 x\n") {
		name, rest, _ := strings.Cut(line, ". ")
		if strings.Count(name, ".") == 1 && (strings.Contains(rest, "IN MX") || strings.Contains(rest, "IN A")) && !strings.Contains(more.String(), fmt.Sprintf("%q", name)) {
			fmt.Fprintf(&more, "[[domain]]\nname = %q\ntransport = \"mx\"\n", name)
		}
	}
	return behind(t, reports, gatepost.Settings{More: more.String()})
}

// Mail for a domain whose exchanger is the address that we listen on would come
// back to us.
func TestMailThatWouldComeBackToUsIsRefused(t *testing.T) {
	t.Parallel()
	reports := next(t, sink.Options{})
	g := gatepost.New(t, gatepost.Options{Settings: gatepost.Settings{Next: reports.Addr}})
	host, port, err := net.SplitHostPort(g.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	names := dnstest.Start(t, "own.example. 60 IN MX 10 alias.own.example.\nalias.own.example. 60 IN A "+host+"\n")
	g.Configure(gatepost.Settings{Next: reports.Addr, More: fmt.Sprintf("[dns]\nservers = [%q]\n\n"+
		"[[domain]]\nname = \"own.example\"\ntransport = \"mx\"\n[[transport]]\nname = \"mx\"\nkind = \"mx\"\nport = %s\n", names.Addr(), port)})
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	give(t, g.Hello(""), "ada@out.example", "bob@own.example", message)
	theReport(t, reports, "bob@own.example", "failed", "5.4.6")
	drained(t, g)
}

// LIM-05: two gateways that send a message back and forth end that at max_hops.
func TestALoopBetweenTwoGatewaysEnds(t *testing.T) {
	t.Parallel()
	reports := next(t, sink.Options{})
	out := fmt.Sprintf("[[domain]]\nname = \"out.example\"\ntransport = \"reports\"\n[[transport]]\nname = \"reports\"\nkind = \"smtp\"\nhosts = [%q]\n", reports.Addr)
	a := gatepost.New(t, gatepost.Options{})
	b := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: a.SMTP, More: out, Limits: "max_hops = 10"}})
	a.Configure(gatepost.Settings{Next: b.SMTP, More: out, Limits: "max_hops = 10"})
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	give(t, a.Hello(""), "ada@out.example", "bob@in.example", message)
	r := theReport(t, reports, "bob@in.example", "failed", "5.4.6")
	if n := strings.Count(r.original, "Received: from"); n != 10 {
		t.Errorf("%d hops:\n%s", n, r.original)
	}
	drained(t, a)
	drained(t, b)
}

// lookup.zone and lookup.query: the exchangers are asked for under another name,
// from another name server.
func TestExchangersAreLookedUpElsewhere(t *testing.T) {
	t.Parallel()
	public := dnstest.Start(t, "mx.in.internal. 60 IN A 127.0.0.1\n")
	inside := dnstest.Start(t, "far.example.in.internal. 60 IN MX 10 mx.in.internal.\nmx.in.internal.in.internal. 60 IN A 127.0.0.1\nmx.in.internal. 60 IN A 127.0.0.1\n")
	s, other := next(t, sink.Options{}), next(t, sink.Options{})
	_, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	g := behind(t, other, gatepost.Settings{More: fmt.Sprintf("[dns]\nservers = [%q]\n[[domain]]\nname = \"far.example\"\ntransport = \"mx\"\n"+
		"[[transport]]\nname = \"mx\"\nkind = \"mx\"\nport = %s\nlookup = { zone = \"in.internal\", query = [%q] }\n", public.Addr(), port, inside.Addr())})
	give(t, g.Hello(""), "ada@out.example", "bob@far.example", message)
	s.WaitMails(t, 1, patience)
	if inside.Count("far.example.in.internal", "MX") == 0 || public.Count("far.example", "MX") != 0 {
		t.Errorf("asked inside %v, outside %v", inside.Queries(), public.Queries())
	}
	drained(t, g)
}

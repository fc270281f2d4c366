package dialogue

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// Whoever is named by two aliases, or twice, gets one mail.
func TestNobodyGetsAMessageTwice(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{More: `
[rewrite]
virtual = ["team@in.example ada@in.example, bob@in.example", "staff@in.example bob@in.example, eve@in.example"]
bcc = ["ada@in.example eve@in.example"]
`})
	c := g.Hello("")
	give(t, c, "x@out.example", "ada@in.example,team@in.example,staff@in.example,bob@in.example,bob@in.example", message)
	drained(t, g)
	mails := s.Mails()
	if len(mails) != 1 || len(mails[0].To) != 3 {
		t.Fatalf("%d mails, the first to %q", len(mails), mails[0].To)
	}
	for _, to := range []string{"ada@in.example", "bob@in.example", "eve@in.example"} {
		theMail(t, s, to)
	}
}

// A copy is scanned with the message, and is no reason to take what its recipient
// refuses.
func TestACopyIsOfWhatIsTaken(t *testing.T) {
	t.Parallel()
	for _, answers := range []string{"", afterwards} {
		s := next(t, sink.Options{})
		listener := scanning
		if answers != "" {
			listener = answers
		}
		g := behind(t, s, gatepost.Settings{Listener: listener, More: filter("refused", "subject = 'refuse'", `then = "reject"`) + flowOf(`{ use = "filters" }`) + `
[[domain]]
name = "archive.example"
transport = "next"

[rewrite]
sender_bcc = ["boss@out.example all@archive.example"]
recipient_bcc = ["bob@in.example bob@archive.example"]
`})
		c := g.Hello("")
		r, err := c.Deliver("boss@out.example", []string{"bob@in.example"}, []byte("Subject: refuse\r\n\r\nx\r\n"))
		if err != nil || r.Code != 554 && answers == "" || r.Code != 250 && answers != "" {
			t.Errorf("a message that is refused, with a copy: %v, %v", r, err)
		}
		give(t, c, "boss@out.example", "bob@in.example", message)
		for _, to := range []string{"bob@in.example", "all@archive.example", "bob@archive.example"} {
			if m := theMail(t, s, to); strings.Contains(string(m.Data), "refuse") {
				t.Errorf("%s got the message that was refused", to)
			}
		}
		drained(t, g)
	}
}

// What a scan sees is the message as it came; what is released from the quarantine
// leaves as it would have, rewritten once.
func TestReleasedMailIsRewrittenOnce(t *testing.T) {
	t.Parallel()
	for _, listener := range []string{scanning, afterwards} {
		s := next(t, sink.Options{})
		g := behind(t, s, gatepost.Settings{Listener: listener, More: filter("held", `header = { From = 'pc7' }`, `then = "quarantine"`) + flowOf(`{ use = "filters" }`) + `
[rewrite]
virtual = ["team@in.example ada@in.example, bob@in.example"]
masquerade = ["in.example"]
sender_bcc = ["eve@in.example all@in.example"]
`})
		c := g.Hello(gatepost.Trusted)
		give(t, c, "eve@pc7.in.example", "team@in.example", "From: Eve <eve@pc7.in.example>\nSubject: held\n\nbody\n")
		h := quarantine(t, g, 1)[0]
		drained(t, g)
		if n := len(s.Mails()); n != 0 || h.Sender != "eve@in.example" || len(h.Recipients) != 3 {
			t.Errorf("%d mails before it was released; sender %s, recipients %s", n, h.Sender, h.Recipients)
		}
		var done any
		ask(t, g, &done, "quarantine", "release", "--json", h.ID)
		for _, to := range []string{"ada@in.example", "bob@in.example", "all@in.example"} {
			m := theMail(t, s, to)
			if text := string(m.Data); !strings.HasPrefix(m.From, "<eve@in.example>") || !strings.Contains(text, "\r\nFrom: Eve <eve@in.example>\r\nSubject: held\r\n\r\nbody\r\n") || strings.Count(text, "From:") != 1 {
				t.Errorf("from %s\n%s", m.From, text)
			}
		}
		drained(t, g)
	}
}

// A report names the recipient as the client did, and its sender is told under the
// address that is his here, whatever generic makes of both outside.
func TestReportsAfterRewriting(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Script: func(st sink.Step) sink.Reaction {
		if st.Stage == sink.RcptTo && strings.Contains(st.Line, "robert@") {
			return sink.Reaction{Reply: "550 5.1.1 no robert here"}
		}
		return sink.Reaction{}
	}})
	g := behind(t, s, gatepost.Settings{More: `
[rewrite]
sender_canonical = ["al@in.example alice@in.example"]
virtual = ["list@in.example bob@in.example"]
generic = ["bob@in.example robert@public.example", "alice@in.example shop@public.example"]
`})
	c := g.Hello("")
	give(t, c, "al@in.example", "list@in.example", message)
	if !s.Wait(patience, func() bool { return len(s.Mails()) > 0 }) {
		t.Fatal("no report")
	}
	m := s.Mails()[0]
	if m.From != "<>" && !strings.HasPrefix(m.From, "<> ") || !strings.HasPrefix(m.To[0], "<shop@public.example>") {
		t.Errorf("the report is from %s to %s", m.From, m.To)
	}
	text := string(m.Data)
	mustContain(t, "the report", text, "list@in.example", "no robert here")
	drained(t, g)
}

// The most specific entry of the transport map counts, and the transports that it
// does not name stay.
func TestTheTransportMap(t *testing.T) {
	t.Parallel()
	s, other := next(t, sink.Options{}), next(t, sink.Options{})
	table := file(t, "ada@in.example other", ".lab.example other", "lab.example next")
	settings := gatepost.Settings{Next: s.Addr, More: fmt.Sprintf("[[transport]]\nname = \"other\"\nkind = \"smtp\"\nhosts = [%q]\n[rewrite]\ntransport_map = [\"file:%s\"]\n", other.Addr, table)}
	g := gatepost.Start(t, gatepost.Options{Settings: settings})
	c := g.Hello(gatepost.Trusted)
	give(t, c, "x@in.example", "ada@in.example,bob@in.example,x@lab.example,x@pc.lab.example", message)
	for to, at := range map[string]*sink.Sink{"ada@in.example": other, "bob@in.example": s, "x@lab.example": s, "x@pc.lab.example": other} {
		theMail(t, at, to)
	}
	var found []struct {
		Recipients []struct{ Transport string }
		Steps      []struct{ Stage, Table, Pattern string }
	}
	ask(t, g, &found, "route", "--json", "ada@in.example")
	if len(found) != 1 || len(found[0].Recipients) != 1 || found[0].Recipients[0].Transport != "other" {
		t.Errorf("route says %+v", found)
	}
	if out, err := g.Run("route", "ada@in.example"); err != nil || !strings.Contains(out, table+":1") {
		t.Errorf("route does not name the line: %s, %v", out, err)
	}
	if err := os.WriteFile(table, []byte("ada@in.example other\nbob@in.example nowhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := g.Run("check"); err == nil || !strings.Contains(err.Error(), table+":2:") || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("check says %s, %v", out, err)
	}
}

// What a source said counts after a reload, also while it is down.
func TestAnswersAreKeptOverAReload(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	var down atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch address := r.URL.Query().Get("a"); {
		case down.Load():
			http.Error(w, "out of order", http.StatusServiceUnavailable)
		case strings.HasPrefix(address, "known@"):
			fmt.Fprintln(w, "OK")
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{More: fmt.Sprintf(`
[[http]]
name = "users"
url = "http://%s/?a={address}"
ok_body = "OK"
allow_private = true

[[domain]]
name = "web.example"
transport = "next"
recipients = ["http:users"]
`, web.Listener.Addr())})
	c := g.Hello("")
	mailFrom(t, c, "x@out.example")
	if got := rcpt(t, c, "known@web.example"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	before := asked.Load()
	down.Store(true)
	g.Signal(syscall.SIGHUP)
	gatepost.Eventually(t, "the configuration was loaded again", patience, func() bool { return len(linesWith(g.MailLog(), "configuration reloaded")) == 1 })
	c2 := g.Hello("")
	mailFrom(t, c2, "x@out.example")
	for to, want := range map[string]string{"known@web.example": "250 ", "new@web.example": "451 4.3.0"} {
		if got := rcpt(t, c2, to); !strings.HasPrefix(got, want) {
			t.Errorf("%s after the reload: %s (asked %d times before)", to, got, before)
		}
	}
}

// With PRDR there is one answer for each RCPT, in their order, whatever an alias
// becomes.
func TestPRDRAnswersEachRCPT(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("not for no", "recipient = 'no@in.example'", `then = "reject"`) + flowOf(`{ use = "filters" }`) + `
[rewrite]
virtual = ["team@in.example yes@in.example, no@in.example", "nobody@in.example no@in.example"]
sender_bcc = ["x@out.example copy@in.example"]
`})
	c, _, err := wire.Hello(g.SMTP, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, x := range []struct{ to, want string }{
		{"team yes team eve", "353 250 250 250 250 250"},
		{"nobody no no ann", "353 554 554 554 250 250"},
		{"nobody team", "353 554 250 250"},
	} {
		say(t, c, "MAIL FROM:<x@out.example> PRDR", "250")
		names := strings.Fields(x.to)
		for _, name := range names {
			say(t, c, "RCPT TO:<"+name+"@in.example>", "250")
		}
		say(t, c, "DATA", "354")
		if err := c.Send(crlf(message) + ".\r\n"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for range len(names) + 2 {
			r, err := c.Reply()
			if err != nil {
				t.Fatal(got, err)
			}
			got = append(got, fmt.Sprint(r.Code))
		}
		if text := strings.Join(got, " "); text != x.want {
			t.Errorf("to %s: answers %s, want %s", x.to, text, x.want)
		}
	}
	drained(t, g)
	for to, want := range map[string]int{"yes": 2, "eve": 1, "ann": 1, "copy": 3, "no": 0} {
		if n := len(mailsTo(s, to+"@in.example")); n != want {
			t.Errorf("%d mails to %s, want %d", n, to, want)
		}
	}
	// What a member of the alias refuses was taken, so it is kept; the client heard of
	// the others.
	if h := quarantine(t, g, 1)[0]; len(h.Recipients) != 1 || h.Recipients[0] != "no@in.example" {
		t.Errorf("quarantined for %s", h.Recipients)
	}
}

// route explains a recipient with his sender, of the running gateway and of a
// configuration that nobody runs.
func TestRouteExplainsTheSenderToo(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := gatepost.Settings{Next: s.Addr, More: `
[rewrite]
virtual = ["team@in.example ada@in.example, far@away.example"]
sender_canonical = ["old@out.example new@out.example"]
sender_bcc = ["new@out.example log@in.example"]
relocated = ["gone@in.example away"]

[srs]
secret_file = "` + file(t, "0123456789abcdef0123456789") + "\"\n"}
	g := gatepost.New(t, gatepost.Options{Settings: settings})
	type destination struct {
		Address, Transport, From string
		Copy                     bool
	}
	explain := func(args ...string) {
		t.Helper()
		var found []struct {
			Action, Reply, Sender string
			Recipients            []destination
		}
		ask(t, g, &found, append([]string{"route", "--json", "--from", "old@out.example", "team@in.example", "gone@in.example"}, args...)...)
		if len(found) != 2 || found[0].Action != "accept" || found[0].Sender != "new@out.example" || len(found[0].Recipients) != 3 || found[1].Action != "reject" || !strings.HasPrefix(found[1].Reply, "550 5.1.6") {
			t.Fatalf("%q: %+v", args, found)
		}
		to := found[0].Recipients
		if !strings.HasPrefix(to[1].From, "SRS0=") || !strings.HasSuffix(to[1].From, "=out.example=new@gw.example.com") {
			t.Errorf("%q: leaves for a stranger from %s", args, to[1].From)
		}
		to[1].From = ""
		want := []destination{{"ada@in.example", "next", "new@out.example", false}, {"far@away.example", "next", "", false}, {"log@in.example", "next", "new@out.example", true}}
		if !slices.Equal(to, want) {
			t.Errorf("%q: %+v", args, to)
		}
	}
	explain("--offline")
	if out, err := g.Run("route", "team@in.example"); err == nil {
		t.Errorf("without a gateway that runs: %s", out)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	explain()
	if out, err := g.Run("route", "--from", "old@out.example", "team@in.example"); err != nil {
		t.Error(err)
	} else {
		mustContain(t, "route", out, "sender:  new@out.example", "far@away.example by transport next, from SRS0=", "log@in.example by transport next", "a copy")
	}
	for _, bad := range [][]string{{"--client", "x", "a@in.example"}, {"--from", "no address", "a@in.example"}, {"nobody"}} {
		if out, err := g.Run(append([]string{"route"}, bad...)...); err == nil {
			t.Errorf("%q: %s", bad, out)
		}
	}
}

// A mail server that can't be reached, or does not want to say now, knows nobody and
// refuses nobody; neither does a transport where nobody can be asked.
func TestACalloutThatComesToNothing(t *testing.T) {
	t.Parallel()
	eachWay(t, calloutThatComesToNothing)
}

func calloutThatComesToNothing(t *testing.T, on way) {
	s := next(t, sink.Options{Script: sink.Fail(sink.RcptTo, "450 4.2.1 ask me later")})
	g := behind(t, s, on(t, gatepost.Settings{More: fmt.Sprintf(`
[[transport]]
name = "dead"
kind = "smtp"
hosts = [%q]

[[transport]]
name = "box"
kind = "discard"

[[domain]]
name = "busy.example"
transport = "next"
recipients = ["callout"]

[[domain]]
name = "dead.example"
transport = "dead"
recipients = ["callout"]
catch_all = "all@dead.example"

[[domain]]
name = "box.example"
transport = "next"
recipients = ["callout", "file:%s"]

[rewrite]
transport_map = ["box.example box"]
`, gatepost.FreeAddress(t), file(t, "known@box.example"))}))
	c := g.Hello("")
	mailFrom(t, c, "x@out.example")
	for to, want := range map[string]string{"a@busy.example": "451 4.3.0", "a@dead.example": "451 4.3.0", "a@box.example": "451 4.3.0", "known@box.example": "250 "} {
		if got := rcpt(t, c, to); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", to, got, want)
		}
	}
}

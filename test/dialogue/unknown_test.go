package dialogue

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// onWithNames is a gateway with flows on whose name server the test has; 127.0.0.3 may
// speak for other clients.
func onWithNames(t *testing.T, s *sink.Sink, names *dnstest.Server, settings gatepost.Settings) *gatepost.Instance {
	t.Helper()
	settings.Listener = "xclient_from = [\"127.0.0.3\"]\n" + settings.Listener
	return behind(t, s, flowsOnWith(t, settings, names))
}

// lists is a connect flow that asks these lists.
func lists(zones string) gatepost.Settings {
	return gatepost.Settings{Listener: "flows = { connect = \"lists\" }", More: fmt.Sprintf(
		"[[flow]]\nname = \"lists\"\nstage = \"connect\"\nblocks = [{ use = \"access\", deny = [\"198.51.100.0/24\"] }, { use = \"trust\" }, { use = \"dnsbl\", zones = [%s], threshold = 3, timeout = \"1s\" }]\n", zones)}
}

// SCN-07: lists that fail, each in its way, cost a client no more time than the block has, and
// decide nothing: the other checks do.
func TestListsThatFailAreUnknown(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, onZone)
	var zones []string
	for zone, b := range map[string]dnstest.Behaviour{"servfail.example": {Rcode: "SERVFAIL"}, "refused.example": {Rcode: "REFUSED"}, "silent.example": {Drop: true}, "cut.example": {Truncate: true, CloseTCP: true}} {
		zones = append(zones, fmt.Sprintf("%q", zone))
		names.Add(t, "2.0.0.127."+zone+". 60 IN A 127.0.0.2")
		for _, client := range []string{"7.113.0.203.", "9.113.0.203."} {
			names.Script(client+zone, "A", b)
		}
	}
	for _, client := range []string{"7.113.0.203.", "9.113.0.203."} {
		names.Add(t, client+"error.example. 60 IN A 127.255.255.254")
	}
	names.Add(t, "2.0.0.127.error.example. 60 IN A 127.0.0.2\n2.0.0.127.zen.example. 60 IN A 127.0.0.2\n11.113.0.203.zen.example. 60 IN A 127.0.0.2")
	names.Script("11.113.0.203.silent.example", "A", dnstest.Behaviour{Drop: true})
	s := next(t, sink.Options{})
	settings := lists(strings.Join(zones, ", ") + `, "error.example", "zen.example"`)
	settings.More = strings.Replace(settings.More, `"silent.example"`, `"silent.example*-2"`, 1)
	// The name service may take longer than all lists together.
	settings.More += fmt.Sprintf("[dns]\nservers = [%q]\ntimeout = \"10s\"\n", names.Addr())
	g := onWithNames(t, s, names, settings)
	c, _, err := wire.Hello(g.SMTP, wire.Options{Source: "127.0.0.3", Timeout: patience / 2})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	talk(t, c, "XCLIENT ADDR=203.0.113.7", "220", "EHLO client.example", "250")
	give(t, c, "ada@out.example", "bob@in.example", message)
	theMail(t, s, "bob@in.example")
	// Who is unknown is not trusted: he is asked about again.
	asClient(t, g, "203.0.113.7", "220")
	if n := names.Count("7.113.0.203.servfail.example", "A"); n < 2 {
		t.Errorf("asked %d times about a client that no list knew anything of", n)
	}
	asClient(t, g, "198.51.100.1", "554 5.7.1")
	// One that has the client has him, though a list of the good could have spoken for him.
	asClient(t, g, "203.0.113.11", "554 5.7.1")
	c = asClient(t, g, "203.0.113.9", "220")
	talk(t, c, "EHLO client.example", "250", "MAIL FROM:<ada@in.example>", "250", "RCPT TO:<bob@in.example>", "550 5.7.1", "RSET", "250",
		"MAIL FROM:<a@nowhere.example>", "250", "RCPT TO:<bob@in.example>", "550 5.1.8")
	logged(t, g, "mail id=", "203.0.113.7", "dnsbl:list-error", "=unknown")
}

// SCN-09: the names that the lists are asked for, byte for byte, and their test points.
func TestListsAreAskedByTheRightNames(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, onZone+`
		2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.zen.example. 60 IN A 127.0.0.2
		66.113.0.203.zen.example. 60 IN A 127.0.0.4
		b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.zen.example. 60 IN A 127.0.0.3`)
	g := onWithNames(t, next(t, sink.Options{}), names, lists(`"zen.example=127.0.0.2-11*3"`))
	for _, name := range []string{"2.0.0.127", "1.0.0.127", "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0", "1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"} {
		names.Wait(t, name+".zen.example", "A")
	}
	for _, x := range []struct{ client, want, asked string }{
		{"203.0.113.65", "220", "65.113.0.203"},
		{"203.0.113.66", "554", "66.113.0.203"},
		{"IPV6:::ffff:203.0.113.66", "554", "66.113.0.203"},
		{"IPV6:::ffff:203.0.113.67", "220", "67.113.0.203"},
		{"IPV6:2001:db8::1:2", "220", "2.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"},
		{"IPV6:2001:db8::ab", "554", "b.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"},
	} {
		c := asClient(t, g, x.client, x.want)
		if names.Count(x.asked+".zen.example", "A") != 1 {
			t.Errorf("%s: the list was not asked once for %s, but %v", x.client, x.asked, names.Queries())
		}
		c.Close()
	}
	for _, q := range names.Queries() {
		if strings.HasSuffix(q.Name, "zen.example") && (strings.HasPrefix(q.Name, "3.0.0.127") || q.Type == "AAAA") {
			t.Errorf("the list was asked for %v", q)
		}
	}
}

// SCN-13: a store that is lost costs a known sender one more delay, and nobody is kept
// out for good.
func TestALostStoreCostsOneMoreDelay(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flowsOn(t, gatepost.Settings{Listener: "flows = { recipient = \"grey\" }",
		More: "[[flow]]\nname = \"grey\"\nstage = \"recipient\"\nblocks = [{ use = \"greylist\", delay = \"1s\", window = \"1m\", keep = \"1h\" }]\n"}))
	passes := func(to string) {
		t.Helper()
		c := greeted(t, g, stranger, "220")
		talk(t, c, "EHLO client.example", "250", begin, "250", "RCPT TO:<"+to+">", "451 4.7.1", "RSET", "250")
		if !gatepost.Holds(patience, func() bool {
			talk(t, c, begin, "250")
			r, err := c.Cmd("RCPT TO:<%s>", to)
			if err != nil || r.Code != 250 && r.Code != 451 {
				t.Fatal(r, err)
			}
			talk(t, c, "RSET", "250")
			return r.Code == 250
		}) {
			t.Fatal("who comes back does not pass")
		}
		give(t, c, "a@out.example", to, message)
		talk(t, c, "QUIT", "221")
	}
	passes("bob@in.example")
	// Known over a restart, as long as the store is there.
	g.Stop()
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	give(t, g.Hello(stranger), "a@out.example", "bob@in.example", message)
	drained(t, g)
	g.Stop()
	stores, err := filepath.Glob(filepath.Join(g.DataDir, "records.db*"))
	if err != nil || len(stores) == 0 {
		t.Fatalf("no store in %s: %v", g.DataDir, err)
	}
	for _, name := range stores {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	passes("bob@in.example")
}

// PIP-01: who talks before the greeting is refused by the block, hears so once, and
// nothing that he said is carried out; who waits is not held to be one of them.
func TestWhoTalksBeforeTheGreetingIsRefused(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flowsOn(t, gatepost.Settings{Listener: "pregreet_delay = \"1s\""}))
	c, err := wire.Dial(g.SMTP, wire.Options{Source: stranger})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Send("EHLO x.example\r\nMAIL FROM:<ada@out.example>\r\nRCPT TO:<bob@in.example>\r\nDATA\r\nQUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	// The first line of the greeting was out, so the refusal is the answer to EHLO.
	var said []string
	for {
		r, err := c.Reply()
		if err != nil {
			break
		}
		said = append(said, r.String())
	}
	if len(said) < 2 || !strings.HasPrefix(said[0], "220 ") || !strings.HasPrefix(said[1], "554 5.7.1") || slices.ContainsFunc(said[1:], func(r string) bool { return r[0] != '5' && !strings.HasPrefix(r, "221") }) {
		t.Errorf("the server says %q", said)
	}
	served(t, g, s, "eve@in.example")
	if n := len(s.Mails()); n != 1 {
		t.Errorf("%d mails", n)
	}
	logged(t, g, "refused", "stage=connect", stranger, "pregreet")
}

// PIP-01: where it only counts, what was said early is carried out once.
func TestWhatWasSaidEarlyIsDoneOnce(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := lists(`"zen.example"`)
	settings.More = strings.Replace(settings.More, "blocks = [", "blocks = [{ use = \"pregreet\", score = 1.5 }, ", 1)
	settings.Listener += "\npregreet_delay = \"500ms\""
	g := behind(t, s, flowsOn(t, settings))
	c, err := wire.Dial(g.SMTP, wire.Options{Source: stranger})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Send("EHLO x.example\r\nMAIL FROM:<ada@out.example>\r\nRCPT TO:<bob@in.example>\r\nNOOP\r\n"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{220, 250, 250, 250, 250} {
		if r, err := c.Reply(); err != nil || r.Code != want {
			t.Fatalf("%v, %v, want %d", r, err, want)
		}
	}
	talk(t, c, "MAIL FROM:<ada@out.example>", "503", "DATA", "354")
	if err := c.Send("Subject: x\r\n\r\n.\r\n"); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Reply(); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	m := theMail(t, s, "bob@in.example")
	mustContain(t, "the mail", string(m.Data), "pregreet")
	talk(t, c, "NOOP", "250", "QUIT", "221")
}

// One message of each kind of client goes through all of it: flows, login, rewriting
// and scanning together do to it what each of them is for.
func TestEverythingOnDoesWhatEachIsFor(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flowsOn(t, gatepost.Settings{More: "[[domain]]\nname = \"on.example\"\ntransport = \"next\"\n" +
		filter("tag", "subject = '^tag$'", `then = ["mark", 'subject:"[T] "']`)}))
	c := g.Hello(stranger)
	talk(t, c, begin, "250", "RCPT TO:<gone@on.example>", "550 5.1.6", "RCPT TO:<never@in.example>", "550 5.7.1 Never", "RSET", "250",
		"MAIL FROM:<boss@on.example>", "250", "RCPT TO:<bob@in.example>", "550 5.7.1", "RSET", "250")
	give(t, c, "ada@out.example", "team@on.example,watched@on.example", mailAbout("tag"))
	for _, to := range []string{"ada@on.example", "bob@on.example", "watched@on.example", "archive@on.example"} {
		mustContain(t, "the mail to "+to, string(theMail(t, s, to).Data), "Subject: [T] tag\r\n", "X-Gatepost-Verdict: mark (filters, tag)\r\n")
	}
	r, err := c.Deliver("ada@out.example", []string{"bob@in.example"}, []byte(crlf(mailAbout("never"))))
	if err != nil || !strings.HasPrefix(r.String(), "554 5.7.1 Never") {
		t.Errorf("what the script refuses: %v, %v", r, err)
	}
	user, _ := secure(t, g, stranger)
	say(t, user, "MAIL FROM:<ada@in.example>", "250", "RCPT TO:<friend@far.example>", "550 5.7.1", "RSET", "250", plain("ada@in.example", "ada-secret"), "235")
	give(t, user, "ada@in.example", "friend@far.example,eve@in.example", "From: ada@in.example\nCc: canonical@on.example\nSubject: out\n\nx\n")
	mustContain(t, "the user's mail", string(theMail(t, s, "friend@far.example").Data), "Cc: c@on.example\r\n", "ESMTPSA")
	theMail(t, s, "eve@in.example")
	drained(t, g)
}

package dialogue

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// The clients of these tests. The first is in trusted_networks; the harness itself
// connects from 127.0.0.1.
const (
	trusted  = gatepost.Trusted
	stranger = "127.0.0.7"
	another  = "127.0.1.9" // of another network
)

// talk sends lines and wants answers that begin as given: "RCPT TO:<a@b>", "550 5.1.1".
func talk(t *testing.T, c *wire.Conn, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		r, err := c.Cmd("%s", pairs[i])
		got := fmt.Sprintf("%d %s", r.Code, strings.Join(r.Lines, " / "))
		if err != nil || !strings.HasPrefix(got, pairs[i+1]) {
			t.Fatalf("%s: got %q, %v, want %q", pairs[i], got, err, pairs[i+1])
		}
	}
}

// greeted connects and wants a greeting that begins as given.
func greeted(t *testing.T, g *gatepost.Instance, source, want string) *wire.Conn {
	t.Helper()
	c, err := wire.Dial(g.SMTP, wire.Options{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r, err := c.Reply()
	if got := fmt.Sprintf("%d %s", r.Code, strings.Join(r.Lines, " / ")); err != nil || !strings.HasPrefix(got, want) {
		t.Fatalf("greeting of %s: got %q, %v, want %q", source, got, err, want)
	}
	return c
}

// logged waits for a line of mail.log with all of the parts.
func logged(t *testing.T, g *gatepost.Instance, parts ...string) {
	t.Helper()
	ok := gatepost.Holds(patience, func() bool {
		for line := range strings.Lines(g.MailLog()) {
			all := true
			for _, p := range parts {
				all = all && strings.Contains(line, p)
			}
			if all {
				return true
			}
		}
		return false
	})
	if !ok {
		t.Errorf("mail.log has no line with all of %q", parts)
	}
}

// flows are settings with one flow for each stage that is not "".
func flows(connect, recipient string) gatepost.Settings {
	var s gatepost.Settings
	var named []string
	for _, f := range []struct{ name, stage, text string }{{"ip", "connect", connect}, {"rcpt", "recipient", recipient}} {
		if f.text == "" {
			continue
		}
		named = append(named, fmt.Sprintf("%s = %q", f.stage, f.name))
		s.More += fmt.Sprintf("[[flow]]\nname = %q\nstage = %q\n%s\n", f.name, f.stage, f.text)
	}
	s.Listener = "flows = { " + strings.Join(named, ", ") + " }"
	return s
}

const begin = "MAIL FROM:<a@out.example>"

func TestADeniedClientIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows(`blocks = [ { use = "access", deny = ["127.0.0.7"], reply = "Ask postmaster@in.example" } ]`, ""))
	c := greeted(t, g, stranger, "554 5.7.1 Ask postmaster@in.example")
	talk(t, c, "EHLO x", "503", "QUIT", "221")
	greeted(t, g, another, "220")
	logged(t, g, "refused", "stage=connect", "127.0.0.7", "access")
}

func TestADeniedClientIsRefusedAtRcpt(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows(`delay_reject = true
blocks = [ { use = "access", deny = ["127.0.0.7"] } ]`, ""))
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x.example", "250", begin, "250", "RCPT TO:<b@in.example>", "550 5.7.1", "RCPT TO:<c@in.example>", "550 5.7.1",
		"RSET", "250", begin, "250", "RCPT TO:<b@in.example>", "550 5.7.1")
	logged(t, g, "refused", "stage=rcpt", "a@out.example", "b@in.example", "access")
}

func TestAnAllowedClientIsNotLookedAtAnyMore(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows(`blocks = [
		{ use = "access", allow = ["127.0.0.7"] },
		{ use = "access", deny = ["127.0.0.4/30"] } ]`, ""))
	greeted(t, g, stranger, "220")
	greeted(t, g, "127.0.0.6", "554")
}

func TestAListIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "denied.txt")
	if err := os.WriteFile(list, []byte("192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := flows(fmt.Sprintf(`blocks = [ { use = "access", deny_file = %q } ]`, list), "")
	s.Next = next(t, sink.Options{}).Addr
	g := gatepost.Start(t, gatepost.Options{Settings: s, Dir: dir})
	greeted(t, g, stranger, "220")
	if err := os.WriteFile(list, []byte("127.0.0.7 was rude\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !gatepost.Holds(patience, func() bool {
		c, err := wire.Dial(g.SMTP, wire.Options{Source: stranger})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r, err := c.Reply()
		return err == nil && r.Code == 554
	}) {
		t.Error("a client that was added to the list is still let in")
	}
	logged(t, g, "was rude")
}

func TestARateIsHeldAndKeptOverAReload(t *testing.T) {
	t.Parallel()
	settings := flows(`blocks = [ { use = "rate", per = "address", connections = "2/h" } ]`,
		`blocks = [ { use = "rate", per = "address", recipients = "3/h" } ]`)
	settings.Next = next(t, sink.Options{}).Addr
	g := gatepost.Start(t, gatepost.Options{Settings: settings})
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", begin, "250", "RCPT TO:<a@in.example>", "250", "RCPT TO:<b@in.example>", "250", "RCPT TO:<c@in.example>", "250",
		"RCPT TO:<d@in.example>", "451 4.7.1 Try again in ")
	greeted(t, g, stranger, "220")
	greeted(t, g, stranger, "421 4.7.0 Try again in ")
	greeted(t, g, another, "220")
	settings.More += "\n# something else\n"
	settings.Limits = "max_recipients = 500"
	g.Configure(settings)
	if _, err := g.Run("reload"); err != nil {
		t.Fatal(err)
	}
	greeted(t, g, stranger, "421 4.7.0 Try again in ")
	talk(t, c, "RCPT TO:<d@in.example>", "451 4.7.1 Try again in ")
	logged(t, g, "refused", "127.0.0.7", "more than 2/h connections")
}

func TestErrorsAreChargedToTheClient(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows(`blocks = [ { use = "rate", per = "address", errors = "3/h" } ]`, ""))
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", "FROB", "500", "FROB", "500", "FROB", "500", "QUIT", "221")
	greeted(t, g, stranger, "421 4.7.0 Try again in ")
}

func TestBytesAreChargedToTheClient(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flows(`blocks = [ { use = "rate", per = "address", bytes = "4000/h" } ]`, ""))
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250")
	give(t, c, "a@out.example", "b@in.example", "Subject: x\n\n"+strings.Repeat("0123456789\n", 360))
	talk(t, c, "QUIT", "221")
	greeted(t, g, stranger, "421 4.7.0 Try again in ")
}

func TestConcurrencyOfANetwork(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows(`blocks = [ { use = "concurrency", limit = 2 } ]`, ""))
	one, two := greeted(t, g, "127.0.1.1", "220"), greeted(t, g, "127.0.1.2", "220")
	greeted(t, g, "127.0.1.3", "421 4.7.0")
	greeted(t, g, stranger, "220")
	talk(t, one, "QUIT", "221")
	if !gatepost.Holds(patience, func() bool {
		c, err := wire.Dial(g.SMTP, wire.Options{Source: "127.0.1.3"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		r, err := c.Reply()
		return err == nil && r.Code == 220
	}) {
		t.Error("the place of a session that is over is not given away")
	}
	talk(t, two, "QUIT", "221")
}

func TestAFlowThatObservesOnlyTakesNotes(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := flows(`mode = "observe"
blocks = [ { use = "access", deny = ["127.0.0.7"] } ]`, `blocks = [
		{ use = "own-domain-spoof", mode = "observe" }, { use = "rate", mode = "observe", recipients = "1/h" }, { use = "harvest", mode = "observe", slow_after = 1, session_limit = 1 } ]`)
	g := behind(t, s, settings)
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250")
	give(t, c, "boss@in.example", "b@in.example,c@in.example", "Subject: x\n\nx\n")
	metrics := get(t, g, "/metrics")
	if !strings.Contains(metrics, `gatepost_check_answers_total{block="own-domain-spoof",result="match",stage="recipient"} 1`) ||
		!strings.Contains(metrics, `gatepost_stage_decisions_total{block="",decision="accept",flow="rcpt"} 2`) {
		t.Errorf("metrics:\n%s", metrics)
	}
}

func TestTarpitHoldsTheGreetingBack(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows(`blocks = [
		{ use = "access", deny = ["127.0.0.7"], score = 2 },
		{ use = "tarpit", delay = "1s", per_point = "500ms", when_score = 1 } ]`, ""))
	begun := time.Now()
	greeted(t, g, stranger, "220")
	if took := time.Since(begun); took < 1500*time.Millisecond {
		t.Errorf("the greeting came after %v", took)
	}
}

const listZone = `
	2.0.0.127.zen.example.   60 IN A 127.0.0.2
	66.113.0.203.zen.example. 60 IN A 127.0.0.4
	hard.example.            60 IN TXT "v=spf1 ip4:203.0.113.0/24 -all"
	hard.example.            60 IN MX 10 mx.hard.example.
	mx.hard.example.         60 IN A 203.0.113.10
	null.example.            60 IN MX 0 .
	soft.example.            60 IN TXT "v=spf1 ~all"
	soft.example.            60 IN A 203.0.113.11
	client.example.          60 IN A 203.0.113.66
	in.example.              60 IN TXT "v=spf1 ip4:203.0.113.77 -all"
`

// asClient becomes another client.
func asClient(t *testing.T, g *gatepost.Instance, addr, greeting string) *wire.Conn {
	t.Helper()
	c := greeted(t, g, "127.0.0.3", "220")
	talk(t, c, "EHLO x", "250", "XCLIENT ADDR="+addr, greeting)
	return c
}

// withNames are settings with a name server, and a client that may speak for others.
func withNames(t *testing.T, names *dnstest.Server, connect, recipient string) gatepost.Settings {
	t.Helper()
	s := flows(connect, recipient)
	s.Listener += "\nxclient_from = [\"127.0.0.3\"]"
	s.More += fmt.Sprintf("[dns]\nservers = [%q]\ntimeout = \"2s\"\n", names.Addr())
	return s
}

func TestAListInTheDNS(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, listZone)
	g := behind(t, next(t, sink.Options{}), withNames(t, names, `blocks = [ { use = "dnsbl", zones = ["zen.example=127.0.0.2-11*3"], threshold = 3 } ]`, ""))
	asClient(t, g, "203.0.113.66", "554 5.7.1")
	asClient(t, g, "203.0.113.67", "220")
	logged(t, g, "refused", "203.0.113.66", "dnsbl")
}

func TestAListThatListsEverybodyIsSwitchedOff(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, `*.zen.example. 60 IN A 127.0.0.2
		1.0.0.127.zen.example. 60 IN A 127.0.0.2
		2.0.0.127.zen.example. 60 IN A 127.0.0.2
		66.113.0.203.zen.example. 60 IN A 127.0.0.2`)
	g := behind(t, next(t, sink.Options{}), withNames(t, names, `blocks = [ { use = "dnsbl", zones = ["zen.example"], threshold = 3 } ]`, ""))
	logged(t, g, "list switched off", "zen.example")
	asClient(t, g, "203.0.113.66", "220")
	out, err := g.Run("status")
	if err != nil || !strings.Contains(out, "dnsbl") || !strings.Contains(out, "zen.example") {
		t.Errorf("status says %s, %v", out, err)
	}
}

func TestWhatTheDNSSaysOfTheSender(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, listZone)
	g := behind(t, next(t, sink.Options{}), withNames(t, names, "", `blocks = [
		{ use = "helo", resolve = false, on_match = "reject", score = 1 },
		{ use = "spf", on_softfail = "defer" },
		{ use = "own-domain-spoof" },
		{ use = "sender-domain" } ]`))
	cases := []struct{ name, client, from, want string }{
		{"SPF forbids it", "198.51.100.1", "a@hard.example", "550 5.7.23"},
		{"SPF allows it", "203.0.113.10", "a@hard.example", "250"},
		{"SPF is in doubt", "198.51.100.1", "a@soft.example", "451 4.7.1"},
		{"a domain that takes no mail", "198.51.100.1", "a@null.example", "550 5.7.27"},
		{"a domain that does not exist", "198.51.100.1", "a@gone.example", "550 5.1.8"},
		{"ours, and SPF forbids it", "198.51.100.1", "a@in.example", "550 5.7.23"},
		{"ours, and SPF allows it", "203.0.113.77", "a@in.example", "550 5.1.8"}, // the name server knows no host
		{"a bounce", "198.51.100.1", "", "250"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conn := asClient(t, g, c.client, "220")
			talk(t, conn, "EHLO client.example", "250", "MAIL FROM:<"+c.from+">", "250", "RCPT TO:<b@in.example>", c.want)
		})
	}
	conn := asClient(t, g, "198.51.100.1", "220")
	talk(t, conn, "EHLO gw.example.com", "250", "MAIL FROM:<>", "250", "RCPT TO:<b@in.example>", "550 5.7.1")
	logged(t, g, "refused", "stage=rcpt", "a@null.example", "b@in.example", "sender-domain")
}

func TestOwnDomainsNeedALogin(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flows("", `blocks = [ { use = "own-domain-spoof", except = ["news@in.example"] } ]`))
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", "MAIL FROM:<boss@in.example>", "250", "RCPT TO:<b@in.example>", "550 5.7.1 Authentication required",
		"RSET", "250", "MAIL FROM:<news@in.example>", "250", "RCPT TO:<b@in.example>", "250")
	c = greeted(t, g, trusted, "220")
	talk(t, c, "EHLO x", "250", "MAIL FROM:<boss@in.example>", "250", "RCPT TO:<b@in.example>", "250")
}

func TestAStrangerIsGreylistedAndPasses(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, flows("", `blocks = [ { use = "greylist", delay = "1s", window = "1m", keep = "1h" } ]`))
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", begin, "250", "RCPT TO:<b@in.example>", "451 4.7.1 Greylisted, try again in 1 seconds", "RSET", "250")
	logged(t, g, "refused", "stage=rcpt", "a@out.example", "b@in.example", "greylist")
	if !gatepost.Holds(patience, func() bool {
		talk(t, c, begin, "250")
		r, err := c.Cmd("RCPT TO:<b@in.example>")
		if err != nil {
			t.Fatal(err)
		}
		talk(t, c, "RSET", "250")
		return r.Code == 250
	}) {
		t.Fatal("who comes back does not pass")
	}
	// A bounce waits at DATA.
	talk(t, c, "MAIL FROM:<>", "250", "RCPT TO:<bounced@in.example>", "250", "DATA", "451 4.7.1 Greylisted", "RSET", "250")
	// Who was written to may answer at once.
	out := greeted(t, g, trusted, "220")
	talk(t, out, "EHLO x", "250")
	give(t, out, "carol@in.example", "friend@far.example", "Subject: hello\n\nhello\n")
	if !gatepost.Holds(patience, func() bool {
		list, err := g.Run("greylist", "list", "--kind", "known", "--json")
		return err == nil && strings.Contains(list, "friend@far.example")
	}) {
		t.Fatal("mail to somebody outside was not noted")
	}
	talk(t, greeted(t, g, another, "220"), "EHLO x", "250", "MAIL FROM:<friend@far.example>", "250", "RCPT TO:<carol@in.example>", "250",
		"RCPT TO:<other@in.example>", "451 4.7.1")
}

func TestTheGreylistIsManaged(t *testing.T) {
	t.Parallel()
	g := behind(t, next(t, sink.Options{}), flows("", `blocks = [ { use = "greylist", delay = "1h", window = "2h" } ]`))
	c := greeted(t, g, stranger, "220")
	try := func(want string) {
		t.Helper()
		talk(t, c, begin, "250", "RCPT TO:<b@in.example>", want, "RSET", "250")
	}
	talk(t, c, "EHLO x", "250")
	try("451 4.7.1")
	run := func(args ...string) string {
		t.Helper()
		out, err := g.Run(append([]string{"greylist"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := run("list", "--waiting"); !strings.Contains(out, "a@out.example") || !strings.Contains(out, "127.0.0.0/24") {
		t.Errorf("the list is %s", out)
	}
	run("allow", "out.example", "--note", "a friend")
	try("250")
	if out := run("list", "--kind", "allow"); !strings.Contains(out, "out.example") || !strings.Contains(out, "a friend") {
		t.Errorf("the list is %s", out)
	}
	run("forget", "--kind", "allow", "--source", "out.example")
	try("451 4.7.1")
	if out := run("forget", "--sender", "@out.example"); !strings.Contains(out, "1") {
		t.Errorf("forget says %s", out)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(run("list", "--json")), &rows); err != nil || len(rows) != 0 {
		t.Errorf("left are %v, %v", rows, err)
	}
	if _, err := g.Run("greylist", "allow", "not a thing"); err == nil {
		t.Error("anything can be allowed")
	}
	if _, err := g.Run("greylist", "forget"); err == nil {
		t.Error("everything is forgotten at once")
	}
}

func TestWhoGuessesRecipientsIsSlowedDownAndSentAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := filepath.Join(dir, "users.txt")
	if err := os.WriteFile(list, []byte("b@known.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := flows("", `blocks = [ { use = "harvest", slow_after = 2, session_limit = 3, delay = "300ms" } ]`)
	s.More += fmt.Sprintf("[[domain]]\nname = \"known.example\"\ntransport = \"next\"\nrecipients = [\"file:%s\"]\n", list)
	s.Next = next(t, sink.Options{}).Addr
	g := gatepost.Start(t, gatepost.Options{Settings: s, Dir: dir})
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", begin, "250", "RCPT TO:<x1@known.example>", "550 5.1.1", "RCPT TO:<x2@known.example>", "550 5.1.1")
	begun := time.Now()
	talk(t, c, "RCPT TO:<b@known.example>", "250")
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("the answer came after %v", took)
	}
	talk(t, c, "RCPT TO:<x3@known.example>", "550 5.1.1", "RCPT TO:<b@known.example>", "421 4.7.0")
	if _, err := c.Cmd("NOOP"); err == nil {
		t.Error("the session goes on")
	}
}

func TestTheFlowOfADomainIsInThePlaceOfTheListeners(t *testing.T) {
	t.Parallel()
	s := flows("", `blocks = [ { use = "own-domain-spoof" } ]`)
	s.More += `
[[flow]]
name = "lenient"
stage = "recipient"
blocks = [ { use = "own-domain-spoof", on_match = "deliver" } ]

[[domain]]
name = "lenient.example"
aliases = ["alias.example"]
transport = "next"
flows = { recipient = "lenient" }
`
	g := behind(t, next(t, sink.Options{}), s)
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", "MAIL FROM:<boss@in.example>", "250", "RCPT TO:<b@in.example>", "550 5.7.1",
		"RCPT TO:<b@lenient.example>", "250", "RCPT TO:<b@alias.example>", "250")
}

func TestTheNextHopIsAskedAboutRecipients(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{Script: func(step sink.Step) sink.Reaction {
		if step.Stage == sink.RcptTo && !strings.Contains(step.Line, "real@") {
			return sink.Reaction{Reply: "550 5.1.1 no such user"}
		}
		return sink.Reaction{}
	}})
	g := behind(t, s, flows("", `blocks = [ { use = "verify-recipient" } ]`))
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x", "250", begin, "250", "RCPT TO:<gone@in.example>", "550 5.1.1 No such recipient", "RCPT TO:<real@in.example>", "250")
}

func TestWhoHasPassedIsTrusted(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, listZone)
	g := behind(t, next(t, sink.Options{}), withNames(t, names, `blocks = [ { use = "trust", for = "1h" }, { use = "dnsbl", zones = ["zen.example"], threshold = 3 } ]`, ""))
	asClient(t, g, "203.0.113.67", "220")
	asClient(t, g, "203.0.113.67", "220")
	if n := names.Count("67.113.0.203.zen.example", "A"); n != 1 {
		t.Errorf("the list was asked %d times about a client that has passed", n)
	}
	asClient(t, g, "203.0.113.66", "554")
	asClient(t, g, "203.0.113.66", "554")
}

func TestFlowsAreExplainedAndNothingIsCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	message := filepath.Join(dir, "mail.eml")
	if err := os.WriteFile(message, []byte("Subject: buy\r\n\r\nnow\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := flows(`delay_reject = true
blocks = [ { use = "access", deny = ["127.0.0.7"] }, { use = "rate", per = "address", connections = "1/h" }, { use = "concurrency", limit = 50 }, { use = "tarpit", delay = "100ms" } ]`,
		`blocks = [ { use = "harvest" }, { use = "own-domain-spoof", mode = "observe" }, { use = "helo", resolve = false, scores = { unqualified = 1.5 } }, { use = "greylist", delay = "1h", window = "2h" } ]`)
	s.Listener = strings.Replace(s.Listener, " }", `, content = "all" }`, 1)
	s.More += `
[[filter]]
name = "no trade"
when = { subject = "buy" }
then = "reject"

[[flow]]
name = "all"
stage = "content"
blocks = [ { use = "filters" } ]
`
	s.Next = next(t, sink.Options{}).Addr
	g := gatepost.Start(t, gatepost.Options{Settings: s, Dir: dir})
	explain := func(args ...string) string {
		t.Helper()
		out, err := g.Run(append([]string{"flow", "explain"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	mustContain(t, "a client that is refused", explain("--client", "127.0.0.7", "--to", "b@in.example"),
		"connect: reject by access, at RCPT", "127.0.0.7 is denied", "The session gets no further than connect.")
	mustContain(t, "a client that is in doubt", explain("--client", another, "--helo", "x", "--from", "boss@in.example", "--to", "b@in.example"),
		"connect: accept", "held back for 100ms", "not asked: it would count", "route: b@in.example on listener inbound: accept",
		"recipient: accept", "own-domain-spoof  ", "would reject", "+1.50")
	mustContain(t, "a recipient that is not ours", explain("--client", another, "--to", "b@elsewhere.example"), "550 5.7.1 Relaying denied", "no further than route")
	mustContain(t, "a trusted client", explain("--client", trusted, "--to", "b@elsewhere.example"), "in trusted_networks", "recipient: accept")
	mustContain(t, "a message", explain("--client", another, "--to", "b@in.example", "--message", message), "reject by filters", "no trade")
	var x struct {
		Connect, Recipient struct {
			Action string
			Steps  []struct{ Block, Note string }
		}
	}
	if err := json.Unmarshal([]byte(explain("--client", another, "--to", "b@in.example", "--json")), &x); err != nil ||
		x.Connect.Action != "accept" || len(x.Connect.Steps) != 3 || x.Recipient.Steps[0].Block != "harvest" || x.Recipient.Steps[0].Note == "" {
		t.Errorf("got %+v, %v", x, err)
	}
	if list, err := g.Run("greylist", "list"); err != nil || !strings.Contains(list, "no such entries") {
		t.Errorf("the greylist has %s, %v", list, err)
	}
	greeted(t, g, another, "220") // the one connection that its rate has
	if _, err := g.Run("flow", "explain", "--client", "nobody"); err == nil {
		t.Error("any client can be asked about")
	}
}

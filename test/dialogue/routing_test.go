package dialogue

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// rcpt says what RCPT for an address is answered.
func rcpt(t *testing.T, c *wire.Conn, to string) string {
	t.Helper()
	r, err := c.Cmd("RCPT TO:<%s>", to)
	if err != nil {
		t.Fatal(err)
	}
	return r.String()
}

// mailFrom begins a transaction.
func mailFrom(t *testing.T, c *wire.Conn, from string) {
	t.Helper()
	if r, err := c.Cmd("RSET"); err != nil || r.Code != 250 {
		t.Fatalf("RSET: %v, %v", r, err)
	}
	if r, err := c.Cmd("MAIL FROM:<%s>", from); err != nil || r.Code != 250 {
		t.Fatalf("MAIL: %v, %v", r, err)
	}
}

// file writes a file of a test and returns its path.
func file(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// directions answers RCPT and delivers for one gateway with many rules.
const routingRules = `
[[domain]]
name = "corp.example"
aliases = ["corp-alias.example"]
transport = "next"
recipients = ["file:%s"]
recipient_delimiter = "+"
catch_all = ""

[[domain]]
name = "catch.example"
transport = "next"
recipients = ["file:%s"]
catch_all = "all@catch.example"

[rewrite]
canonical = ["a.lovelace@corp.example ada@corp.example"]
masquerade = ["corp.example"]
masquerade_exceptions = ["root"]
bcc = ["watched@corp.example archive@corp.example"]
sender_bcc = ["seen@corp.example archive@corp.example"]
virtual = ["file:%s"]
relocated = ["gone@corp.example gone@new.example"]
generic = ["bob@corp.example robert@public.example"]
generic_transports = ["next"]
`

func routing(t *testing.T) (*sink.Sink, *gatepost.Instance) {
	users := file(t, "ada@corp.example", "bob@corp.example", "watched@corp.example", "archive@corp.example", "gone@corp.example")
	virtual := file(t, "team@corp.example ada@corp.example, bob@corp.example, ada@corp.example", "ring1@corp.example ring2@corp.example", "ring2@corp.example ring1@corp.example",
		"ghosts@corp.example nobody@corp.example")
	s := next(t, sink.Options{})
	return s, behind(t, s, gatepost.Settings{More: fmt.Sprintf(routingRules, users, file(t, "real@catch.example"), virtual)})
}

// Who exists is accepted, in each spelling of the domain; who does not is refused,
// and nobody is while tables go in circles.
func TestWhoIsAccepted(t *testing.T) {
	t.Parallel()
	_, g := routing(t)
	c := g.Hello("127.0.0.1")
	defer c.Quit()
	mailFrom(t, c, "stranger@out.example")
	for _, x := range []struct{ to, want string }{
		{"ada@corp.example", "250 2.1.5"},
		{"ADA@Corp.Example", "250 2.1.5"},
		{"ada@corp-alias.example", "250 2.1.5"},
		{"ada+news@corp.example", "250 2.1.5"},
		{"a.lovelace@corp.example", "250 2.1.5"},
		{"team@corp.example", "250 2.1.5"},
		{"anybody@catch.example", "250 2.1.5"},
		{"nobody@corp.example", "550 5.1.1"},
		{"ghosts@corp.example", "550 5.1.1"},
		{"nobody@corp-alias.example", "550 5.1.1"},
		{"gone@corp.example", "550 5.1.6 Recipient has moved to gone@new.example"},
		{"ring1@corp.example", "451 "},
		{"ada@elsewhere.example", "550 5.7.1"},
	} {
		if got := rcpt(t, c, x.to); !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %s, want %s", x.to, got, x.want)
		}
	}
}

// Those whom an alias stands for get the mail once each, copies go to those who
// are to see it, and what leaves has the names that others know.
func TestWhoGetsIt(t *testing.T) {
	t.Parallel()
	s, g := routing(t)
	c := g.Hello("127.0.0.1")
	defer c.Quit()
	give(t, c, "stranger@out.example", "team@corp.example,watched@corp.example,anybody@catch.example", "From: stranger@out.example\nSubject: x\n\nx\n")
	for _, to := range []string{"ada@corp.example", "robert@public.example", "watched@corp.example", "archive@corp.example", "all@catch.example"} {
		m := theMail(t, s, to)
		if !strings.HasPrefix(m.From, "<stranger@out.example>") || !strings.Contains(string(m.Data), "From: stranger@out.example\r\n") {
			t.Errorf("to %s from %s:\n%s", to, m.From, m.Data)
		}
	}
	if found := mailsTo(s, "bob@corp.example"); len(found) > 0 {
		t.Errorf("%d mails went to the address that generic hides", len(found))
	}
}

// The header of mail from our own side has its canonical addresses; names, comments
// and the body stay.
func TestHeadersOfOurOwnMail(t *testing.T) {
	t.Parallel()
	s, g := routing(t)
	c := g.Hello(gatepost.Trusted)
	defer c.Quit()
	give(t, c, "seen@pc7.corp.example", "friend@out.example", "From: \"A. (L.)\" <a.lovelace@corp.example> (home)\nTo: friend@out.example,\n bob@pc7.corp.example\nSubject: a.lovelace@corp.example\n\na.lovelace@corp.example\n")
	m := theMail(t, s, "friend@out.example")
	if !strings.HasPrefix(m.From, "<seen@corp.example>") {
		t.Errorf("from %s", m.From)
	}
	want := "From: \"A. (L.)\" <ada@corp.example> (home)\r\nTo: friend@out.example,\r\n robert@public.example\r\nSubject: a.lovelace@corp.example\r\n\r\na.lovelace@corp.example\r\n"
	if !strings.Contains(string(m.Data), want) {
		t.Errorf("got\n%s", m.Data)
	}
	theMail(t, s, "archive@corp.example")
}

// A message that is rewritten and marked has both.
func TestRewritingMeetsFilters(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("tag", "subject = 'x'", `then = ['subject:"[T] "', 'header:"X-Seen: yes"']`) +
		flowOf(`{ use = "filters" }`) + "[rewrite]\ncanonical = [\"old@in.example new@in.example\"]\n"})
	c := g.Hello(gatepost.Trusted)
	defer c.Quit()
	give(t, c, "old@in.example", "friend@out.example", "From: Old <old@in.example>\nSubject: x\n\nold@in.example\n")
	m := theMail(t, s, "friend@out.example")
	if text := string(m.Data); !strings.Contains(text, "From: Old <new@in.example>\r\n") || !strings.Contains(text, "Subject: [T] x\r\n") ||
		!strings.HasSuffix(text, "\r\n\r\nold@in.example\r\n") || !strings.HasPrefix(m.From, "<new@in.example>") {
		t.Errorf("from %s\n%s", m.From, text)
	}
}

// The sender of forwarded mail is wrapped, and a bounce finds its way back.
func TestForwardingWithSRS(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{More: "[rewrite]\nvirtual = [\"fwd@in.example me@far.example\"]\n[srs]\nsecret_file = " +
		fmt.Sprintf("%q", file(t, "0123456789abcdef0123456789"))})
	c := g.Hello("127.0.0.1")
	defer c.Quit()
	give(t, c, "anna@out.example", "fwd@in.example", "Subject: x\n\nx\n")
	m := theMail(t, s, "me@far.example")
	srs := regexp.MustCompile(`^<(SRS0=[^@]+=out\.example=anna@gw\.example\.com)>`).FindStringSubmatch(m.From)
	if srs == nil {
		t.Fatalf("from %s", m.From)
	}
	give(t, c, "", srs[1], "Subject: bounce\n\nx\n")
	theMail(t, s, "anna@out.example")
	mailFrom(t, c, "")
	if got := rcpt(t, c, strings.Replace(srs[1], "=anna@", "=eve@", 1)); !strings.HasPrefix(got, "550 ") {
		t.Errorf("a forged address: %s", got)
	}
	if _, err := c.Cmd("RSET"); err != nil {
		t.Fatal(err)
	}
	// Our own senders and mail to ourselves stay.
	give(t, c, "anna@out.example", "user@in.example", "Subject: x\n\nx\n")
	if m := theMail(t, s, "user@in.example"); !strings.HasPrefix(m.From, "<anna@out.example>") {
		t.Errorf("to ourselves from %s", m.From)
	}
}

// A source that can't be asked means later, never no and never yes.
func TestASourceThatIsDown(t *testing.T) {
	t.Parallel()
	eachWay(t, sourceThatIsDown)
}

func sourceThatIsDown(t *testing.T, on way) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("a") {
		case "yes@web.example":
			fmt.Fprint(w, "OK")
		case "broken@web.example":
			http.Error(w, "out of order", http.StatusInternalServerError)
		default:
			http.Error(w, "nobody", http.StatusNotFound)
		}
	}))
	defer web.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	s := next(t, sink.Options{Script: func(st sink.Step) sink.Reaction {
		if st.Stage == sink.RcptTo && strings.Contains(st.Line, "unknown@") {
			return sink.Reaction{Reply: "550 5.1.1 nobody"}
		}
		if st.Stage == sink.RcptTo && !strings.Contains(st.Line, "real@") {
			return sink.Reaction{Reply: "550 5.1.1 no such user"}
		}
		return sink.Reaction{}
	}})
	g := behind(t, s, on(t, gatepost.Settings{More: fmt.Sprintf(`
[[http]]
name = "web"
url = "http://%s/?a={address}"
ok_body = "OK"
allow_private = true

[[ldap]]
name = "dead"
url = "ldap://%s"
filter = "(mail=%%s)"
base = "dc=x"
connect_timeout = "1s"

[[domain]]
name = "web.example"
transport = "next"
recipients = ["http:web"]

[[domain]]
name = "dead.example"
transport = "next"
recipients = ["file:%s", "ldap:dead"]

[[domain]]
name = "host.example"
transport = "next"
recipients = ["callout"]
`, web.Listener.Addr(), dead, file(t, "known@dead.example"))}))
	c := g.Hello("127.0.0.1")
	defer c.Quit()
	mailFrom(t, c, "stranger@out.example")
	for _, x := range []struct{ to, want string }{
		{"yes@web.example", "250 2.1.5"},
		{"no@web.example", "550 5.1.1"},
		{"broken@web.example", "451 4.3.0"},
		{"known@dead.example", "250 2.1.5"},
		{"other@dead.example", "451 4.3.0"},
		{"real@host.example", "250 2.1.5"},
		{"unknown@host.example", "550 5.1.1"},
	} {
		if got := rcpt(t, c, x.to); !strings.HasPrefix(got, x.want) {
			t.Errorf("%s: %s, want %s", x.to, got, x.want)
		}
	}
	var found []map[string]any
	out, err := g.Run("route", "--json", "other@dead.example", "yes@web.example")
	if err == nil {
		err = json.Unmarshal([]byte(out), &found)
	}
	if err != nil || len(found) != 2 || found[0]["action"] != "defer" || found[1]["action"] != "accept" {
		t.Errorf("route: %v, %s", err, out)
	}
}

package dialogue

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/dns/dnstest"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/slapd"
)

// scripted starts a gateway with scripts beside its configuration, by their names.
func scripted(t *testing.T, s *sink.Sink, settings gatepost.Settings, scripts map[string]string) *gatepost.Instance {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings.Next = s.Addr
	return gatepost.Start(t, gatepost.Options{Settings: settings, Dir: dir})
}

// relay is the table of another transport.
func relay(name string, s *sink.Sink) string {
	return fmt.Sprintf("[[transport]]\nname = %q\nkind = \"smtp\"\nhosts = [%q]\nretry = { delays = [\"1s\"], give_up_after = \"1h\" }\n", name, s.Addr)
}

const atRcpt = `
def recipient(s):
    to = s.envelope.recipient
    echo("asked about", to)
    if to == "log@in.example" and not s.user:
        reject("Log in first")
    if to == "later@in.example":
        defer("Come back at nine")
    if to == "gone@in.example":
        drop()
    if to == "broken@in.example":
        check(s)
    if to == "archive@in.example":
        deliver(transport="archive")
    if to == "vip@in.example":
        accept()
    if to == "slow@in.example":
        delay(0.1)

def check(s):
    fail("the table is " + "empty")
`

func TestAScriptDecidesAboutRecipients(t *testing.T) {
	t.Parallel()
	s, archive := next(t, sink.Options{}), next(t, sink.Options{})
	settings := flows("", `blocks = [ { use = "script", file = "rcpt.star" }, { use = "rate", per = "network", recipients = "4/h", reply = "Enough" } ]`)
	settings.More += relay("archive", archive)
	g := scripted(t, s, settings, map[string]string{"rcpt.star": atRcpt})
	c := g.Hello(stranger)
	talk(t, c, begin, "250",
		"RCPT TO:<log@in.example>", "550 5.7.1 Log in first",
		"RCPT TO:<later@in.example>", "451 4.7.1 Come back at nine",
		"RCPT TO:<broken@in.example>", "451 4.7.1",
		"RCPT TO:<slow@in.example>", "250",
		"RCPT TO:<archive@in.example>", "250", "RSET", "250")
	give(t, c, "a@out.example", "archive@in.example,b@in.example", message)
	theMail(t, archive, "archive@in.example")
	theMail(t, s, "b@in.example")
	talk(t, c, begin, "250", "RCPT TO:<x@in.example>", "451 4.7.1 Enough", "RCPT TO:<vip@in.example>", "250")
	if r, err := c.Cmd("RCPT TO:<gone@in.example>"); err == nil {
		t.Errorf("a client to be dropped got %v", r)
	}
	logged(t, g, "script says", "asked about log@in.example", "script=rcpt.star")
	logged(t, g, "script failed", "session=", "line=21", "the table is empty", "rcpt.star:12:14 in recipient")
	logged(t, g, "refused", "stage=rcpt", "Log in first")
}

func TestAScriptAtConnectHasItsWordAtRcpt(t *testing.T) {
	t.Parallel()
	star := "def connect(s):\n    if in_network(s.client.address, file = \"bad.txt\"):\n        reject(\"Your network is closed\")\n"
	g := scripted(t, next(t, sink.Options{}), flows("delay_reject = true\nblocks = [ { use = \"script\", file = \"ip.star\" } ]", ""),
		map[string]string{"ip.star": star, "bad.txt": "127.0.0.0/29\n"})
	c := greeted(t, g, stranger, "220")
	talk(t, c, "EHLO x.example", "250", begin, "250", "RCPT TO:<b@in.example>", "550 5.7.1 Your network is closed")
	talk(t, greeted(t, g, another, "220"), "EHLO x.example", "250", begin, "250", "RCPT TO:<b@in.example>", "250")
}

const atContent = `
def content(s):
    m = s.message
    if m.subject == "hold":
        quarantine("it wants to be held")
    if m.subject == "no":
        reject("Not this one")
    if m.subject == "never":
        discard()
    if m.subject == "break":
        fail("broken")
    if m.subject == "mark":
        mark(tag = "[M] ")
        add_header("X-Marked", "by script")
        remove_header("X-Secret")
    if match(r"\[#\d+\]", m.subject):
        deliver(transport = "helpdesk")
    if m.subject == "mine" and s.envelope.recipient == "ada@in.example":
        redirect("eve@in.example")
    if m.subject == "sum":
        score(2.5, "sum")
    if m.subject == "high" and s.score >= 4:
        quarantine("the score is %g" % s.score)
`

// mailAbout is a message with a subject.
func mailAbout(subject string) string {
	return "From: a@out.example\nTo: b@in.example\nX-Secret: 42\nSubject: " + subject + "\n\nhello\n"
}

func TestAScriptDecidesAboutContent(t *testing.T) {
	t.Parallel()
	s, helpdesk := next(t, sink.Options{}), next(t, sink.Options{})
	more := flowOf(`{ use = "filters" }, { use = "script", file = "content.star" }, { use = "score", quarantine = 2 }`) +
		filter("high", `subject = "^high$"`, `then = "score:4"`) + relay("helpdesk", helpdesk)
	g := scripted(t, s, gatepost.Settings{Listener: scanning, More: more}, map[string]string{"content.star": atContent})
	c := g.Hello("")
	give(t, c, "a@out.example", "hold@in.example", mailAbout("hold"))
	if m := quarantine(t, g, 1)[0]; m.Block != "script" || m.Rule != "content.star" || m.Reason != "it wants to be held" || m.Threat != "filter" {
		t.Errorf("%+v", m)
	}
	for subject, want := range map[string]string{"no": "554 5.7.1 Not this one", "break": "451 4.7.1"} {
		r, err := c.Deliver("a@out.example", []string{"b@in.example"}, []byte(crlf(mailAbout(subject))))
		if err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("%s: %v, %v, want %s", subject, r, err, want)
		}
	}
	logged(t, g, "script failed", "id=", "session=", "broken", "content.star:11:")
	give(t, c, "a@out.example", "never@in.example", mailAbout("never"))
	give(t, c, "a@out.example", "mark@in.example", mailAbout("mark"))
	text := string(theMail(t, s, "mark@in.example").Data)
	mustContain(t, "the marked mail", text, "Subject: [M] mark\r\n", "X-Marked: by script\r\n", "X-Gatepost-Verdict: mark (script, content.star)\r\n")
	if strings.Contains(text, "X-Secret") {
		t.Errorf("a field was not removed:\n%s", text)
	}
	give(t, c, "a@out.example", "help@in.example", mailAbout("Re: [#47] broken"))
	mustContain(t, "a ticket", string(theMail(t, helpdesk, "help@in.example").Data), "X-Secret: 42\r\n")
	give(t, c, "a@out.example", "ada@in.example,bob@in.example", mailAbout("mine"))
	theMail(t, s, "eve@in.example")
	theMail(t, s, "bob@in.example")
	give(t, c, "a@out.example", "sum@in.example", mailAbout("sum"))
	if m := quarantine(t, g, 2)[0]; m.Block != "score" || m.Score != 2.5 {
		t.Errorf("%+v", m)
	}
	give(t, c, "a@out.example", "high@in.example", mailAbout("high"))
	if m := quarantine(t, g, 3)[0]; m.Block != "script" || m.Reason != "the score is 4.0" {
		t.Errorf("%+v", m)
	}
	drained(t, g)
	if len(mailsTo(s, "ada@in.example"))+len(mailsTo(s, "never@in.example"))+len(mailsTo(s, "help@in.example")) > 0 {
		t.Error("mail went where it should not")
	}
}

func TestWhatTheSessionScoredCountsAtContent(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := flows(`blocks = [ { use = "script", file = "all.star" } ]`, `blocks = [ { use = "script", file = "all.star" } ]`)
	settings.Listener = strings.Replace(settings.Listener, "{", `{ content = "inbound", `, 1)
	settings.More += flowOf(`{ use = "score", mark = 1, quarantine = 3 }`)
	g := scripted(t, s, settings, map[string]string{"all.star": `
def connect(s):
    score(1.5, "odd client")

def recipient(s):
    if s.envelope.recipient == "trap@in.example":
        score(2, "trap")
`})
	c := g.Hello(stranger)
	give(t, c, "a@out.example", "trap@in.example,fine@in.example", mailAbout("hi"))
	m := quarantine(t, g, 1)[0]
	if m.Score != 3.5 || !strings.Contains(m.Reason, "3.5 of it from the session: script:odd-client, script:trap") || m.Recipients[0] != "trap@in.example" {
		t.Errorf("%+v", m)
	}
	mustContain(t, "the mail for another recipient", string(theMail(t, s, "fine@in.example").Data),
		"X-Gatepost-Score: 1.5 (mark 1.0, quarantine 3.0)\r\n", "X-Gatepost-Report: script:odd-client 1.5\r\n")
	// The next message of the session has nothing of the trap.
	give(t, c, "a@out.example", "again@in.example", mailAbout("hi"))
	mustContain(t, "the next mail", string(theMail(t, s, "again@in.example").Data), "X-Gatepost-Score: 1.5 ")
}

func TestAContentFlowThatObservesDelivers(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	more := strings.Replace(flowOf(`{ use = "script", file = "content.star" }`), "stage =", "mode = \"observe\"\nstage =", 1) + relay("helpdesk", s)
	g := scripted(t, s, gatepost.Settings{Listener: scanning, More: more},
		map[string]string{"content.star": atContent})
	for _, subject := range []string{"hold", "no", "never", "break", "mark"} {
		give(t, g.Hello(""), "a@out.example", subject+"@in.example", mailAbout(subject))
		text := string(theMail(t, s, subject+"@in.example").Data)
		mustContain(t, subject, text, "X-Secret: 42\r\nSubject: "+subject+"\r\n", "X-Gatepost-Verdict: deliver\r\n")
	}
	file := filepath.Join(t.TempDir(), "hold.eml")
	if err := os.WriteFile(file, []byte(crlf(mailAbout("hold"))), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := g.Run("scan", "--recipient", "b@in.example", file)
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, "the explanation", out, "deliver: would quarantine (script: content.star: it wants to be held)")
}

func TestABlockOfAContentFlowThatObserves(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := scripted(t, s, gatepost.Settings{Listener: scanning, More: flowOf(`{ use = "script", file = "content.star", mode = "observe" }, { use = "script", file = "tag.star" }`) + relay("helpdesk", s)},
		map[string]string{"content.star": atContent, "tag.star": "def content(s):\n    set_subject(\"[T] \")\n"})
	give(t, g.Hello(""), "a@out.example", "b@in.example", mailAbout("hold"))
	mustContain(t, "the mail", string(theMail(t, s, "b@in.example").Data), "Subject: [T] hold\r\n")
}

func TestScriptsAskTheNameService(t *testing.T) {
	t.Parallel()
	names := dnstest.Start(t, "null.example. 300 IN MX 0 .")
	g := scripted(t, next(t, sink.Options{}), func() gatepost.Settings {
		settings := flows("", `blocks = [ { use = "script", file = "mx.star" } ]`)
		settings.More += fmt.Sprintf("[dns]\nservers = [%q]\n", names.Addr())
		return settings
	}(), map[string]string{"mx.star": `
def recipient(s):
    if s.envelope.sender and dns(domain(s.envelope.sender), "MX") == ["."]:
        reject("Your domain takes no mail")
    if rate("to " + s.envelope.recipient, "2/h"):
        defer("Too much")
`})
	c := g.Hello(stranger)
	talk(t, c, "MAIL FROM:<a@null.example>", "250", "RCPT TO:<b@in.example>", "550 5.7.1 Your domain takes no mail", "RSET", "250",
		"MAIL FROM:<>", "250", "RCPT TO:<b@in.example>", "250", "RCPT TO:<b@in.example>", "250", "RCPT TO:<b@in.example>", "451 4.7.1 Too much")
}

func TestScriptsAreReloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "r.star"), []byte("def recipient(s):\n    "+text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`reject("one") if rate("all", "2/h") else None`)
	settings := flows("", `blocks = [ { use = "script", file = "r.star" } ]`)
	settings.Next = next(t, sink.Options{}).Addr
	g := gatepost.Start(t, gatepost.Options{Settings: settings, Dir: dir})
	c := g.Hello(stranger)
	talk(t, c, begin, "250", "RCPT TO:<b@in.example>", "250", "RCPT TO:<c@in.example>", "250")
	write("rejekt()")
	fails(t, g, 1, "reload")
	talk(t, c, "RCPT TO:<d@in.example>", "550 5.7.1 one", "RSET", "250")
	// What was counted is known after a reload as well.
	write(`reject("two") if rate("all", "2/h") else None`)
	if out, err := g.Run("reload"); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	talk(t, g.Hello(stranger), begin, "250", "RCPT TO:<b@in.example>", "550 5.7.1 two")
}

const people = `
dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: cn=Bob \2B Co,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
cn: Bob + Co
sn: Sales
mail: bob+co@in.example
userPassword: secret
`

// The examples of the manual, with real servers behind them.
func TestScriptsAskDirectoriesServersAndServices(t *testing.T) {
	t.Parallel()
	ldap := slapd.Run(t, slapd.Config{LDIF: people})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quota" && r.URL.Query().Get("who") == "bob+co@in.example" {
			fmt.Fprintln(w, `{"full": false}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(web.Close)
	s := next(t, sink.Options{Script: func(step sink.Step) sink.Reaction {
		switch {
		case step.Stage == sink.RcptTo && !strings.Contains(step.Line, "<bob+co@") && !strings.Contains(step.Line, "<poor@"):
			return sink.Reaction{Reply: "550 5.1.1 nobody"}
		case step.Stage == sink.RcptTo && strings.Contains(step.Line, "<busy@"):
			return sink.Reaction{Reply: "451 4.3.0 later"}
		}
		return sink.Reaction{}
	}})
	settings := flows("", `blocks = [ { use = "script", file = "all.star" } ]`)
	settings.Listener = "auth = [\"PLAIN\"]\n" + strings.Replace(settings.Listener, "{", `{ auth = "people", `, 1)
	settings.More += "[[flow]]\nname = \"people\"\nstage = \"auth\"\nblocks = [ { use = \"script\", file = \"all.star\" } ]\n" +
		fmt.Sprintf("[[ldap]]\nname = \"dir\"\nurl = [%q]\nbind_dn = %q\npassword_file = \"ldap.pw\"\nbase = %q\nfilter = \"(mail=%%s)\"\n", ldap.URL, slapd.Admin, slapd.Base) +
		fmt.Sprintf("[[http]]\nname = \"web\"\nurl = \"%s/other?user={user}\"\nallow_private = true\n", web.URL)
	g := scripted(t, s, settings, map[string]string{"ldap.pw": slapd.Password + "\n", "all.star": `
def auth(s):
    if ldap_bind("dir", "cn={user},ou=people,dc=example,dc=com", s.password, user = s.login):
        accept(user = lower(s.login), senders = ["bob+co@in.example"])
    reject()

def recipient(s):
    to = s.envelope.recipient
    if to == "away@in.example":
        http("` + strings.Replace(web.URL, "127.0.0.1", "127.0.0.2", 1) + `/")
    if not smtp_rcpt("next", to):
        reject("The server does not know them")
    found = ldap_search("dir", "(&(mail={mail})(!(cn=*%s*)))", mail = to, attributes = ["sn"])
    if not found:
        reject("No such user")
    echo("found", found[0]["dn"], found[0]["sn"])
    answer = http("` + web.URL + `/quota?who={who}", who = to)
    if not answer.ok or json_decode(answer.body)["full"]:
        defer("The mailbox is full")
    if s.user:
        echo("from", s.user)
`})
	c, _ := secure(t, g, "")
	say(t, c, plain("Bob + Co", "guess"), "535 5.7.8", plain("Bob + Co", "secret"), "235 2.7.0", "MAIL FROM:<bob+co@in.example>", "250",
		"RCPT TO:<eve@in.example>", "550 5.7.1 The server does not know them",
		"RCPT TO:<poor@in.example>", "550 5.7.1 No such user",
		"RCPT TO:<away@in.example>", "451 4.7.1",
		"RCPT TO:<bob+co@in.example>", "250")
	logged(t, g, "script says", "from bob + co")
	logged(t, g, "script says", "found ", "Sales")
	logged(t, g, "script failed", "http: ", "allow_private")
}

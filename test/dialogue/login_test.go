package dialogue

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// userFile writes a file of users.
func userFile(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "users.txt")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// hashed is the line that "gatepost password" makes.
func hashed(t *testing.T, password string, args ...string) string {
	t.Helper()
	cmd := exec.Command(os.Getenv(gatepost.BinaryVar), append([]string{"password"}, args...)...)
	cmd.Stdin = strings.NewReader(password + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("gatepost password %q: %v", args, err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// someUsers are ada, bob and carl with passwords of each kind.
func someUsers(t *testing.T) string {
	t.Helper()
	return userFile(t,
		"# name password may-send-as",
		"ada@in.example {PLAIN}ada-secret",
		hashed(t, "bob secret", "--bcrypt", "bob"),
		hashed(t, "carl's s\u00e9cret", "carl")+" carl@in.example,@shop.example",
	)
}

// logins are settings whose listener has users of that file; users is what stands in
// [users] and what belongs to it.
func logins(file, users string) gatepost.Settings {
	return gatepost.Settings{
		Listener: "auth = [\"PLAIN\", \"LOGIN\"]\nflows = { auth = \"people\" }",
		More: fmt.Sprintf(`
[users]
%s
[[flow]]
name = "people"
stage = "auth"
blocks = [{ use = "auth-file", file = %q }]
`, users, file),
	}
}

// secure connects from the address, starts TLS and says EHLO.
func secure(t *testing.T, g *gatepost.Instance, source string) (*wire.Conn, wire.Reply) {
	t.Helper()
	c := g.Hello(source)
	if r, err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil || r.Code != 220 {
		t.Fatalf("STARTTLS: %v, %v", r, err)
	}
	r, err := c.Cmd("EHLO client.example")
	if err != nil || r.Code != 250 {
		t.Fatalf("EHLO: %v, %v", r, err)
	}
	return c, r
}

// plain is the line that logs a user in.
func plain(user, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))
}

// loggedIn is a session whose user has logged in.
func loggedIn(t *testing.T, g *gatepost.Instance, user, password string) *wire.Conn {
	t.Helper()
	c, _ := secure(t, g, "")
	say(t, c, plain(user, password), "235 2.7.0")
	return c
}

// b64 is a line of AUTH LOGIN.
func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestUsersLogInUnderTLSOnlyAndThenRelay(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, logins(someUsers(t), ""))

	c, hello, err := wire.Hello(g.SMTP, wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if hello.Has("AUTH") || !hello.Has("STARTTLS") {
		t.Errorf("EHLO in clear text says %v", hello)
	}
	say(t, c, plain("ada@in.example", "ada-secret"), "538 5.7.11", "MAIL FROM:<ada@in.example>", "250", "RCPT TO:<eve@out.example>", "550 5.7.1")

	for _, u := range []struct{ user, password string }{{"ada@in.example", "ada-secret"}, {"bob", "bob secret"}, {"CARL", "carl's s\u00e9cret"}} {
		c, hello := secure(t, g, "")
		if !strings.Contains(hello.Text(), "AUTH PLAIN LOGIN") {
			t.Errorf("EHLO under TLS says %v", hello)
		}
		say(t, c, "MAIL FROM:<>", "250", "RCPT TO:<eve@out.example>", "550 5.7.1", "RSET", "250",
			plain(u.user, u.password), "235 2.7.0", plain(u.user, u.password), "503",
			"MAIL FROM:<>", "250", "RCPT TO:<eve@out.example>", "250", "RSET", "250")
		c.Quit()

		c, _ = secure(t, g, "")
		say(t, c, "AUTH LOGIN", "334 VXNlcm5hbWU6", b64(u.user), "334 UGFzc3dvcmQ6", b64(u.password), "235 2.7.0")
		c.Quit()
	}
	c = loggedIn(t, g, "ada@in.example", "ada-secret")
	give(t, c, "ada@in.example", "eve@out.example", "From: ada@in.example\nSubject: out\n\nbody\n")
	if m := theMail(t, s, "eve@out.example"); !strings.Contains(string(m.Data), "ESMTPSA") {
		t.Errorf("Received does not say that the user logged in:\n%s", m.Data)
	}
	logged(t, g, "logged in", "ada@in.example", "auth-file")
	mustContain(t, "metrics", get(t, g, "/metrics"), `gatepost_logins_total{listener="inbound",result="ok"} 7`)
	if strings.Contains(g.MailLog()+g.Output(), "ada-secret") {
		t.Error("a password is in the log")
	}
}

// A stranger cannot tell a user from nobody, neither by text nor by time; the log can.
func TestWrongPasswordsAndUnknownUsersGetTheSameAnswer(t *testing.T) {
	t.Parallel()
	eachWay(t, wrongPasswords)
}

func wrongPasswords(t *testing.T, on way) {
	g := gatepost.Start(t, gatepost.Options{Settings: on(t, logins(someUsers(t), "guard = { free = 50, account_failures = 60, network_failures = 90 }"))})
	c, _ := secure(t, g, "")
	var answers []string
	var fastest, slowest time.Duration
	for _, line := range []string{plain("ada@in.example", "tr0ub4dor"), plain("bob", "tr0ub4dor"), plain("carl", "tr0ub4dor"), plain("nobody", "tr0ub4dor"), plain("nobody@in.example", "ada-secret")} {
		begun := time.Now()
		r, err := c.Cmd("%s", line)
		took := time.Since(begun)
		if err != nil {
			t.Fatal(err)
		}
		if fastest == 0 || took < fastest {
			fastest = took
		}
		slowest = max(slowest, took)
		answers = append(answers, r.String())
	}
	for _, a := range answers {
		if a != "535 5.7.8 Authentication failed" {
			t.Errorf("answers %q", answers)
			break
		}
	}
	// Both are padded to the same half second; a machine under load may be late.
	if fastest < 490*time.Millisecond {
		t.Errorf("answers took %v to %v", fastest, slowest)
	}
	logged(t, g, "login failed", "session", "127.0.0.1", "bob", "auth-file: ")
	logged(t, g, "login failed", "nobody@in.example", "nobody")
	mustContain(t, "metrics", get(t, g, "/metrics"), `gatepost_logins_total{listener="inbound",result="failed"} 5`)
	if log := g.MailLog(); strings.Contains(log, "ada-secret") || strings.Contains(log, "tr0ub4dor") {
		t.Error("a password is in the log")
	}
}

// The file is read again when it changes; while it makes no sense the last good one
// holds, and a reload says so.
func TestTheFileOfUsersIsReadAgain(t *testing.T) {
	t.Parallel()
	file := userFile(t, "dora {PLAIN}first")
	g := gatepost.Start(t, gatepost.Options{Settings: logins(file, "")})
	try := func(password string) int {
		c, _ := secure(t, g, "")
		defer c.Quit()
		r, err := c.Cmd("%s", plain("dora", password))
		if err != nil {
			t.Fatal(err)
		}
		return r.Code
	}
	change := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code := try("first"); code != 235 {
		t.Fatalf("the first password: %d", code)
	}
	change("dora {PLAIN}second\n")
	gatepost.Eventually(t, "the second password works", patience, func() bool { return try("second") == 235 })
	if code := try("first"); code != 535 {
		t.Errorf("the first password is answered %d", code)
	}
	change("dora {NOSUCH}x\n")
	fails(t, g, 1, "check")
	gatepost.Eventually(t, "the log names the line", patience, func() bool {
		return try("second") == 235 && strings.Contains(g.MailLog(), "line 1")
	})
}

// Whom a user may send as is held against the envelope and against From.
func TestUsersSendAsThemselves(t *testing.T) {
	t.Parallel()
	eachWay(t, usersSendAsThemselves)
}

func usersSendAsThemselves(t *testing.T, on way) {
	s := next(t, sink.Options{})
	g := behind(t, s, on(t, logins(someUsers(t), `send_as = "own"`)))
	const notYours = "553 5.7.1 Sender address is not yours"
	ada := loggedIn(t, g, "ada@in.example", "ada-secret")
	say(t, ada, "MAIL FROM:<bob@in.example>", notYours, "MAIL FROM:<ada@out.example>", notYours,
		"MAIL FROM:<ada+tag@in.example>", "250", "RSET", "250", "MAIL FROM:<>", "250", "RSET", "250")
	for from, want := range map[string]string{
		"From: Ada <ada@in.example>":                   "250",
		"From: Boss <boss@in.example>":                 notYours,
		"From: ada@in.example, Boss <boss@in.example>": notYours,
		"From: ada@in.example\nFrom: boss@in.example":  notYours,
	} {
		r, err := ada.Deliver("ada@in.example", []string{"eve@out.example"}, []byte(crlf(from+"\n\nbody\n")))
		if err != nil || !strings.HasPrefix(r.String(), want) {
			t.Errorf("%q: %v, %v, want %s", from, r, err, want)
		}
	}
	logged(t, g, "refused", "user ada@in.example may not send as <bob@in.example>")

	// carl has what stands in the file, bob his name in our domains.
	carl := loggedIn(t, g, "carl", "carl's s\u00e9cret")
	say(t, carl, "MAIL FROM:<anybody@shop.example>", "250", "RSET", "250", "MAIL FROM:<ada@in.example>", notYours)
	bob := loggedIn(t, g, "bob", "bob secret")
	say(t, bob, "MAIL FROM:<bob@in.example>", "250", "RSET", "250", "MAIL FROM:<bob@out.example>", notYours)

	// Others are not users: they may not log in, and nothing of this is asked of them.
	give(t, g.Hello(gatepost.Trusted), "x@out.example", "y@out.example", "From: z@out.example\n\nbody\n")
}

// Mail over a limit is taken and held; the postmaster hears of it once; what is
// released goes out.
func TestMailOverAUsersLimitIsHeld(t *testing.T) {
	t.Parallel()
	for _, processing := range []string{"inline", "queued"} {
		t.Run(processing, func(t *testing.T) {
			t.Parallel()
			s := next(t, sink.Options{})
			settings := logins(someUsers(t), "messages_per_hour = 2\nrecipients_per_message = 3\nrecipients_per_hour = 100")
			settings.Listener = strings.Replace(settings.Listener, "flows = { ", "processing = \""+processing+"\"\nflows = { content = \"inbound\", ", 1)
			settings.More += flowOf(`{ use = "structure" }`)
			g := behind(t, s, settings)
			c := loggedIn(t, g, "ada@in.example", "ada-secret")
			const data = "From: ada@in.example\nSubject: hello\n\nbody\n"
			give(t, c, "ada@in.example", "one@out.example", data)
			wide := give(t, c, "ada@in.example", "a@out.example,b@out.example,c@in.example,d@in.example", data)
			give(t, c, "ada@in.example", "two@out.example", data)
			over := give(t, c, "ada@in.example", "three@out.example", data)
			// Another user has limits of his own.
			give(t, loggedIn(t, g, "bob", "bob secret"), "bob@in.example", "four@out.example", "From: bob@in.example\n\nbody\n")

			held := quarantine(t, g, 2)
			reasons := map[string]string{}
			for _, h := range held {
				reasons[h.ID] = h.Threat + " " + h.Reason + fmt.Sprint(len(h.Recipients))
			}
			if reasons[wide] != "policy user limit: ada@in.example: 4 recipients in a message, the limit is 34" ||
				reasons[over] != "policy user limit: ada@in.example: 3 messages in an hour, the limit is 21" {
				t.Errorf("held: %q", reasons)
			}
			drained(t, g)
			for _, who := range []string{"one", "two", "four"} {
				theMail(t, s, who+"@out.example")
			}
			notices := mailsTo(s, "postmaster@in.example")
			if len(notices) != 1 {
				t.Fatalf("the postmaster got %d mails", len(notices))
			}
			mustContain(t, "the notice", string(notices[0].Data), "ada@in.example", wide, "4 recipients in a message", "Auto-Submitted: auto-generated")
			if len(s.Mails()) != 4 {
				t.Errorf("%d mails went out", len(s.Mails()))
			}

			if out, err := g.Run("quarantine", "release", over); err != nil {
				t.Fatalf("release: %s, %v", out, err)
			}
			theMail(t, s, "three@out.example")
			states := map[string]string{}
			for _, h := range quarantine(t, g, 2) {
				states[h.ID] = h.State
			}
			if states[over] != "released" || states[wide] != "held" {
				t.Errorf("states after the release: %v", states)
			}
			mustContain(t, "metrics", get(t, g, "/metrics"), `gatepost_user_limit_held_total{listener="inbound"} 2`)
		})
	}
}

// Who guesses is slowed down, then locked out of the account, then sent away; who was
// there before is not.
func TestGuessingIsSlowedDownAndLocked(t *testing.T) {
	t.Parallel()
	eachWay(t, guessingIsSlowedDown)
}

func guessingIsSlowedDown(t *testing.T, on way) {
	const guard = `guard = { free = 1, delay = "700ms", max_delay = "800ms", account_failures = 3, network_failures = 4, ipv4_prefix = 32 }`
	settings := on(t, logins(someUsers(t), guard))
	g := gatepost.Start(t, gatepost.Options{Settings: settings})
	loggedIn(t, g, "ada@in.example", "ada-secret").Quit()

	guess := func(source, user, password string) (wire.Reply, time.Duration) {
		t.Helper()
		c, _ := secure(t, g, source)
		defer c.Close()
		begun := time.Now()
		r, err := c.Cmd("%s", plain(user, password))
		if err != nil {
			t.Fatal(err)
		}
		return r, time.Since(begun)
	}
	for i := range 3 {
		r, took := guess(stranger, "ada@in.example", fmt.Sprint("guess ", i))
		if r.Code != 535 || i > 0 && took < 1100*time.Millisecond {
			t.Errorf("guess %d: %v after %v", i, r, took)
		}
	}
	if r, _ := guess(stranger, "ada@in.example", "ada-secret"); !strings.HasPrefix(r.String(), "454 4.7.0") {
		t.Errorf("the right one after three guesses: %v", r)
	}
	if r, _ := guess(stranger, "bob", "no"); r.Code != 535 {
		t.Errorf("another account: %v", r)
	}
	if r, _ := guess(stranger, "carl", "no"); !strings.HasPrefix(r.String(), "421 4.7.0 Too many failed logins") {
		t.Errorf("the network has failed four times: %v", r)
	}
	logged(t, g, "too many failed logins", stranger)
	logged(t, g, "login refused", stranger, "carl")
	// The owner, where she logged in before, and a reload that changes nothing of it.
	if r, _ := guess("", "ada@in.example", "ada-secret"); r.Code != 235 {
		t.Errorf("the owner of the account: %v", r)
	}
	settings.Limits = "max_recipients = 177"
	g.Configure(settings)
	hangUp(t, g, 1, reloaded)
	if r, _ := guess(stranger, "carl", "no"); r.Code != 421 {
		t.Errorf("after a reload: %v", r)
	}
	mustContain(t, "metrics", get(t, g, "/metrics"), `result="locked"`)
}

// A refusal of the client that waits for RCPT spares those who log in.
func TestADelayedRejectSparesUsers(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	settings := logins(someUsers(t), "")
	settings.Listener = strings.Replace(settings.Listener, "flows = { ", "flows = { connect = \"ip\", ", 1)
	settings.More += fmt.Sprintf("[[flow]]\nname = \"ip\"\nstage = \"connect\"\ndelay_reject = true\nblocks = [{ use = \"access\", deny = [%q] }]\n", stranger)
	g := behind(t, s, settings)
	c, _ := secure(t, g, stranger)
	say(t, c, "MAIL FROM:<ada@in.example>", "250", "RCPT TO:<bob@in.example>", "550 5.7.1", "RSET", "250",
		plain("ada@in.example", "ada-secret"), "235", "MAIL FROM:<ada@in.example>", "250", "RCPT TO:<bob@in.example>", "250", "RCPT TO:<eve@out.example>", "250")
}

// What cannot work is found before anybody tries to log in.
func TestLoginsThatCannotWorkAreRefusedByCheck(t *testing.T) {
	t.Parallel()
	file := someUsers(t)
	good := logins(file, "")
	for name, change := range map[string]func(*gatepost.Settings){
		"no flow":           func(s *gatepost.Settings) { s.Listener = `auth = ["PLAIN"]` },
		"no TLS":            func(s *gatepost.Settings) { s.TLS = "off" },
		"no file":           func(s *gatepost.Settings) { s.More = strings.Replace(s.More, file, file+"x", 1) },
		"a line is no user": func(s *gatepost.Settings) { s.More = strings.Replace(s.More, file, userFile(t, "dora"), 1) },
		"no transport": func(s *gatepost.Settings) {
			s.More = strings.Replace(s.More, fmt.Sprintf(`"auth-file", file = %q`, file), `"auth-smtp", transport = "nosuch"`, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			settings := good
			change(&settings)
			g := gatepost.New(t, gatepost.Options{Settings: settings})
			fails(t, g, 1, "check")
		})
	}
	g := gatepost.New(t, gatepost.Options{Settings: good})
	if out, err := g.Run("check"); err != nil {
		t.Errorf("check: %s, %v", out, err)
	}
}

package browser_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

func TestTheFirstStepsLeadToATestMailInTheMailbox(t *testing.T) {
	next := sink.Start(t, sink.Options{})
	g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: "127.0.0.1:9"}})
	b := browser.Open(t, g)
	b.SetUp("ada", browser.Password)
	if b.Path() != "/welcome?said=setup-done" {
		t.Errorf("after making the account: %s", b.Path())
	}
	b.Shot("welcome")

	b.Expect("status of 422")
	b.Fill("#domain", "no domain")
	b.Press("form[action='/welcome/mail'] button")
	b.See("no domain")
	b.Fill("#domain", "first.example")
	b.Fill("#server", next.Addr)
	b.Press("form[action='/welcome/mail'] button")
	b.See("Mail for this domain goes to this server")

	b.Fill("#to", "bob@elsewhere.example")
	b.Press("form[action='/welcome/test'] button")
	b.See("at no domain of this gateway")
	b.Fill("#to", "bob@first.example")
	b.Press("form[action='/welcome/test'] button")
	b.See("The test mail is queued")
	if m := next.WaitMails(t, 1, 20*time.Second)[0]; !strings.Contains(string(m.Data), "Subject: Test mail from Gatepost") {
		t.Errorf("%s", m.Data)
	}

	b.Fill("#hostname", "mx.first.example")
	b.Press("form[action='/welcome/host'] button")
	b.See("New sessions are greeted with this name")
	text, err := os.ReadFile(g.ConfigFile)
	if err != nil || !strings.Contains(string(text), `hostname = "mx.first.example"`) || !strings.Contains(string(text), `name = "first.example"`) {
		t.Errorf("the file has %s, %v", text, err)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/history"
	"gatepost/internal/mail"
)

// ask runs a command about a running gateway.
func (s *site) ask(status int, args ...string) string {
	s.t.Helper()
	var out, errs bytes.Buffer
	args = append(args, "-c", s.file())
	if got := run(args, &terminal{out: &out, err: &errs}); got != status {
		s.t.Fatalf("%v: status %d, want %d: %s%s", args, got, status, out.String(), errs.String())
	}
	return out.String() + errs.String()
}

// send sends a message as a stranger, and returns the last word about it.
func (s *site) send(to, text string) string {
	s.t.Helper()
	reply, err := (&demo{demoCmd: demoCmd{SMTP: s.smtp}}).sendText(s.t.Context(), "a@out.example", to, []byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	return reply
}

func TestWhatHappenedIsFoundByTheCommandLine(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	watch := a.services.history.Watch(history.Filter{Recipient: "@in.example"})
	defer watch.Close()
	const text = "Subject: Invoice 4711\nFrom: a@out.example\n\nhello\n"
	if reply := s.send("b@in.example", text); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	if reply := s.send("b@elsewhere.example", text); !strings.HasPrefix(reply, "550 ") {
		t.Fatal("a stranger may relay: ", reply)
	}
	var kinds []mail.EventKind
	for range 2 {
		var e mail.Event
		if err := json.Unmarshal(<-watch.Lines(), &e); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
	}
	if kinds[0] != mail.EventMessage || kinds[1] != mail.EventAttempt {
		t.Errorf("the watcher saw %v", kinds)
	}

	var events []mail.Event
	if err := json.Unmarshal([]byte(s.ask(0, "history", "--json", "subject:invoice", "since:1h")), &events); err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	id := events[1].Message
	if events[0].Kind != mail.EventAttempt || events[0].Item != 1 || events[0].Message != id || events[1].Size == 0 || events[1].Recipients[0].Item != 1 {
		t.Errorf("events %+v", events)
	}
	for _, c := range []struct {
		want   string
		status int
		args   []string
	}{
		{`recipient refused .*<a@out.example> to b@elsewhere.example 550 5.7.1`, 0, []string{"history", "elsewhere.example"}},
		{`,message,accepted,` + id.String(), 0, []string{"history", "--csv", "kind:message"}},
		{`Nothing happened that fits`, 0, []string{"history", "subject:nothing"}},
		{`at character 9: "x" is none of deliver`, 2, []string{"history", "verdict:x"}},
		{`(?s)Subject +Invoice 4711.*Recipient +b@in.example: delivered.*message accepted.*attempt delivered`, 0, []string{"history", "--message", id.String()}},
		{`nothing is known of a message`, 1, []string{"history", "--message", mail.NewID().String()}},
		{`--message shows one message`, 2, []string{"history", "--message", id.String(), "x"}},
		{`(?s)SMTP-Proxy mail id=` + id.String() + `.*Queue delivery attempt id=` + id.String() + `:1`, 0, []string{"log", id.String()}},
		{`^[^\n]* Queue delivery attempt [^\n]*\n$`, 0, []string{"log", "/delivery attempt/", id.String() + ":1"}},
		{`No line of the log fits`, 0, []string{"log", "nothing-like-this"}},
		{`the regular expression does not compile`, 2, []string{"log", "/(/"}},
		{`History [0-9.]+ [KM]?i?B, 0 events waiting`, 0, []string{"status"}},
	} {
		if got := s.ask(c.status, c.args...); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%v: got %s, want %s", c.args, got, c.want)
		}
	}
}

func TestWithoutLogFilesTheSearchSaysWhereTheLogIs(t *testing.T) {
	s := newSite(t)
	s.configure("")
	s.write("gatepost.toml", strings.Replace(s.read("gatepost.toml"), `log_dir = "log"`, "", 1))
	s.mustStart()
	if got := s.ask(1, "log", "x"); !strings.Contains(got, "log_dir is not set") {
		t.Errorf("got %s", got)
	}
}

func TestTheHistoryOfBeforeIsThereAfterARestart(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a, err := startApp(t.Context(), s.file())
	if err != nil {
		t.Fatal(err)
	}
	if reply := s.send("b@in.example", "Subject: before\n\nx\n"); !strings.HasPrefix(reply, "250 ") {
		t.Fatal(reply)
	}
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	s.mustStart()
	if got := s.ask(0, "history", "subject:before", "kind:message"); !strings.Contains(got, "message accepted") {
		t.Errorf("got %s", got)
	}
}

func (s *site) read(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

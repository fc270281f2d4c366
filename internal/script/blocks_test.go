package script_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/scan"
	"gatepost/internal/script"
)

// block is a script as a block, with its log.
func block(t testing.TB, source string) (*script.Block, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	return script.NewBlock(compile(t, source), "script-1", slog.New(slog.NewTextHandler(&log, nil))), &log
}

func TestABlockDecidesItself(t *testing.T) {
	b, log := block(t, "def recipient(s):\n    echo('hello', s.score)\n    score(2, 'far')\n    delay(3)\n    deliver(transport='slow')\n    reject('Log in')\n")
	in := visit(t)
	choice, findings, err := b.Decide(t.Context(), &policy.Input{Stage: policy.Recipient, Session: in.Session, Envelope: in.Envelope, Recipient: in.Recipient, Score: 1.5})
	want := policy.Choice{Act: mail.Reject, Text: "Log in", Reason: "Log in", Delay: 3e9, Transport: "slow"}
	if err != nil || choice != want {
		t.Errorf("%+v, %v", choice, err)
	}
	if len(findings) != 2 || findings[0].Symbol != "far" || findings[1].Symbol != "echo" || findings[1].Properties[0].Value != "hello 1.5" {
		t.Errorf("%+v", findings)
	}
	if text := log.String(); !strings.Contains(text, `text="hello 1.5"`) || !strings.Contains(text, "session="+in.Session.ID.String()) {
		t.Errorf("the log has %s", text)
	}
}

func TestABlockThatFailsHasItsTracebackInHistoryAndLog(t *testing.T) {
	b, log := block(t, "def recipient(s):\n    echo('so far')\n    look(s)\n\ndef look(s):\n    fail('no table')\n")
	in := visit(t)
	choice, findings, err := b.Decide(t.Context(), &policy.Input{Stage: policy.Recipient, Session: in.Session, Envelope: in.Envelope, Recipient: in.Recipient})
	if err != nil || choice != (policy.Choice{}) || len(findings) != 1 || findings[0].Result != mail.Unknown {
		t.Fatalf("%+v, %+v, %v", choice, findings, err)
	}
	var kept []string
	for _, p := range findings[0].Properties {
		kept = append(kept, p.Name+" "+p.Value)
	}
	if got := strings.Join(kept, "; "); got != "log so far; log at test.star:6:9 in look; log at test.star:3:9 in recipient; log fail: no table" {
		t.Errorf("%s", got)
	}
	for _, part := range []string{"level=WARN", "script failed", "line=6", "fail: no table", "test.star:3:9 in recipient", `text="so far"`} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %s: %s", part, log)
		}
	}
}

func TestALongLogIsCutInHistory(t *testing.T) {
	b, _ := block(t, "def recipient(s):\n    for i in range(100):\n        echo('x' * 900)\n")
	in := visit(t)
	_, findings, _ := b.Decide(t.Context(), &policy.Input{Stage: policy.Recipient, Session: in.Session, Envelope: in.Envelope, Recipient: in.Recipient})
	if n := len(findings[0].Properties); n != 20 || len(findings[0].Properties[0].Value) != 200 {
		t.Errorf("%d lines", n)
	}
}

func TestABlockAsABackend(t *testing.T) {
	b, _ := block(t, "def auth(s):\n    if s.login == 'eve':\n        return\n    if s.password == 'secret':\n        accept(user='bob', senders=['bob@example.com'])\n    if s.password == 'x':\n        defer()\n    reject()\n")
	for login, want := range map[string]policy.AuthResult{"bob secret": policy.AuthYes, "bob guess": policy.AuthNo, "eve secret": policy.AuthNobody, "bob x": policy.AuthUnknown} {
		user, password, _ := strings.Cut(login, " ")
		if got, err := b.Authenticate(t.Context(), visit(t).Session, user, password); got.Result != want || err != nil {
			t.Errorf("%s: %+v, %v", login, got, err)
		}
	}
}

// given is a message for some recipients.
func given(t *testing.T, text string, to ...string) *scan.Input {
	t.Helper()
	env := &mail.Envelope{ID: mail.NewID(), Session: *visit(t).Session}
	for _, a := range to {
		env.Recipients = append(env.Recipients, mail.Recipient{Address: address(t, a), Route: mail.Route{Flow: "in"}})
	}
	in, err := scan.NewInput(t.Context(), mail.Message{Envelope: env, Body: strings.NewReader(strings.ReplaceAll(text, "\n", "\r\n"))}, scan.Inbound, options(t))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestAModuleAsksForEachRecipientOnlyWhereItMatters(t *testing.T) {
	for _, c := range []struct{ lines, want string }{
		{"echo('asked')\n    quarantine('held')", "a@x.example,b@x.example quarantine then=quarantine"},
		{"if s.envelope.recipient == 'a@x.example':\n        deliver(transport='t')\n    else:\n        mark()", "a@x.example edit transport=t | b@x.example edit then=mark"},
		{"reject('No') if len(s.envelope.recipients) == 2 else accept()", "a@x.example,b@x.example reject then=reject text=No"},
		{"remove_header('X-A')\n    score(1, 'x')", "a@x.example,b@x.example edit remove=X-A"},
	} {
		b, log := block(t, "def content(s):\n    "+c.lines+"\n")
		findings, err := b.Scan(t.Context(), given(t, "Subject: hi\n\nhello\n", "a@x.example", "b@x.example"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range findings {
			if f.Name == "" {
				continue // what it scored or echoed
			}
			s := strings.Join(f.Recipients, ",") + " " + f.Symbol
			for _, p := range f.Properties {
				s += " " + p.Name + "=" + p.Value
			}
			got = append(got, s)
		}
		if text := strings.Join(got, " | "); text != c.want {
			t.Errorf("%s: %s, want %s", c.lines, text, c.want)
		}
		if n := strings.Count(log.String(), "asked"); n > 1 {
			t.Errorf("asked %d times", n)
		}
	}
}

func TestAModuleSeesWhatTheFlowSaw(t *testing.T) {
	b, _ := block(t, "def content(s):\n    if s.score > 3 and s.found('bayes'):\n        quarantine('score %s' % s.score)\n")
	in := given(t, "Subject: hi\n\nhello\n", "a@x.example", "b@x.example", "c@x.example")
	in.Before = func(key string, _ []scan.Report, r *mail.Recipient) ([]mail.Finding, float64, bool) {
		if key != "script-1" {
			t.Errorf("asked about %s", key)
		}
		seen := []mail.Finding{{Module: "bayes", Symbol: "spam", Result: mail.Match}}
		switch r.Address.Local {
		case "a":
			return seen, 4, true
		case "b":
			return seen, 2, true
		}
		return nil, 9, false // another flow
	}
	findings, err := b.Scan(context.Background(), in)
	if err != nil || len(findings) != 1 || findings[0].Recipients[0] != "a@x.example" || findings[0].Reason != "score 4.0" {
		t.Errorf("%+v, %v", findings, err)
	}
}

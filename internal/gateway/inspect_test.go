package gateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gatepost/internal/flow"
	"gatepost/internal/gateway"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

// scripted is a module that says what a test wants.
type scripted func(*scan.Input) ([]mail.Finding, error)

func (s scripted) Scan(_ context.Context, in *scan.Input) ([]mail.Finding, error) { return s(in) }

// says is a module whose answer stands in the message: "virus", "spam", "down".
var says = scripted(func(in *scan.Input) ([]mail.Finding, error) {
	found := mail.Finding{Module: "clamav", Result: mail.Match, Symbol: "Eicar", Reason: "a virus"}
	switch in.Header.Get("X-Test") {
	case "virus":
	case "down":
		return nil, errors.New("scanner is down")
	case "for eve":
		found.Recipients = []string{"eve@in.example"}
	default:
		return nil, nil
	}
	return []mail.Finding{found}, nil
})

// tastes is a second module, which knows spam.
var tastes = scripted(func(in *scan.Input) ([]mail.Finding, error) {
	if in.Header.Get("X-Test") != "spam" {
		return nil, nil
	}
	return []mail.Finding{{Module: "bayes", Result: mail.Match, Symbol: "spam", Reason: "spam", Score: 7}}, nil
})

// contentFlow is one flow over the modules, with the thresholds of the score.
func contentFlow(onMatch mail.Action) gateway.Content {
	virus := flow.Defaults("clamav")
	virus.Key, virus.OnMatch = "clamav", onMatch
	taste := flow.Defaults("bayes")
	taste.Key = "bayes"
	mark, quarantine := 5.0, 50.0
	score := flow.Defaults("score")
	score.Score = &flow.Thresholds{Mark: &mark, Quarantine: &quarantine, SubjectTag: "[SPAM] "}
	return gateway.Content{Flows: map[string]gateway.Flow{"inbound": {
		Decide: &flow.Flow{Name: "inbound", Blocks: []flow.Block{virus, taste, score}},
		Blocks: []scan.Block{{Key: "clamav", Use: "clamav", Module: says}, {Key: "bayes", Use: "bayes", Module: tastes}},
	}}}
}

func saying(what string) string {
	return crlf("Subject: hello\nX-Test: " + what + "\nTo: bob@in.example\n\nbody\n")
}

func TestCleanMailIsDeliveredAndSaysThatItWasScanned(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine)})
	got := r.accept(r.envelope("ada@out.example", "bob@in.example"), saying("nothing"))
	if len(got.items) != 1 || got.items[0].Transport != "next" {
		t.Fatalf("items %+v", got.items)
	}
	out := r.deliveredItem(got, 0)
	if !strings.Contains(out, "X-Gatepost-ID: "+got.m.Envelope.ID.String()+"\r\n") {
		t.Errorf("no ID in\n%s", out)
	}
	if !strings.HasSuffix(out, saying("nothing")) {
		t.Errorf("what was scanned is not what is delivered:\n%s", out)
	}
}

func TestVirusGoesToTheQuarantineAndNobodyIsTold(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine)})
	env := r.envelope("ada@out.example", "bob@in.example", "eve@in.example")
	env.Recipients[0].Notify = mail.NotifySuccess | mail.NotifyFailure
	got := r.accept(env, saying("virus"))
	if len(got.items) != 1 {
		t.Fatalf("%d items, want one copy for both", len(got.items))
	}
	item := got.items[0]
	if item.Transport != gateway.QuarantineTransport || len(item.Recipients) != 2 {
		t.Fatalf("item %+v", item)
	}
	for _, rcpt := range item.Recipients {
		if rcpt.Notify != mail.NotifyNever {
			t.Errorf("%s: a report could go out", rcpt.Address)
		}
		if v := rcpt.Verdict; v == nil || v.Threat != mail.ThreatVirus || v.Block != "clamav" {
			t.Errorf("%s: verdict %+v", rcpt.Address, rcpt.Verdict)
		}
	}
	if len(env.Findings) != 1 || env.Findings[0].Reason != "a virus" {
		t.Errorf("findings %+v", env.Findings)
	}
}

func TestRejectOfAllIsAnswered(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionReject)})
	reply := r.receive(r.envelope("ada@out.example", "bob@in.example"), saying("virus"))
	if reply.Code != 554 || strings.Contains(reply.Text(), "Eicar") {
		t.Errorf("reply %v: want the table's 554, without the signature", reply)
	}
	if left := storedIn(t, crash(r.fs, 0)); len(left) != 0 {
		t.Errorf("%d messages in the spool", len(left))
	}
	line := r.traffic.last(t, 1)
	if line.decision.Act != mail.Reject || !strings.Contains(line.decision.Reason, "a virus") {
		t.Errorf("traffic line %+v", line)
	}
}

func TestWhereOnlySomeRefuseTheOthersGetTheMessage(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionReject)})
	got := r.accept(r.envelope("ada@out.example", "bob@in.example", "eve@in.example"), saying("for eve"))
	where := map[string]string{}
	for _, item := range got.items {
		for _, rcpt := range item.Recipients {
			where[rcpt.Address.String()] += item.Transport
		}
	}
	if where["bob@in.example"] != "next" || where["eve@in.example"] != gateway.QuarantineTransport {
		t.Errorf("recipients went to %v", where)
	}
}

func TestDownScannerDefers(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine)})
	if reply := r.receive(r.envelope("ada@out.example", "bob@in.example"), saying("down")); reply.Code != 451 {
		t.Errorf("reply %v, want 451", reply)
	}
}

func TestMarkedMailCarriesTheTagForTheRecipientsOfTheFlow(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionDeliver)})
	got := r.accept(r.envelope("ada@out.example", "bob@in.example"), saying("spam"))
	out := r.deliveredItem(got, 0)
	if !strings.Contains(out, "\r\nSubject: [SPAM] hello\r\n") {
		t.Errorf("not marked:\n%s", out)
	}
	for _, field := range []string{"X-Gatepost-Verdict: ", "X-Gatepost-Score: "} {
		if strings.Count(out, field) != 1 {
			t.Errorf("not one %s in\n%s", field, out)
		}
	}
}

func TestTagStandsApartFromTheSubject(t *testing.T) {
	for came, want := range map[string]string{
		"Subject: hello\n":               "Subject: [SPAM] hello\n",
		"Subject:hello\n":                "Subject: [SPAM] hello\n",
		"Subject:=?utf-8?q?hello?=\n":    "Subject: [SPAM] =?utf-8?q?hello?=\n",
		"Subject:\n":                     "Subject: [SPAM]\n",
		"subject :\n folded\n":           "subject : [SPAM]\n folded\n",
		"Subject:\tx\nSubject: second\n": "Subject: [SPAM]\tx\nSubject: second\n",
		"Subject: [SPAM] again\n":        "Subject: [SPAM] again\n",
	} {
		r := newRig(t, rigOptions{content: contentFlow(mail.ActionDeliver)})
		got := r.accept(r.envelope("ada@out.example", "bob@in.example"), crlf(came+"X-Test: spam\n\nbody\n"))
		if out := r.deliveredItem(got, 0); !strings.HasSuffix(out, "\r\n"+crlf(want+"X-Test: spam\n\nbody\n")) {
			t.Errorf("%q became\n%s", came, out)
		}
	}
}

func TestDiscardedMailIsAcceptedAndGone(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionDiscard)})
	if reply := r.receive(r.envelope("ada@out.example", "bob@in.example"), saying("virus")); reply.Code != 250 {
		t.Errorf("reply %v", reply)
	}
	if left := storedIn(t, crash(r.fs, 0)); len(left) != 0 || len(r.queue.added) != 0 {
		t.Errorf("%d messages in the spool", len(left))
	}
}

func TestMessageAboveTheScanSizeIsNotTakenForClean(t *testing.T) {
	content := contentFlow(mail.ActionQuarantine)
	content.MaxSize = 1000
	f := content.Flows["inbound"]
	shape := flow.Defaults("structure")
	shape.Key = "structure"
	f.Decide.Blocks = append(f.Decide.Blocks, shape)
	f.Blocks = append(f.Blocks, scan.Block{Key: "structure", Use: "structure", Module: scripted(func(*scan.Input) ([]mail.Finding, error) {
		return []mail.Finding{{Module: "structure", Symbol: "limit:size", Result: mail.Unknown, Reason: "too large"}}, nil
	})})
	content.Flows["inbound"] = f
	r := newRig(t, rigOptions{content: content})
	got := r.accept(r.envelope("ada@out.example", "bob@in.example"), saying("nothing")+strings.Repeat("padding\r\n", 200))
	if len(got.items) != 1 || got.items[0].Transport != gateway.QuarantineTransport || got.items[0].Recipients[0].Verdict.Threat != mail.ThreatUnscanned {
		t.Errorf("items %+v", got.items)
	}
}

func TestReleasedMessageIsWhatCameIn(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionQuarantine)})
	held := r.accept(r.envelope("ada@out.example", "bob@in.example"), saying("virus"))
	id, err := r.gateway.Release(t.Context(), held.m.Envelope, held.m.Body)
	if err != nil {
		t.Fatal(err)
	}
	left := storedIn(t, crash(r.fs, 0))
	m, ok := left[id]
	if !ok || m.body != saying("virus") || m.env.ReleasedFrom != held.m.Envelope.ID {
		t.Fatalf("released %+v", m)
	}
	if len(m.items) != 1 || m.items[0].Transport != "next" || m.env.Sender.String() != "ada@out.example" {
		t.Errorf("items %+v, sender %s", m.items, m.env.Sender)
	}
}

func TestWithPRDREachRecipientGetsItsOwnAnswer(t *testing.T) {
	r := newRig(t, rigOptions{content: contentFlow(mail.ActionReject)})
	env := r.envelope("ada@out.example", "bob@in.example", "eve@in.example")
	env.PRDR = true
	in := r.write(env, saying("for eve"))
	if reply := in.Commit(t.Context()); reply.Code != 250 {
		t.Fatalf("reply %v", reply)
	}
	answers := in.Answers()
	if len(answers) != 2 || answers[0].Code != 250 || answers[1].Code != 554 {
		t.Errorf("answers %v", answers)
	}
	items := r.queue.added[0].items
	if len(items) != 1 || len(items[0].Recipients) != 1 || items[0].Recipients[0].Address.String() != "bob@in.example" {
		t.Errorf("items %+v: eve was refused and must get nothing", items)
	}
	env = r.envelope("ada@out.example", "eve@in.example")
	env.PRDR = true
	in = r.write(env, saying("for eve"))
	if reply := in.Commit(t.Context()); reply.Code != 554 || in.Answers() != nil {
		t.Errorf("when all refuse: %v, answers %v", reply, in.Answers())
	}
}

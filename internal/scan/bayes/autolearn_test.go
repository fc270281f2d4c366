package bayes_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/bayes"
)

func autolearning(c *bayes.Config) { c.Autolearn = &bayes.Autolearn{PerSource: 3} }

var delivered = mail.Verdict{Action: mail.ActionDeliver}

func TestAutolearnIsOffByDefault(t *testing.T) {
	c, _ := fresh(t)
	if got, err := c.Autolearn(t.Context(), input(t, spamText(1)), mail.Verdict{Action: mail.ActionReject}, 100); err != nil || got.Changed || got.Reason == "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAutolearnGuards(t *testing.T) {
	spam := mail.Verdict{Action: mail.ActionReject, Threat: mail.ThreatSpam}
	fails := []scan.Report{{Use: "authres", Findings: []mail.Finding{{Module: "authres", Symbol: "dmarc:fail", Result: mail.Match}}}}
	unsure := []scan.Report{{Use: "clamav", Findings: []mail.Finding{{Module: "clamav", Symbol: "timeout", Result: mail.Unknown}}}}
	cases := []struct {
		name    string
		text    string
		verdict mail.Verdict
		score   float64
		reports []scan.Report
		learned string // "", "ham" or "spam"
	}{
		{"certain spam", spamText(100), spam, 12, nil, "spam"},
		{"spam that is nearly certain", spamText(100), spam, 11.9, nil, ""},
		{"certain ham", hamText(100), delivered, -1, nil, "ham"},
		{"ham that is nearly certain", hamText(100), delivered, -0.9, nil, ""},
		{"ham that is only marked", hamText(100), mail.Verdict{Action: mail.ActionMark}, -3, nil, ""},
		{"ham whose authentication fails", hamText(100), delivered, -3, fails, ""},
		{"spam whose authentication fails", spamText(100), spam, 20, fails, "spam"},
		{"ham that a scanner could not read", hamText(100), delivered, -3, unsure, ""},
		{"a virus", spamText(100), mail.Verdict{Action: mail.ActionQuarantine, Threat: mail.ThreatVirus}, 20, nil, ""},
		{"spam that looks like ham", hamText(100), spam, 20, nil, ""},
		{"ham that looks like spam", spamText(100), delivered, -5, nil, ""},
		{"next to nothing", "Subject: hi\n\nhi\n", spam, 20, nil, ""},
		{"what a person called ham", hamText(3), delivered, -5, nil, ""},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := fresh(t, autolearning)
			teach(t, c, "", 30)
			in := input(t, tt.text)
			in.Reports = tt.reports
			got, err := c.Autolearn(t.Context(), in, tt.verdict, tt.score)
			if err != nil {
				t.Fatal(err)
			}
			if got.Changed != (tt.learned != "") || got.Changed && got.Spam != (tt.learned == "spam") || got.Changed == (got.Reason != "") {
				t.Errorf("got %+v, want %q learned", got, tt.learned)
			}
			s := status(t, c).Scopes[0]
			if got := fmt.Sprint(s.Ham, s.Spam); got != map[string]string{"": "30 30", "ham": "31 30", "spam": "30 31"}[tt.learned] {
				t.Errorf("counts are %s", got)
			}
		})
	}
}

func TestAutolearnIsSlowForOneSource(t *testing.T) {
	c, _ := fresh(t, autolearning)
	learn := func(i int, domain, client string) bool {
		in := input(t, spamText(i))
		in.Message.Envelope.Sender = mail.Address{Local: "x", Domain: domain, Raw: "x@" + domain}
		in.Message.Envelope.Session.Client = netip.MustParseAddrPort(client)
		got, err := c.Autolearn(t.Context(), in, mail.Verdict{}, 20)
		if err != nil {
			t.Fatal(err)
		}
		return got.Changed
	}
	for i := range 3 {
		if !learn(i, "mail.evil.example", fmt.Sprintf("192.0.%d.1:25", i)) {
			t.Errorf("message %d of a domain is not learned", i)
		}
	}
	if learn(10, "other.evil.example", "198.51.100.1:25") {
		t.Error("a fourth message of a domain is learned")
	}
	for i := range 3 {
		learn(20+i, fmt.Sprintf("d%d.example", i), fmt.Sprintf("203.0.113.%d:25", i))
	}
	if learn(30, "new.example", "203.0.113.200:25") {
		t.Error("a fourth message of a network is learned")
	}
	if !learn(31, "new.example", "198.51.100.1:25") {
		t.Error("a message of a new domain and network is not learned")
	}
}

func TestAutolearnKeepsTheBalance(t *testing.T) {
	c, _ := fresh(t, func(c *bayes.Config) { c.Autolearn = &bayes.Autolearn{PerSource: 1000, MaxRatio: 2} })
	learned := 0
	for i := range 40 {
		text := strings.Replace(spamText(i), "pills.example", fmt.Sprintf("pills%d.example", i), -1)
		got, err := c.Autolearn(t.Context(), input(t, text), mail.Verdict{}, 20)
		if err != nil {
			t.Fatal(err)
		}
		if got.Changed {
			learned++
		}
	}
	if learned != 20 { // twice the MinTrained of the tests
		t.Errorf("%d spam and no ham were learned", learned)
	}
}

package flow

import (
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/scan"
)

func TestSendersAreAllowedAndBlockedForEachRecipient(t *testing.T) {
	const key = "alice@example.com"
	allowed, blocked := only(saw("allowed", "the list of alice has it"), key), only(saw("blocked", "the list of alice has it"), key)
	spam := report("rspamd", counted("spam", 20))
	cases := []struct {
		name    string
		flow    *Flow
		reports []scan.Report
		to      *mail.Recipient
		want    mail.Action
		rule    string
	}{
		{"blocked mail is held", flowOf(block("senders")), []scan.Report{report("senders", blocked)}, alice, mail.ActionQuarantine, "blocked"},
		{"for whom it is blocked alone", flowOf(block("senders")), []scan.Report{report("senders", blocked)}, bob, mail.ActionDeliver, ""},
		{"or refused, where that is wanted", flowOf(block("senders", onMatch(mail.ActionReject))), []scan.Report{report("senders", blocked)}, alice, mail.ActionReject, "blocked"},
		{"or marked", flowOf(block("senders", onMatch(mail.ActionMark))), []scan.Report{report("senders", blocked)}, alice, mail.ActionMark, "blocked"},
		{"allowed mail is no spam", flowOf(block("senders"), block("rspamd"), thresholds(5, 8, 15)), []scan.Report{report("senders", allowed), spam}, alice, mail.ActionDeliver, "allowed"},
		{"for whom it is allowed alone", flowOf(block("senders"), block("rspamd"), thresholds(5, 8, 15)), []scan.Report{report("senders", allowed), spam}, bob, mail.ActionReject, "reject"},
		{"allowed is no match that blocks", flowOf(block("senders", onMatch(mail.ActionReject))), []scan.Report{report("senders", allowed)}, alice, mail.ActionDeliver, "allowed"},
		{"a virus is held whoever sent it", flowOf(block("senders"), block("clamav")), []scan.Report{report("senders", allowed), report("clamav", eicar)}, alice, mail.ActionQuarantine, "Eicar-Test"},
		{"and where no scanner looked it waits", flowOf(block("senders"), block("clamav")), []scan.Report{report("senders", allowed), report("clamav", unsure("timeout", "no answer"))}, alice, mail.ActionDefer, "timeout"},
		{"what stands before the lists decided", flowOf(filters(rule("no exe", "quarantine")), block("senders")), []scan.Report{report("filters", noExe), report("senders", allowed)}, alice, mail.ActionQuarantine, "no exe"},
		{"allowed without proof changes nothing", flowOf(block("senders"), block("rspamd"), thresholds(5, 8, 15)), []scan.Report{report("senders", counted("unproven", 0)), spam}, alice, mail.ActionReject, "reject"},
		{"lists that cannot be read are empty ones", flowOf(block("senders")), []scan.Report{report("senders", unsure("error", "the store is away"))}, alice, mail.ActionDeliver, ""},
		{"or whatever the administrator wants", flowOf(block("senders", onUnknown(mail.ActionDefer))), []scan.Report{report("senders", unsure("error", "the store is away"))}, alice, mail.ActionDefer, "error"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := Decide(c.flow, c.reports, c.to)
			if got.Action != c.want || got.Rule != c.rule {
				t.Errorf("got %s by %q (%s), want %s by %q", got.Action, got.Rule, got.Reason, c.want, c.rule)
			}
			if c.rule == "Eicar-Test" && got.Threat != mail.ThreatVirus {
				t.Errorf("the virus is %q", got.Threat)
			}
		})
	}
	t.Run("a block that observes says it and does nothing", func(t *testing.T) {
		got := Decide(flowOf(block("senders", func(b *Block) { b.Observe = true })), []scan.Report{report("senders", blocked)}, alice)
		if got.Action != mail.ActionDeliver || len(got.Observed) != 1 {
			t.Errorf("got %+v", got)
		}
	})
}

package main

import (
	"fmt"
	"net/url"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
)

// explainCmd looks at a message again.
type explainCmd struct {
	control `embed:""`
	ID      string `arg:"" help:"ID of the message."`
}

// Help is the long help text.
func (*explainCmd) Help() string {
	return `Scans a message that waits in the queue or is held in the quarantine once more, as if
it came in now, and says what is decided and found otherwise than when it came. Nothing
is sent, changed or learned. For a message in a file there is "gatepost scan".`
}

// Run implements the subcommand.
func (c *explainCmd) Run(t *terminal) error {
	id, err := mail.ParseID(c.ID)
	if err != nil {
		return usageError{fmt.Errorf("%.64q: %w", c.ID, err)}
	}
	g, done, err := c.open()
	if err != nil {
		return err
	}
	defer done()
	var x admin.SeenAgain
	if err := g.post("/api/v1/messages/"+url.PathEscape(id.String())+"/explain", struct{}{}, &x); err != nil {
		return err
	}
	if c.JSON {
		return t.json(x)
	}
	return t.print(againText(&x))
}

// againText is the comparison for people.
func againText(x *admin.SeenAgain) string {
	var verdicts, findings table
	verdicts.add("RECIPIENT", "WHEN IT CAME", "NOW")
	for i := range x.Recipients {
		r := &x.Recipients[i]
		now := "the same"
		if r.Changed {
			now = verdictAgain(r.Now)
		}
		verdicts.add(clean(r.Address), verdictAgain(r.Then), now)
	}
	for i := range x.Findings {
		f := &x.Findings[i]
		change := f.Change
		if change == "changed" {
			change = fmt.Sprintf("was %+.2f", f.Before)
		}
		if len(findings.lines) == 0 {
			findings.add("CHECK", "RESULT", "SCORE", "SINCE THEN", "WHY")
		}
		findings.add(clean(f.Module+" "+f.Symbol), string(f.Result), fmt.Sprintf("%+.2f", f.Score), change, clean(f.Reason))
	}
	text := verdicts.text()
	if len(x.Findings) > 0 {
		text += "\n" + findings.text()
	}
	return text
}

// verdictAgain is a verdict in a few words.
func verdictAgain(v *mail.Verdict) string {
	if v == nil {
		return "no flow decides"
	}
	text := fmt.Sprintf("%s, score %.2f", v.Action, v.Score)
	if v.Block != "" {
		text += " (" + clean(v.Block+" "+v.Rule+": "+v.Reason) + ")"
	}
	return text
}

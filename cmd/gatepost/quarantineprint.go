package main

import (
	"fmt"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/quarantine"
)

// quarantineTable prints rows for people.
type quarantineTable struct {
	t     *terminal
	table table
	count int
}

func (p *quarantineTable) rows(page []quarantine.Row) error {
	if p.count == 0 && len(page) > 0 {
		p.table.add("ID", "STATE", "AGE", "SIZE", "THREAT", "SCORE", "SENDER", "RECIPIENTS", "SUBJECT", "WHY")
	}
	p.count += len(page)
	now := time.Now()
	for i := range page {
		r := &page[i]
		p.table.add(r.ID.String(), string(r.State), span(now.Sub(r.Received)), sizeText(r.Size), orDash(string(r.Threat)), fmt.Sprintf("%.1f", r.Score),
			clean(r.Sender), clean(someOf(r.Recipients)), clean(orDash(r.Subject)), clean(r.Reason))
	}
	return p.t.print(p.table.text())
}

func (p *quarantineTable) end() error {
	if p.count == 0 {
		return p.t.print("Nothing is in the quarantine that fits.\n")
	}
	return nil
}

func resultText(r *quarantine.Result, verb string) string {
	text := r.ID.String() + " " + verb
	if len(r.Recipients) > 0 {
		text += " for " + clean(strings.Join(r.Recipients, ", "))
	}
	if !r.ReleasedAs.IsZero() {
		text += " as " + r.ReleasedAs.String()
	}
	switch {
	case r.Trained && verb == "released":
		text += ", trained as ham"
	case !r.Trained && strings.HasPrefix(verb, "trained"):
		text += " (was known already)"
	}
	return text + "\n"
}

// quarantinedText is a message for people.
func quarantinedText(d *quarantine.Detail) string {
	now := time.Now()
	var b strings.Builder
	var t table
	line := func(name, value string) {
		if value != "" {
			t.add(name+":", clean(value))
		}
	}
	line("ID", d.ID.String())
	line("State", string(d.State))
	line("Sender", d.Sender)
	line("Subject", d.Subject)
	line("Message-ID", d.MessageID)
	line("Size", sizeText(d.Size))
	line("Received", timeText(d.Received, now))
	line("From", quarantinedFrom(d))
	line("Node", d.Node)
	line("Threat", string(d.Threat))
	line("Why", d.Reason)
	line("Block", strings.TrimSpace(d.Block+" "+d.Rule))
	line("Problem", d.Problem)
	b.WriteString(t.text())
	for i := range d.Entries {
		b.WriteString(quarantinedEntry(&d.Entries[i], now))
	}
	if len(d.Findings) > 0 {
		b.WriteString("\nFindings\n")
		b.WriteString(findingsTable(d.Findings))
	}
	if len(d.Structure) > 0 {
		b.WriteString("\nStructure\n")
		b.WriteString(structureTable(d.Structure))
		b.WriteString(findingsTable(d.StructureFindings))
	}
	if len(d.Headers) > 0 {
		b.WriteString("\nHeader\n")
		for _, f := range d.Headers {
			fmt.Fprintf(&b, "  %s: %s\n", clean(f.Name), clean(f.Value))
		}
	}
	if d.Text != "" {
		b.WriteString("\nText\n")
		for text := range strings.Lines(d.Text) {
			b.WriteString("  " + clean(strings.TrimSuffix(text, "\n")) + "\n")
		}
		if d.TextCut {
			b.WriteString("  […]\n")
		}
	}
	return b.String()
}

// quarantinedFrom tells where a message came from.
func quarantinedFrom(d *quarantine.Detail) string {
	s := d.Client
	if d.Server != "" {
		return strings.TrimSpace("mailbox of " + orDash(d.User) + " at " + d.Server + ", fetched by " + s + " at listener " + d.Listener)
	}
	if d.Helo != "" {
		s += " (" + d.Helo + ")"
	}
	if d.User != "" {
		s += " as " + d.User
	}
	if d.Listener != "" {
		s += " at listener " + d.Listener
	}
	return strings.TrimSpace(s)
}

func quarantinedEntry(e *quarantine.Entry, now time.Time) string {
	text := "\nfor " + clean(e.Recipient) + ": " + string(e.State)
	if !e.Changed.IsZero() {
		text += " " + timeText(e.Changed, now)
		if e.By != "" {
			text += " by " + clean(e.By)
		}
	}
	var t table
	t.add("  Threat:", orDash(string(e.Threat)))
	t.add("  Why:", clean(orDash(e.Reason)))
	t.add("  Score:", fmt.Sprintf("%.1f", e.Score))
	if v := e.Verdict; v != nil && v.Flow != "" {
		t.add("  Flow:", clean(v.Flow))
	}
	return text + "\n" + t.text()
}

func findingsTable(list []mail.Finding) string {
	var t table
	for i := range list {
		f := &list[i]
		reason := f.Reason
		if f.Name != "" {
			reason += " [" + f.Name + "]"
		}
		t.add("  "+clean(f.Module), clean(f.Symbol), string(f.Result), fmt.Sprintf("%+.1f", f.Score), clean(reason))
	}
	return t.text()
}

func structureTable(parts []quarantine.Part) string {
	var t table
	for i := range parts {
		p := &parts[i]
		kind := strings.Join(p.Types, " | ")
		if len(p.Contents) > 0 && (len(p.Types) == 0 || p.Contents[0] != p.Types[0]) {
			kind += " (looks like " + p.Contents[0] + ")"
		}
		t.add("  "+clean(p.Path), clean(kind), sizeText(p.Size), clean(p.Reading), clean(strings.Join(p.Names, " | ")))
	}
	return t.text()
}

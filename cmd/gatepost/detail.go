package main

import (
	"slices"
	"strings"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// oneItem is a message with one queue item, as JSON shows it: everything about
// the item at the top, and the list that messages with several have too.
type oneItem struct {
	queue.Detail
	Items []queue.Detail `json:"items"`
}

// severalItems is a message with several queue items: what they share at the
// top, each of them in the list.
type severalItems struct {
	ID         mail.ID        `json:"id"`
	Sender     string         `json:"sender"`
	Recipients []string       `json:"recipients"`
	Size       int64          `json:"size"`
	Created    time.Time      `json:"created"`
	Subject    string         `json:"subject,omitempty"`
	MessageID  string         `json:"message_id,omitempty"`
	Received   time.Time      `json:"received"`
	Listener   string         `json:"listener"`
	Client     string         `json:"client,omitempty"`
	Helo       string         `json:"helo,omitempty"`
	User       string         `json:"user,omitempty"`
	EnvID      string         `json:"envid,omitempty"`
	Items      []queue.Detail `json:"items"`
}

// oneObject is what `queue show --json` prints.
func oneObject(items []queue.Detail) any {
	first := &items[0]
	if len(items) == 1 {
		return oneItem{Detail: *first, Items: items}
	}
	all := severalItems{
		ID: first.ID, Sender: first.Sender, Size: first.Size, Created: first.Created, Subject: first.Subject,
		MessageID: first.MessageID, Received: first.Received, Listener: first.Listener, Client: first.Client,
		Helo: first.Helo, User: first.User, EnvID: first.EnvID, Items: items,
	}
	for i := range items {
		for _, r := range items[i].Recipients {
			if !slices.Contains(all.Recipients, r) {
				all.Recipients = append(all.Recipients, r)
			}
		}
	}
	return all
}

// detailText is a message for people.
func detailText(items []queue.Detail) string {
	now := time.Now()
	first := &items[0]
	var t table
	line := func(name, value string) {
		if value != "" {
			t.add(name+":", value)
		}
	}
	line("ID", first.ID.String())
	line("Sender", clean(first.Sender))
	line("Subject", clean(first.Subject))
	line("Message-ID", clean(first.MessageID))
	line("Size", sizeText(first.Size))
	line("Received", timeText(first.Received, now))
	line("From", clean(fromText(first)))
	line("ENVID", clean(first.EnvID))
	var b strings.Builder
	b.WriteString(t.text())
	for i := range items {
		b.WriteByte('\n')
		b.WriteString(itemText(&items[i], now))
	}
	return b.String()
}

// fromText tells where a message came from.
func fromText(d *queue.Detail) string {
	s := d.Client
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

func itemText(d *queue.Detail, now time.Time) string {
	var t table
	line := func(name, value string) {
		if value != "" {
			t.add("  "+name+":", clean(value))
		}
	}
	line("State", string(d.State))
	line("Why", why(&d.Row))
	line("By", destination(&d.Row))
	if d.HoldBy != "" {
		line("Held by", d.HoldBy+": "+d.HoldReason)
	}
	if d.Attempts > 0 {
		line("Attempts", plural(d.Attempts, "attempt")+", the last "+timeText(d.LastAttempt, now))
	}
	if !d.NextAttempt.IsZero() {
		line("Next attempt", timeText(d.NextAttempt, now))
	}
	if !d.GiveUp.IsZero() {
		line("Gives up", timeText(d.GiveUp, now))
	}
	b := d.QueueID.String() + "\n" + t.text()
	for i := range d.States {
		b += recipientText(&d.States[i], now)
	}
	return b
}

func recipientText(r *queue.RecipientDetail, now time.Time) string {
	head := "  to " + clean(r.Address)
	if r.Original != "" && r.Original != r.Address {
		head += " (sent to " + clean(r.Original) + ")"
	}
	if r.Status == "" {
		return head + ": not tried yet\n"
	}
	head += ": " + string(r.Status) + " " + timeText(r.Time, now) + "\n"
	var t table
	line := func(name, value string) {
		if value != "" {
			t.add("    "+name+":", clean(value))
		}
	}
	line("Reply", r.Reply)
	line("Stage", r.Stage)
	line("Host", r.Host)
	line("TLS", r.TLS)
	line("Cause", r.Cause)
	return head + t.text()
}

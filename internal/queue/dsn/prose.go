package dsn

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// prose is the text for people: what happened to whom, why, and what to do.
func (b *builder) prose() string {
	var p page
	p.line("This is the mail system at " + clean(b.Hostname) + ".")
	if b.DoubleBounce {
		p.gap()
		p.wrap("", "The message below has the null sender (it is itself a report, or claims to be one) and could not be "+
			"delivered, so there is nobody to return it to. This copy is for you as the postmaster.")
	}
	for _, s := range []struct {
		action Action
		intro  string
	}{
		{Failed, "Your message could not be delivered to:"},
		{Delayed, "Your message has not been delivered yet to:"},
		{Relayed, "Your message was passed on for:"},
		{Delivered, "Your message was delivered to:"},
	} {
		b.section(&p, s.action, s.intro)
	}
	p.gap()
	p.wrap("", "If you ask your administrator for help, give this number: "+b.Envelope.ID.String())
	return p.String()
}

// section writes the recipients of one action.
func (b *builder) section(p *page, a Action, intro string) {
	first := true
	for i := range b.Recipients {
		r := &b.Recipients[i]
		if r.Action != a {
			continue
		}
		if first {
			p.gap()
			p.wrap("", intro)
			first = false
		}
		p.gap()
		p.line("  <" + clean(shownAddress(r)) + ">")
		p.wrap("    ", r.explain(b.RetryUntil))
		if said := clean(r.Outcome.Reply.String()); r.Outcome.Remote && said != "" {
			who := "The mail server there"
			if host := remoteHost(r.Outcome.Host); host != "" {
				who = "The mail server " + host
			}
			p.wrap("    ", who+" said:")
			p.wrap("      ", said)
		}
	}
}

// shownAddress is the address that the sender knows.
func shownAddress(r *Recipient) string {
	if !r.Recipient.Original.IsNull() {
		return r.Recipient.Original.String()
	}
	return r.Recipient.Address.String()
}

// explain says in plain words what happened and what to do about it.
func (r *Recipient) explain(until time.Time) string {
	switch r.Action {
	case Delivered:
		return "It is in the recipient's mailbox."
	case Relayed:
		return "It was handed to the next mail server, which does not confirm deliveries. " +
			"You may hear no more of it, unless it fails there."
	case Delayed:
		s := cause(r.Outcome.Reply.Enhanced, false) +
			" You need not do anything: delivery is tried again"
		if !until.IsZero() {
			s += " until " + until.UTC().Format("Monday, 2 January 2006, 15:04 MST")
		}
		return s + ", and you will be told if it fails. If it is urgent, reach the recipient in another way."
	}
	why, advice := cause(r.Outcome.Reply.Enhanced, !r.Expired), remedy(r.Outcome.Reply.Enhanced)
	if r.Expired {
		return why + " Delivery was tried for as long as the mail system's rules allow, and was given up. " +
			"Send the message again later, or reach the recipient in another way."
	}
	return why + " " + advice
}

// explanation is what a status code means to somebody who wrote a letter.
type explanation struct{ cause, remedy string }

const (
	checkAddress = "Check how the address is written, or ask the recipient for the right one, and send the message again."
	askRecipient = "Reach the recipient in another way, and tell them what is said below."
	makeSmaller  = "Send less at a time, or share large files in another way."
	askAdmin     = "Show this report to your administrator."
)

// explanations by subject and detail of the status code, RFC 3463 §3 and the
// registry of RFC 5248; then by subject alone.
var explanations = map[string]explanation{
	"1.1":  {"There is no such mailbox.", checkAddress},
	"1.2":  {"The domain of the address does not exist or takes no mail.", checkAddress},
	"1.3":  {"The address is not written correctly.", checkAddress},
	"1.6":  {"The recipient has moved and left no new address.", "Ask the recipient for the new address."},
	"1.10": {"The domain of the address takes no mail at all.", checkAddress},
	"2.1":  {"The mailbox is switched off.", askRecipient},
	"2.2":  {"The recipient's mailbox is full.", "Wait until the recipient has made room, and send the message again."},
	"2.3":  {"The message is too large for this recipient.", makeSmaller},
	"3.4":  {"The message is too large for the recipient's mail system.", makeSmaller},
	"4.1":  {"The recipient's mail server does not answer.", askRecipient},
	"4.2":  {"The connection to the recipient's mail server was lost.", askRecipient},
	"4.3":  {"The address of the recipient's mail server could not be looked up.", askRecipient},
	"4.4":  {"No way to the recipient's mail server could be found.", askAdmin},
	"4.6":  {"The message went round in a circle between mail servers.", askAdmin},
	"6.7":  {"The recipient's mail system does not know addresses with characters beyond plain ASCII.", "Ask the recipient for another address."},
	"7.1":  {"The recipient's mail system refused the message by its rules.", askRecipient},
	"7.10": {"The message asks for an encrypted way, and there is none to the recipient.", askAdmin},
	"7.30": {"The message asks for an encrypted way, and there is none to the recipient.", askAdmin},
	"1":    {"The address was refused.", checkAddress},
	"2":    {"The recipient's mailbox cannot take the message.", askRecipient},
	"3":    {"The recipient's mail system cannot take the message.", askRecipient},
	"4":    {"The recipient's mail server could not be reached.", askRecipient},
	"5":    {"The mail servers did not understand each other.", askAdmin},
	"6":    {"The recipient's mail system cannot take a message of this form.", askAdmin},
	"7":    {"The recipient's mail system refused the message by its rules.", askRecipient},
}

func explain(status string) (explanation, bool) {
	if !isStatus(status) {
		return explanation{}, false
	}
	_, rest, _ := strings.Cut(status, ".")
	subject, _, _ := strings.Cut(rest, ".")
	e, ok := explanations[rest]
	if !ok {
		e, ok = explanations[subject]
	}
	return e, ok
}

func cause(status string, final bool) string {
	if e, ok := explain(status); ok {
		return e.cause
	}
	if final {
		return "The recipient's mail system refused the message."
	}
	return "The recipient's mail system does not take the message at present."
}

func remedy(status string) string {
	if e, ok := explain(status); ok {
		return e.remedy
	}
	return askRecipient
}

// page is text in lines of at most 76 columns, CRLF line ends.
type page struct{ strings.Builder }

func (p *page) line(s string) { fmt.Fprintf(p, "%s\r\n", s) }

func (p *page) gap() { p.WriteString("\r\n") }

// wrap writes s in lines that begin with indent.
func (p *page) wrap(indent, s string) {
	column := 0
	for _, word := range strings.Fields(s) {
		n := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			p.WriteString(indent)
			column = len(indent)
		case column+1+n > 76:
			p.WriteString("\r\n" + indent)
			column = len(indent)
		default:
			p.WriteByte(' ')
			column++
		}
		p.WriteString(word)
		column += n
	}
	if column > 0 {
		p.WriteString("\r\n")
	}
}

package quarantine

import (
	"slices"
	"strconv"

	"gatepost/internal/mail"
)

// noHistory is nobody.
type noHistory struct{}

func (noHistory) Note(*mail.Event) {}

// note is the event of what was done with a message, for some of its recipients.
func (q *Quarantine) event(kind mail.EventKind, rec *record, recipients []string, r Request, more ...mail.Property) *mail.Event {
	e := &mail.Event{Kind: kind, Result: mail.EventOK, Message: rec.ID, Actor: r.By, Subject: rec.Subject,
		Threat: rec.Threat, Sender: rec.Sender, Details: append([]mail.Property{{Name: "role", Value: string(r.Role)}}, more...)}
	if e.Sender == "" {
		e.Sender = "<>"
	}
	for i := range rec.Entries {
		if entry := &rec.Entries[i]; slices.Contains(recipients, entry.Recipient) {
			e.Recipients = append(e.Recipients, rec.addressee(entry))
		}
	}
	return e
}

// addressee is the recipient of an entry as events show him.
func (rec *record) addressee(entry *Entry) mail.Addressee {
	for i := range rec.envelope.Recipients {
		if r := &rec.envelope.Recipients[i]; r.Address.Key() == entry.Key {
			return mail.AddresseeOf(r)
		}
	}
	return mail.Addressee{Address: entry.Recipient, Domain: entry.address.Domain, Threat: entry.Threat}
}

// noteRelease tells of a release: Related is the message that leaves.
func (q *Quarantine) noteRelease(rec *record, res Result, r Request) {
	e := q.event(mail.EventRelease, rec, res.Recipients, r)
	e.Related = res.ReleasedAs
	q.cfg.History.Note(e)
}

// noteTrained tells what the Bayesian filter was told of a message.
func (q *Quarantine) noteTrained(rec *record, r Request, spam bool) {
	q.cfg.History.Note(q.event(mail.EventTrain, rec, namesOf(rec.Entries), r, mail.Property{Name: "spam", Value: strconv.FormatBool(spam)}))
}

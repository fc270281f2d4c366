package history

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// condition makes the clause for a value of a field.
type condition func(value string, quoted bool) (clause, error)

// QueryHelp says what can be searched for, for people.
const QueryHelp = `Words, all of which must hold; -word for what must not.

  sender:bob@example.com  recipient:@example.com  sender:<>   addresses, domains, local parts
  domain:example.com                     sender's or recipient's domain, or below it
  client:192.0.2.7  client:192.0.2.0/24  helo:…   who connected
  subject:invoice  subject:"your order"  message-id:…
  verdict:reject,quarantine  threat:virus  symbol:zen.example.org   what was decided, and why
  outcome:accepted,marked,quarantined,rejected,deferred,discarded   what became of a message
  check:greylist  rule:Eicar             what refused before content; filter or virus that decided
  kind:message,attempt  result:deferred  what happened, and how it went
  id:ID  id:ID:n  session:ID             a message, a queue item, a session
  user:…  server:…  listener:…  transport:…  host:mx1.example.org  actor:…
  since:2h  since:yesterday  until:2026-11-22  until:2026-11-22T08:00:00Z
  text:"mailbox full"  /regular expression/  bob*   anywhere in an event; slow: give a time

A word without a field is an address, a domain, an IP address, an ID, a word of the
subject, a symbol, a host, a user or a Message-ID.`

// canonicalField knows other names of fields.
func canonicalField(name string) string {
	switch name {
	case "from":
		return "sender"
	case "to", "rcpt":
		return "recipient"
	case "ip":
		return "client"
	case "messageid", "message_id":
		return "message-id"
	case "action":
		return "verdict"
	case "session":
		return "id"
	}
	return name
}

// Fields are the names of the fields.
func Fields() []string {
	return slices.Sorted(maps.Keys(conditions()))
}

func conditions() map[string]condition {
	return map[string]condition{
		"sender":     addressCondition(fieldSender, fieldFrom),
		"recipient":  addressCondition(fieldRecipient, fieldTo),
		"domain":     domainCondition,
		"client":     clientCondition,
		"subject":    subjectCondition,
		"id":         idCondition,
		"message-id": func(v string, _ bool) (clause, error) { return oneTerm(fieldMessageID, strings.Trim(v, "<>")), nil },
		"verdict": valueCondition(fieldVerdict, mail.ActionDeliver, mail.ActionMark, mail.ActionQuarantine, mail.ActionDiscard,
			mail.ActionReject, mail.ActionDefer),
		"threat": valueCondition(fieldThreat, mail.ThreatVirus, mail.ThreatSpam, mail.ThreatFilter, mail.ThreatUnscanned, mail.ThreatPolicy),
		"result": valueCondition(fieldResult, mail.EventOK, mail.EventAccepted, mail.EventDeferred, mail.EventRefused, mail.EventDropped,
			mail.EventDelivered, mail.EventFailed, mail.EventPartial, mail.EventPassed, mail.EventReplaced),
		"kind": valueCondition(fieldKind, mail.EventConnect, mail.EventLogin, mail.EventSender, mail.EventRecipient, mail.EventMessage,
			mail.EventScanned, mail.EventAttempt, mail.EventReport, mail.EventQuarantine, mail.EventRelease, mail.EventDelete,
			mail.EventTrain, mail.EventRequest, mail.EventFetch, mail.EventSession, mail.EventAdmin),
		"outcome":   outcomeCondition,
		"check":     checkCondition,
		"rule":      ruleCondition,
		"symbol":    termCondition(fieldSymbol),
		"user":      termCondition(fieldUser),
		"server":    termCondition(fieldServer),
		"listener":  termCondition(fieldListener),
		"transport": termCondition(fieldTransport),
		"host":      termCondition(fieldHost),
		"helo":      termCondition(fieldHelo),
		"actor":     termCondition(fieldActor),
		"text":      textCondition,
	}
}

func oneTerm(field byte, value string) clause { return clause{any: []term{hash(field, value)}} }

// termCondition is a field whose whole value is a term; "*" makes it a text.
func termCondition(field byte) condition {
	return func(v string, quoted bool) (clause, error) {
		if !quoted && strings.Contains(v, "*") {
			return textCondition(v, false)
		}
		return oneTerm(field, v), nil
	}
}

// valueCondition is a field with few values.
func valueCondition[T ~string](field byte, values ...T) condition {
	return func(v string, _ bool) (clause, error) {
		for _, known := range values {
			if strings.EqualFold(v, string(known)) {
				return oneTerm(field, string(known)), nil
			}
		}
		var names []string
		for _, known := range values {
			names = append(names, string(known))
		}
		return clause{}, fmt.Errorf("%q is none of %s", v, strings.Join(names, ", "))
	}
}

func addressCondition(field, domainField byte) condition {
	return func(v string, quoted bool) (clause, error) {
		v = strings.ToLower(v)
		if v != "<>" {
			v = strings.TrimSuffix(strings.TrimPrefix(v, "<"), ">")
		}
		switch at := strings.LastIndexByte(v, '@'); {
		case !quoted && strings.Contains(v, "*"):
			return textCondition(v, false)
		case at == 0:
			return oneTerm(domainField, v[1:]), nil
		case at > 0 || v == "<>":
			return oneTerm(field, v), nil // a local part, where nothing follows the "@"
		}
		return clause{any: []term{hash(field, v+"@"), hash(domainField, v), hash(field, v)}}, nil
	}
}

func domainCondition(v string, quoted bool) (clause, error) {
	v = strings.TrimPrefix(strings.ToLower(v), "@")
	if !quoted && strings.Contains(v, "*") {
		return clause{}, errors.New("domain: finds what is below a domain, too, without *")
	}
	return clause{any: []term{hash(fieldDomain, v), hash(fieldTo, v), hash(fieldFrom, v)}}, nil
}

func clientCondition(v string, _ bool) (clause, error) {
	if a, err := netip.ParseAddr(v); err == nil {
		return oneTerm(fieldClient, a.Unmap().String()), nil
	}
	p, err := netip.ParsePrefix(v)
	if err != nil {
		// "192.0.2" and "192.0.2." are how people write a network.
		parts := strings.Split(strings.TrimSuffix(v, "."), ".")
		if p, err = netip.ParsePrefix(strings.Join(append(parts, "0", "0", "0", "0")[:4], ".") + "/" + strconv.Itoa(8*len(parts))); err != nil || len(parts) > 3 {
			return clause{}, fmt.Errorf("%q is no IP address or network", v)
		}
	}
	p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()).Masked()
	if !p.IsValid() {
		return clause{}, fmt.Errorf("%q is no IP address or network", v)
	}
	inside := func(e *mail.Event) bool { return e.Client.IsValid() && p.Contains(e.Client) }
	for _, bits := range networkBits(p.Addr()) {
		switch {
		case bits == p.Bits():
			return oneTerm(fieldNetwork, p.String()), nil
		case bits < p.Bits():
			wider, err := p.Addr().Prefix(bits)
			return clause{any: []term{hash(fieldNetwork, wider.String())}, check: inside}, err
		}
	}
	return clause{check: inside}, nil
}

// subjectCondition finds words of a subject; of several only the longest is looked up.
func subjectCondition(v string, quoted bool) (clause, error) {
	if !quoted && strings.Contains(v, "*") {
		parts := strings.Split(strings.ToLower(v), "*")
		return clause{check: func(e *mail.Event) bool { return inOrder(strings.ToLower(e.Subject), parts) }}, nil
	}
	longest, n := "", 0
	for word := range wordsOf(v) {
		if n++; len(word) > len(longest) {
			longest = word
		}
	}
	want := strings.ToLower(v)
	inside := func(e *mail.Event) bool { return strings.Contains(strings.ToLower(e.Subject), want) }
	switch {
	case n == 0:
		return clause{check: inside}, nil
	case n == 1 && longest == v:
		return oneTerm(fieldSubject, v), nil
	}
	return clause{any: []term{hash(fieldSubject, longest)}, check: inside}, nil
}

func inOrder(text string, parts []string) bool {
	for _, p := range parts {
		_, rest, ok := strings.Cut(text, p)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}

// idCondition finds a message or session by ID, or what belongs to a queue item: its
// events and those of the whole message.
func idCondition(v string, _ bool) (clause, error) {
	if id, err := mail.ParseID(v); err == nil {
		return oneTerm(fieldID, id.String()), nil
	}
	q, err := mail.ParseQueueID(v)
	if err != nil {
		return clause{}, errors.New("want the 26 characters of an ID, or ID:n")
	}
	c := oneTerm(fieldID, q.Message.String())
	c.check = func(e *mail.Event) bool { return e.Item == 0 || e.Item == q.N }
	return c, nil
}

// freeTerms are all that a word without a field may stand for.
func freeTerms(v string) []term {
	v = strings.ToLower(v)
	if q, err := mail.ParseQueueID(v); err == nil {
		v = q.Message.String()
	}
	if _, err := mail.ParseID(v); err == nil {
		return []term{hash(fieldID, v)}
	}
	of := func(fields ...byte) (all []term) {
		for _, f := range fields {
			all = append(all, hash(f, v))
		}
		return all
	}
	if c, err := clientCondition(v, false); err == nil && c.check == nil && strings.ContainsAny(v, ".:") {
		return append(c.any, of(fieldHost, fieldHelo, fieldServer)...)
	}
	if domain, ok := strings.CutPrefix(v, "@"); ok {
		return []term{hash(fieldDomain, domain), hash(fieldFrom, domain), hash(fieldTo, domain)}
	}
	if strings.Contains(v, "@") {
		return append(of(fieldSender, fieldRecipient, fieldUser), hash(fieldMessageID, strings.Trim(v, "<>")))
	}
	all := of(fieldSubject, fieldSymbol, fieldUser, fieldHelo, fieldHost, fieldServer, fieldActor, fieldDomain, fieldFrom, fieldTo, fieldSender)
	return append(all, hash(fieldSender, v+"@"), hash(fieldRecipient, v+"@"))
}

// ParseTime reads a time: RFC 3339, "2026-11-22", "2026-11-22T08:00", a stretch before
// now ("90m", "2h", "3d", "1w"), "now", "today" or "yesterday".
func ParseTime(text string, now time.Time) (time.Time, error) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch strings.ToLower(text) {
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	if n, err := strconv.ParseUint(text[:len(text)-1], 10, 16); err == nil {
		switch text[len(text)-1] {
		case 'd':
			return now.AddDate(0, 0, -int(n)), nil
		case 'w':
			return now.AddDate(0, 0, -7*int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-22, 2026-11-22T08:00:00Z, 2h, 3d, today or yesterday", text)
}

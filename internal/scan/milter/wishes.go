package milter

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// maxWishes bounds what a milter may ask for at the end of one message.
const maxWishes = 10_000

// wish is a change that the milter asks for.
type wish struct {
	kind  byte
	name  string // of a field
	value string // of a field, an address, a reason
	index int
}

// wishOf understands a packet; ok is false where it asks for no change.
func wishOf(p packet) (w wish, ok bool, err error) {
	w.kind = p.code
	data := p.data
	switch p.code {
	case asksBody:
		return w, true, nil
	case asksHold, asksAddRcpt, asksAddRcpt2, asksDelRcpt, asksNewSender:
		w.value, _, ok = cutText(data)
	case asksInsert, asksChange:
		if len(data) < 4 {
			break
		}
		w.index, data = int(binary.BigEndian.Uint32(data)), data[4:]
		fallthrough
	case asksAdd:
		var complete bool
		w.name, data, complete = cutText(data)
		w.value, _, ok = cutText(data)
		ok = ok && complete
	default:
		return w, false, nil
	}
	if !ok {
		return w, false, fmt.Errorf("the milter asks for a change %q that is cut off", p.code)
	}
	return w, true, nil
}

// take makes findings of what the milter asks for.
func (t *talk) take(wishes []wish) {
	noted := 0
	for _, w := range wishes {
		switch w.kind {
		case asksAdd, asksInsert, asksChange:
			t.edit(w)
			continue
		}
		if noted++; noted > t.s.cfg.MaxEdits && w.kind != asksHold && w.kind != asksBody && w.kind != asksDelRcpt {
			continue
		}
		switch w.kind {
		case asksHold:
			t.findings = append(t.findings, saw("quarantine", mail.Match, "wants it in the quarantine", w.value))
		case asksBody:
			// What was scanned is what is delivered: another body would be neither.
			t.findings = append(t.findings, saw("replace-body", mail.Match, "wants to deliver another body in its place", ""))
		case asksDelRcpt:
			t.deleteRecipient(w.value)
		case asksAddRcpt, asksAddRcpt2:
			t.findings = append(t.findings, saw("add-recipient", mail.Clean, "wants another recipient, who does not get it", w.value))
		case asksNewSender:
			t.findings = append(t.findings, saw("change-sender", mail.Clean, "wants another envelope sender, which stays as it is", w.value))
		}
	}
}

// deleteRecipient takes a recipient out, by a match that is about that one alone.
func (t *talk) deleteRecipient(path string) {
	address := strings.Trim(strings.TrimSpace(path), "<>")
	for i := range t.env.Recipients {
		a := asked(&t.env.Recipients[i])
		if !strings.EqualFold(a.String(), address) && !strings.EqualFold(a.Key(), address) {
			continue
		}
		f := saw("delete-recipient", mail.Match, "wants this recipient not to get it", address)
		f.Recipients = []string{a.Key()}
		if !slices.ContainsFunc(t.findings, func(g mail.Finding) bool {
			return g.Symbol == f.Symbol && slices.Equal(g.Recipients, f.Recipients)
		}) {
			t.findings = append(t.findings, f)
		}
	}
}

// edit notes an edit of the header section, or why it is not made.
func (t *talk) edit(w wish) {
	why, value := refusedField(w.name), ""
	if why == "" {
		var err error
		if value, err = cleanValue(w.name, w.value); err != nil {
			why = err.Error()
		}
	}
	switch {
	case why != "":
	case strings.EqualFold(w.name, "Authentication-Results") && isOurs(value, t.s.cfg.Hostname):
		why = "it would speak in our name"
	case w.kind != asksAdd && w.index > maxIndex:
		why = "there is no such place"
	}
	if why == "" {
		f, ok := t.editFinding(w, value)
		if !ok {
			return
		}
		t.edits++
		t.editSize += len(value) + len(w.name)
		switch {
		case t.edits > t.s.cfg.MaxEdits:
			why = fmt.Sprintf("it is one of more than %d edits", t.s.cfg.MaxEdits)
		case t.editSize > t.s.cfg.MaxEditBytes:
			why = fmt.Sprintf("the edits are longer than %d bytes", t.s.cfg.MaxEditBytes)
		default:
			t.findings = append(t.findings, f)
			return
		}
	}
	if t.refused++; t.refused > t.s.cfg.MaxEdits {
		return
	}
	f := saw("refused-edit", mail.Clean, "wants to edit a field, which is not done: "+why, w.value)
	f.Name = message.SafeText(w.name, maxFieldName)
	t.findings = append(t.findings, f)
}

// editFinding describes an edit for Edits. Places that the milter counts are
// those of the fields that it was shown; in the finding they count all.
func (t *talk) editFinding(w wish, value string) (mail.Finding, bool) {
	e := edit{symbol: symbolAdd, name: w.name, value: value}
	switch w.kind {
	case asksInsert:
		e.symbol, e.index = symbolInsert, w.index
	case asksChange:
		e.index = t.place(w.name, max(w.index, 1))
		switch {
		case e.index == 0 && value == "":
			return mail.Finding{}, false // nothing is there to delete
		case e.index == 0:
			// libmilter: a change behind the last one adds.
		case value == "":
			e.symbol = symbolDelete
		default:
			e.symbol = symbolChange
		}
	}
	return e.finding(), true
}

// place finds the n-th field of that name which the milter was shown, and counts
// how many of that name stand in the message up to there; 0: there is none.
func (t *talk) place(name string, n int) int {
	at := int64(-1)
	for _, f := range t.seen {
		if f.Is(name) {
			if n--; n == 0 {
				at = f.Span.Start
			}
		}
	}
	count := 0
	for _, f := range t.in.Header.Fields() {
		if f.Is(name) && f.Span.Start <= at {
			count++
		}
	}
	return count
}

package rewrite

import (
	"context"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/smtp"
)

// maxHeaderAddresses bounds how many addresses of a header are looked at; the
// others stay as they are. Postfix's bound is of this order.
const maxHeaderAddresses = 10_000

// classOf tells the fields that hold addresses, and whether they are those of
// senders or of recipients, as Postfix sorts them.
func classOf(field string) Class {
	switch strings.ToLower(field) {
	case "from", "sender", "reply-to", "errors-to", "return-receipt-to", "mail-followup-to", "disposition-notification-to", "resent-from", "resent-sender":
		return HeaderSender
	case "to", "cc", "bcc", "apparently-to", "resent-to", "resent-cc", "resent-bcc", "resent-reply-to":
		return HeaderRecipient
	}
	return 0
}

// WantsHeaders reports whether the header of this client's mail is rewritten.
func (e *Engine) WantsHeaders(s *mail.Session) bool {
	switch e.cfg.HeaderClients {
	case ClientsNone:
		return false
	case ClientsTrusted:
		if !s.MayRelay() {
			return false
		}
	}
	classes := HeaderSender | HeaderRecipient
	tables := len(e.tables[role{Canonical, 0}]) + len(e.tables[role{Canonical, EnvelopeSender}]) + len(e.tables[role{Canonical, EnvelopeRecipient}])
	return e.cfg.CanonicalClasses&classes != 0 && tables > 0 || e.cfg.MasqueradeClasses&classes != 0 && len(e.masquerade) > 0
}

// Headers returns what changes in the header of a message that this client sent:
// canonical and masquerade. The offsets are those of the message.
func (e *Engine) Headers(ctx context.Context, s *mail.Session, h *message.Header, t *Trace) ([]mail.Replacement, error) {
	if !e.WantsHeaders(s) {
		return nil, nil
	}
	edited, err := editHeader(h, mail.Edits{}, func(class Class, a mail.Address) (mail.Address, error) {
		return e.single(ctx, class, a, t)
	})
	return edited.Replace, err
}

// Leaves reports whether mail through that transport goes through generic.
func (e *Engine) Leaves(transport string) bool {
	return len(e.tables[role{Generic, 0}]) > 0 && (len(e.cfg.GenericTransports) == 0 || slices.Contains(e.cfg.GenericTransports, transport))
}

// Outgoing says what becomes of an address of the envelope that leaves through a
// transport for which Leaves.
func (e *Engine) Outgoing(ctx context.Context, a mail.Address, t *Trace) (mail.Address, error) {
	if a.Domain == "" {
		return a, nil
	}
	f, ok, err := e.find(ctx, e.tables[role{Generic, 0}], a)
	if !ok || err != nil {
		return a, err
	}
	// Generic does not go on with its own result, and an extension that the pattern
	// lacks is not put to it: both as in Postfix.
	to, err := e.apply(a, found{entry: f.entry})
	if err != nil {
		return a, &tableError{f.entry, err}
	}
	t.add(Generic, a, f.entry, texts(to[:1]))
	return to[0], nil
}

// OutgoingHeaders adds to the edits of a message what generic changes in its
// header. An address that the edits change already is looked up as they leave it.
func (e *Engine) OutgoingHeaders(ctx context.Context, h *message.Header, edits mail.Edits, t *Trace) (mail.Edits, error) {
	return editHeader(h, edits, func(_ Class, a mail.Address) (mail.Address, error) { return e.Outgoing(ctx, a, t) })
}

// change says what becomes of an address in a header.
type change func(Class, mail.Address) (mail.Address, error)

// editHeader returns the edits with those of the header's addresses in them.
func editHeader(h *message.Header, edits mail.Edits, to change) (mail.Edits, error) {
	w := headerEdit{to: to, cut: edits.Cut, replace: slices.Clone(edits.Replace), known: map[occurrence]mail.Address{}}
	for _, f := range h.Fields() {
		class := classOf(f.Name)
		if class == 0 || findSpan(w.cut, func(c mail.Span) mail.Span { return c }, f.Span) >= 0 {
			continue
		}
		raw := f.Raw()
		from := strings.IndexByte(raw, ':') + 1
		for _, found := range addressesIn(raw[from:]) {
			if w.seen++; w.seen > maxHeaderAddresses {
				break
			}
			at := f.Span.Start + int64(from)
			if err := w.address(class, found.text, mail.Span{Start: at + int64(found.start), End: at + int64(found.end)}); err != nil {
				return edits, err
			}
		}
	}
	edits.Replace = append(w.replace, w.added...)
	slices.SortStableFunc(edits.Replace, func(a, b mail.Replacement) int { return int(a.Start - b.Start) })
	return edits, nil
}

// occurrence is an address in a kind of field: the same one is looked up once.
type occurrence struct {
	class Class
	text  string
}

// headerEdit is the rewriting of one header.
type headerEdit struct {
	to    change
	known map[occurrence]mail.Address
	seen  int
	cut   []mail.Span
	// replace are the edits that there are already, in ascending order.
	replace, added []mail.Replacement
}

func (w *headerEdit) address(class Class, text string, span mail.Span) error {
	i := findSpan(w.replace, func(r mail.Replacement) mail.Span { return r.Span }, span)
	if i >= 0 {
		if w.replace[i].Span != span {
			return nil // something else wants these bytes
		}
		text = string(w.replace[i].Text)
	}
	to, ok := w.known[occurrence{class, text}]
	if !ok {
		a, err := smtp.ParseAddress(text)
		if err != nil {
			return nil // what is no address can't be in a table
		}
		if to, err = w.to(class, a); err != nil {
			return err
		}
		if to.Key() == a.Key() { // not to be touched for its spelling
			to.Raw = text
		}
		w.known[occurrence{class, text}] = to
	}
	switch {
	case to.Raw == text:
	case i >= 0:
		w.replace[i].Text = []byte(to.Raw)
	default:
		w.added = append(w.added, mail.Replacement{Span: span, Text: []byte(to.Raw)})
	}
	return nil
}

// findSpan finds the element that overlaps the span, or -1. The elements are in
// ascending order and do not overlap each other.
func findSpan[T any](all []T, of func(T) mail.Span, span mail.Span) int {
	i, _ := slices.BinarySearchFunc(all, span.Start, func(e T, start int64) int {
		if of(e).End <= start {
			return -1
		}
		return 1
	})
	if i < len(all) && of(all[i]).Start < span.End {
		return i
	}
	return -1
}

package dkim

import (
	"slices"
	"strings"
)

// maxInstances bounds how many fields of one name are signed. Beyond it the
// lowest ones are, which are those that readers show.
const maxInstances = 50

// defaultFields is RFC 6376 §5.4.1: what the author meant, not what mail servers
// add on the way.
func defaultFields() []string {
	return []string{
		"from", "sender", "reply-to", "subject", "date", "message-id", "to", "cc",
		"mime-version", "content-type", "content-transfer-encoding",
		"resent-date", "resent-from", "resent-sender", "resent-to", "resent-cc", "resent-message-id",
		"in-reply-to", "references",
		"list-id", "list-help", "list-unsubscribe", "list-unsubscribe-post", "list-subscribe",
		"list-post", "list-owner", "list-archive",
	}
}

// defaultOversign holds the fields that a reader is shown and that no server adds
// to a finished message. Date, Message-ID and the MIME fields are not among them:
// servers add those where they are missing, and that must not break a signature.
func defaultOversign() []string { return []string{"from", "reply-to", "subject", "to", "cc"} }

// closed are the fields that, where they occur, must not occur once more: a
// second one changes what readers make of the message.
func closed() []string {
	return []string{"sender", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding"}
}

// fieldNames is h=: each name as often as it is signed.
func (s *Signer) fieldNames(index *fieldIndex) []string {
	counts := make(map[string]int, len(index.places))
	for name, places := range index.places {
		counts[name] = len(places)
	}
	over, once := lowerAll(s.opts.Oversign), closed()
	var names []string
	add := func(name string) {
		n := counts[name]
		switch {
		case n > maxInstances:
			n = maxInstances
		case slices.Contains(over, name), n > 0 && slices.Contains(once, name):
			n++
		}
		for range n {
			names = append(names, name)
		}
		// A name that is listed twice is signed once.
		delete(counts, name)
		over = slices.DeleteFunc(over, func(o string) bool { return o == name })
	}
	for _, name := range lowerAll(s.opts.Fields) {
		add(name)
	}
	for len(over) > 0 {
		add(over[0])
	}
	if !slices.Contains(names, "from") {
		// RFC 6376 §5.4: From must be signed.
		names = append(names, slices.Repeat([]string{"from"}, max(1, min(counts["from"], maxInstances)))...)
	}
	return names
}

func lowerAll(names []string) []string {
	lower := make([]string, len(names))
	for i, name := range names {
		lower[i] = strings.ToLower(name)
	}
	return lower
}

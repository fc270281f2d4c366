package bayes

import (
	"strings"

	"golang.org/x/net/publicsuffix"

	"gatepost/internal/message"
	"gatepost/internal/message/textview"
)

// Bounds of what is read of the header section.
const (
	maxFields   = 200  // fields
	maxReceived = 12   // Received fields
	maxValue    = 1000 // bytes of one value
	maxPieces   = 40   // words of one value
)

// addHeader adds what the header section says; names and subject are taken from
// the view, where they are decoded.
func (t *tokens) addHeader(h *message.Header, v *textview.View) {
	received, before := 0, ""
	decoded := map[string]string{"subject": v.Subject, "from": v.From, "reply-to": v.ReplyTo}
	fields := h.Fields()
	for i := range fields[:min(len(fields), maxFields)] {
		name := strings.ToLower(fields[i].Name)
		if name == "" || ignored(name) {
			continue
		}
		if name == "received" {
			if received++; received <= maxReceived {
				t.addReceived(fields[i].Value())
			}
			continue
		}
		t.add(kindField, fields[i].Name)
		if before != "" {
			t.addPair(kindOrder, before, name, 0)
		}
		before = name
		value := fields[i].Value()
		if readable := decoded[name]; readable != "" {
			t.addEncoding(kind(name+":"), value)
			value = readable
			delete(decoded, name) // of a second such field no program shows anything
		}
		t.addField(name, value[:min(len(value), maxValue)])
	}
}

// ignored are the fields that say nothing about the sender: our own, the opinions
// of other filters (which would be learned instead of the mail, and which a
// sender can forge), what mailboxes write into mail that they store, and dates.
func ignored(name string) bool {
	switch name {
	case "status", "x-status", "x-uid", "x-uidl", "x-imap", "x-imapbase", "x-keywords", "x-mozilla-status", "x-mozilla-status2",
		"x-mozilla-keys", "content-length", "lines", "delivery-date", "x-evolution", "x-account-key", "x-folder",
		"authentication-results", "arc-authentication-results", "arc-seal", "arc-message-signature",
		"x-bogosity", "x-crm114-status", "x-virus-scanned", "x-virus-status", "x-mailscanner", "x-rspamd-server", "x-loop":
		return true
	}
	for _, prefix := range []string{"x-gatepost-", "x-spam", "x-dspam-", "x-rspamd-", "x-mailscanner-", "x-ms-exchange-", "x-forefront-", "x-microsoft-antispam"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// addField adds the value of one field, by what kind of value it has.
func (t *tokens) addField(name, value string) {
	k := kind(name + ":")
	switch name {
	case "subject":
		t.addText(k, value)
	case "from", "reply-to", "sender", "return-path", "to", "cc", "errors-to", "resent-from":
		t.addAddresses(k, value)
	case "date", "delivered-to", "x-original-date", "resent-date":
		if zone := value[strings.LastIndexByte(value, ' ')+1:]; name != "delivered-to" && len(zone) <= 8 {
			t.add(k, zone)
		}
	case "message-id", "in-reply-to", "references", "resent-message-id":
		t.addMessageIDs(k, value)
	case "dkim-signature":
		t.addTags(k, value)
	default:
		t.addPieces(k, value)
	}
}

// addEncoding adds the character set and encoding of the first encoded word
// (RFC 2047 §2).
func (t *tokens) addEncoding(k kind, value string) {
	_, word, ok := strings.Cut(value, "=?")
	if !ok {
		return
	}
	charset, rest, _ := strings.Cut(word, "?")
	encoding, _, _ := strings.Cut(rest, "?")
	if len(charset) <= maxWord && len(encoding) == 1 {
		t.addPair(k, charset, encoding, 0)
	}
}

// addPieces adds the words of a structured value.
func (t *tokens) addPieces(k kind, value string) {
	n := 0
	for w := range words(value) {
		if n++; n > maxPieces {
			return
		}
		t.add(k, w)
	}
}

// addTags adds the domain and the signed fields of a signature; the rest of it is
// different in every message.
func (t *tokens) addTags(k kind, value string) {
	for tag := range strings.SplitSeq(value, ";") {
		name, v, _ := strings.Cut(strings.TrimSpace(tag), "=")
		switch strings.TrimSpace(name) {
		case "d", "s", "a", "c":
			t.add(k, strings.TrimSpace(v))
		}
	}
}

// addAddresses adds names, addresses and domains of a list of mailboxes. It does
// not parse: senders of spam do not keep to the grammar.
func (t *tokens) addAddresses(k kind, value string) {
	n, ats := 0, 0
	for w := range words(value) {
		if n++; n > maxPieces {
			break
		}
		t.add(k, w)
		if at := strings.LastIndexByte(w, '@'); at > 0 {
			ats++
			t.addDomain(k, w[at+1:])
		}
	}
	switch {
	case ats == 0:
		t.add(k, "(no address)")
	case ats > 10:
		t.add(k, "(more than 10)")
	case ats > 1:
		t.add(k, "(several)")
	}
}

// addDomain adds a host and the domain that it is registered under.
func (t *tokens) addDomain(k kind, host string) {
	if host == "" {
		return
	}
	t.add(k, host)
	if site := siteOf(host); site != host {
		t.add(k, site)
	}
}

// siteOf returns the registrable domain of a host, or the host itself.
func siteOf(host string) string {
	if site, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return site
	}
	return host
}

// addMessageIDs adds the shape of message identifiers and their hosts: what made
// the message shows in them.
func (t *tokens) addMessageIDs(k kind, value string) {
	left, host, ok := strings.Cut(strings.Trim(firstWord(value), "<>"), "@")
	if !ok {
		t.add(k, "(no host)")
	}
	t.add(k, shapeOf(left))
	t.addDomain(k, host)
	if strings.Count(value, "<") > 1 {
		t.add(k, "(several)")
	}
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return w
}

// shapeOf writes a string with its runs of digits, hexadecimal digits and letters
// replaced by one sign each.
func shapeOf(s string) string {
	shape := make([]byte, 0, 24)
	for i := 0; i < len(s) && len(shape) < cap(shape); i++ {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c = '9'
		case 'a' <= c && c <= 'z':
			c = 'a'
		case 'A' <= c && c <= 'Z':
			c = 'A'
		}
		if n := len(shape); n == 0 || shape[n-1] != c {
			shape = append(shape, c)
		}
	}
	return string(shape)
}

// kindReceived is what the Received fields say.
const kindReceived kind = "received:"

// addReceived adds hosts, networks and protocols of a Received field, without
// identifiers and dates.
func (t *tokens) addReceived(value string) {
	value = value[:min(len(value), maxValue)]
	if i := strings.LastIndexByte(value, ';'); i >= 0 {
		value = value[:i]
	}
	n, before := 0, ""
	for w := range words(value) {
		if n++; n > maxPieces {
			return
		}
		skip := strings.EqualFold(before, "id")
		before = w
		if skip {
			continue
		}
		t.add(kindReceived, w)
		switch {
		case isIPv4(w):
			if i := strings.LastIndexByte(w, '.'); i > 0 {
				t.add(kindReceived, w[:i])
				if j := strings.LastIndexByte(w[:i], '.'); j > 0 {
					t.add(kindReceived, w[:j])
				}
			}
		case strings.IndexByte(w, '.') > 0:
			if site := siteOf(w); site != w {
				t.add(kindReceived, site)
			}
		}
	}
}

// isIPv4 reports whether w looks like an IPv4 address.
func isIPv4(w string) bool {
	dots := 0
	for i := range len(w) {
		switch c := w[i]; {
		case c == '.':
			dots++
		case c < '0' || c > '9':
			return false
		}
	}
	return dots == 3
}

package auth

import (
	"fmt"
	"strings"

	"gatepost/internal/mail"
)

// SendAs is what authenticated users may send as.
type SendAs string

// The rules. The empty SendAs is SendAsDomains.
const (
	SendAsAny     SendAs = "any"     // everybody
	SendAsDomains SendAs = "domains" // all addresses in domains that are ours, and their own
	SendAsOwn     SendAs = "own"     // their own addresses
)

// ParseSendAs reads a rule.
func ParseSendAs(s string) (SendAs, error) {
	switch SendAs(s) {
	case "":
		return SendAsDomains, nil
	case SendAsAny, SendAsDomains, SendAsOwn:
		return SendAs(s), nil
	}
	return "", fmt.Errorf("send_as: want any, domains or own, got %q", s)
}

// MaySend reports whether the authenticated user of a session may use the sender,
// of an envelope or of a From. ours says which domains are ours.
//
// Own addresses are those that the backend named (Session.Senders), all addresses of
// a domain that it named, and the user's name where that is an address; where the
// name is none and the backend named nothing, the name in any domain of ours. What
// stands behind a "+" in the local part does not matter.
func MaySend(rule SendAs, s *mail.Session, sender mail.Address, ours func(domain string) bool) bool {
	// RFC 5321 §4.5.5: notifications, also those that a mail program sends, have no
	// sender.
	if sender.IsNull() || rule == SendAsAny {
		return true
	}
	if rule != SendAsOwn && ours(sender.Domain) {
		return true
	}
	key := sender.Key()
	base := key
	local, _, tagged := strings.Cut(strings.ToLower(sender.Local), "+")
	if tagged && local != "" {
		base = local + "@" + sender.Domain
	}
	is := func(own string) bool {
		own = strings.ToLower(own)
		if domain, ok := strings.CutPrefix(own, "@"); ok {
			return domain == sender.Domain
		}
		return own == key || own == base
	}
	for _, own := range s.Senders {
		if is(own) {
			return true
		}
	}
	if strings.Contains(s.User, "@") {
		return !strings.HasPrefix(s.User, "@") && is(s.User)
	}
	if len(s.Senders) > 0 || s.User == "" {
		return false
	}
	user := strings.ToLower(s.User)
	return (strings.ToLower(sender.Local) == user || local == user) && ours(sender.Domain)
}

package history

import (
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Who administers some domains only sees what concerns them: mail to their
// recipients, mail that their users sent, logins of their users. A sender's domain
// alone says nothing: anybody can write it. It counts where the mail was let out, or
// its sender logged in, which others can't.

// eachAsker calls fn with the domains whose administrators may see an event, some
// more than once, until it returns false.
func eachAsker(e *mail.Event, fn func(domain string) bool) {
	outgoing := e.User != ""
	for i := range e.Recipients {
		r := &e.Recipients[i]
		outgoing = outgoing || r.Domain == "*"
		if !eachAskerOf(r, fn) {
			return
		}
	}
	if outgoing && !fn(domainOf(e.Sender)) {
		return
	}
	fn(domainOf(e.User))
}

// eachAskerOf is eachAsker for one recipient. Of one elsewhere only whom the mail was
// for before it was sent on is ours.
func eachAskerOf(r *mail.Addressee, fn func(domain string) bool) bool {
	if r.Domain == "*" {
		d := domainOf(r.Original)
		return d == "" || fn(d)
	}
	for _, d := range [...]string{r.Domain, domainOf(r.Address), domainOf(r.Original)} {
		if d != "" && d != "*" && !fn(d) {
			return false
		}
	}
	return true
}

// domainOf is that of an address; "" where there is no "@".
func domainOf(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return address[at+1:]
	}
	return ""
}

// restrict returns the event as those may see it who administer the domains, or nil
// where it is none of their business. Nil domains may see everything.
func restrict(e *mail.Event, domains []string) *mail.Event {
	if domains == nil {
		return e
	}
	ours := func(domain string) bool {
		return domain != "" && slices.ContainsFunc(domains, func(d string) bool { return strings.EqualFold(d, domain) })
	}
	if ours(domainOf(e.User)) || isOutgoing(e) && ours(domainOf(e.Sender)) {
		return e
	}
	mine := func(r *mail.Addressee) bool {
		found := false
		eachAskerOf(r, func(d string) bool {
			found = ours(d)
			return !found
		})
		return found
	}
	shown := *e
	shown.Recipients = nil
	keys := make(map[string]bool)
	for i := range e.Recipients {
		if r := &e.Recipients[i]; mine(r) {
			shown.Recipients = append(shown.Recipients, *r)
			keys[strings.ToLower(r.Address)], keys[strings.ToLower(r.Original)] = true, true
		}
	}
	if len(shown.Recipients) == 0 {
		return nil
	}
	if len(shown.Recipients) < len(e.Recipients) {
		hideOthers(&shown, keys)
	}
	return &shown
}

// isOutgoing reports that the sender is one of ours.
func isOutgoing(e *mail.Event) bool {
	return e.User != "" || slices.ContainsFunc(e.Recipients, func(r mail.Addressee) bool { return r.Domain == "*" })
}

// hideOthers takes out what is about recipients who were taken out.
func hideOthers(e *mail.Event, keys map[string]bool) {
	e.Findings = slices.DeleteFunc(slices.Clone(e.Findings), func(f mail.Finding) bool {
		return len(f.Recipients) > 0 && !slices.ContainsFunc(f.Recipients, func(r string) bool { return keys[strings.ToLower(r)] })
	})
	for i := range e.Findings {
		if f := &e.Findings[i]; len(f.Recipients) > 0 {
			f.Recipients = slices.DeleteFunc(slices.Clone(f.Recipients), func(r string) bool { return !keys[strings.ToLower(r)] })
		}
	}
	// What was decided for him whom nobody sees any more is not what was decided.
	e.Action, e.Threat, e.Score, e.Reason = "", "", 0, ""
	for i := range e.Recipients {
		if r := &e.Recipients[i]; i == 0 || r.Action.Worse(e.Action) {
			e.Action, e.Threat, e.Score = r.Action, r.Threat, r.Score
		}
	}
	e.Details = nil
}

package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// What is counted must be found: a number on a page leads to a search that finds as
// many. So the fields outcome, check and rule decide with the code that counts.

// Outcome is what became of a message in one word, as pages count it.
type Outcome string

// The outcomes of messages. What is scanned after its answer is accepted when it comes
// and, in an event of its own, what it was found to be.
const (
	Accepted    Outcome = "accepted" // delivered, not scanned (yet), or fetched by POP3
	Marked      Outcome = "marked"
	Quarantined Outcome = "quarantined"
	Rejected    Outcome = "rejected"
	Deferred    Outcome = "deferred"
	Discarded   Outcome = "discarded"
)

// Keys are those of Counts.Totals that an outcome is the sum of.
func (o Outcome) Keys() []string {
	switch o {
	case Accepted:
		return []string{"message/deliver", "message/accept", "fetch/deliver", "fetch/accept"}
	case Marked:
		return []string{"message/mark", "fetch/mark", "scanned/mark"}
	case Quarantined:
		return []string{"message/quarantine", "fetch/quarantine", "scanned/quarantine"}
	case Rejected:
		return []string{"message/reject", "fetch/reject", "scanned/reject"}
	case Deferred:
		return []string{"message/defer", "fetch/defer", "scanned/defer"}
	case Discarded:
		return []string{"message/discard", "fetch/discard", "scanned/discard"}
	}
	return nil
}

// terms are those of which an event with the outcome has one, whoever looks at it.
func (o Outcome) terms() []term {
	verdict := func(a mail.Action) term { return hash(fieldVerdict, string(a)) }
	result := func(r mail.EventResult) term { return hash(fieldResult, string(r)) }
	switch o {
	case Accepted:
		return []term{verdict(mail.ActionDeliver), result(mail.EventAccepted), result(mail.EventPassed), result(mail.EventReplaced)}
	case Marked:
		return []term{verdict(mail.ActionMark)}
	case Quarantined:
		return []term{verdict(mail.ActionQuarantine)}
	case Rejected:
		return []term{verdict(mail.ActionReject), result(mail.EventRefused), result(mail.EventDropped)}
	case Deferred:
		return []term{verdict(mail.ActionDefer), result(mail.EventDeferred)}
	}
	return []term{verdict(mail.ActionDiscard)}
}

func outcomeCondition(v string, _ bool) (clause, error) {
	o := Outcome(strings.ToLower(v))
	keys := o.Keys()
	if keys == nil {
		return clause{}, fmt.Errorf("%q is none of accepted, marked, quarantined, rejected, deferred, discarded", v)
	}
	return clause{any: o.terms(), check: func(e *mail.Event) bool { return slices.Contains(keys, countKey(e)) }}, nil
}

// beforeContent are the kinds of events of what was refused before content.
func beforeContent() []mail.EventKind {
	return []mail.EventKind{mail.EventConnect, mail.EventSender, mail.EventRecipient}
}

// checkCondition finds what a check refused before content: a module, or where there
// was none a stage.
func checkCondition(v string, _ bool) (clause, error) {
	c := oneTerm(fieldSymbol, v)
	switch mail.Stage(strings.ToLower(v)) {
	case mail.StageConnect, mail.StageHelo, mail.StageAuth, mail.StageMail, mail.StageRcpt, mail.StageData,
		mail.Stage(mail.EventSender), mail.Stage(mail.EventRecipient):
		for _, kind := range beforeContent() {
			c.any = append(c.any, hash(fieldKind, string(kind)))
		}
	}
	c.check = func(e *mail.Event) bool {
		return slices.Contains(beforeContent(), e.Kind) && strings.EqualFold(checkOf(e), v)
	}
	return c, nil
}

// ruleCondition finds what a rule, or the name of a virus, decided.
func ruleCondition(v string, _ bool) (clause, error) {
	c := oneTerm(fieldSymbol, v)
	c.check = func(e *mail.Event) bool {
		return slices.ContainsFunc(threatsOf(e), func(rule string) bool { return strings.EqualFold(rule, v) })
	}
	return c, nil
}

// threatsOf are the viruses and filters that decided about a message, each once.
func threatsOf(e *mail.Event) (rules []string) {
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if (r.Threat == mail.ThreatVirus || r.Threat == mail.ThreatFilter) && r.Rule != "" && !slices.Contains(rules, r.Rule) {
			rules = append(rules, r.Rule)
		}
	}
	return rules
}

// maxParties bounds the domains of a message that are counted together.
const maxParties = 8

// addDomains counts a message for those who administer a domain of it. Each sees what
// became of their part of it; who administers several sees it once.
func (n *Counts) addDomains(e *mail.Event, key string) {
	first, several := "", false
	eachAsker(e, func(d string) bool {
		if d == "" {
			return true
		}
		if first == "" {
			first = d
		}
		several = !strings.EqualFold(d, first)
		return !several
	})
	switch {
	case first == "":
		return
	case !several && !(len(e.Recipients) > 1 && isOutgoing(e)): // of whom some may be hidden
		n.domain(strings.ToLower(first), key)
		return
	}
	parts := make(map[string]string)
	eachAsker(e, func(d string) bool {
		d = strings.ToLower(d)
		if _, known := parts[d]; d != "" && !known {
			if mine := restrict(e, []string{d}); mine != nil {
				parts[d] = countKey(mine)
			}
		}
		return len(parts) <= maxNames
	})
	if len(parts) > maxParties || len(n.Shared) >= maxDomains {
		for d, key := range parts {
			n.domain(d, key)
		}
		return
	}
	var b strings.Builder
	for _, d := range slices.Sorted(maps.Keys(parts)) {
		b.WriteString(d + "=" + parts[d] + " ")
	}
	if n.Shared == nil {
		n.Shared = make(map[string]int64)
	}
	n.Shared[b.String()]++
}

// of are the totals of some domains; nil: all.
func (n *Counts) of(domains []string) map[string]int64 {
	if domains == nil {
		return n.Totals
	}
	some := make(map[string]int64)
	for _, d := range domains {
		for key, v := range n.Domains[strings.ToLower(d)] {
			some[key] += v
		}
	}
	for parts, v := range n.Shared {
		worst := ""
		for part := range strings.FieldsSeq(parts) {
			d, key, _ := strings.Cut(part, "=")
			if slices.ContainsFunc(domains, func(mine string) bool { return strings.EqualFold(mine, d) }) &&
				(worst == "" || actionOf(key).Worse(actionOf(worst))) {
				worst = key
			}
		}
		if worst != "" {
			some[worst] += v
		}
	}
	return some
}

// actionOf is the verdict of a key.
func actionOf(key string) mail.Action {
	_, action, _ := strings.Cut(key, "/")
	return mail.Action(action)
}

// TopSearches are the searches that find what the lists of Counts.Top count: a quoted
// name goes behind.
func TopSearches() map[string]string {
	return map[string]string{
		TopSenders: "kind:message,fetch sender:", TopRecipients: "kind:message,fetch recipient:", TopNetworks: "kind:message,fetch client:",
		TopThreats: "kind:message,fetch,scanned rule:", TopChecks: "check:",
	}
}

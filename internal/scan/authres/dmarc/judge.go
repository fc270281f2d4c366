package dmarc

import "fmt"

// Status is the result of DMARC, in the words of RFC 7489 §11.2.
type Status string

// The results.
const (
	None      Status = "none" // the domain has no policy
	Pass      Status = "pass"
	Fail      Status = "fail"
	TempError Status = "temperror" // the DNS does not answer
	PermError Status = "permerror" // no author, or a policy that cannot be read
)

// Identity is a domain that SPF or DKIM looked at.
type Identity struct {
	Domain string
	// SPF tells it from DKIM.
	SPF bool
	// Temporary says that the check could not be made now; otherwise it passed.
	Temporary bool
}

func (i *Identity) method() string {
	if i.SPF {
		return "SPF"
	}
	return "DKIM"
}

// Result is what DMARC says about a message.
type Result struct {
	Status Status
	// Domain is the author's domain that decided, "" where there is none.
	Domain string
	// Policy is what is to be done about a failure; sampling by pct= is in it.
	Policy Policy
	Reason string
}

// Judge compares the domains of the authors with those that passed SPF or DKIM.
// authors is the error of Authors; sample is a number from 0 to 99 that stands
// for this message where a domain wants its policy for some mail only. With
// several authors the worst result counts, and of failures that with the
// strictest policy (RFC 7489 §6.6.1).
func Judge(list []Published, authors error, evidence []Identity, sample int) Result {
	var worst Result
	if authors != nil {
		worst = Result{Status: PermError, Reason: authors.Error()}
	}
	for i := range list {
		r := judge(&list[i], evidence, sample)
		if worst.Status == "" || r.rank() > worst.rank() {
			worst = r
		}
	}
	return worst
}

// rank orders results by what counts when there are several.
func (r *Result) rank() int {
	switch r.Status {
	case Fail:
		return 10 + r.Policy.rank()
	case TempError:
		return 3
	case PermError:
		return 2
	case None:
		return 1
	}
	return 0
}

func judge(p *Published, evidence []Identity, sample int) Result {
	r := Result{Status: p.Status, Domain: p.Domain, Reason: p.Reason}
	if p.Record == nil {
		return r
	}
	var waiting *Identity
	for i := range evidence {
		e := &evidence[i]
		switch {
		case !Aligned(p.Record, p.Domain, *e):
		case e.Temporary:
			waiting = e
		default:
			r.Status, r.Reason = Pass, fmt.Sprintf("%s passes for %s", e.method(), e.Domain)
			return r
		}
	}
	if waiting != nil {
		// It might have passed: this is no failure (RFC 7489 §6.6.2).
		r.Status, r.Reason = TempError, fmt.Sprintf("%s of %s cannot be checked now", waiting.method(), waiting.Domain)
		return r
	}
	r.Status, r.Policy = Fail, p.Policy
	r.Reason = fmt.Sprintf("neither SPF nor DKIM passes for %s, and the policy of %s is %s", p.Domain, p.At, p.Policy)
	if sample >= p.Record.Percent && p.Policy != PolicyNone {
		r.Policy = p.Policy.milder()
		r.Reason += fmt.Sprintf(" for %d %% of such mail: %s for the rest", p.Record.Percent, r.Policy)
	}
	return r
}

// Aligned reports whether a domain that passed speaks for the author's (RFC 7489
// §3.1): strictly where the two are the same, else where they are of one
// organization.
func Aligned(r *Record, author string, i Identity) bool {
	if author == i.Domain {
		return author != ""
	}
	if i.SPF && r.StrictSPF || !i.SPF && r.StrictDKIM || i.Domain == "" {
		return false
	}
	return OrgDomain(author) == OrgDomain(i.Domain)
}

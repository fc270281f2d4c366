package authres

import (
	"fmt"
	"strconv"

	"gatepost/internal/dkim"
	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan/authres/dmarc"
	"gatepost/internal/scan/authres/spf"
)

// What results add to the score of a message. Authentication alone says little
// about spam: spammers sign too, and forwarders break what was right.
const (
	scoreSPFFail     = 1.0
	scoreSPFSoftFail = 0.5
	scoreSPFBroken   = 0.2 // permerror
	scoreSigned      = -0.1
	scoreReject      = 3.0 // DMARC fails, p=reject
	scoreQuarantine  = 2.0
	scoreNone        = 0.5
	scoreNoAuthor    = 0.5 // From has no address, or none that can be read
)

// Temporary is the name of a property of a broken chain that may be whole when it is
// looked at again. It is for us only: Field passes it over.
const Temporary = "temporary"

// maxReason bounds a reason in bytes.
const maxReason = 256

// findings makes findings of all that is known.
func (f *facts) findings() []mail.Finding {
	list := []mail.Finding{f.spfFinding()}
	signed := false
	for i := range f.found.Signatures {
		s := &f.found.Signatures[i]
		finding := f.signatureFinding(s)
		if s.Status == dkim.Pass && !signed && f.isAuthors(s.Domain) {
			finding.Score, signed = scoreSigned, true
		}
		list = append(list, finding)
	}
	if len(f.found.Signatures) == 0 {
		list = append(list, mail.Finding{Symbol: "dkim:none", Result: mail.Clean, Reason: "there is no signature"})
	}
	if f.found.ARC.Status != dkim.None {
		list = append(list, f.arcFinding())
	}
	list = append(list, f.dmarcFinding())
	for i := range list {
		list[i].Module = Name
		list[i].Reason = message.SafeText(list[i].Reason, maxReason)
		list[i].Name = message.SafeText(list[i].Name, maxReason)
	}
	return list
}

// decided reports that DMARC has the last word, so that what else was found
// neither counts nor is missed.
func (f *facts) decided() bool {
	return f.dmarc.Status == dmarc.Pass || f.vouched ||
		f.dmarc.Status == dmarc.Fail && f.dmarc.Policy != dmarc.PolicyNone
}

// pending is the result of a check that could not be made: it matters unless the
// message is known to be authentic or nothing would follow.
func (f *facts) pending() mail.Result {
	if f.hidden != "" || f.dmarc.Status == dmarc.Pass || f.vouched {
		return mail.Clean
	}
	return mail.Unknown
}

func (f *facts) spfFinding() mail.Finding {
	r := &f.spf
	finding := mail.Finding{Symbol: "spf:" + string(r.Status), Result: mail.Clean, Name: r.Domain, Reason: r.Reason}
	switch {
	case r.Status == spf.TempError:
		finding.Result = f.pending()
	case f.decided():
	case r.Status == spf.Fail:
		finding.Score = scoreSPFFail
	case r.Status == spf.SoftFail:
		finding.Score = scoreSPFSoftFail
	case r.Status == spf.PermError:
		finding.Score = scoreSPFBroken
	}
	if r.Helo {
		finding.Properties = properties("smtp.helo", r.Domain)
	} else {
		finding.Properties = properties("smtp.mailfrom", f.env.GivenSender().Local+"@"+f.env.GivenSender().Domain)
	}
	return finding
}

func (f *facts) signatureFinding(s *dkim.Result) mail.Finding {
	finding := mail.Finding{Symbol: "dkim:" + string(s.Status), Result: mail.Clean, Name: s.Domain, Reason: s.Reason}
	if s.Status == dkim.Pass {
		finding.Reason = fmt.Sprintf("signed by %s with %s, key %s of %d bits", s.Domain, s.Algorithm, s.Selector, s.KeyBits)
	}
	// The broken key of a stranger is no reason to wait.
	if s.Status == dkim.TempError && f.isAuthors(s.Domain) {
		finding.Result = f.pending()
	}
	finding.Properties = properties("header.d", s.Domain, "header.s", s.Selector, "header.a", s.Algorithm, "header.b", s.Prefix)
	return finding
}

// isAuthors reports whether a domain is of the same organization as the author's.
func (f *facts) isAuthors(domain string) bool {
	for _, author := range f.authors {
		if domain != "" && dmarc.OrgDomain(author) == dmarc.OrgDomain(domain) {
			return true
		}
	}
	return false
}

func (f *facts) arcFinding() mail.Finding {
	chain := &f.found.ARC
	finding := mail.Finding{Symbol: "arc:" + string(chain.Status), Result: mail.Clean, Reason: chain.Reason}
	if n := len(chain.Sets); n > 0 {
		finding.Name = chain.Sets[n-1].Sealer
		if chain.Status == dkim.Pass {
			finding.Reason = fmt.Sprintf("passed on by %d hosts, the last of them of %s", n, finding.Name)
		}
	}
	if chain.Status == dkim.Pass {
		// RFC 8617 §5.2.
		finding.Properties = properties("header.oldest-pass", strconv.Itoa(chain.Oldest))
	}
	if chain.Temporary {
		finding.Properties = append(finding.Properties, mail.Property{Name: Temporary, Value: "yes"})
	}
	if client := f.env.Session.Client.Addr(); client.IsValid() {
		// RFC 8617 §10.2.
		finding.Properties = append(finding.Properties, properties("smtp.remote-ip", client.Unmap().WithZone("").String())...)
	}
	return finding
}

func (f *facts) dmarcFinding() mail.Finding {
	r := &f.dmarc
	finding := mail.Finding{Symbol: "dmarc:" + string(r.Status), Result: mail.Clean, Name: r.Domain, Reason: r.Reason}
	finding.Properties = properties("header.from", r.Domain)
	switch {
	case f.vouched:
		finding.Symbol = "dmarc:overridden"
		finding.Properties = append(finding.Properties, properties("policy.dmarc", string(dmarc.PolicyNone))...)
	case r.Status == dmarc.Fail:
		finding.Result, finding.Name = mail.Match, string(r.Policy)
		finding.Score = map[dmarc.Policy]float64{dmarc.PolicyReject: scoreReject, dmarc.PolicyQuarantine: scoreQuarantine}[r.Policy]
		if finding.Score == 0 {
			finding.Score = scoreNone
		}
		finding.Properties = append(finding.Properties, properties("policy.dmarc", string(r.Policy))...)
	case r.Status == dmarc.TempError:
		finding.Result = f.pending()
	case f.authorErr != nil && f.hidden == "":
		finding.Score = scoreNoAuthor
	}
	return finding
}

// properties makes properties of names and values, without those that are empty.
func properties(pairs ...string) []mail.Property {
	var list []mail.Property
	for i := 0; i < len(pairs); i += 2 {
		if value := message.SafeText(pairs[i+1], 320); value != "" {
			list = append(list, mail.Property{Name: pairs[i], Value: value})
		}
	}
	return list
}

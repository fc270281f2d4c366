package dkim

// Chain is what is known of the ARC sets of a message (RFC 8617).
type Chain struct {
	// Status is None where there are no sets, Pass where all is as it should be,
	// and Fail for everything else.
	Status Status
	// Reason is why Status is Fail.
	Reason string
	// Temporary says that the chain fails only because a key cannot be looked up
	// now.
	Temporary bool
	// Oldest is the lowest instance whose message signature still fits the
	// message, that is since when it was not changed; 0 where all of them do, and
	// where the chain does not pass (RFC 8617 §5.2).
	Oldest int
	// Sets are the sets by instance, the first in Sets[0]; nil unless the chain
	// is well-formed.
	Sets []ARCSet
}

// ARCSet is what one host that passed the message on says about it. It can be
// believed as far as that host is trusted, and only if the chain passes.
type ARCSet struct {
	Instance int
	// Sealer is d= of the seal: the domain that vouches for the set. Signer is d=
	// of the message signature, usually the same.
	Sealer, Signer string
	// Selector is s= of the seal.
	Selector string
	// CV is what the host found about the chain before it: "none" or "pass".
	CV Status
	// Results is the value of ARC-Authentication-Results behind "i=n;", unfolded:
	// it begins with the name of the host that checked. It is not more to be
	// trusted with control characters and the like than any other header field.
	Results string
}

// Trusted returns the oldest set that can be believed: those of trusted sealers
// from the last one down, without a stranger between. Who stands in between may
// have taken the sets below from another message. It returns nil where the chain
// does not pass or the last sealer is not trusted.
func (c *Chain) Trusted(isTrusted func(domain string) bool) *ARCSet {
	if c.Status != Pass {
		return nil
	}
	var set *ARCSet
	for i := len(c.Sets) - 1; i >= 0 && isTrusted(c.Sets[i].Sealer); i-- {
		set = &c.Sets[i]
	}
	return set
}

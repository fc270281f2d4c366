package dkim

import (
	"crypto/sha256"
	"hash"
	"slices"
)

// checkSeals checks the signatures of all sets over header fields (RFC 8617 §5.2,
// steps 4 to 6, in the order that costs least).
func (r *run) checkSeals() {
	c := r.chain
	if c.wrong != nil || len(c.sets) == 0 {
		return
	}
	running := sha256.New()
	for _, s := range c.sets {
		// RFC 8617 §5.1.1: all sets up to this one in their order, always relaxed.
		hashWhole(running, s.resultsRaw)
		hashWhole(running, s.message.sig.raw)
		h, err := running.(hash.Cloner).Clone()
		if err != nil {
			c.wrong = bad("the seal cannot be hashed")
			return
		}
		hashUnsigned(h, Relaxed, s.seal.sig.raw)
		if r.judge(s.seal, h.Sum(nil)); s.seal.wrong != nil {
			c.wrong = &fault{s.seal.wrong.status, "seal: " + s.seal.wrong.reason}
			return
		}
		hashWhole(running, s.seal.sig.raw)
	}
	r.checkMessageSignatures()
}

func hashWhole(h hash.Hash, raw string) { h.Write(Relaxed.appendField(nil, raw)) }

// checkMessageSignatures checks the newest message signature, and the older ones
// until the first that does not fit, which is no fault: the message was changed
// on its way.
func (r *run) checkMessageSignatures() {
	for _, s := range slices.Backward(r.chain.sets) {
		s.message.wrong = s.message.sig.checkTimes(r.in.Received, r.v.cfg.Skew)
		if r.checkSignature(s.message); s.message.wrong != nil {
			return
		}
	}
}

// finishChain settles what depends on the body.
func (r *run) finishChain(ambiguous bool) {
	c := r.chain
	if c.wrong != nil || len(c.sets) == 0 {
		return
	}
	for i, s := range slices.Backward(c.sets) {
		m := s.message
		if r.compareBody(m); m.wrong == nil && m.partial && !r.v.cfg.AcceptPartial {
			m.wrong = &fault{Policy, "the end of the body is not signed"}
		}
		if m.wrong == nil {
			continue
		}
		if c.oldest = i + 2; c.oldest > len(c.sets) {
			c.oldest = 0
			c.wrong = &fault{m.wrong.status, "message signature: " + m.wrong.reason}
		}
		break
	}
	if c.wrong == nil && ambiguous {
		c.oldest = 0
		c.wrong = &fault{Policy, "the header section is ambiguous"}
	}
}

// result is the chain as callers see it.
func (c *chain) result() Chain {
	res := Chain{Status: None, Oldest: c.oldest}
	if c.wrong != nil {
		res.Status, res.Reason, res.Temporary = Fail, c.wrong.reason, c.wrong.status == TempError
	} else if len(c.sets) > 0 {
		res.Status = Pass
	}
	for i, s := range c.sets {
		if s.resultsRaw == "" || s.message == nil || s.seal == nil {
			res.Sets = nil
			break
		}
		res.Sets = append(res.Sets, ARCSet{
			Instance: i + 1, Sealer: s.seal.sig.domain, Signer: s.message.sig.domain,
			Selector: s.seal.sig.selector, CV: s.cv, Results: s.results,
		})
	}
	return res
}

package dkim

import (
	"context"
	"crypto/sha256"
	"hash"
	"slices"
	"sync"
)

// run is one call of Verify.
type run struct {
	v          *Verifier
	in         Input
	index      *fieldIndex
	signatures []*check
	chain      *chain
	keys       map[string]published
	bodies     bodyHashes
	effort     int // what may still be spent on keys
}

// maxEffort bounds what the keys of one message cost together: as much as 64
// signatures with keys of maxRSABits, less than a second. 100 seals with ordinary
// keys cost a fortieth of it.
const maxEffort = 64 * (maxRSABits / 1024) * (maxRSABits / 1024)

// check is one signature on its way to a result. A signature passes when all was
// asked and nothing was wrong.
type check struct {
	sig     *signature
	wrong   *fault     // nil as long as nothing is
	key     *publicKey // the one that counts, nil for none
	partial bool
	expired bool
}

func (v *Verifier) newRun(in Input) *run {
	r := &run{v: v, in: in, index: indexFields(in.Header), keys: make(map[string]published), effort: maxEffort}
	left := v.cfg.MaxSignatures
	for i, at := range r.index.places["dkim-signature"] {
		if i == maxResults {
			break
		}
		c := &check{}
		if r.readSignature(c, at, left > 0); c.wrong == nil {
			left--
		}
		r.signatures = append(r.signatures, c)
	}
	r.chain = readChain(r.index)
	return r
}

// readSignature reads a signature field; wanted says that it is going to be
// checked if nothing is wrong with it.
func (r *run) readSignature(c *check, at int, wanted bool) {
	var tags tagList
	if c.sig, tags, c.wrong = startSignature(r.index.fields[at], at); c.wrong != nil {
		return
	}
	if !wanted {
		c.wrong = &fault{Policy, "too many signatures"}
		return
	}
	if c.wrong = c.sig.finish(tags); c.wrong != nil {
		return
	}
	c.wrong = c.sig.checkTimes(r.in.Received, r.v.cfg.Skew)
	c.expired = c.sig.isExpired(r.in.Received, r.v.cfg.Skew)
}

// maxLookups bounds the lookups of one message at the same time.
const maxLookups = 8

// lookUp gets the keys of all signatures that are not yet settled. A key that
// does not come in time is a temporary error of its signatures only.
func (r *run) lookUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.v.cfg.LookupTimeout)
	defer cancel()
	var names []string
	want := func(c *check) {
		if name := c.sig.keyName(); c.wrong == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, c := range r.signatures {
		want(c)
	}
	if r.chain.wrong == nil {
		for _, set := range r.chain.sets {
			want(set.seal)
			want(set.message)
		}
	}
	found := make([]published, len(names))
	slots := make(chan struct{}, maxLookups)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i] = lookUpKeys(ctx, r.v.cfg.Resolver, name)
		})
	}
	wg.Wait()
	for i, name := range names {
		r.keys[name] = found[i]
	}
}

// checkHeaders checks all signatures but for the bodies that they name. Those go
// last because they cost most, and only for signatures that are right otherwise.
func (r *run) checkHeaders() {
	for _, c := range r.signatures {
		r.checkSignature(c)
	}
	r.checkSeals()
}

// checkSignature checks a signature over header fields, and asks for the hash of
// the body that goes with it.
func (r *run) checkSignature(c *check) {
	if c.wrong != nil {
		return
	}
	h := sha256.New()
	r.index.hashFields(h, c.sig.header, c.sig.names, c.sig.at)
	hashUnsigned(h, c.sig.header, c.sig.raw)
	if r.judge(c, h.Sum(nil)); c.wrong == nil {
		r.bodies.want(c.sig.body, c.sig.limit)
	}
}

// hashUnsigned hashes a signature field itself: with an empty b= and without the
// line end that every other field has (RFC 6376 §3.7).
func hashUnsigned(h hash.Hash, canon Canon, raw string) {
	canonical := canon.appendField(nil, unsignedField(raw))
	h.Write(canonical[:len(canonical)-len(crlf)])
}

// judge finds the key that fits the signature of a hash, or what is wrong.
func (r *run) judge(c *check, sum []byte) {
	p := r.keys[c.sig.keyName()]
	c.wrong = p.fault
	for _, key := range p.keys {
		if key.algorithm != c.sig.algorithm {
			if c.key == nil {
				c.wrong = bad("the key is of another kind than the signature")
			}
			continue
		}
		c.key = key
		r.effort -= key.effort()
		switch {
		case r.effort < 0:
			c.wrong = &fault{Policy, "too much work"}
		case key.fault != nil:
			c.wrong = key.fault
		case key.strict && c.sig.identity != "" && c.sig.identityDomain() != c.sig.domain:
			c.wrong = bad("the key is not for subdomains") // RFC 6376 §3.6.1
		case !key.verifies(sum, c.sig.value):
			c.wrong = &fault{Fail, "the signature does not fit the header"}
		default:
			c.wrong = nil
			return
		}
	}
}

// checkBody reads the body if need be and settles what depends on it.
func (r *run) checkBody(ctx context.Context) error {
	r.bodies.ctx = ctx
	if err := r.bodies.read(r.in.Body, r.in.Header.Size); err != nil {
		return err
	}
	ambiguous := r.index.isAmbiguous()
	for _, c := range r.signatures {
		r.compareBody(c)
		if c.wrong == nil {
			c.wrong = r.doubt(c, ambiguous)
		}
	}
	r.finishChain(ambiguous)
	return context.Cause(ctx)
}

// compareBody compares the hash of the body with that of the signature.
func (r *run) compareBody(c *check) {
	if c.wrong != nil {
		return
	}
	sum, partial := r.bodies.sum(c.sig.body, c.sig.limit)
	switch {
	case sum == nil:
		c.wrong = &fault{Fail, "the body is shorter than l="}
	case !slices.Equal(sum, c.sig.bodyHash):
		c.wrong = &fault{Fail, "the body was changed"}
	default:
		c.partial = partial
	}
}

// doubt returns why a signature that is right proves less than a reader thinks.
func (r *run) doubt(c *check, ambiguous bool) *fault {
	signed := 0
	for _, name := range c.sig.names {
		if name == "from" {
			signed++
		}
	}
	switch {
	case ambiguous:
		return &fault{Policy, "the header section is ambiguous"}
	case signed < len(r.index.places["from"]):
		// RFC 6376 §8.15: the field that is shown may be the one that is not signed.
		return &fault{Policy, "a From field is not signed"}
	case c.partial && !r.v.cfg.AcceptPartial:
		return &fault{Policy, "the end of the body is not signed"} // RFC 6376 §8.2
	}
	return nil
}

func (r *run) verification() *Verification {
	v := &Verification{ARC: r.chain.result()}
	for _, c := range r.signatures {
		v.Signatures = append(v.Signatures, c.result())
	}
	return v
}

func (c *check) result() Result {
	s := c.sig
	res := Result{
		Status: Pass, Domain: s.domain, Selector: s.selector, Identity: s.identity, Algorithm: s.algorithm,
		BodyLimited: c.partial, Expired: c.expired, Prefix: s.prefix, Signed: s.signed,
	}
	if c.wrong != nil {
		res.Status, res.Reason = c.wrong.status, c.wrong.reason
	}
	if c.key != nil {
		res.KeyBits, res.Testing = c.key.bits, c.key.testing
	}
	return res
}

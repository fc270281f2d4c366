package dkim

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/message"
)

// Status is what became of a signature, in the words of RFC 8601 §2.7.1.
type Status string

// The statuses. Of signatures None is never said: no signature, no Result.
const (
	None      Status = "none"
	Pass      Status = "pass"
	Fail      Status = "fail"      // it does not fit the message, is out of date or too weak
	Policy    Status = "policy"    // nothing is wrong with it, but it proves less than a reader would think; or there are too many
	Neutral   Status = "neutral"   // nothing can be said: another version or algorithm
	TempError Status = "temperror" // the key cannot be looked up now
	PermError Status = "permerror" // the signature or its key is unusable
)

// Resolver looks keys up. The texts have their strings joined. An error with a
// method NotFound() bool that returns true says that there certainly is none;
// every other one counts as temporary.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
}

// VerifierConfig is how signatures are checked. Only Resolver is needed.
type VerifierConfig struct {
	Resolver Resolver
	// MaxSignatures bounds the DKIM signatures whose keys are looked up, those on
	// top of the header section first; default 8.
	MaxSignatures int
	// MaxHeader bounds a header section that Verify reads itself, in bytes;
	// default 2 MiB.
	MaxHeader int64
	// LookupTimeout bounds the lookups of all keys of a message together; default
	// 10 s.
	LookupTimeout time.Duration
	// Skew is how wrong clocks may be about t= and x=; default 5 min.
	Skew time.Duration
	// AcceptPartial makes signatures pass that cover only the beginning of the
	// body (l=); otherwise their Status is Policy, because anybody may have
	// appended the rest.
	AcceptPartial bool
}

// Verifier checks DKIM signatures and ARC chains. It is safe for many goroutines.
type Verifier struct{ cfg VerifierConfig }

// NewVerifier returns a verifier.
func NewVerifier(cfg VerifierConfig) *Verifier {
	cfg.MaxSignatures = cmp.Or(max(cfg.MaxSignatures, 0), 8)
	cfg.MaxHeader = cmp.Or(max(cfg.MaxHeader, 0), defaultMaxHeader)
	cfg.LookupTimeout = cmp.Or(max(cfg.LookupTimeout, 0), 10*time.Second)
	cfg.Skew = cmp.Or(max(cfg.Skew, 0), 5*time.Minute)
	return &Verifier{cfg: cfg}
}

// Input is the message to check.
type Input struct {
	// Body is the whole message as it was received.
	Body mail.Body
	// Header is Body's header section, nil to have it read.
	Header *message.Header
	// Received is when the message came, for x= (RFC 6376 §3.5); zero is now.
	Received time.Time
}

// Verification is what is known of the signatures of a message.
type Verification struct {
	// Signatures has a Result for each DKIM-Signature field from the top down, up
	// to maxResults.
	Signatures []Result
	ARC        Chain
}

// Result is what is known of one DKIM-Signature field. Of what the field says
// nothing is true unless Status is Pass. All texts are printable ASCII.
type Result struct {
	Status Status
	// Reason is why Status is not Pass, in a few words.
	Reason string
	// Domain is d= in lower case (an internationalised one in its ASCII form),
	// Selector is s=, Identity i= or its default "@" + Domain; "" where the field
	// does not say or what it says cannot be.
	Domain, Selector, Identity string
	// Algorithm is a=: "rsa-sha256", "ed25519-sha256".
	Algorithm string
	// KeyBits is the size of the RSA key, 256 for Ed25519, 0 where none was found.
	KeyBits int
	// Testing says that the key is on trial (t=y): a signature that fails must be
	// treated as if it were not there (RFC 6376 §3.6.1).
	Testing bool
	// BodyLimited says that the signature is right but covers only the beginning
	// of the body.
	BodyLimited bool
	// Expired says that the signature was out of date when the message came.
	Expired bool
	// Prefix is the beginning of b=, for header.b (RFC 6008 §4).
	Prefix string
	// Signed is t=, zero where it is not given.
	Signed time.Time
}

// Passed reports whether a signature passes whose domain, in lower case, matches.
func (v *Verification) Passed(match func(domain string) bool) bool {
	for i := range v.Signatures {
		if r := &v.Signatures[i]; r.Status == Pass && match(r.Domain) {
			return true
		}
	}
	return false
}

// maxResults bounds Verification.Signatures.
const maxResults = 100

// Verify checks the DKIM signatures and the ARC chain of a message. The body is
// read once, and only if some signature depends on it. The errors are those of
// reading the message, of ctx, and message.ErrHeaderTooBig.
func (v *Verifier) Verify(ctx context.Context, in Input) (*Verification, error) {
	if in.Header == nil {
		header, err := message.ReadHeader(in.Body, v.cfg.MaxHeader)
		if err != nil {
			return nil, fmt.Errorf("verify signatures: %w", err)
		}
		in.Header = header
	}
	if in.Received.IsZero() {
		in.Received = time.Now()
	}
	r := v.newRun(in)
	r.lookUp(ctx)
	r.checkHeaders()
	if err := r.checkBody(ctx); err != nil {
		return nil, fmt.Errorf("verify signatures: %w", err)
	}
	return r.verification(), nil
}

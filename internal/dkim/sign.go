package dkim

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/message"
)

// minRSABits is RFC 8301 §3.2.
const minRSABits = 1024

// defaultMaxHeader bounds the header section that is held in memory, in bytes.
const defaultMaxHeader = 2 << 20

// Options tune a Signer; the zero Options are right for almost everybody.
type Options struct {
	// Header and Body are the canonicalisations, relaxed by default.
	Header, Body Canon
	// Fields are the names of the fields that are signed, all instances of each;
	// nil: those that RFC 6376 §5.4.1 recommends. From is always signed.
	Fields []string
	// Oversign are the names that are signed once more than they occur, whether
	// they occur or not; nil: From, Reply-To, Subject, To and Cc.
	Oversign []string
	// Identity is i=, "@sub.example.com" within the domain; "" leaves it out.
	Identity string
	// Expiry is the time from now until x=; 0 leaves it out. It is cut to seconds.
	Expiry time.Duration
	// MaxHeader bounds the header section in bytes, default 2 MiB.
	MaxHeader int64
	// OnlyAuthor makes Sign pass over messages that have no author in the domain
	// or one below it: a signature for somebody else's From helps nobody (RFC
	// 7489 §3.1.1 asks for alignment) and would vouch for mail that only passes.
	// In a Group, only those sign whose domain is nearest to an author's.
	OnlyAuthor bool
}

// Signer signs for one domain with one key. It is safe for many goroutines.
type Signer struct {
	domain, selector string
	key              crypto.Signer
	algorithm        string
	opts             Options
}

// NewSigner returns a signer. The errors are a name that cannot stand in DNS, an
// identity outside of the domain, and a key that is neither RSA of at least 1024
// bits nor Ed25519.
func NewSigner(domain, selector string, key crypto.Signer, opts Options) (*Signer, error) {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	if !isDNSName(domain) || !isDNSName(selector) {
		return nil, fmt.Errorf("make DKIM signer: bad domain or selector: %q, %q", domain, selector)
	}
	if opts.Identity != "" && !isWithin(opts.Identity, domain) {
		return nil, fmt.Errorf("make DKIM signer: identity %q is not within %s", opts.Identity, domain)
	}
	algorithm, err := algorithmOf(key.Public())
	if err != nil {
		return nil, fmt.Errorf("make DKIM signer: %w", err)
	}
	if opts.Fields == nil {
		opts.Fields = defaultFields()
	}
	if opts.Oversign == nil {
		opts.Oversign = defaultOversign()
	}
	if opts.MaxHeader <= 0 {
		opts.MaxHeader = defaultMaxHeader
	}
	return &Signer{domain: domain, selector: selector, key: key, algorithm: algorithm, opts: opts}, nil
}

// algorithmOf is the a= value for a public key.
func algorithmOf(public crypto.PublicKey) (string, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return "", fmt.Errorf("RSA key of %d bits is too short, want at least %d", k.N.BitLen(), minRSABits)
		}
		return "rsa-sha256", nil
	case ed25519.PublicKey:
		return "ed25519-sha256", nil
	}
	return "", fmt.Errorf("key of type %T: want RSA or Ed25519", public)
}

// isWithin reports whether i= may stand beside d= (RFC 6376 §3.5): a local part
// that needs no encoding, and the domain or one below it.
func isWithin(identity, domain string) bool {
	local, at, ok := strings.Cut(identity, "@")
	if !ok || strings.ContainsFunc(local, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' || r == '=' }) {
		return false
	}
	at = strings.ToLower(at)
	return isDNSName(at) && (at == domain || strings.HasSuffix(at, "."+domain))
}

// Sign returns the DKIM-Signature field for c, ended by CRLF.
func (s *Signer) Sign(ctx context.Context, c *message.Content) ([]byte, error) {
	return Group{s}.Sign(ctx, c)
}

// Group signs with several keys, typically an RSA and an Ed25519 key (RFC 8463
// §6), and reads the message only once for all.
type Group []*Signer

// Sign returns a DKIM-Signature field for each signer, in their order, less those
// that pass over the message (Options.OnlyAuthor). The errors
// come from reading c, from the keys, or say that the header section is too big.
func (g Group) Sign(ctx context.Context, c *message.Content) ([]byte, error) {
	if len(g) == 0 {
		return nil, nil
	}
	read := newReader(ctx, g)
	if _, err := c.Reader().WriteTo(read); err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	header, err := read.finish()
	if err != nil {
		return nil, fmt.Errorf("sign message: %w", err)
	}
	now, index := time.Now(), indexFields(header)
	var out []byte
	for _, s := range g.forAuthors(header) {
		if out, err = s.appendSignature(out, index, read.bodyHash(s.opts.Body), now); err != nil {
			return nil, fmt.Errorf("sign message: %w", err)
		}
	}
	return out, nil
}

// appendSignature appends one DKIM-Signature field.
func (s *Signer) appendSignature(out []byte, index *fieldIndex, bodyHash []byte, now time.Time) ([]byte, error) {
	names := s.fieldNames(index)
	field := s.unsigned(names, bodyHash, now)
	value, err := s.sign(index, names, field)
	if err != nil {
		return nil, err
	}
	out = append(out, field...)
	out = appendFolded(out, base64.StdEncoding.EncodeToString(value), len("\tb="))
	return append(out, crlf...), nil
}

// sign computes the signature over the named fields and the signature field
// itself, which ends with an empty b= (RFC 6376 §3.7).
func (s *Signer) sign(index *fieldIndex, names []string, field string) ([]byte, error) {
	h := sha256.New()
	index.hashFields(h, s.opts.Header, names, nowhere)
	hashUnsigned(h, s.opts.Header, field)
	return s.signHash(h.Sum(nil))
}

func (s *Signer) signHash(sum []byte) ([]byte, error) {
	if s.algorithm == "ed25519-sha256" {
		// RFC 8463 §3: PureEd25519 over the hash.
		return s.key.Sign(rand.Reader, sum, crypto.Hash(0))
	}
	return s.key.Sign(rand.Reader, sum, crypto.SHA256)
}

// unsigned returns the signature field up to an empty b=, without line end.
func (s *Signer) unsigned(names []string, bodyHash []byte, now time.Time) string {
	b := make([]byte, 0, 512)
	b = append(b, "DKIM-Signature: v=1; a="...)
	b = append(b, s.algorithm...)
	b = append(b, "; c="+s.opts.Header.String()+"/"+s.opts.Body.String()+";\r\n\td="...)
	b = append(b, s.domain+"; s="+s.selector+";\r\n\t"...)
	if s.opts.Identity != "" {
		b = append(b, "i="+s.opts.Identity+";\r\n\t"...)
	}
	b = append(b, "t="...)
	b = strconv.AppendInt(b, now.Unix(), 10)
	if s.opts.Expiry > 0 {
		b = append(b, "; x="...)
		b = strconv.AppendInt(b, now.Add(s.opts.Expiry).Unix(), 10)
	}
	b = append(b, ";\r\n\th="...)
	b = appendNames(b, names)
	b = append(b, ";\r\n\tbh="...)
	b = append(b, base64.StdEncoding.EncodeToString(bodyHash)...)
	b = append(b, ";\r\n\tb="...)
	return string(b)
}

// lineWidth is where long values are folded, in characters.
const lineWidth = 76

// appendNames writes h=, folded after colons (RFC 6376 §3.5).
func appendNames(b []byte, names []string) []byte {
	column := len("\th=")
	for i, name := range names {
		if i > 0 {
			b = append(b, ':')
			column++
		}
		if column+len(name) >= lineWidth {
			b = append(b, "\r\n\t\t"...)
			column = 2
		}
		b = append(b, name...)
		column += len(name)
	}
	return b
}

// appendFolded writes base64, folded anywhere (RFC 6376 §3.2).
func appendFolded(b []byte, text string, column int) []byte {
	for text != "" {
		n := min(len(text), lineWidth-column)
		b = append(b, text[:n]...)
		if text = text[n:]; text != "" {
			b = append(b, "\r\n\t\t"...)
			column = 2
		}
	}
	return b
}

// errHeaderTooBig is returned for a header section above Options.MaxHeader.
var errHeaderTooBig = errors.New("header section too big to sign")

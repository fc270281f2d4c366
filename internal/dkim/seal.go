package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gatepost/internal/message"
)

// Seal returns the three fields of a new ARC set for c, ended by CRLF, to be put
// in front of it (RFC 8617 §5.1). chain is what Verify found of the message as it
// came, before it was changed; results is the value of the Authentication-Results
// field that tells the same, unfolded and beginning with our name.
//
// It returns nil where no set may be added: a host before us has already declared
// the chain broken, it has all the sets that a chain can have, or it is so broken
// that no instance follows.
func (s *Signer) Seal(ctx context.Context, c *message.Content, chain Status, results string) ([]byte, error) {
	fields, err := s.seal(ctx, c, sealing{cv: chain, results: results, now: time.Now()})
	if err != nil {
		return nil, fmt.Errorf("seal message: %w", err)
	}
	return fields, nil
}

// sealing is what a set says.
type sealing struct {
	cv      Status
	results string
	now     time.Time
	names   []string // h=; nil: what the signer's options say
}

func (s *Signer) seal(ctx context.Context, c *message.Content, say sealing) ([]byte, error) {
	if !isTagValue(say.results) || say.results == "" {
		return nil, fmt.Errorf("results that cannot stand in a field: %q", say.results)
	}
	read := newReader(ctx, Group{s})
	if _, err := c.Reader().WriteTo(read); err != nil {
		return nil, err
	}
	header, err := read.finish()
	if err != nil {
		return nil, err
	}
	index := indexFields(header)
	before := readChain(index)
	instance, ok := before.next()
	if !ok {
		return nil, nil
	}
	switch {
	case before.wrong != nil:
		say.cv = Fail
	case instance == 1:
		say.cv = None
	case say.cv != Pass:
		say.cv = Fail
	}
	if say.names == nil {
		say.names = s.fieldNames(index)
		for range min(len(index.places["dkim-signature"]), maxInstances) {
			say.names = append(say.names, "dkim-signature")
		}
	}
	made := &setMaker{sealing: say, signer: s, instance: strconv.Itoa(instance), index: index}
	return made.fields(before, read.bodyHash(s.opts.Body))
}

// next is the instance of the next set.
func (c *chain) next() (int, bool) {
	n := len(c.sets)
	if n == maxSets || c.unreadable {
		return 0, false
	}
	// RFC 8617 §5.1: once somebody said cv=fail, there is nothing to add.
	if n > 0 && c.sets[n-1].cv == Fail {
		return 0, false
	}
	return n + 1, true
}

// setMaker makes one set.
type setMaker struct {
	sealing
	signer   *Signer
	instance string
	index    *fieldIndex
}

// fields returns the fields of the set, the seal on top.
func (m *setMaker) fields(before *chain, bodyHash []byte) ([]byte, error) {
	results := "ARC-Authentication-Results: i=" + m.instance + "; " + strings.ReplaceAll(m.results, "; ", ";\r\n\t") + crlf
	signed, err := m.messageSignature(bodyHash)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if m.cv != Fail {
		for _, s := range before.sets {
			for _, raw := range []string{s.resultsRaw, s.message.sig.raw, s.seal.sig.raw} {
				hashWhole(h, raw)
			}
		}
	}
	// RFC 8617 §5.1.2: the seal of a broken chain covers its own set only.
	hashWhole(h, results)
	hashWhole(h, signed)
	begin := "ARC-Seal: a=" + m.signer.algorithm + ";\r\n\tb="
	end := "; cv=" + string(m.cv) + ";\r\n\td=" + m.signer.domain + "; i=" + m.instance + "; s=" + m.signer.selector + "; t=" + m.seconds() + crlf
	hashUnsigned(h, Relaxed, begin+end)
	value, err := m.signer.signHash(h.Sum(nil))
	if err != nil {
		return nil, err
	}
	return []byte(withValue(begin, value, end) + signed + results), nil
}

func (m *setMaker) seconds() string { return strconv.FormatInt(m.now.Unix(), 10) }

// messageSignature returns the ARC-Message-Signature. It covers the signatures
// that are there as well, and no field of ARC: those the seal covers.
func (m *setMaker) messageSignature(bodyHash []byte) (string, error) {
	s := m.signer
	begin := "ARC-Message-Signature: a=" + s.algorithm + ";\r\n\tb="
	var end bytes.Buffer
	end.WriteString(";\r\n\tbh=" + base64.StdEncoding.EncodeToString(bodyHash))
	end.WriteString("; c=" + s.opts.Header.String() + "/" + s.opts.Body.String() + ";\r\n\td=" + s.domain + ";\r\n\th=")
	end.Write(appendNames(nil, m.names))
	end.WriteString(";\r\n\ti=" + m.instance + "; s=" + s.selector + "; t=" + m.seconds() + crlf)
	h := sha256.New()
	m.index.hashFields(h, s.opts.Header, m.names, nowhere)
	hashUnsigned(h, s.opts.Header, begin+end.String())
	value, err := s.signHash(h.Sum(nil))
	if err != nil {
		return "", err
	}
	return withValue(begin, value, end.String()), nil
}

// longValue is how long b= may become in one line of a message (RFC 5322 §2.1.1
// allows 998 characters).
const longValue = 900

// withValue puts a field together. b= stands in one line as long as that may be:
// the seal covers the message signature with the white space that folding leaves,
// and there should be little that a host on the way could fold otherwise.
func withValue(begin string, value []byte, end string) string {
	text := base64.StdEncoding.EncodeToString(value)
	if len(text) > longValue {
		text = string(appendFolded(nil, text, len("\tb=")))
	}
	return begin + text + end
}

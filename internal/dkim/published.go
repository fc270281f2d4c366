package dkim

import (
	"context"
	"crypto"
	"errors"
	"fmt"
)

// What Published says of a record that does not do.
var (
	// ErrNotPublished says that there is no key record with the name.
	ErrNotPublished = errors.New("there is no such record")
	// ErrOtherKey says that the record publishes another key.
	ErrOtherKey = errors.New("the record publishes another key")
	// ErrTesting says that the record has t=y: receivers may treat mail as unsigned.
	ErrTesting = errors.New("the record says t=y, testing: receivers may pass over the signature")
	// ErrNoAnswer says that the DNS could not be asked: nothing is known.
	ErrNoAnswer   = errors.New("the DNS does not answer")
	errUnreadable = errors.New("the record can't be used")
)

// Published checks that the DNS has the key under its selector, as receivers will look
// for it. Another error than those above is a record that is broken.
func Published(ctx context.Context, r Resolver, selector, domain string, key crypto.PublicKey) error {
	record, err := DNSRecord(selector, domain, key)
	if err != nil {
		return err
	}
	texts, err := r.TXT(ctx, record.Name)
	if notFound, ok := errors.AsType[interface {
		error
		NotFound() bool
	}](err); ok && notFound.NotFound() || err == nil && len(texts) == 0 {
		return ErrNotPublished
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	want, ok := key.(interface{ Equal(x crypto.PublicKey) bool })
	result := error(nil)
	for _, text := range texts {
		found, wrong := parseKeyRecord(text)
		switch {
		case wrong != nil:
			result = fmt.Errorf("%w: %s", errUnreadable, wrong.reason)
		case !ok || !want.Equal(found.key):
			result = ErrOtherKey
		case found.testing:
			return ErrTesting
		default:
			return nil
		}
	}
	return result
}

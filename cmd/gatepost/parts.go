package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// keptPart is something that flows and routes are made of: a check, a directory. A
// generation takes over the parts of the one before that are made from the same
// parameters, with their connections and with what they remember.
type keptPart struct {
	value any
	close func() error // nil where nothing has to be closed
	// name is how /healthz calls it, health says how it is; nil where nothing about it
	// can fail by itself.
	name   string
	health func() error
}

// keep returns the part with that key: of this generation, of old, or a new one.
// The key names everything that the part is made from. old may be nil.
func keep[T any](g, old *generation, key string, build func() (T, *keptPart, error)) (T, error) {
	// A digest, because keys are shown, and parameters may be secrets.
	sum := sha256.Sum256([]byte(key))
	digest := fmt.Sprintf("%x", sum[:12])
	p := g.parts[digest]
	if p == nil && old != nil {
		p = old.parts[digest]
	}
	if p == nil {
		value, made, err := build()
		if err != nil {
			var none T
			return none, err
		}
		if p = made; p == nil {
			p = &keptPart{}
		}
		p.value = value
	}
	g.parts[digest] = p
	value, ok := p.value.(T)
	if !ok {
		return value, fmt.Errorf("a part is a %T", p.value)
	}
	return value, nil
}

// Close implements io.Closer.
func (p *keptPart) Close() error {
	if p.close == nil {
		return nil
	}
	return p.close()
}

// closeParts closes the parts that old does not use too.
func (g *generation) closeParts(old *generation) error {
	var errs []error
	for _, c := range g.partsNotOf(old) {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// partsNotOf are the parts that the other generation does not have.
func (g *generation) partsNotOf(other *generation) []io.Closer {
	var only []io.Closer
	for key, p := range g.parts {
		if other == nil || other.parts[key] != p {
			only = append(only, p)
		}
	}
	return only
}

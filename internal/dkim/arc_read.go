package dkim

import (
	"slices"
	"strings"

	"gatepost/internal/message"
)

// maxSets is RFC 8617 §4.2.1.
const maxSets = 50

// The names of the fields of a set.
const (
	arcResults   = "arc-authentication-results"
	arcSignature = "arc-message-signature"
	arcSeal      = "arc-seal"
)

// chain is an ARC chain on its way to a result.
type chain struct {
	sets   []*arcSet // by instance, the first in sets[0]
	wrong  *fault    // nil as long as nothing is
	oldest int
	// unreadable says that not even the instances of all fields are known.
	unreadable bool
}

// arcSet is one set; while the chain is read its parts may be missing.
type arcSet struct {
	resultsRaw string
	results    string
	message    *check
	seal       *check
	cv         Status
}

// readChain collects the sets and checks their structure (RFC 8617 §5.2, steps 1
// to 3). A chain without sets is none.
func readChain(x *fieldIndex) *chain {
	c := &chain{}
	found := 0
	for _, name := range []string{arcResults, arcSignature, arcSeal} {
		for _, at := range x.places[name] {
			if found++; found > 3*maxSets {
				c.wrong = bad("too many sets")
			} else {
				c.wrong = c.add(name, x.fields[at], at)
			}
			if c.wrong != nil {
				c.unreadable = true
				return c
			}
		}
	}
	c.wrong = c.checkStructure()
	return c
}

// add puts a field into its set.
func (c *chain) add(name string, f message.Field, at int) *fault {
	part := &arcSet{}
	instance, wrong := 0, (*fault)(nil)
	switch name {
	case arcResults:
		part.resultsRaw = f.Raw()
		instance, part.results, wrong = parseResults(f.Value())
	case arcSignature:
		part.message = &check{}
		instance, part.message.sig, wrong = parseMessageSignature(f, at)
	case arcSeal:
		part.seal = &check{}
		instance, part.seal.sig, part.cv, wrong = parseSeal(f, at)
	}
	if wrong != nil {
		return &fault{wrong.status, f.Name + ": " + wrong.reason}
	}
	for len(c.sets) < instance {
		c.sets = append(c.sets, &arcSet{})
	}
	if !c.sets[instance-1].merge(part) {
		return bad(f.Name + ": the same instance twice")
	}
	return nil
}

// merge takes what is in part; it returns false where that was there before.
func (s *arcSet) merge(part *arcSet) bool {
	switch {
	case part.resultsRaw != "" && s.resultsRaw == "":
		s.resultsRaw, s.results = part.resultsRaw, part.results
	case part.message != nil && s.message == nil:
		s.message = part.message
	case part.seal != nil && s.seal == nil:
		s.seal, s.cv = part.seal, part.cv
	default:
		return false
	}
	return true
}

// checkStructure is RFC 8617 §5.2, steps 2 and 3.
func (c *chain) checkStructure() *fault {
	for _, s := range c.sets {
		if s.resultsRaw == "" || s.message == nil || s.seal == nil {
			return bad("a set is incomplete")
		}
	}
	for i, s := range slices.Backward(c.sets) {
		switch {
		case s.cv == Fail:
			return bad("a host before us found the chain broken")
		case i == 0 && s.cv != None, i > 0 && s.cv != Pass:
			return bad("cv= does not fit the instance")
		}
	}
	return nil
}

// parseResults reads the value of ARC-Authentication-Results: the instance, a
// semicolon, and what would stand in Authentication-Results (RFC 8617 §4.1.1).
func parseResults(value string) (instance int, results string, wrong *fault) {
	info, results, ok := strings.Cut(value, ";")
	if !ok {
		return 0, "", bad("i= is missing")
	}
	name, number, ok := strings.Cut(info, "=")
	if !ok || trimComments(name) != "i" {
		return 0, "", bad("i= is missing")
	}
	instance, wrong = parseInstance(trimComments(number))
	return instance, trimSpace(results), wrong
}

// trimComments removes white space and comments (RFC 5322 §3.2.2) from both ends
// of what is none itself.
func trimComments(s string) string {
	if bare, ok := withoutText(s); ok {
		s = bare
	}
	return trimSpace(s)
}

func parseInstance(s string) (int, *fault) {
	n, ok := parseNumber(s, 2)
	if !ok || n == 0 {
		return 0, bad("i= is no instance")
	}
	if n > maxSets {
		return 0, bad("too many sets")
	}
	return int(n), nil
}

// parseMessageSignature reads an ARC-Message-Signature (RFC 8617 §4.1.2): as a
// DKIM-Signature, but for i= and v=.
func parseMessageSignature(f message.Field, at int) (int, *signature, *fault) {
	s := &signature{raw: f.Raw(), at: at, limit: wholeBody}
	tags, wrong := parseTags(f.Value())
	if wrong != nil {
		return 0, nil, wrong
	}
	instance, wrong := parseInstance(tags["i"])
	if wrong != nil {
		return 0, nil, wrong
	}
	if wrong := s.readCommon(tags); wrong != nil {
		return 0, nil, wrong
	}
	// RFC 8617 says nothing of its own about a missing c=; those who wrote it
	// made the signatures of their test suite relaxed.
	if wrong := s.readCovered(tags, Relaxed); wrong != nil {
		return 0, nil, wrong
	}
	if slices.Contains(s.names, arcSeal) {
		return 0, nil, bad("a seal must not be signed")
	}
	return instance, s, nil
}

// parseSeal reads an ARC-Seal (RFC 8617 §4.1.3).
func parseSeal(f message.Field, at int) (int, *signature, Status, *fault) {
	s := &signature{raw: f.Raw(), at: at, limit: wholeBody}
	tags, wrong := parseTags(f.Value())
	if wrong != nil {
		return 0, nil, "", wrong
	}
	instance, wrong := parseInstance(tags["i"])
	if wrong != nil {
		return 0, nil, "", wrong
	}
	if wrong := s.readCommon(tags); wrong != nil {
		return 0, nil, "", wrong
	}
	if _, ok := tags["h"]; ok {
		return 0, nil, "", bad("h= must not be there")
	}
	switch cv := Status(tags["cv"]); cv {
	case None, Pass, Fail:
		return instance, s, cv, nil
	}
	return 0, nil, "", bad("cv= is unknown")
}

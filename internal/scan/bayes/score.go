package bayes

import (
	"cmp"
	"math"
	"slices"
)

// The numbers of the classifier. They were chosen by cross-validation within the
// training half of the corpus that docs/bayes.md describes.
const (
	// strength is how much the belief that an unknown token is neutral counts
	// against what was seen of it, in messages (Robinson 2003).
	strength = 0.05
	// minDeviation leaves out tokens whose probability is nearer than this to 0.5.
	minDeviation = 0.4
	// inertia keeps a place with few tokens from being sure, in tokens.
	inertia = 1
	// blend is how much what all mail says of a token counts against what was seen
	// in the scope, in messages.
	blend = 1
	// certain is the sum at which the probability is 0.9, or 0.1 below zero, when
	// very much was learned; with fewMessages of ham or spam it is twice that. The
	// less was learned, the more often strange ham looks like spam.
	certain     = 8.0
	fewMessages = 200.0
)

// place is a part of a message whose tokens are judged together. A place weighs
// the same whether it has five telling tokens or five hundred, so that neither a
// long text nor a long header section drowns the rest.
type place uint8

const (
	placeText place = iota
	placeLinks
	placeSubject
	placeWay       // Received
	placeStructure // and which fields there are
	placePeople
	placeFields
	placeCount
)

// weights say how much each place counts.
var weights = [placeCount]float64{
	placeText: 3, placeLinks: 1, placeSubject: 1, placeWay: 2, placeStructure: 1, placePeople: 1, placeFields: 1,
}

// placeOf tells where tokens of a kind count.
func placeOf(k kind) place {
	switch k {
	case kindWord, kindHidden, kindCaps:
		return placeText
	case kindHost, kindSite, kindPath, kindURL:
		return placeLinks
	case "subject:":
		return placeSubject
	case kindReceived:
		return placeWay
	case kindShape, kindFile, kindOdd, kindField, kindOrder:
		return placeStructure
	case "from:", "to:", "cc:", "reply-to:", "return-path:", "sender:":
		return placePeople
	}
	return placeFields
}

// evidence is a token that says something.
type evidence struct {
	token *token
	place place
	odds  float64 // logarithm of the odds for spam
}

// judgement is what the counts say of a message.
type judgement struct {
	probability float64
	sum         float64
	evidence    []evidence
}

// judge weighs the tokens of a message by the counts of the scope, blended with
// those of all mail; scope may be nil. The caller holds the table.
func (t *table) judge(ts *tokens, global, scope *scopeCounts) judgement {
	var sums, counts [placeCount]float64
	j := judgement{evidence: make([]evidence, 0, 256)}
	before, at := kind("\x00"), placeText
	for i := range ts.list {
		tok := &ts.list[i]
		p, seen := t.probability(tok.hash, global, scope)
		if !seen || math.Abs(p-0.5) < minDeviation {
			continue
		}
		if tok.kind != before {
			before, at = tok.kind, placeOf(tok.kind)
		}
		odds := math.Log(p / (1 - p))
		sums[at] += odds
		counts[at]++
		j.evidence = append(j.evidence, evidence{token: tok, place: at, odds: odds})
	}
	for at, weight := range weights {
		j.sum += weight * sums[at] / (counts[at] + inertia)
	}
	for i := range j.evidence {
		e := &j.evidence[i]
		e.odds *= weights[e.place] / (counts[e.place] + inertia)
	}
	j.probability = 1 / (1 + math.Exp(-j.sum*math.Log(9)/sureAt(global, scope)))
	return j
}

// sureAt is the sum from which a message is as good as certain.
func sureAt(global, scope *scopeCounts) float64 {
	learned := int64(1)
	for _, s := range []*scopeCounts{global, scope} {
		if s != nil {
			learned = max(learned, min(s.Ham, s.Spam))
		}
	}
	return certain * (1 + math.Sqrt(fewMessages/float64(learned)))
}

// probability is how likely a message with this token is spam, and whether the
// token was ever seen.
func (t *table) probability(token uint64, global, scope *scopeCounts) (p float64, seen bool) {
	p, n := 0.5, 0.0
	weight := strength
	if global != nil {
		if q, k := t.share(token, global); k > 0 {
			p, n = (strength*0.5+k*q)/(strength+k), k
			weight = blend
		}
	}
	if scope != nil {
		if q, k := t.share(token, scope); k > 0 {
			p, n = (weight*p+k*q)/(weight+k), n+k
		}
	}
	return p, n > 0
}

// share is how much more often spam of a scope has the token than ham does, as a
// number from 0 to 1, and how many messages have it.
func (t *table) share(token uint64, s *scopeCounts) (p, n float64) {
	ham, spam := t.get(token, s)
	n = float64(ham) + float64(spam)
	if n == 0 || s.Ham == 0 || s.Spam == 0 {
		return 0.5, 0
	}
	h, sp := float64(ham)/float64(s.Ham), float64(spam)/float64(s.Spam)
	return sp / (sp + h), n
}

// strongest returns the n tokens that said most for spam, or for ham.
func (j *judgement) strongest(n int, spam bool) []evidence {
	count := 0
	for _, e := range j.evidence {
		if (e.odds > 0) == spam {
			count++
		}
	}
	list := make([]evidence, 0, count)
	for _, e := range j.evidence {
		if (e.odds > 0) == spam {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b evidence) int { return cmp.Compare(math.Abs(b.odds), math.Abs(a.odds)) })
	return list[:min(n, len(list))]
}

package bayes

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// kind says where in a message a token stands. The same word means different
// things in a Subject and in a body, so the kind is part of what is counted.
// The strings are shown to administrators and hashed: changing one makes what was
// learned under it useless.
type kind string

// The kinds of tokens that do not come from a header field of their own.
const (
	kindWord   kind = ""        // a word of the text
	kindHidden kind = "hidden:" // a word of text that is not shown
	kindHost   kind = "host:"   // the host of a link
	kindSite   kind = "site:"   // its registrable domain
	kindPath   kind = "path:"   // a piece of its path
	kindURL    kind = "url:"    // something odd about a link
	kindTag    kind = "html:"   // an element of HTML with what it asks for
	kindFile   kind = "file:"   // the name, extension or type of an attachment
	kindShape  kind = "mime:"   // the structure of the message
	kindOdd    kind = "odd:"    // what the readers of the message found strange
	kindField  kind = "has:"    // the name of a field of the header section
	kindOrder  kind = "order:"  // two fields, one behind the other
)

// token is one thing that is counted. Its strings are pieces of the message, so
// that finding tokens does not copy any text; what is shown is put together for
// the few that are.
type token struct {
	hash uint64
	kind kind
	a, b string // b is the second word of a pair
	gap  uint8  // how many words stand between those of a pair
}

// maxShown is how much of a token people are shown, in bytes.
const maxShown = 60

// String is the token as administrators see it: "subject:free", "click … here".
func (t *token) String() string {
	s := string(t.kind) + strings.ToLower(t.a)
	if t.b != "" {
		s += " " + strings.Repeat("* ", int(t.gap)) + strings.ToLower(t.b)
	}
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}

// tokens is the set of the tokens of one message, in the order in which they were
// met.
type tokens struct {
	list []token
	// limit is how many there may be now, most in the end; see allow.
	limit, most int
	// slots is an open-addressed table of indexes into list, plus one.
	slots []int32
}

var tokenPool = sync.Pool{New: func() any { return &tokens{} }}

// newTokens returns an empty set, to be given back with release.
func newTokens(limit int) *tokens {
	t := tokenPool.Get().(*tokens)
	t.limit, t.most = limit, limit
	size := 1024
	for size < 2*limit {
		size *= 2
	}
	if len(t.slots) != size {
		t.slots = make([]int32, size)
	} else {
		clear(t.slots)
	}
	t.list = t.list[:0]
	return t
}

// release gives the set back. The strings are let go, so that a pooled set does
// not keep messages alive.
func (t *tokens) release() {
	clear(t.list)
	tokenPool.Put(t)
}

// allow lets n tokens be added to those that are there, within the limit of all.
func (t *tokens) allow(n int) { t.limit = min(len(t.list)+n, t.most) }

// full reports whether nothing more will be added.
func (t *tokens) full() bool { return len(t.list) >= t.limit }

// insert adds a token whose hash is set, unless it is there.
func (t *tokens) insert(tok token) {
	if t.full() {
		return
	}
	mask := uint64(len(t.slots) - 1)
	for i := tok.hash & mask; ; i = (i + 1) & mask {
		n := t.slots[i]
		if n == 0 {
			t.list = append(t.list, tok)
			t.slots[i] = int32(len(t.list))
			return
		}
		if t.list[n-1].hash == tok.hash {
			return
		}
	}
}

// add adds a word of a kind; case matters where the caller keeps it.
func (t *tokens) add(k kind, word string) {
	t.insert(token{hash: hashWord(hashKind(k), word), kind: k, a: word})
}

// addPair adds two words of a kind with gap words between them.
func (t *tokens) addPair(k kind, a, b string, gap int) {
	h := hashWord(hashKind(k)^pairSeed, a)
	h = hashWord(mix(h+uint64(gap)+1), b)
	t.insert(token{hash: h, kind: k, a: a, b: b, gap: uint8(gap)})
}

// The hash is FNV-1a with a finishing step. It needs no secret: a sender who makes
// his words collide with others only hides his own evidence, and two words that
// collide by chance among some millions are too rare to matter.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
	pairSeed  = 0x9e3779b97f4a7c15
)

func hashKind(k kind) uint64 {
	h := uint64(fnvOffset)
	for i := range len(k) {
		h = (h ^ uint64(k[i])) * fnvPrime
	}
	return h
}

// hashWord continues h with a word. Letters count as lower case; the flag for a
// word in capitals is the caller's.
func hashWord(h uint64, word string) uint64 {
	for i := range len(word) {
		c := word[i]
		if c >= utf8.RuneSelf {
			return hashRunes(h, word[i:])
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint64(c)) * fnvPrime
	}
	return mix(h)
}

// hashRunes does the same for a word beyond ASCII.
func hashRunes(h uint64, word string) uint64 {
	for _, r := range word {
		r = unicode.ToLower(r)
		for ; r > 0; r >>= 8 {
			h = (h ^ uint64(r&0xff)) * fnvPrime
		}
	}
	return mix(h)
}

// mix spreads the bits (the finishing step of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

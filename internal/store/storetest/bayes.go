package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"gatepost/internal/store"
)

// learned is what a node has in memory.
type learned struct {
	names  map[int64]string
	totals map[string][2]int64
	tokens map[string][2]int64 // "scope/token": ham, spam
}

func (l *learned) Reset() {
	*l = learned{names: map[int64]string{}, totals: map[string][2]int64{}, tokens: map[string][2]int64{}}
}

func (l *learned) Scope(s store.BayesScope) {
	l.names[s.ID] = s.Name
	l.totals[s.Name] = [2]int64{s.Ham, s.Spam}
}

func (l *learned) Count(n store.BayesCount) {
	key := fmt.Sprintf("%d/%d", n.Scope, n.Token)
	had := l.tokens[key]
	now := [2]int64{had[0] + n.Ham, had[1] + n.Spam}
	if now == [2]int64{} {
		delete(l.tokens, key)
		return
	}
	l.tokens[key] = now
}

func (l *learned) apply(c store.BayesChange) {
	name := l.names[c.Scope]
	had := l.totals[name]
	l.totals[name] = [2]int64{had[0] + c.Ham, had[1] + c.Spam}
	for _, n := range c.Tokens {
		l.Count(n)
	}
}

// String is the same for the same counts.
func (l *learned) String() string { return fmt.Sprint(l.names, l.totals, l.tokens) }

// load reads all.
func load(t *testing.T, s *store.Store) (*learned, store.BayesPoint) {
	t.Helper()
	var l learned
	point, err := s.BayesLoad(t.Context(), &l)
	must(t, err)
	return &l, point
}

// mailOf makes a message with tokens.
func mailOf(scope string, id byte, spam bool, tokens ...uint64) store.BayesMessage {
	return store.BayesMessage{Scope: scope, Digest: [32]byte{id}, Spam: spam, Tokens: tokens}
}

func learn(t *testing.T, s *store.Store, messages ...store.BayesMessage) []bool {
	t.Helper()
	changed, err := s.BayesLearn(t.Context(), messages)
	must(t, err)
	return changed
}

func bayesLearn(t *testing.T, db *Database) {
	s := db.Open(t)
	const big = 1<<64 - 1
	empty, _ := load(t, s)
	if len(empty.totals)+len(empty.tokens) != 0 {
		t.Fatalf("a new database has learned %v", empty)
	}
	if got := learn(t, s, mailOf("", 1, false, 1, 2, big), mailOf("", 2, true, 2, 3), mailOf("a.example", 1, true, 1)); slices.Contains(got, false) {
		t.Fatalf("new messages changed %v", got)
	}
	want := "map[1: 2:a.example] map[:[1 1] a.example:[0 1]] map[1/1:[1 0] 1/18446744073709551615:[1 0] 1/2:[1 1] 1/3:[0 1] 2/1:[0 1]]"
	before, _ := load(t, s)
	if before.String() != want {
		t.Fatalf("learned\n%v, want\n%v", before, want)
	}
	if got := learn(t, s, mailOf("", 1, false, 1, 2, big), mailOf("", 3, true, 3), mailOf("", 3, true, 3)); fmt.Sprint(got) != "[false true false]" {
		t.Errorf("a message twice counts as %v", got)
	}
	if got, err := s.BayesForget(t.Context(), mailOf("", 3, false)); err != nil || !got {
		t.Errorf("forgetting a message without giving its tokens: %v, %v", got, err)
	}
	if got, err := s.BayesForget(t.Context(), mailOf("", 3, true, 3)); err != nil || got {
		t.Errorf("forgetting it twice: %v, %v", got, err)
	}
	if after, _ := load(t, s); after.String() != want {
		t.Errorf("forgetting leaves\n%v, want\n%v", after, want)
	}
	bayesFlip(t, s)
}

// bayesFlip learns a message as the other class, and back.
func bayesFlip(t *testing.T, s *store.Store) {
	before, _ := load(t, s)
	keep := mailOf("", 1, true, 1, 2)
	keep.Keep = true
	if got := learn(t, s, keep); got[0] {
		t.Error("what was learned before was not kept")
	}
	// The copy has other tokens; those that were learned have to go.
	learn(t, s, mailOf("", 1, true, 1, 7))
	flipped, _ := load(t, s)
	if got := fmt.Sprint(flipped.totals[""], flipped.tokens["1/1"], flipped.tokens["1/2"], flipped.tokens["1/7"]); got != "[0 2] [0 1] [0 1] [0 1]" {
		t.Errorf("ham learned as spam: %s", got)
	}
	learn(t, s, mailOf("", 1, false, 1, 2, 1<<64-1))
	if after, _ := load(t, s); after.String() != before.String() {
		t.Errorf("there and back again:\n%v, want\n%v", after, before)
	}
}

// bayesNodes lets two nodes learn at once, and a third follow.
func bayesNodes(t *testing.T, db *Database) {
	a, b, c := db.Open(t), db.Open(t), db.Open(t)
	learn(t, a, mailOf("", 0, true, 1))
	mirror, point := load(t, c)
	const each = 20
	var wg sync.WaitGroup
	for n, s := range []*store.Store{a, b} {
		wg.Go(func() {
			for i := range each {
				m := mailOf("", byte(1+i*2+n), i%2 == 0, 1, 2, uint64(100+i*2+n))
				if _, err := s.BayesLearn(t.Context(), []store.BayesMessage{m}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for last := false; ; {
		changes, now, err := c.BayesChanges(t.Context(), point)
		must(t, err)
		for _, ch := range changes {
			mirror.apply(ch)
		}
		point = now
		if last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	truth, end := load(t, a)
	if mirror.String() != truth.String() || point != end {
		t.Errorf("a node that followed has\n%v at %v, the database\n%v at %v", mirror, point, truth, end)
	}
	if truth.tokens["1/2"] != [2]int64{each, each} {
		t.Errorf("the token of all has %v", truth.tokens["1/2"])
	}
}

// bayesExpire removes what one message held first, then what is old.
func bayesExpire(t *testing.T, db *Database) {
	s := db.Open(t)
	var messages []store.BayesMessage
	for i := range 200 {
		// Spread over all values, as hashes are.
		messages = append(messages, mailOf("", byte(i), i%2 == 0, uint64(i+1)*0x9e3779b97f4a7c15, 5, 6))
	}
	learn(t, s, messages[:100]...)
	learn(t, s, messages[100:]...)
	_, before := load(t, s)
	if removed, err := s.BayesExpire(t.Context(), store.BayesLimits{Tokens: 202, Messages: 200, Lists: 200}); err != nil || removed != 0 {
		t.Errorf("within the limits %d tokens were removed, %v", removed, err)
	}
	removed, err := s.BayesExpire(t.Context(), store.BayesLimits{Tokens: 100, Messages: 150, Lists: 50})
	must(t, err)
	left, _ := load(t, s)
	if n := len(left.tokens); removed < 112 || n > 90 || n < 60 || int64(n) != 202-removed {
		t.Errorf("%d tokens removed, %d left of 202 where 100 are allowed", removed, n)
	}
	if left.tokens["1/5"] != [2]int64{100, 100} || left.tokens["1/6"] != [2]int64{100, 100} {
		t.Error("a token of many messages was removed before those of one")
	}
	if _, _, err := s.BayesChanges(t.Context(), before); !errors.Is(err, store.ErrBayesReload) {
		t.Errorf("a node that has removed tokens is told %v", err)
	}
	size, err := s.BayesSize(t.Context())
	must(t, err)
	if size.Tokens != int64(len(left.tokens)) || size.Messages != 100 || size.Bytes == 0 || size.Oldest.IsZero() {
		t.Errorf("size is %+v", size)
	}
	// The list of tokens may be gone: then those of the caller are used.
	if got, err := s.BayesForget(t.Context(), messages[199]); err != nil || !got {
		t.Errorf("forgetting a message: %v, %v", got, err)
	}
	if after, _ := load(t, s); after.tokens["1/5"] != [2]int64{99, 100} {
		t.Errorf("a message that was forgotten leaves %v", after.tokens["1/5"])
	}
}

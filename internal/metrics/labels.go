package metrics

import (
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
)

// replyKey are the labels of one series of replies, already bounded.
type replyKey struct {
	listener, verb string
	code           int
}

// verbLabel keeps the verbs that exist and maps everything else, which a client
// makes up, to "other".
func verbLabel(verb string) string {
	switch verb {
	case "CONNECT", "MESSAGE", "HELO", "EHLO", "LHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "QUIT", "VRFY", "EXPN", "HELP",
		"STARTTLS", "AUTH", "XCLIENT", "ETRN", "TURN":
		return verb
	}
	return "other"
}

// boundCode keeps codes that SMTP knows and maps the rest to 0.
func boundCode(code int) int {
	if code < 200 || code > 599 {
		return 0
	}
	return code
}

func codeLabel(code int) string {
	if code == 0 {
		return "other"
	}
	return strconv.Itoa(code)
}

// family finds the series of a key without lock or allocation: a map that is
// copied when a series is added, which happens a bounded number of times.
type family[K comparable, V any] struct {
	make func(K) V
	all  atomic.Pointer[map[K]V]
	mu   sync.Mutex // serialises additions
}

func newFamily[K comparable, V any](make func(K) V) *family[K, V] {
	f := &family[K, V]{make: make}
	f.all.Store(&map[K]V{})
	return f
}

func (f *family[K, V]) get(k K) V {
	if v, ok := (*f.all.Load())[k]; ok {
		return v
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old := *f.all.Load()
	if v, ok := old[k]; ok {
		return v
	}
	next := maps.Clone(old)
	v := f.make(k)
	next[k] = v
	f.all.Store(&next)
	return v
}

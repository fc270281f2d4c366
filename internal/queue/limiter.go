package queue

import (
	"sync"
	"time"
)

// maxBuckets bounds the pairs that a limiter remembers.
const maxBuckets = 10000

// limiter bounds how many reports go to one sender about one destination in an
// hour. Every pair has a bucket that is full at first and refills steadily. It
// lives in memory only: a restart fills all buckets, which costs a few reports.
type limiter struct {
	perHour float64
	mu      sync.Mutex
	buckets map[limiterKey]bucket
}

type limiterKey struct{ sender, transport, nextHop string }

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(perHour int) *limiter {
	return &limiter{perHour: float64(perHour), buckets: make(map[limiterKey]bucket)}
}

// take reports whether one more report may go now, and counts it.
func (l *limiter) take(k limiterKey, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.level(k, now)
	if b.left < 1 {
		return false
	}
	b.left--
	if len(l.buckets) >= maxBuckets {
		l.makeRoom(now)
	}
	l.buckets[k] = b
	return true
}

// giveBack undoes a take whose report could not be sent.
func (l *limiter) giveBack(k limiterKey, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.level(k, now)
	b.left = min(l.perHour, b.left+1)
	l.buckets[k] = b
}

// level is the bucket as it stands now.
func (l *limiter) level(k limiterKey, now time.Time) bucket {
	b, ok := l.buckets[k]
	if !ok {
		return bucket{left: l.perHour, at: now}
	}
	b.left = min(l.perHour, b.left+max(0, now.Sub(b.at).Hours())*l.perHour)
	b.at = now
	return b
}

// makeRoom forgets the buckets that are full again, or else any one: a flood of
// different senders does not get more reports to any of them for long.
func (l *limiter) makeRoom(now time.Time) {
	for k := range l.buckets {
		if l.level(k, now).left >= l.perHour {
			delete(l.buckets, k)
		}
	}
	for k := range l.buckets {
		if len(l.buckets) < maxBuckets*3/4 { // room for many, so that this stays rare
			return
		}
		delete(l.buckets, k)
	}
}

package auth

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// LimitsConfig is what one authenticated user may send. 0 stands for no limit.
type LimitsConfig struct {
	MessagesPerHour, MessagesPerDay     int
	RecipientsPerHour, RecipientsPerDay int
	RecipientsPerMessage                int
	// MaxUsers is how many are remembered, default 100,000.
	MaxUsers int
}

// Limits counts what users send, over the last hour in steps of 5 minutes and over
// the last day in steps of an hour. The counts are of this process alone. It may be
// used by any number of goroutines.
type Limits struct {
	cfg LimitsConfig

	mu    sync.Mutex
	users map[string]*account
}

// account is what one user sent.
type account struct {
	hour window
	day  window
	// told is until when the administrator knows of it.
	told time.Time
}

// Allowance is what is to be done with one message.
type Allowance struct {
	// OK lets it go on; else it is to be held, not refused.
	OK bool
	// Reason says which limit is exceeded; Tell that the administrator does not know
	// yet: it is set once an hour for each user.
	Reason string
	Tell   bool
}

// Usage is what a user sent.
type Usage struct {
	MessagesHour, MessagesDay     int
	RecipientsHour, RecipientsDay int
}

// NewLimits makes counters at zero.
func NewLimits(cfg LimitsConfig) (*Limits, error) {
	cfg.MaxUsers = cmp.Or(cfg.MaxUsers, 100_000)
	if min(cfg.MessagesPerHour, cfg.MessagesPerDay, cfg.RecipientsPerHour, cfg.RecipientsPerDay, cfg.RecipientsPerMessage) < 0 || cfg.MaxUsers < 1 {
		return nil, errors.New("limits: want numbers above 0, or 0 for no limit")
	}
	return &Limits{cfg: cfg, users: make(map[string]*account)}, nil
}

// Allow decides about a message of the user with so many recipients. One that is
// allowed counts; one that is held does not, so that the user gets on when the hour
// is over.
func (l *Limits) Allow(user string, recipients int) Allowance {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	a := l.account(user, now)
	u := a.usage(now)
	u.MessagesHour++
	u.MessagesDay++
	u.RecipientsHour += recipients
	u.RecipientsDay += recipients
	for _, c := range []struct {
		n, limit int
		what     string
	}{
		{recipients, l.cfg.RecipientsPerMessage, "recipients in a message"},
		{u.MessagesHour, l.cfg.MessagesPerHour, "messages in an hour"},
		{u.RecipientsHour, l.cfg.RecipientsPerHour, "recipients in an hour"},
		{u.MessagesDay, l.cfg.MessagesPerDay, "messages in a day"},
		{u.RecipientsDay, l.cfg.RecipientsPerDay, "recipients in a day"},
	} {
		if c.limit > 0 && c.n > c.limit {
			tell := !now.Before(a.told)
			if tell {
				a.told = now.Add(time.Hour)
			}
			return Allowance{Tell: tell, Reason: fmt.Sprintf("%d %s, the limit is %d", c.n, c.what, c.limit)}
		}
	}
	a.hour.add(now, recipients)
	a.day.add(now, recipients)
	return Allowance{OK: true}
}

// Usage is what the user sent until now.
func (l *Limits) Usage(user string) Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.users[strings.ToLower(user)]
	if a == nil {
		return Usage{}
	}
	return a.usage(time.Now())
}

// account returns the entry of the user; another one is forgotten for a new one
// where there is no more place.
func (l *Limits) account(user string, now time.Time) *account {
	key := strings.ToLower(user)
	a := l.users[key]
	if a != nil {
		return a
	}
	if len(l.users) >= l.cfg.MaxUsers {
		for k, other := range l.users {
			if u := other.usage(now); u == (Usage{}) {
				delete(l.users, k)
			}
		}
	}
	for k := range l.users {
		if len(l.users) < l.cfg.MaxUsers {
			break
		}
		delete(l.users, k)
	}
	a = &account{hour: window{step: 5 * time.Minute, buckets: make([]bucket, 12)}, day: window{step: time.Hour, buckets: make([]bucket, 24)}}
	l.users[key] = a
	return a
}

func (a *account) usage(now time.Time) Usage {
	var u Usage
	u.MessagesHour, u.RecipientsHour = a.hour.sum(now)
	u.MessagesDay, u.RecipientsDay = a.day.sum(now)
	return u
}

// window counts over the time of all its buckets, the present one included.
type window struct {
	step    time.Duration
	buckets []bucket
}

// bucket is one step; which one says number.
type bucket struct {
	number               int64
	messages, recipients int
}

func (w *window) add(now time.Time, recipients int) {
	number := now.UnixNano() / int64(w.step)
	b := &w.buckets[number%int64(len(w.buckets))]
	if b.number != number {
		*b = bucket{number: number}
	}
	b.messages++
	b.recipients += recipients
}

func (w *window) sum(now time.Time) (messages, recipients int) {
	number := now.UnixNano() / int64(w.step)
	for _, b := range w.buckets {
		if number-b.number < int64(len(w.buckets)) {
			messages += b.messages
			recipients += b.recipients
		}
	}
	return messages, recipients
}

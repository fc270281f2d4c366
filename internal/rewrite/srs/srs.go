// Package srs writes and reads senders of the Sender Rewriting Scheme: a host that
// forwards mail of a foreign domain puts its own domain into the sender, so that
// SPF passes, and the old sender into the local part, so that bounces find back.
//
//	SRS0=HASH=TT=example.org=anna@gw.example.com
//	SRS1=HASH=first.example==HASH=TT=example.org=anna@gw.example.com
//
// Invariants:
//   - Only what was signed with one of the secrets is ever unwrapped, and SRS0 only
//     for so many days: nobody can relay through addresses of his own making.
//   - The first secret signs, all verify: a new one is put in front, and the old
//     one taken out when its addresses have expired.
//   - Hash and time survive a change of case on the way. The user may come back in
//     lower case.
//   - It does no I/O and knows no clock; the caller gives the time.
package srs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors of Forward and Reverse.
var (
	// ErrNotSRS says that an address was not written by any forwarder.
	ErrNotSRS = errors.New("not an SRS address")
	// ErrForged says that no secret of ours signed it.
	ErrForged = errors.New("the hash of the SRS address is wrong")
	// ErrExpired says that it is older than MaxAge.
	ErrExpired = errors.New("the SRS address has expired")
	// ErrTooLong says that the new local part would exceed 64 octets, which no mail
	// host needs to take (RFC 5321 §4.5.3.1.1).
	ErrTooLong = errors.New("the SRS address would be too long")
	// ErrSender says that a sender has no domain or characters that SRS can't hold.
	ErrSender = errors.New("the sender can't be rewritten")
)

// Config is what a Rewriter is made of.
type Config struct {
	// Secrets are at least one; the first one signs. Each has 16 bytes or more.
	Secrets []string
	// Domain is the domain of the new senders. Mail to it must come back here.
	Domain string
	// MaxAge is how long a bounce may take, in whole days; default 21 days, at most
	// 500.
	MaxAge time.Duration
	// HashLength is the length of the hash, 4 to 20 characters of 5 bits; default 6.
	HashLength int
}

// Rewriter makes and reads addresses. It is safe for concurrent use.
type Rewriter struct{ cfg Config }

const (
	day       = 24 * time.Hour
	maxLocal  = 64
	minSecret = 16
	// cycle is the number of days after which the time begins anew: two characters.
	cycle = 1 << 10
)

// alphabet is that of base 32: no case to lose, nothing that needs quotes.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

// New checks the configuration.
func New(cfg Config) (*Rewriter, error) {
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 21 * day
	}
	if cfg.HashLength == 0 {
		cfg.HashLength = 6
	}
	switch {
	case len(cfg.Secrets) == 0:
		return nil, errors.New("srs: no secret")
	case cfg.Domain == "":
		return nil, errors.New("srs: no domain")
	case cfg.MaxAge < day || cfg.MaxAge > 500*day:
		return nil, fmt.Errorf("srs: max_age is %s, not 1 to 500 days", cfg.MaxAge)
	case cfg.HashLength < 4 || cfg.HashLength > 20:
		return nil, fmt.Errorf("srs: hash_length is %d, not 4 to 20", cfg.HashLength)
	}
	for i, s := range cfg.Secrets {
		if len(s) < minSecret {
			return nil, fmt.Errorf("srs: secret %d has less than %d bytes", i+1, minSecret)
		}
	}
	return &Rewriter{cfg: cfg}, nil
}

// Domain is the domain of the new senders.
func (r *Rewriter) Domain() string { return r.cfg.Domain }

// Forward returns the local part, at Domain, of the sender that stands for
// local@domain. One that another forwarder wrote is not wrapped again, but
// shortened to the way from here to the first forwarder.
func (r *Rewriter) Forward(local, domain string, now time.Time) (string, error) {
	if local == "" || domain == "" || strings.HasPrefix(domain, "[") || strings.ContainsAny(local, "\r\n\x00") {
		return "", ErrSender
	}
	var out string
	switch kind, rest := cut(local); kind {
	case "SRS0":
		// The first forwarder's own part stays as it is, with its separator.
		out = "SRS1=" + r.hash(0, domain, rest) + "=" + domain + "=" + rest
	case "SRS1":
		_, host, user, ok := split3(rest[1:])
		if !ok {
			return "", ErrSender
		}
		out = "SRS1=" + r.hash(0, host, user) + "=" + host + "=" + user
	default:
		stamp := timestamp(now)
		out = "SRS0=" + r.hash(0, stamp, domain, local) + "=" + stamp + "=" + domain + "=" + local
	}
	if len(out) > maxLocal {
		return "", ErrTooLong
	}
	return out, nil
}

// Is reports whether a local part looks like one of a forwarder.
func Is(local string) bool {
	kind, _ := cut(local)
	return kind != ""
}

// Reverse returns the address for which a local part at Domain stands.
func (r *Rewriter) Reverse(local string, now time.Time) (user, domain string, err error) {
	kind, rest := cut(local)
	switch kind {
	case "SRS0":
		return r.reverseFirst(rest[1:], now)
	case "SRS1":
		given, host, user, ok := split3(rest[1:])
		if !ok || user == "" || host == "" {
			return "", "", ErrNotSRS
		}
		if !r.verify(given, host, user) {
			return "", "", ErrForged
		}
		return "SRS0" + user, host, nil
	}
	return "", "", ErrNotSRS
}

func (r *Rewriter) reverseFirst(rest string, now time.Time) (user, domain string, err error) {
	given, stamp, more, ok := split3(rest)
	if !ok {
		return "", "", ErrNotSRS
	}
	domain, user, ok = strings.Cut(more, "=")
	if !ok || domain == "" || user == "" {
		return "", "", ErrNotSRS
	}
	if !r.verify(given, stamp, domain, user) {
		return "", "", ErrForged
	}
	age, ok := daysSince(stamp, now)
	if !ok || age > int(r.cfg.MaxAge/day) {
		return "", "", ErrExpired
	}
	return user, domain, nil
}

// cut returns the kind of an SRS local part, and the rest with the separator in
// front; "" for others.
func cut(local string) (kind, rest string) {
	if len(local) < 6 || strings.IndexByte("=+-", local[4]) < 0 {
		return "", ""
	}
	switch kind = strings.ToUpper(local[:4]); kind {
	case "SRS0", "SRS1":
		return kind, local[4:]
	}
	return "", ""
}

// split3 splits "a=b=c=d" into a, b and "c=d".
func split3(s string) (a, b, c string, ok bool) {
	a, rest, ok := strings.Cut(s, "=")
	if !ok {
		return "", "", "", false
	}
	b, c, ok = strings.Cut(rest, "=")
	return a, b, c, ok
}

// hash signs with one of the secrets. The parts are joined by a byte that stands
// in no address.
func (r *Rewriter) hash(secret int, parts ...string) string {
	mac := hmac.New(sha256.New, []byte(r.cfg.Secrets[secret]))
	mac.Write([]byte(strings.ToLower(strings.Join(parts, "\x00"))))
	return base32.StdEncoding.EncodeToString(mac.Sum(nil))[:r.cfg.HashLength]
}

func (r *Rewriter) verify(given string, parts ...string) bool {
	good := false
	for i := range r.cfg.Secrets {
		if hmac.Equal([]byte(strings.ToUpper(given)), []byte(r.hash(i, parts...))) {
			good = true
		}
	}
	return good
}

// timestamp is the day in two characters.
func timestamp(now time.Time) string {
	d := now.Unix() / int64(day/time.Second) % cycle
	return string([]byte{alphabet[d>>5], alphabet[d&31]})
}

// daysSince is how many days ago a timestamp was made. Clocks of several nodes may
// differ: tomorrow counts as today.
func daysSince(stamp string, now time.Time) (int, bool) {
	if len(stamp) != 2 {
		return 0, false
	}
	then := 0
	for _, c := range strings.ToUpper(stamp) {
		v := strings.IndexRune(alphabet, c)
		if v < 0 {
			return 0, false
		}
		then = then<<5 | v
	}
	today := int(now.Unix() / int64(day/time.Second) % cycle)
	age := (today - then + cycle) % cycle
	if age == cycle-1 {
		age = 0
	}
	return age, true
}

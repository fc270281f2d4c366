package greylist

import (
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// source is where a message comes from: the domain that SPF or DKIM proved, since
// large senders try again from other addresses, else the client's network.
func (g *Greylist) source(s *mail.Session, env *mail.Envelope) string {
	if d := provenDomain(s, env); d != "" {
		return d
	}
	return policy.Network(s.Client.Addr(), g.config.IPv4Bits, g.config.IPv6Bits).String()
}

// provenDomain is the domain of a finding "spf:pass" or "dkim:pass", "" for none.
// The session keeps the findings of earlier transactions too, so SPF counts only
// for the sender of this one, or the HELO name where he is null.
func provenDomain(s *mail.Session, env *mail.Envelope) string {
	want := env.Sender.Domain
	if env.Sender.IsNull() {
		want = strings.ToLower(strings.TrimSuffix(s.Helo, "."))
	}
	for _, findings := range [][]mail.Finding{s.Findings, env.Findings} {
		for i := range findings {
			f := &findings[i]
			switch {
			case f.Module != "spf" && f.Module != "authres" || f.Name == "":
			case f.Symbol == "spf:pass" && want != "" && strings.EqualFold(f.Name, want):
				return want
			case f.Symbol == "dkim:pass":
				return strings.ToLower(f.Name)
			}
		}
	}
	return ""
}

// NormalSender is the sender as triplets have it: without what changes from one
// message to the next. That are the tag of a sub-address ("+tag", and with it most
// VERP), the tag of BATV ("prvs=tag=user"), hash and date of SRS, numbers, and long
// words with digits in them, as message and recipient IDs are. It is "<>" for the
// null sender.
//
// Two senders of one domain may become one by it: that costs nothing but a delay.
func NormalSender(a mail.Address) string {
	if a.IsNull() {
		return "<>"
	}
	local := strings.ToLower(a.Local)
	local = withoutBATV(local)
	if s, ok := withoutSRS(local); ok {
		return s + "@" + a.Domain
	}
	if i := strings.IndexByte(local, '+'); i > 0 {
		local = local[:i]
	}
	return withoutNumbers(local) + "@" + a.Domain
}

// withoutBATV turns "prvs=1234abcdef=user" into "user"; some write "prvs=user/1234abcdef".
func withoutBATV(local string) string {
	rest, ok := strings.CutPrefix(local, "prvs=")
	if !ok {
		return local
	}
	if tag, user, ok := strings.Cut(rest, "="); ok && tag != "" && user != "" {
		return user
	}
	if user, tag, ok := strings.Cut(rest, "/"); ok && tag != "" && user != "" {
		return user
	}
	return local
}

// withoutSRS turns "srs0=hash=date=domain=user" into "srs0=domain=user", and
// "srs1=hash=forwarder==hash=date=domain=user" into "srs1=forwarder=domain=user".
// The first separator may be = + or -. What is not of this form is left alone.
func withoutSRS(local string) (string, bool) {
	if len(local) < 5 || !strings.HasPrefix(local, "srs") || strings.IndexByte("=+-", local[4]) < 0 {
		return "", false
	}
	rest := local[5:]
	switch local[3] {
	case '0':
		if who, ok := srsWho(rest); ok {
			return "srs0=" + who, true
		}
	case '1':
		_, rest, _ = strings.Cut(rest, "=") // the hash
		forwarder, first, ok := strings.Cut(rest, "=")
		if !ok || len(first) < 2 || strings.IndexByte("=+-", first[0]) < 0 {
			return "", false
		}
		if who, ok := srsWho(first[1:]); ok {
			return "srs1=" + forwarder + "=" + who, true
		}
	}
	return "", false
}

// srsWho returns "domain=user" of "hash=date=domain=user".
func srsWho(s string) (string, bool) {
	parts := strings.SplitN(s, "=", 4)
	if len(parts) != 4 || parts[2] == "" || parts[3] == "" {
		return "", false
	}
	return parts[2] + "=" + withoutNumbers(parts[3]), true
}

// longWord is from how many characters on a word with a digit in it is taken for
// an ID: longer than a name with a year.
const longWord = 12

// withoutNumbers puts # in the place of words that are numbers or IDs; words are
// what stands between . - _ and =.
func withoutNumbers(local string) string {
	var b strings.Builder
	b.Grow(len(local))
	for len(local) > 0 {
		n := strings.IndexAny(local, ".-_=")
		word := local
		if n >= 0 {
			word = local[:n]
		}
		if isNumber(word) {
			b.WriteByte('#')
		} else {
			b.WriteString(word)
		}
		if n < 0 {
			break
		}
		b.WriteByte(local[n])
		local = local[n+1:]
	}
	return b.String()
}

func isNumber(word string) bool {
	digits := 0
	for i := range len(word) {
		if '0' <= word[i] && word[i] <= '9' {
			digits++
		}
	}
	return digits > 0 && (digits == len(word) || len(word) >= longWord)
}

package dkim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// AUT-06: two implementations agree about signed messages of random shape, as
// they are and with one change.
func TestASecondImplementationAgrees(t *testing.T) {
	z := testZone(t)
	passed, failed := 0, 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		msg := randomMessage(r)
		opts := Options{Header: Canon(r.IntN(2)), Body: Canon(r.IntN(2))}
		g := Group{newSigner(t, "rsa.pem", opts), newSigner(t, "ed25519.pem", opts)}
		signed := sign(t, g, msg) + msg
		for _, text := range []string{signed, mutate(r, signed), mutate(r, signed)} {
			ours, theirs := verify(t, z, text).Signatures, otherOpinion(text)
			for i := range ours {
				if i >= len(theirs) {
					break
				}
				pass := ours[i].Status == Pass || ours[i].Status == Policy
				if pass != theirs[i] {
					t.Fatalf("seed %d, signature %d: we say %s (%s), they say %v:\n%q", seed, i, ours[i].Status, ours[i].Reason, theirs[i], text)
				}
				if pass {
					passed++
				} else {
					failed++
				}
			}
		}
	}
	if passed < 800 || failed < 400 {
		t.Errorf("%d signatures that pass and %d that do not show little", passed, failed)
	}
}

// otherOpinion says which signatures pass; nil where the message is refused.
func otherOpinion(msg string) []bool {
	lookup := func(name string) ([]string, error) {
		selector, ok := strings.CutSuffix(name, "._domainkey.example.org")
		if !ok {
			return nil, fmt.Errorf("no key for %s", name)
		}
		key, err := LoadKey("testdata/rfc8463/" + selector + ".pem")
		if err != nil {
			return nil, err
		}
		record, err := DNSRecord(selector, "example.org", key.Public())
		return []string{record.Value()}, err
	}
	list, err := msgauth.VerifyWithOptions(strings.NewReader(msg), &msgauth.VerifyOptions{LookupTXT: lookup})
	if err != nil {
		return nil
	}
	passed := make([]bool, len(list))
	for i, v := range list {
		passed[i] = v.Err == nil
	}
	return passed
}

// randomMessage has fields and lines of awkward white space, and CRLF line ends.
func randomMessage(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	text := func(n int) string {
		var b strings.Builder
		for range r.IntN(n) {
			b.WriteString(pick("a", "B", "ä", ".", ":", "=", ";", " ", "  ", "\t", "word"))
		}
		return b.String()
	}
	var b strings.Builder
	b.WriteString("From: a@example.org\r\n")
	for range r.IntN(8) {
		b.WriteString(pick("Subject", "TO", "cc", "Date", "X-Other", "References") + ":" + pick("", " ", "\t") + text(20))
		for range r.IntN(3) {
			b.WriteString("\r\n" + pick(" ", "\t", "   ") + "x" + text(10))
		}
		b.WriteString("\r\n")
	}
	b.WriteString("\r\n")
	for range r.IntN(12) {
		b.WriteString(text(15) + "\r\n")
	}
	return b.String() + strings.Repeat("\r\n", r.IntN(3)) + pick("", "", "end", "end ")
}

// mutate changes one byte to another printable one, or inserts or removes some
// white space; line ends stay as they are.
func mutate(r *rand.Rand, msg string) string {
	for {
		i := r.IntN(len(msg))
		if msg[i] == '\r' || msg[i] == '\n' {
			continue
		}
		switch r.IntN(3) {
		case 0:
			return msg[:i] + string(rune('a'+r.IntN(26))) + msg[i+1:]
		case 1:
			return msg[:i] + " " + msg[i:]
		}
		if msg[i] == ' ' || msg[i] == '\t' {
			return msg[:i] + msg[i+1:]
		}
	}
}

package quarantine

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
)

// token signs a token for one entry.
func (b *bench) token(l *Links, t Token) string {
	b.t.Helper()
	s, err := l.signer(b.t.Context())
	must(b.t, err)
	if t.Expires.IsZero() {
		t.Expires = time.Now().Add(time.Hour)
	}
	return s.sign(t)
}

func TestALinkActsForOneMessageOneRecipientAndOnce(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	l := b.links()
	id := b.hold(sample{subject: "hello"}, "anna@example.com", "bob@example.com")
	anna := b.token(l, Token{Action: LinkRelease, Message: id, Recipient: "anna@example.com"})
	for range 3 {
		link, err := l.Look(t.Context(), anna)
		if err != nil || link.Recipient != "anna@example.com" || link.Subject != "hello" || link.Kind != "spam" || link.Sender != "<>" {
			t.Fatalf("%+v %v", link, err)
		}
	}
	if got := b.states(id); got != "anna@example.com held, bob@example.com held" {
		t.Fatalf("looking changed something: %s", got)
	}
	if _, err := l.Follow(t.Context(), anna); err != nil {
		t.Fatal(err)
	}
	if got := b.states(id); got != "anna@example.com released, bob@example.com held" {
		t.Error(got)
	}
	if r := b.out.released[0].Envelope.Recipients; len(r) != 1 || r[0].Address.Raw != "anna@example.com" {
		t.Errorf("released for %+v", r)
	}
	if e := b.show(id).Entries[0]; e.By != "anna@example.com" {
		t.Errorf("%+v", e)
	}
	for name, act := range map[string]func(context.Context, string) (*Link, error){"look": l.Look, "follow": l.Follow} {
		if _, err := act(t.Context(), anna); !errors.Is(err, ErrReleased) {
			t.Errorf("%s again: %v", name, err)
		}
	}
	if len(b.out.released) != 1 {
		t.Error("released twice")
	}
	bob := b.token(l, Token{Action: LinkDelete, Message: id, Recipient: "bob@example.com"})
	if _, err := l.Follow(t.Context(), bob); err != nil {
		t.Error(err)
	}
	if got := b.states(id); got != "anna@example.com released, bob@example.com deleted" {
		t.Error(got)
	}
	if _, err := l.Follow(t.Context(), bob); !errors.Is(err, ErrDeleted) {
		t.Error(err)
	}
}

func TestLinksThatAreNotGoodDoNothing(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	l := b.links()
	id := b.hold(sample{}, "anna@example.com")
	virus := b.hold(sample{threat: mail.ThreatVirus}, "anna@example.com")
	good := Token{Action: LinkRelease, Message: id, Recipient: "anna@example.com"}
	stranger := signer{key: bytes.Repeat([]byte{7}, 32)}
	forged := good
	forged.Expires = time.Now().Add(time.Hour)
	for _, c := range []struct {
		name, token string
		want        error
	}{
		{"nothing", "", ErrBadLink},
		{"rubbish", "!!!!", ErrBadLink},
		{"too long", strings.Repeat("A", 1<<20), ErrBadLink},
		{"the key of another", stranger.sign(forged), ErrBadLink},
		{"cut off", b.token(l, good)[:40], ErrBadLink},
		{"expired", b.token(l, Token{Action: LinkRelease, Message: id, Recipient: "anna@example.com", Expires: time.Now().Add(-time.Second)}), ErrLinkExpired},
		{"a message that is gone", b.token(l, Token{Action: LinkRelease, Message: mail.NewID(), Recipient: "anna@example.com"}), ErrNotFound},
		{"for whom it is not held", b.token(l, Token{Action: LinkRelease, Message: id, Recipient: "bob@example.com"}), ErrNotFound},
		{"a virus", b.token(l, Token{Action: LinkRelease, Message: virus, Recipient: "anna@example.com"}), ErrForbidden},
	} {
		for name, act := range map[string]func(context.Context, string) (*Link, error){"look": l.Look, "follow": l.Follow} {
			if _, err := act(t.Context(), c.token); !errors.Is(err, c.want) {
				t.Errorf("%s: %s: %v", c.name, name, err)
			}
		}
	}
	if len(b.out.released) != 0 {
		t.Error("something was released")
	}
}

func TestEveryBitOfATokenCounts(t *testing.T) {
	s := signer{key: newLinkKey()}
	want := Token{Action: LinkDelete, Message: mail.NewID(), Recipient: "anna@example.com", Expires: time.Unix(1_800_000_000, 0)}
	token := s.sign(want)
	if got, err := s.verify(token); err != nil || got != want {
		t.Fatalf("%+v %v", got, err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	must(t, err)
	for i := range len(raw) * 8 {
		raw[i/8] ^= 1 << (i % 8)
		if _, err := s.verify(base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, ErrBadLink) {
			t.Errorf("bit %d: %v", i, err)
		}
		raw[i/8] ^= 1 << (i % 8)
	}
	for _, other := range []string{token + "A", token + "=", " " + token, token + "\n", token[1:]} {
		if _, err := s.verify(other); !errors.Is(err, ErrBadLink) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func TestNodesShareOneKey(t *testing.T) {
	s := openStore(t, "gw1")
	one, two := newBench(t, s), newBench(t, s)
	id := one.hold(sample{}, "anna@example.com")
	token := one.token(one.links(), Token{Action: LinkRelease, Message: id, Recipient: "anna@example.com"})
	if _, err := two.links().Look(t.Context(), token); err != nil {
		t.Error(err)
	}
	key, err := s.Setting(t.Context(), linkKeySetting)
	if err != nil || len(key) != 32 {
		t.Errorf("%d bytes, %v", len(key), err)
	}
}

func TestTheBaseURLOfLinksIsChecked(t *testing.T) {
	b := newBench(t, openStore(t, "gw1"))
	for _, u := range []string{"", "gw.example.com", "ftp://gw.example.com", "javascript:alert(1)", "https://", "https://u:p@gw.example.com", "https://gw.example.com?x", "https://gw.example.com/#x", "https://gw.example.com/\r\nX: y"} {
		if _, err := NewLinks(LinkConfig{Quarantine: b.q, BaseURL: u}); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
}

func FuzzToken(f *testing.F) {
	s := signer{key: bytes.Repeat([]byte{1}, 32)}
	f.Add("")
	f.Add(s.sign(Token{Action: LinkRelease, Message: mail.ID{1}, Recipient: "a@b", Expires: time.Unix(1, 0)}))
	f.Add(signer{key: []byte("x")}.sign(Token{Action: LinkRelease, Message: mail.ID{1}, Recipient: "a@b", Expires: time.Unix(1, 0)}))
	f.Fuzz(func(t *testing.T, token string) {
		got, err := s.verify(token)
		if err == nil && s.sign(got) != token {
			t.Errorf("%q is read as %+v, whose token is another", token, got)
		}
	})
}

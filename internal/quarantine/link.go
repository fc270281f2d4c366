package quarantine

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"gatepost/internal/mail"
)

// LinkAction is what a signed link does.
type LinkAction string

// The actions of links.
const (
	LinkRelease LinkAction = "release"
	LinkDelete  LinkAction = "delete"
	// LinkAsk asks for the release of what only administrators release.
	LinkAsk LinkAction = "ask"
	// LinkSettings shows and changes when a recipient gets digests; its token names no
	// message.
	LinkSettings LinkAction = "settings"
)

// linkCodes are the actions as a token has them. A number never changes its
// meaning: links live for weeks.
var linkCodes = [...]LinkAction{1: LinkRelease, 2: LinkDelete, 3: LinkAsk, 4: LinkSettings}

// ErrBadLink says that a link was not made here. It does not say what is wrong
// with it.
var ErrBadLink = errors.New("the link is not valid")

// Token is what a signed link says.
type Token struct {
	Action  LinkAction
	Message mail.ID
	// Recipient is the key of the recipient (mail.Address.Key).
	Recipient string
	Expires   time.Time
}

// linkPurpose keeps a signature of a link from being one of anything else that
// the key may sign one day. Its number changes with the layout of tokens.
const linkPurpose = "gatepost quarantine link 1\x00"

// The layout of a token before base64: action, expiry in Unix seconds, message,
// recipient, signature.
const (
	tokenHead = 1 + 8 + 16
	// maxToken bounds the text of a token, which comes from anyone; the longest
	// address has 320 bytes.
	maxToken = 800
)

// signer makes and checks tokens. HMAC-SHA256, RFC 2104.
type signer struct{ key []byte }

// linkKeySize is the size of a key in bytes.
const linkKeySize = sha256.Size

// newLinkKey makes a key.
func newLinkKey() []byte {
	key := make([]byte, linkKeySize)
	// crypto/rand.Read never fails: it aborts the program instead.
	rand.Read(key)
	return key
}

// sign returns the token as it stands in a link.
func (s signer) sign(t Token) string {
	b := make([]byte, 0, tokenHead+len(t.Recipient)+sha256.Size)
	code := 0
	for i, a := range linkCodes {
		if a == t.Action {
			code = i
		}
	}
	b = append(b, byte(code))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires.Unix()))
	b = append(b, t.Message[:]...)
	b = append(b, t.Recipient...)
	return base64.RawURLEncoding.EncodeToString(s.append(b))
}

// append adds the signature of b to it.
func (s signer) append(b []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(linkPurpose))
	h.Write(b)
	return h.Sum(b)
}

// verify reads a token. Nothing in it is looked at before its signature is known
// to be good, and every token that is not ours is the same ErrBadLink. Whether it
// has expired is for the caller to see.
func (s signer) verify(text string) (Token, error) {
	// One token has one text only: neither the line ends that base64 skips nor the
	// bits that it has left are free.
	if len(text) > maxToken || strings.ContainsAny(text, "\r\n") {
		return Token{}, ErrBadLink
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) <= tokenHead+sha256.Size {
		return Token{}, ErrBadLink
	}
	signed := b[: len(b)-sha256.Size : len(b)-sha256.Size]
	if !hmac.Equal(s.append(signed)[len(signed):], b[len(signed):]) {
		return Token{}, ErrBadLink
	}
	t := Token{Recipient: string(signed[tokenHead:])}
	if int(signed[0]) < len(linkCodes) {
		t.Action = linkCodes[signed[0]]
	}
	if t.Action == "" {
		return Token{}, ErrBadLink
	}
	t.Expires = time.Unix(int64(binary.BigEndian.Uint64(signed[1:])), 0)
	copy(t.Message[:], signed[9:])
	return t, nil
}

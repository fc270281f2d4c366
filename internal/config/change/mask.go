package change

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"gatepost/internal/config"
)

// masker replaces secrets in texts by marks, and marks by the secrets that they stand
// for. A mark is made from the secret and a key that nobody knows, so that it survives
// when its line moves, and tells nothing but whether two secrets are the same.
type masker struct{ key []byte }

func newMasker() *masker {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return &masker{key}
}

// Where secrets stand: the first group is what stays before one, the second the secret.
var (
	secretsEverywhere = []*regexp.Regexp{
		// PEM.
		regexp.MustCompile(`(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----)((?s:.*?))-----END`),
		// The password of a URL; it may hold anything but what ends the URL's authority.
		regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:@/"']*:)([^\s@/"']+)@`),
	}
	secretsInConfig = []*regexp.Regexp{
		// A parameter of a URL or form that is a secret by its name.
		regexp.MustCompile(`(?i)([?&"'](?:[a-z0-9_.-]*[_.-])?(?:password|passwd|pass|pw|token|secret|api[_-]?key|access[_-]?key|key|auth|signature)=)([^&{}\s"'#]+)`),
		// A header field of a [[http]], and a JSON body.
		regexp.MustCompile(`(?i)(["']?(?:[a-z0-9_-]*(?:authorization|cookie|token|secret|api-?key|password))["']?[ \t]*[=:][ \t]*["'])([^"'\r\n{}]+)["']`),
	}
	secretsOfUsers = []*regexp.Regexp{
		regexp.MustCompile(`(?m)^([ \t]*[^\s#]\S*[ \t]+)(\S+)`),
	}
	markForm = regexp.MustCompile(`\(secret-[0-9a-f]{16}\)`)
)

func rulesFor(kind config.FileKind) []*regexp.Regexp {
	switch kind {
	case kindConfig:
		return append(secretsInConfig[:len(secretsInConfig):len(secretsInConfig)], secretsEverywhere...)
	case config.FileUsers:
		return secretsOfUsers
	}
	return secretsEverywhere
}

// kindConfig is the configuration itself.
const kindConfig config.FileKind = "configuration"

func (m *masker) mark(secret string) string {
	h := hmac.New(sha256.New, m.key)
	h.Write([]byte(secret))
	return "(secret-" + hex.EncodeToString(h.Sum(nil)[:8]) + ")"
}

// each calls fn for each secret of a text.
func each(kind config.FileKind, text string, fn func(start, end int)) {
	for _, rule := range rulesFor(kind) {
		for _, m := range rule.FindAllStringSubmatchIndex(text, -1) {
			fn(m[4], m[5])
		}
	}
}

// hide replaces the secrets of a text by marks.
func (m *masker) hide(kind config.FileKind, text string) string {
	for _, rule := range rulesFor(kind) {
		at, out := 0, ""
		for _, i := range rule.FindAllStringSubmatchIndex(text, -1) {
			secret := text[i[4]:i[5]]
			if markForm.MatchString(secret) {
				continue
			}
			out += text[at:i[4]] + m.mark(secret)
			at = i[5]
		}
		text = out + text[at:]
	}
	return text
}

// reveal replaces the marks of a text by the secrets of the texts that it was made from.
// A mark may move to where a secret may stand, and nowhere else: at another place the
// secret would be shown.
func (m *masker) reveal(kind config.FileKind, text string, from ...string) (string, error) {
	if !markForm.MatchString(text) {
		return text, nil
	}
	secrets := map[string]string{}
	for _, old := range from {
		each(kind, old, func(start, end int) { secrets[m.mark(old[start:end])] = old[start:end] })
	}
	unknown := ""
	revealed := markForm.ReplaceAllStringFunc(text, func(mark string) string {
		secret, ok := secrets[mark]
		if !ok {
			unknown = mark
		}
		return secret
	})
	if unknown != "" {
		return "", badf("the mark %s stands for no secret that is known: write the secret itself, or look at the text again", unknown)
	}
	hidden := m.hide(kind, revealed)
	for _, mark := range markForm.FindAllString(text, -1) {
		if strings.Count(hidden, mark) < strings.Count(text, mark) {
			return "", badf("the mark %s stands at a place where its secret would be shown, or is only a part of one: write the secret itself", mark)
		}
	}
	return revealed, nil
}

// blot replaces what is a secret in one of the texts wherever it stands in a message.
func (m *masker) blot(message string, steps []*step) string {
	for _, s := range steps {
		each(s.kind, s.text, func(start, end int) {
			if secret := s.text[start:end]; len(secret) >= minBlot {
				message = strings.ReplaceAll(message, secret, m.mark(secret))
			}
		})
	}
	return message
}

// minBlot is how long a secret is at least that blot looks for: shorter ones are words.
const minBlot = 4

// version names a text.
func version(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// versionOf names what must not be told by its hash.
func versionOf(size int64, modified int64) string { return fmt.Sprintf("%x-%x", size, modified) }

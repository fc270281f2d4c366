package smtpclient

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gatepost/internal/mail"
)

// Credentials are a login at the remote.
type Credentials struct {
	// Mechanism is CRAM-MD5, LOGIN or PLAIN; "" takes the first of them, in this
	// order of preference, that the remote offers and that may be used.
	Mechanism          string
	Username, Password string
	// AllowCleartext permits LOGIN and PLAIN without TLS.
	AllowCleartext bool
}

// Errors of Auth that are not a reply.
var (
	ErrNoMechanism = errors.New("no usable AUTH mechanism is offered")
	errChallenge   = fmt.Errorf("%w: malformed AUTH challenge", ErrProtocol)
)

// Auth logs in (RFC 4954). The error is an *Error and never holds a secret.
func (c *Conn) Auth(ctx context.Context, cred Credentials) error {
	defer c.watch(ctx)()
	mechanism, err := c.mechanism(cred)
	if err != nil {
		return &Error{Stage: "auth", Key: mail.ReplyNextHopAuth, Err: err}
	}
	switch mechanism {
	case "PLAIN":
		// RFC 4616 §2: no authorization identity. As initial response it would make
		// a long line, so it goes out as an answer of its own (RFC 4954 §4).
		return c.converse("AUTH PLAIN", func(int, string) string {
			return "\x00" + cred.Username + "\x00" + cred.Password
		}, 1)
	case "LOGIN":
		// The text of the challenges differs from server to server; the order never.
		return c.converse("AUTH LOGIN", func(n int, _ string) string {
			return []string{cred.Username, cred.Password}[n]
		}, 2)
	}
	return c.converse("AUTH CRAM-MD5", func(_ int, challenge string) string {
		mac := hmac.New(md5.New, []byte(cred.Password)) // RFC 2195 §2
		mac.Write([]byte(challenge))
		return cred.Username + " " + hex.EncodeToString(mac.Sum(nil))
	}, 1)
}

// mechanism chooses how to log in.
func (c *Conn) mechanism(cred Credentials) (string, error) {
	wanted := []string{"CRAM-MD5", "PLAIN", "LOGIN"}
	if cred.Mechanism != "" {
		wanted = []string{strings.ToUpper(cred.Mechanism)}
	}
	for _, m := range wanted {
		if !slices.Contains(c.ext.Auth, m) {
			continue
		}
		if m != "CRAM-MD5" && !c.tls.Active() && !cred.AllowCleartext {
			continue
		}
		return m, nil
	}
	where := "in clear text"
	if c.tls.Active() {
		where = "under TLS"
	}
	return "", fmt.Errorf("%w: want %s %s, offered %q", ErrNoMechanism,
		strings.Join(wanted, " or "), where, strings.Join(c.ext.Auth, " "))
}

// converse sends the command and answers the given number of challenges.
func (c *Conn) converse(line string, answer func(n int, challenge string) string, challenges int) error {
	limit := c.d.cfg.Timeouts.Auth
	for n := 0; ; n++ {
		r, err := c.ask("auth", limit, line+"\r\n")
		switch {
		case err != nil:
			return err
		case r.Temporary(), r.Permanent():
			return &Error{Stage: "auth", Reply: r}
		case r.Code == 235 && n == challenges:
			return nil
		case r.Code != 334 || n == challenges:
			return c.violation("auth", r)
		}
		challenge, bad := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Lines[0]))
		if bad != nil {
			return c.fail("auth", errChallenge)
		}
		line = base64.StdEncoding.EncodeToString([]byte(answer(n, string(challenge))))
	}
}

package smtpclient

import (
	"context"
	"strings"

	"gatepost/internal/mail"
)

// Passable reports whether a login by this mechanism can be passed on: its messages tell
// who logs in, and bind nothing to the connection that they come by (RFC 5802 §6 for the
// -PLUS variants; RFC 4752 §3.3 for GSSAPI, which may encrypt all that follows).
func Passable(mechanism string) bool {
	switch strings.ToUpper(mechanism) {
	case "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512":
		return true
	}
	return false
}

// maxRounds is after how many challenges a login is given up.
const maxRounds = 20

// PassAuth passes somebody else's login on (RFC 4954): initial is his initial response,
// "" for none, and answer what he says to each challenge, in base64 as they stand on the
// wire. The reply is the remote's last one. An error is a conversation that is over, and
// never holds what was said.
func (c *Conn) PassAuth(ctx context.Context, mechanism, initial string, answer func(challenge string) string) (mail.Reply, error) {
	defer c.watch(ctx)()
	line := "AUTH " + mechanism
	if initial != "" {
		line += " " + initial
	}
	for range maxRounds {
		if !passableLine(line) {
			// Whatever it is, it would be more than one line there.
			line = "*"
		}
		r, err := c.ask("auth", c.d.cfg.Timeouts.Auth, line+"\r\n")
		switch {
		case err != nil:
			return mail.Reply{}, err
		case r.Code == 235, r.Temporary(), r.Permanent():
			return r, nil
		case r.Code != 334:
			return mail.Reply{}, c.violation("auth", r)
		}
		line = answer(strings.TrimSpace(r.Lines[0]))
	}
	return mail.Reply{}, c.fail("auth", errChallenge)
}

// passableLine reports whether a line of a login is one line of printable ASCII.
func passableLine(line string) bool {
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return false
		}
	}
	return true
}

package auth

import (
	"context"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
)

// Attempt is a login that somebody else decides about, such as the server behind a proxy:
// the guard counts it like one of its own.
type Attempt struct{ a *attempt }

// Begin lets an attempt begin, or says why not. It waits while so many are under way that
// they could exceed the limits together.
func (g *Guard) Begin(ctx context.Context, s *mail.Session, user string) Attempt {
	return Attempt{g.enter(ctx, s, user)}
}

// Refused is why nobody is to be asked, "" for no reason; network says that it is so for
// everybody in the client's network.
func (a Attempt) Refused() (reason string, network bool) {
	if a.a.lock == unlocked {
		return "", false
	}
	return a.a.lock.reason(), a.a.lock == lockedNetwork
}

// Delay is how long the answer is to wait, whatever it is.
func (a Attempt) Delay() time.Duration { return a.a.delay }

// Done tells what became of it, and returns what that has locked: "" for nothing. It
// must be called once, unless the attempt was refused. The password is kept as a
// keyed hash only.
func (a Attempt) Done(result policy.AuthResult, password string) (locked string) {
	return a.a.done(result, password).String()
}

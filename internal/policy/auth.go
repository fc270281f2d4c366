package policy

import (
	"context"

	"gatepost/internal/mail"
)

// AuthResult is what a backend says about a name and a password.
type AuthResult uint8

// The results. Zero is AuthUnknown: who forgets to answer lets nobody in.
const (
	// AuthUnknown cannot tell: down, too slow, an answer that makes no sense.
	AuthUnknown AuthResult = iota
	AuthYes                // name and password are right
	AuthNo                 // the user is there, the password is wrong; or one of both is
	// AuthNobody knows for sure that it has no such user: another backend may. Where
	// all say so, the answer is the same as for a wrong password.
	AuthNobody
)

// String names the result as logs and findings do.
func (r AuthResult) String() string {
	switch r {
	case AuthYes:
		return "yes"
	case AuthNo:
		return "no"
	case AuthNobody:
		return "no such user"
	}
	return "unknown"
}

// AuthAnswer is what a backend says. Only AuthYes has User and Senders.
type AuthAnswer struct {
	Result AuthResult
	// User is the canonical name, so that limits and history count "Bob" and "bob"
	// as one; "" stands for the name that was given.
	User string
	// Senders are the addresses ("user@example.org") and domains ("@example.org")
	// that the user may send as; none where the backend does not know.
	Senders []string
	// Reason is one sentence for log and history. It holds no secret, and what a
	// remote said in it is safe to print.
	Reason string
}

// AuthBackend looks names and passwords up. It is used by many goroutines at once,
// honours the end of ctx, and never has a secret in an answer or an error.
type AuthBackend interface {
	// Authenticate says whether the password is the user's. An error means
	// AuthUnknown.
	Authenticate(ctx context.Context, s *mail.Session, user, password string) (AuthAnswer, error)
}

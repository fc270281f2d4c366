// Package authhttp knows users by asking a web service of the administrator, with
// the name, the password and what else is known of the client in the request.
//
// Invariants:
//   - Yes is the status and the body that are configured. No is every other body
//     with such a status, and the statuses that mean it (401, 403). All else
//     (another status, an answer that is too large, no answer) says nothing.
//   - Neither answers nor errors hold what was sent or what the service said.
package authhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/policy"
	"gatepost/internal/weblookup"
)

// Name is how the block is named in flows.
const Name = "auth-http"

// Places are the places that a template may have.
func Places() []string {
	return []string{"user", "local", "domain", "password", "client", "helo", "listener", "tls"}
}

// Config is one backend.
type Config struct {
	Client  *weblookup.Client
	Request weblookup.Request
	Expect  weblookup.Expect
}

// Backend asks the service. It may be used by any number of goroutines.
type Backend struct {
	client *weblookup.Client
	query  *weblookup.Query
	expect weblookup.Expect
}

// New makes a backend.
func New(cfg Config) (*Backend, error) {
	if cfg.Client == nil {
		return nil, errors.New("http: there is no service")
	}
	query, err := weblookup.Parse(cfg.Request, Places()...)
	if err := errors.Join(err, cfg.Expect.Check()); err != nil {
		return nil, err
	}
	if text := cfg.Request.URL + cfg.Request.Body; !strings.Contains(text, "{password}") || !strings.Contains(text, "{user}") && !strings.Contains(text, "{local}") {
		return nil, errors.New("url: want {user} and {password} in it or in the body")
	}
	return &Backend{client: cfg.Client, query: query, expect: cfg.Expect}, nil
}

// Authenticate implements policy.AuthBackend.
func (b *Backend) Authenticate(ctx context.Context, s *mail.Session, user, password string) (policy.AuthAnswer, error) {
	if password == "" {
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "empty password"}, nil
	}
	local, domain := user, ""
	if i := strings.LastIndexByte(user, '@'); i >= 0 {
		local, domain = user[:i], user[i+1:]
	}
	answer, err := b.client.Do(ctx, b.query, map[string]string{
		"user": user, "local": local, "domain": domain, "password": password,
		"client": s.Client.Addr().Unmap().String(), "helo": s.Helo, "listener": s.Listener, "tls": s.TLS.Version,
	})
	switch {
	case errors.Is(err, weblookup.ErrValue):
		return policy.AuthAnswer{Result: policy.AuthNobody, Reason: "the service cannot be asked about such a name"}, nil
	case err != nil:
		return policy.AuthAnswer{}, err
	case b.expect.Met(answer):
		return policy.AuthAnswer{Result: policy.AuthYes, Reason: "the service says yes"}, nil
	case b.expect.StatusMet(answer.Status), answer.Status == http.StatusUnauthorized, answer.Status == http.StatusForbidden:
		return policy.AuthAnswer{Result: policy.AuthNo, Reason: "the service says no"}, nil
	}
	return policy.AuthAnswer{Reason: fmt.Sprintf("the service answers with the status %d", answer.Status)}, nil
}

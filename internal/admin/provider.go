package admin

import (
	"context"

	"gatepost/internal/accounts"
)

// Provider vouches for people with OpenID Connect.
type Provider interface {
	// Name stands in paths: /login/oidc/NAME. Label is on the button.
	Name() string
	Label() string
	// Begin returns where to send the browser, and what to remember until it is back.
	Begin(ctx context.Context, callback string) (address string, memory string, err error)
	// Finish checks what the browser brings back and says who it is.
	Finish(ctx context.Context, callback, memory, state, code string) (accounts.Session, error)
}

// Providers are those that people may log in with.
func (g *Gate) Providers() []Provider { return g.providers }

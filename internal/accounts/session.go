package accounts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatepost/internal/store"
)

// Kind is how somebody logged in.
type Kind string

// The kinds.
const (
	// Local is an account of the store; its role stands there.
	Local Kind = "local"
	// Mail is an end user whom an authentication flow knows.
	Mail Kind = "mail"
	// OIDC is somebody whom a provider of OpenID Connect vouches for.
	OIDC Kind = "oidc"
)

// Session is a browser that is logged in, or half-way in.
type Session struct {
	// ID is the hash of the secret: it may be shown.
	ID      string `json:"-"`
	Account string `json:"-"`
	Kind    Kind   `json:"kind"`
	// Role, Domains and Addresses are those of the login, for kinds that are no
	// account of the store; for those that are, what the store says now.
	Role      Role     `json:"role"`
	Domains   []string `json:"domains,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// Provider is the provider of an OIDC session.
	Provider string `json:"provider,omitempty"`
	// Pending says that the second factor is missing: nothing is allowed but to send it.
	Pending bool   `json:"pending,omitempty"`
	Tries   int    `json:"tries,omitempty"`
	CSRF    string `json:"csrf"`
	Client  string `json:"client"`
	Agent   string `json:"agent"`

	Created time.Time `json:"-"`
	Seen    time.Time `json:"-"`
	// Ends is when it ends whatever happens.
	Ends time.Time `json:"ends"`
}

// How long somebody may take for the second factor, and how often try.
const (
	pendingLife = 5 * time.Minute
	maxTries    = 5
)

// seenEvery is how exactly the store knows when a session was used last.
const seenEvery = time.Minute

// keyID is the name of a secret in the store.
func keyID(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// newSecret has 256 random bits.
func newSecret() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Open makes a session and returns its secret, which is for the browser only.
func (s *Accounts) Open(ctx context.Context, v Session) (secret string, opened *Session, err error) {
	now := time.Now().UTC()
	secret = newSecret()
	v.ID, v.CSRF, v.Created, v.Seen, v.Tries = keyID(secret), newSecret(), now, now, 0
	v.Ends = now.Add(s.cfg.Absolute)
	if v.Pending {
		v.Ends = now.Add(pendingLife)
	}
	if len(v.Agent) > 200 {
		v.Agent = v.Agent[:200]
	}
	b, err := json.Marshal(&v)
	if err != nil {
		return "", nil, fmt.Errorf("write session: %w", err)
	}
	err = s.cfg.Store.PutAccountKey(ctx, store.AccountKey{
		ID: v.ID, Kind: store.SessionKey, Account: v.Account, Record: b, Created: now, Seen: now, Expires: s.expiry(&v, now),
	})
	if err != nil {
		return "", nil, err
	}
	if v.Kind == Local && !v.Pending {
		err = s.change(ctx, v.Account, func(a *Account) error { a.LastLogin = now; return nil })
	}
	return secret, &v, err
}

func (s *Accounts) expiry(v *Session, now time.Time) time.Time {
	if idle := now.Add(s.cfg.Idle); idle.Before(v.Ends) {
		return idle
	}
	return v.Ends
}

// Session returns the session of a secret, or ErrNotFound. It counts as a use.
func (s *Accounts) Session(ctx context.Context, secret string) (*Session, error) {
	k, err := s.cfg.Store.AccountKey(ctx, store.SessionKey, keyID(secret))
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	v, err := readSession(k)
	if err != nil {
		return nil, err
	}
	if v.Kind == Local {
		a, err := s.Get(ctx, v.Account)
		if err != nil {
			return nil, err
		}
		if a.Disabled {
			return nil, ErrNotFound
		}
		v.Role, v.Domains, v.Addresses = a.Role, a.Domains, a.Addresses
	}
	now := time.Now().UTC()
	if !now.Before(v.Ends) {
		return nil, ErrNotFound
	}
	if now.Sub(v.Seen) > seenEvery {
		// That it cannot be noted is no reason to turn anybody away; the session
		// only ends earlier.
		_ = s.cfg.Store.TouchAccountKey(ctx, v.ID, now, s.expiry(v, now))
	}
	return v, nil
}

func readSession(k store.AccountKey) (*Session, error) {
	var v Session
	if err := json.Unmarshal(k.Record, &v); err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	v.ID, v.Account, v.Created, v.Seen = k.ID, k.Account, k.Created, k.Seen
	return &v, nil
}

// Complete checks the code for a pending session. Right: a new session takes its
// place. Wrong: ErrWrong, and after some of them the session is gone.
func (s *Accounts) Complete(ctx context.Context, secret, code string) (string, *Session, error) {
	k, err := s.cfg.Store.AccountKey(ctx, store.SessionKey, keyID(secret))
	if err != nil {
		return "", nil, ErrNotFound
	}
	v, err := readSession(k)
	if err != nil || !v.Pending {
		return "", nil, ErrNotFound
	}
	// The try is counted before it is made: of many at once none is free.
	v.Tries++
	b, err := json.Marshal(v)
	if err != nil {
		return "", nil, fmt.Errorf("write session: %w", err)
	}
	did, err := s.cfg.Store.SwapAccountKey(ctx, k.ID, k.Record, b)
	if err != nil {
		return "", nil, err
	}
	if !did {
		return "", nil, ErrWrong
	}
	if err := s.VerifyTOTP(ctx, v.Account, code); err != nil {
		if v.Tries >= maxTries {
			_ = s.Close(ctx, v.Account, v.ID)
			return "", nil, ErrNotFound
		}
		return "", nil, err
	}
	if err := s.Close(ctx, v.Account, v.ID); err != nil {
		return "", nil, err
	}
	next := *v
	next.Pending = false
	return s.Open(ctx, next)
}

// Sessions lists the sessions of an account, the newest first.
func (s *Accounts) Sessions(ctx context.Context, account string) ([]*Session, error) {
	keys, err := s.cfg.Store.AccountKeys(ctx, store.SessionKey, account)
	if err != nil {
		return nil, err
	}
	var all []*Session
	for _, k := range keys {
		v, err := readSession(k)
		if err != nil {
			return nil, err
		}
		if !v.Pending {
			all = append(all, v)
		}
	}
	return all, nil
}

// Close ends one session of an account; one that is gone is no error.
func (s *Accounts) Close(ctx context.Context, account, id string) error {
	_, err := s.cfg.Store.DeleteAccountKey(ctx, store.SessionKey, account, id)
	return err
}

// CloseOthers ends all sessions of an account but one.
func (s *Accounts) CloseOthers(ctx context.Context, account, keep string) error {
	return s.endAll(ctx, account, keep)
}

func (s *Accounts) endAll(ctx context.Context, account, keep string) error {
	_, err := s.cfg.Store.DeleteAccountKeys(ctx, store.SessionKey, account, keep)
	return err
}

// Run removes what has expired, until ctx ends.
func (s *Accounts) Run(ctx context.Context) {
	tick := time.NewTicker(15 * time.Minute)
	defer tick.Stop()
	for {
		// A store that is away is seen elsewhere; the next round makes up for it.
		_, _ = s.cfg.Store.ExpireAccountKeys(ctx)
		_, _ = s.cfg.Store.ExpireAudit(ctx, time.Now().Add(-s.cfg.AuditKeep))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

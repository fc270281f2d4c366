package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gatepost/internal/store"
)

// TokenPrefix is what the secret of a token begins with, so that programs that look
// for leaked secrets find it.
const TokenPrefix = "gatepost_"

// Token lets a program in on behalf of an account.
type Token struct {
	ID      string `json:"id"`
	Account string `json:"account"`
	Name    string `json:"name"`
	// Scopes are the permissions that it has of those that the account has; none: all.
	Scopes  []Permission `json:"scopes,omitempty"`
	Created time.Time    `json:"created"`
	// Used is when it was used last, to the minute; zero: never.
	Used    time.Time `json:"used,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
}

type tokenRecord struct {
	Name   string       `json:"name"`
	Scopes []Permission `json:"scopes,omitempty"`
}

// maxTokens bounds the tokens of one account.
const maxTokens = 100

// CreateToken makes a token of an account and returns its secret, which cannot be
// had again. The zero time never expires.
func (s *Accounts) CreateToken(ctx context.Context, t Token) (secret string, made *Token, err error) {
	a, err := s.Get(ctx, t.Account)
	if err != nil {
		return "", nil, err
	}
	t.Name = strings.TrimSpace(t.Name)
	if n := utf8.RuneCountInString(t.Name); n < 1 || n > 60 || strings.ContainsFunc(t.Name, unicode.IsControl) {
		return "", nil, fmt.Errorf("%w: a token has a name of 1 to 60 characters", ErrInvalid)
	}
	for _, p := range t.Scopes {
		if !slices.Contains(Permissions(), p) || !a.Role.May(p) {
			return "", nil, fmt.Errorf("%w: scope %.64q is none that the account may", ErrInvalid, p)
		}
	}
	now := time.Now().UTC()
	if !t.Expires.IsZero() && !t.Expires.After(now) {
		return "", nil, fmt.Errorf("%w: the token would have expired already", ErrInvalid)
	}
	if have, err := s.Tokens(ctx, t.Account); err != nil {
		return "", nil, err
	} else if len(have) >= maxTokens {
		return "", nil, fmt.Errorf("%w: at most %d tokens", ErrInvalid, maxTokens)
	}
	b, err := json.Marshal(tokenRecord{Name: t.Name, Scopes: t.Scopes})
	if err != nil {
		return "", nil, fmt.Errorf("write token: %w", err)
	}
	secret = TokenPrefix + newSecret()
	t.ID, t.Account, t.Created, t.Used = keyID(secret), a.Name, now, time.Time{}
	err = s.cfg.Store.PutAccountKey(ctx, store.AccountKey{ID: t.ID, Kind: store.TokenKey, Account: a.Name, Record: b, Created: now, Expires: t.Expires})
	if err != nil {
		return "", nil, err
	}
	return secret, &t, nil
}

// Token returns the token of a secret with its account, or ErrNotFound.
func (s *Accounts) Token(ctx context.Context, secret string) (*Token, *Account, error) {
	if !strings.HasPrefix(secret, TokenPrefix) {
		return nil, nil, ErrNotFound
	}
	k, err := s.cfg.Store.AccountKey(ctx, store.TokenKey, keyID(secret))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, ErrNotFound
	}
	if err != nil {
		return nil, nil, err
	}
	t, err := readToken(k)
	if err != nil {
		return nil, nil, err
	}
	a, err := s.Get(ctx, k.Account)
	if err != nil {
		return nil, nil, err
	}
	if a.Disabled {
		return nil, nil, ErrNotFound
	}
	if now := time.Now().UTC(); now.Sub(k.Seen) > seenEvery {
		_ = s.cfg.Store.TouchAccountKey(ctx, k.ID, now, k.Expires)
	}
	return t, a, nil
}

// Tokens lists the tokens of an account, the newest first.
func (s *Accounts) Tokens(ctx context.Context, account string) ([]*Token, error) {
	keys, err := s.cfg.Store.AccountKeys(ctx, store.TokenKey, account)
	if err != nil {
		return nil, err
	}
	var all []*Token
	for _, k := range keys {
		t, err := readToken(k)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func readToken(k store.AccountKey) (*Token, error) {
	var r tokenRecord
	if err := json.Unmarshal(k.Record, &r); err != nil {
		return nil, fmt.Errorf("read token: %w", err)
	}
	return &Token{ID: k.ID, Account: k.Account, Name: r.Name, Scopes: r.Scopes, Created: k.Created, Used: k.Seen, Expires: k.Expires}, nil
}

// DeleteToken ends a token of an account.
func (s *Accounts) DeleteToken(ctx context.Context, account, id string) error {
	did, err := s.cfg.Store.DeleteAccountKey(ctx, store.TokenKey, account, id)
	if err == nil && !did {
		return ErrNotFound
	}
	return err
}

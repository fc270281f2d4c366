package accounts

import (
	"context"
	"crypto/subtle"
	"time"

	"gatepost/internal/store"
)

// BeginSetup returns a one-time token for making the first account, or "" where
// there is one that can log in. It holds until the account is made or the process ends.
func (s *Accounts) BeginSetup(ctx context.Context) (string, error) {
	needed, err := s.NeedsSetup(ctx)
	if err != nil || !needed {
		return "", err
	}
	secret := newSecret()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setup = keyID(secret)
	return secret, nil
}

// NeedsSetup reports that nobody can log in as administrator.
func (s *Accounts) NeedsSetup(ctx context.Context) (bool, error) {
	all, err := s.List(ctx)
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if a.Role == Administrator && a.HasPassword && !a.Disabled {
			return false, nil
		}
	}
	return true, nil
}

// MaySetup reports whether the token is the one of BeginSetup and still good.
func (s *Accounts) MaySetup(ctx context.Context, token string) (bool, error) {
	s.mu.Lock()
	want := s.setup
	s.mu.Unlock()
	if want == "" || subtle.ConstantTimeCompare([]byte(keyID(token)), []byte(want)) != 1 {
		return false, nil
	}
	return s.NeedsSetup(ctx)
}

// EndSetup makes the token worthless.
func (s *Accounts) EndSetup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setup = ""
}

// Note writes a line of the audit log.
func (s *Accounts) Note(ctx context.Context, e store.AuditEntry) error {
	if e.At.IsZero() {
		e.At = time.Now().UTC()
	}
	return s.cfg.Store.PutAudit(ctx, e)
}

// Audit reads the audit log, the newest line first.
func (s *Accounts) Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, bool, error) {
	return s.cfg.Store.Audit(ctx, q)
}

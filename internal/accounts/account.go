package accounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gatepost/internal/smtp"
	"gatepost/internal/store"
)

// Account is who may use the administration.
type Account struct {
	// Name is in lower case: letters, digits and "._-@+", at most 255 bytes.
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Domains are a domain administrator's; Addresses an end user's. In lower case.
	Domains   []string `json:"domains,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// Disabled keeps the account, its history and its settings, and lets nobody in.
	Disabled  bool      `json:"disabled,omitempty"`
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by,omitempty"`
	// LastLogin is when somebody came in with it.
	LastLogin time.Time `json:"last_login,omitzero"`
	// HasPassword and HasTOTP say what is set; what it is never leaves this package.
	HasPassword bool `json:"has_password"`
	HasTOTP     bool `json:"has_totp"`

	version int64
	secrets secrets
}

// secrets is what of an account is for this package alone.
type secrets struct {
	Hash string `json:"hash,omitempty"` // of the password
	TOTP string `json:"totp,omitempty"` // base32
	// Step is the last step of time whose code was used.
	Step int64 `json:"step,omitempty"`
	// Offered is a secret that nobody has confirmed yet.
	Offered string `json:"offered,omitempty"`
	// Misses are wrong codes since the last right one, and when the last was.
	Misses int       `json:"misses,omitempty"`
	Missed time.Time `json:"missed,omitzero"`
}

// record is an account as the store has it.
type record struct {
	Account
	Secrets secrets `json:"secrets"`
}

// Store is where accounts are kept; *store.Store is one.
type Store interface {
	Accounts(ctx context.Context) ([]store.Account, error)
	Account(ctx context.Context, name string) (store.Account, error)
	PutAccount(ctx context.Context, a store.Account) (int64, bool, error)
	DeleteAccount(ctx context.Context, name string) (bool, error)
	PutAccountKey(ctx context.Context, k store.AccountKey) error
	AccountKey(ctx context.Context, kind store.KeyKind, id string) (store.AccountKey, error)
	AccountKeys(ctx context.Context, kind store.KeyKind, account string) ([]store.AccountKey, error)
	TouchAccountKey(ctx context.Context, id string, seen, expires time.Time) error
	SwapAccountKey(ctx context.Context, id string, old, record []byte) (bool, error)
	DeleteAccountKey(ctx context.Context, kind store.KeyKind, account, id string) (bool, error)
	DeleteAccountKeys(ctx context.Context, kind store.KeyKind, account, except string) (int64, error)
	ExpireAccountKeys(ctx context.Context) (int64, error)
	PutAudit(ctx context.Context, e store.AuditEntry) error
	Audit(ctx context.Context, q store.AuditQuery) ([]store.AuditEntry, bool, error)
	ExpireAudit(ctx context.Context, before time.Time) (int64, error)
}

// Config is what New needs. Only Store is required.
type Config struct {
	Store Store
	// Idle ends a session that is not used, default 1 hour; Absolute ends any,
	// default 12 hours.
	Idle, Absolute time.Duration
	// AuditKeep is how long the audit log is kept; default 365 days.
	AuditKeep time.Duration
	// MinPassword is the shortest password, in characters; default 10.
	MinPassword int
	// Hashing bounds how many passwords are checked at once, since each takes
	// 19 MiB; default 4.
	Hashing int
}

// Accounts are all accounts. It may be used by any number of goroutines.
type Accounts struct {
	cfg     Config
	hashing chan struct{}
	mu      sync.Mutex // guards setup
	setup   string     // the SHA-256 of the one-time token for the first account
}

// New checks the configuration.
func New(cfg Config) (*Accounts, error) {
	if cfg.Store == nil {
		return nil, errors.New("make accounts: no store")
	}
	cfg.Idle = or(cfg.Idle, time.Hour)
	cfg.Absolute = or(cfg.Absolute, 12*time.Hour)
	cfg.AuditKeep = or(cfg.AuditKeep, 365*24*time.Hour)
	cfg.MinPassword = or(cfg.MinPassword, 10)
	cfg.Hashing = or(cfg.Hashing, 4)
	return &Accounts{cfg: cfg, hashing: make(chan struct{}, cfg.Hashing)}, nil
}

func or[T ~int | ~int64](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// Get returns an account, or ErrNotFound.
func (s *Accounts) Get(ctx context.Context, name string) (*Account, error) {
	row, err := s.cfg.Store.Account(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return read(row)
}

// List returns all accounts in the order of their names.
func (s *Accounts) List(ctx context.Context) ([]*Account, error) {
	rows, err := s.cfg.Store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*Account, 0, len(rows))
	for _, row := range rows {
		a, err := read(row)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func read(row store.Account) (*Account, error) {
	var r record
	if err := json.Unmarshal(row.Record, &r); err != nil {
		return nil, fmt.Errorf("read account %s: %w", row.Name, err)
	}
	a := r.Account
	a.Name, a.version, a.secrets = row.Name, row.Version, r.Secrets
	a.HasPassword, a.HasTOTP = a.secrets.Hash != "", a.secrets.TOTP != ""
	return &a, nil
}

// put keeps the account; ErrConflict where somebody else changed it.
func (s *Accounts) put(ctx context.Context, a *Account) error {
	a.HasPassword, a.HasTOTP = a.secrets.Hash != "", a.secrets.TOTP != ""
	b, err := json.Marshal(record{Account: *a, Secrets: a.secrets})
	if err != nil {
		return fmt.Errorf("write account: %w", err)
	}
	version, did, err := s.cfg.Store.PutAccount(ctx, store.Account{Name: a.Name, Version: a.version, Record: b})
	if err != nil {
		return err
	}
	if !did {
		return ErrConflict
	}
	a.version = version
	return nil
}

// change applies fn to an account, again where somebody else was faster.
func (s *Accounts) change(ctx context.Context, name string, fn func(*Account) error) error {
	for range 5 {
		a, err := s.Get(ctx, name)
		if err != nil {
			return err
		}
		if err := fn(a); err != nil {
			return err
		}
		if err := s.put(ctx, a); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// Create makes an account. An empty password makes one that is for OpenID Connect
// or gets its password later.
func (s *Accounts) Create(ctx context.Context, a Account, password string) error {
	a.Name = strings.ToLower(a.Name)
	if err := a.check(); err != nil {
		return err
	}
	a.secrets, a.version, a.Created = secrets{}, 0, time.Now().UTC()
	if password != "" {
		hash, err := s.newHash(ctx, &a, password)
		if err != nil {
			return err
		}
		a.secrets.Hash = hash
	}
	err := s.put(ctx, &a)
	if errors.Is(err, ErrConflict) {
		return ErrExists
	}
	return err
}

// Update changes role, domains, addresses and whether the account is disabled. Its
// sessions end where that takes something away, and see the rest at once.
func (s *Accounts) Update(ctx context.Context, a Account) error {
	if err := a.check(); err != nil {
		return err
	}
	if a.Role != Administrator || a.Disabled {
		if err := s.keepsOne(ctx, a.Name); err != nil {
			return err
		}
	}
	ends := false
	err := s.change(ctx, a.Name, func(was *Account) error {
		ends = was.Role != a.Role || a.Disabled
		was.Role, was.Domains, was.Addresses, was.Disabled = a.Role, a.Domains, a.Addresses, a.Disabled
		return nil
	})
	if err != nil || !ends {
		return err
	}
	return s.endAll(ctx, a.Name, "")
}

// Delete removes an account with its sessions and tokens.
func (s *Accounts) Delete(ctx context.Context, name string) error {
	name = strings.ToLower(name)
	if err := s.keepsOne(ctx, name); err != nil {
		return err
	}
	did, err := s.cfg.Store.DeleteAccount(ctx, name)
	if err == nil && !did {
		return ErrNotFound
	}
	return err
}

// keepsOne says ErrLastAdministrator where, without this account, nobody could come
// in as administrator.
func (s *Accounts) keepsOne(ctx context.Context, name string) error {
	all, err := s.List(ctx)
	if err != nil {
		return err
	}
	able := func(a *Account) bool { return a.Role == Administrator && !a.Disabled && a.HasPassword }
	is := slices.ContainsFunc(all, func(a *Account) bool { return a.Name == name && able(a) })
	others := slices.ContainsFunc(all, func(a *Account) bool { return a.Name != name && able(a) })
	if is && !others {
		return ErrLastAdministrator
	}
	return nil
}

// check makes lists tidy and refuses what cannot be meant.
func (a *Account) check() error {
	if err := checkName(a.Name); err != nil {
		return err
	}
	if _, err := ParseRole(string(a.Role)); err != nil {
		return err
	}
	if a.Role != DomainAdministrator {
		a.Domains = nil
	}
	if a.Role != EndUser {
		a.Addresses = nil
	}
	a.Domains, a.Addresses = tidy(a.Domains), tidy(a.Addresses)
	if a.Role == DomainAdministrator && len(a.Domains) == 0 {
		return fmt.Errorf("%w: a domain administrator needs a domain", ErrInvalid)
	}
	if a.Role == EndUser && len(a.Addresses) == 0 {
		if _, err := smtp.ParseAddress(a.Name); err != nil {
			return fmt.Errorf("%w: an end user needs an address", ErrInvalid)
		}
		a.Addresses = []string{a.Name}
	}
	for _, d := range a.Domains {
		if _, err := smtp.ParseAddress("postmaster@" + d); err != nil {
			return fmt.Errorf("%w: %.64q is no domain", ErrInvalid, d)
		}
	}
	for _, addr := range a.Addresses {
		if _, err := smtp.ParseAddress(addr); err != nil {
			return fmt.Errorf("%w: %.64q is no address", ErrInvalid, addr)
		}
	}
	return nil
}

func tidy(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.ToLower(strings.TrimSpace(s)); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

func checkName(name string) error {
	ok := name != "" && len(name) <= 255 && strings.Trim(name, ".-") == name
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@+", r))
	}
	if !ok {
		return fmt.Errorf("%w: %.64q: a name has small letters, digits and ._-@+ only", ErrInvalid, name)
	}
	return nil
}

package accounts

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// How passwords are hashed: Argon2id as OWASP has it, some 20 ms. A hash says what
// it was made with, so that these may change.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
	argonSum    = 32
	argonSalt   = 16
)

// maxPassword bounds a password in bytes.
const maxPassword = 1024

// nobody is what a password is compared with where there is no account: as much
// work, and never right.
var nobody = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes,
	base64.RawStdEncoding.EncodeToString(make([]byte, argonSalt)), base64.RawStdEncoding.EncodeToString(make([]byte, argonSum)))

// newHash checks a new password of an account and hashes it.
func (s *Accounts) newHash(ctx context.Context, a *Account, password string) (string, error) {
	switch {
	case !utf8.ValidString(password) || strings.ContainsRune(password, 0):
		return "", fmt.Errorf("%w: the password is not text", ErrInvalid)
	case utf8.RuneCountInString(password) < s.cfg.MinPassword:
		return "", fmt.Errorf("%w: the password needs at least %d characters", ErrInvalid, s.cfg.MinPassword)
	case len(password) > maxPassword:
		return "", fmt.Errorf("%w: the password has more than %d bytes", ErrInvalid, maxPassword)
	case strings.EqualFold(password, a.Name):
		return "", fmt.Errorf("%w: the password is the name", ErrInvalid)
	case strings.Count(password, password[:1]) == len(password):
		return "", fmt.Errorf("%w: the password is one character again and again", ErrInvalid)
	}
	if err := s.enterHashing(ctx); err != nil {
		return "", err
	}
	defer s.leaveHashing()
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	sum := argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, argonLanes, argonSum)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum)), nil
}

func (s *Accounts) enterHashing(ctx context.Context) error {
	select {
	case s.hashing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Accounts) leaveHashing() { <-s.hashing }

// matches reports whether the password is the one of the hash.
func (s *Accounts) matches(ctx context.Context, hash, password string) (bool, error) {
	if err := s.enterHashing(ctx); err != nil {
		return false, err
	}
	defer s.leaveHashing()
	var version, memory, passes, lanes int
	var rest string
	if _, err := fmt.Sscanf(hash, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &memory, &passes, &lanes, &rest); err != nil {
		return false, errors.New("check password: the hash in the store is damaged")
	}
	saltText, sumText, _ := strings.Cut(rest, "$")
	salt, err := base64.RawStdEncoding.DecodeString(saltText)
	sum, err2 := base64.RawStdEncoding.DecodeString(sumText)
	damaged := err != nil || err2 != nil || version != argon2.Version || len(salt) < 8 || len(sum) < 16 ||
		memory < 8 || memory > 1<<20 || passes < 1 || passes > 100 || lanes < 1 || lanes > 16
	if damaged {
		return false, errors.New("check password: the hash in the store is damaged")
	}
	got := argon2.IDKey([]byte(password), salt, uint32(passes), uint32(memory), uint8(lanes), uint32(len(sum)))
	return subtle.ConstantTimeCompare(got, sum) == 1, nil
}

// Verify checks a password. ErrWrong says that the account is there and the password
// is not its, or that nobody may log in with it; ErrNotFound that there is none. All
// take the same time, and nobody outside should learn which it was.
func (s *Accounts) Verify(ctx context.Context, name, password string) (*Account, error) {
	if len(password) > maxPassword {
		password = password[:maxPassword] // no password is that long
	}
	name = strings.ToLower(name)
	a, err := s.Get(ctx, name)
	if err == nil && a.Name != name {
		// The store drops what it cannot keep, such as NUL. Another spelling would be
		// another name to the guard against guessing.
		err = ErrNotFound
	}
	hash := nobody
	switch {
	case err == nil && a.secrets.Hash != "":
		hash = a.secrets.Hash
	case err != nil && !errors.Is(err, ErrNotFound):
		return nil, err
	}
	ok, hashErr := s.matches(ctx, hash, password)
	switch {
	case err != nil:
		return nil, err
	case hashErr != nil:
		return nil, hashErr
	case !ok || a.Disabled || hash == nobody:
		return nil, ErrWrong
	}
	return a, nil
}

// SetPassword sets a password and ends the account's sessions but one; "" for keep
// ends all.
func (s *Accounts) SetPassword(ctx context.Context, name, password, keep string) error {
	name = strings.ToLower(name)
	a, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	hash, err := s.newHash(ctx, a, password)
	if err != nil {
		return err
	}
	if err := s.change(ctx, name, func(a *Account) error { a.secrets.Hash = hash; return nil }); err != nil {
		return err
	}
	return s.endAll(ctx, name, keep)
}

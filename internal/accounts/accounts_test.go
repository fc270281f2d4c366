package accounts

import (
	"context"
	"encoding/base32"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/internal/store"
)

const password = "correct horse battery"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, change ...func(*Config)) *Accounts {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Node: "gw1", Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	cfg := Config{Store: s}
	for _, c := range change {
		c(&cfg)
	}
	a, err := New(cfg)
	must(t, err)
	return a
}

func withAda(t *testing.T, change ...func(*Config)) *Accounts {
	t.Helper()
	a := open(t, change...)
	must(t, a.Create(t.Context(), Account{Name: "Ada", Role: Administrator}, password))
	return a
}

func TestPasswordsAreCheckedAndNeverStored(t *testing.T) {
	a := withAda(t)
	ctx := t.Context()
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"ada", password, nil}, {"ADA", password, nil}, {"ada", "wrong", ErrWrong}, {"ada", "", ErrWrong},
		{"nobody", password, ErrNotFound}, {"", "", ErrNotFound}, {"ada", password + strings.Repeat("x", 2000), ErrWrong},
	} {
		if _, err := a.Verify(ctx, c.name, c.password); !errors.Is(err, c.want) {
			t.Errorf("%s with %.30q: %v", c.name, c.password, err)
		}
	}
	row, err := a.cfg.Store.Account(ctx, "ada")
	must(t, err)
	if strings.Contains(string(row.Record), password) || !strings.Contains(string(row.Record), "$argon2id$") {
		t.Errorf("the store has %s", row.Record)
	}
}

func TestPasswordsAndNamesThatAreRefused(t *testing.T) {
	a := withAda(t)
	ctx := t.Context()
	for name, c := range map[string]struct {
		account  Account
		password string
		want     error
	}{
		"a short password":            {Account{Name: "x", Role: Viewer}, "123456789", ErrInvalid},
		"one character":               {Account{Name: "x", Role: Viewer}, "aaaaaaaaaaaa", ErrInvalid},
		"the name":                    {Account{Name: "administrator", Role: Viewer}, "Administrator", ErrInvalid},
		"a NUL":                       {Account{Name: "x", Role: Viewer}, "correct\x00horse", ErrInvalid},
		"no text":                     {Account{Name: "x", Role: Viewer}, "correct\xffhorse", ErrInvalid},
		"an endless one":              {Account{Name: "x", Role: Viewer}, strings.Repeat("ab", 600), ErrInvalid},
		"a name that is taken":        {Account{Name: "ADA", Role: Viewer}, password, ErrExists},
		"a name with a line end":      {Account{Name: "x\nX: y", Role: Viewer}, password, ErrInvalid},
		"a path":                      {Account{Name: "../x", Role: Viewer}, password, ErrInvalid},
		"no name":                     {Account{Role: Viewer}, password, ErrInvalid},
		"no such role":                {Account{Name: "x", Role: "root"}, password, ErrInvalid},
		"a domain admin of nothing":   {Account{Name: "x", Role: DomainAdministrator}, password, ErrInvalid},
		"a domain that is none":       {Account{Name: "x", Role: DomainAdministrator, Domains: []string{"a b"}}, password, ErrInvalid},
		"an end user without address": {Account{Name: "x", Role: EndUser}, password, ErrInvalid},
	} {
		if err := a.Create(ctx, c.account, c.password); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheLastAdministratorStays(t *testing.T) {
	a := withAda(t)
	ctx := t.Context()
	must(t, a.Create(ctx, Account{Name: "passwordless", Role: Administrator}, ""))
	if err := a.Delete(ctx, "ada"); !errors.Is(err, ErrLastAdministrator) {
		t.Errorf("delete: %v", err)
	}
	if err := a.Update(ctx, Account{Name: "ada", Role: Viewer}); !errors.Is(err, ErrLastAdministrator) {
		t.Errorf("made a viewer: %v", err)
	}
	if err := a.Update(ctx, Account{Name: "ada", Role: Administrator, Disabled: true}); !errors.Is(err, ErrLastAdministrator) {
		t.Errorf("disabled: %v", err)
	}
	must(t, a.Create(ctx, Account{Name: "bob", Role: Administrator}, password))
	must(t, a.Delete(ctx, "ada"))
}

func session(t *testing.T, a *Accounts) (string, *Session) {
	t.Helper()
	secret, v, err := a.Open(t.Context(), Session{Account: "ada", Kind: Local, Role: Administrator})
	must(t, err)
	return secret, v
}

// WEB-02.
func TestSessionsEndWithWhatTheyStandOn(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, a *Accounts, keep string) error{
		"a new password": func(ctx context.Context, a *Accounts, keep string) error {
			return a.SetPassword(ctx, "ada", password+"!", keep)
		},
		"no second factor":  func(ctx context.Context, a *Accounts, keep string) error { return a.ResetTOTP(ctx, "ada", keep) },
		"ended by the user": func(ctx context.Context, a *Accounts, keep string) error { return a.CloseOthers(ctx, "ada", keep) },
	} {
		t.Run(name, func(t *testing.T) {
			a := withAda(t)
			one, kept := session(t, a)
			two, _ := session(t, a)
			must(t, end(t.Context(), a, kept.ID))
			if _, err := a.Session(t.Context(), one); err != nil {
				t.Errorf("the present session: %v", err)
			}
			if _, err := a.Session(t.Context(), two); !errors.Is(err, ErrNotFound) {
				t.Errorf("the other one: %v", err)
			}
		})
	}
	a := withAda(t)
	must(t, a.Create(t.Context(), Account{Name: "bob", Role: Administrator}, password))
	for name, end := range map[string]func() error{
		"disabled": func() error {
			return a.Update(t.Context(), Account{Name: "ada", Role: Administrator, Disabled: true})
		},
		"less of a role": func() error { return a.Update(t.Context(), Account{Name: "ada", Role: Viewer}) },
		"deleted":        func() error { return a.Delete(t.Context(), "ada") },
	} {
		_ = a.Create(t.Context(), Account{Name: "ada", Role: Administrator}, password)
		must(t, a.Update(t.Context(), Account{Name: "ada", Role: Administrator}))
		secret, _ := session(t, a)
		must(t, end())
		if _, err := a.Session(t.Context(), secret); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSessionsEndByTime(t *testing.T) {
	a := withAda(t, func(c *Config) { c.Idle, c.Absolute = time.Millisecond, time.Hour })
	secret, _ := session(t, a)
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := a.Session(t.Context(), secret); errors.Is(err, ErrNotFound) {
			return
		}
	}
	t.Error("a session that is not used does not end")
}

func TestTheStoreHasNoSecretOfSessionsAndTokens(t *testing.T) {
	a := withAda(t)
	secret, v := session(t, a)
	token, made, err := a.CreateToken(t.Context(), Token{Account: "ada", Name: "monitoring", Scopes: []Permission{StatusRead}})
	must(t, err)
	for kind, id := range map[store.KeyKind]string{store.SessionKey: v.ID, store.TokenKey: made.ID} {
		k, err := a.cfg.Store.AccountKey(t.Context(), kind, id)
		must(t, err)
		for _, s := range []string{secret, token, strings.TrimPrefix(token, TokenPrefix)} {
			if strings.Contains(string(k.Record)+k.ID, s) {
				t.Errorf("%s: the store has the secret", kind)
			}
		}
	}
	if _, _, err := a.Token(t.Context(), v.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("an ID as a token: %v", err)
	}
	if _, err := a.Session(t.Context(), token); !errors.Is(err, ErrNotFound) {
		t.Errorf("a token as a session: %v", err)
	}
	got, account, err := a.Token(t.Context(), token)
	if err != nil || account.Name != "ada" || !slices.Equal(got.Scopes, []Permission{StatusRead}) {
		t.Errorf("%+v %+v %v", got, account, err)
	}
	must(t, a.DeleteToken(t.Context(), "ada", made.ID))
	if _, _, err := a.Token(t.Context(), token); !errors.Is(err, ErrNotFound) {
		t.Errorf("an ended token: %v", err)
	}
}

func TestATokenHasNoMoreThanItsAccount(t *testing.T) {
	a := withAda(t)
	must(t, a.Create(t.Context(), Account{Name: "vic", Role: Viewer}, ""))
	for name, k := range map[string]Token{
		"a scope of others": {Account: "vic", Name: "x", Scopes: []Permission{UsersWrite}},
		"no such scope":     {Account: "vic", Name: "x", Scopes: []Permission{"everything"}},
		"no name":           {Account: "vic"},
		"expired":           {Account: "vic", Name: "x", Expires: time.Now().Add(-time.Minute)},
	} {
		if _, _, err := a.CreateToken(t.Context(), k); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The codes are those of RFC 6238 Appendix B, cut to six digits.
func TestCodesAreThoseOfTheStandard(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := totpCode([]byte("12345678901234567890"), at/30); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func TestACodeWorksOnceAndGuessingIsLocked(t *testing.T) {
	a := withAda(t)
	ctx := t.Context()
	offer, err := a.OfferTOTP(ctx, "ada", "gw.example.com")
	must(t, err)
	if !strings.HasPrefix(offer.URI, "otpauth://totp/Gatepost%20gw.example.com:ada?") || !strings.Contains(offer.URI, "secret="+offer.Secret) {
		t.Error(offer.URI)
	}
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(offer.Secret)
	must(t, err)
	now := func(more int64) string { return totpCode(key, time.Now().Unix()/30+more) }
	if err := a.ConfirmTOTP(ctx, "ada", "000000x", ""); !errors.Is(err, ErrWrong) {
		t.Errorf("a wrong first code: %v", err)
	}
	first := now(0)
	must(t, a.ConfirmTOTP(ctx, "ada", first, ""))
	if err := a.VerifyTOTP(ctx, "ada", first); !errors.Is(err, ErrWrong) {
		t.Errorf("the same code again: %v", err)
	}
	must(t, a.VerifyTOTP(ctx, "ada", now(1)[:3]+" "+now(1)[3:]))
	for range totpFree {
		if err := a.VerifyTOTP(ctx, "ada", "no code"); !errors.Is(err, ErrWrong) {
			t.Errorf("a wrong code: %v", err)
		}
	}
	if err := a.VerifyTOTP(ctx, "ada", "no code"); !errors.Is(err, ErrLocked) {
		t.Errorf("after many wrong codes: %v", err)
	}
}

func TestAPendingSessionEndsWithTooManyCodes(t *testing.T) {
	a := withAda(t)
	offer, err := a.OfferTOTP(t.Context(), "ada", "x")
	must(t, err)
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(offer.Secret)
	must(t, err)
	must(t, a.ConfirmTOTP(t.Context(), "ada", totpCode(key, time.Now().Unix()/30), ""))
	secret, _, err := a.Open(t.Context(), Session{Account: "ada", Kind: Local, Pending: true})
	must(t, err)
	for i := range maxTries {
		_, _, err := a.Complete(t.Context(), secret, "000000x")
		if want := map[bool]error{true: ErrNotFound, false: ErrWrong}[i == maxTries-1]; !errors.Is(err, want) {
			t.Errorf("try %d: %v", i+1, err)
		}
	}
	if _, _, err := a.Complete(t.Context(), secret, totpCode(key, time.Now().Unix()/30+1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("the right code, too late: %v", err)
	}
}

func TestTheSetupTokenWorksUntilThereIsAnAdministrator(t *testing.T) {
	a := open(t)
	ctx := t.Context()
	token, err := a.BeginSetup(ctx)
	must(t, err)
	for given, want := range map[string]bool{token: true, "": false, token + "x": false} {
		if ok, err := a.MaySetup(ctx, given); ok != want || err != nil {
			t.Errorf("%q: %v %v", given, ok, err)
		}
	}
	must(t, a.Create(ctx, Account{Name: "ada", Role: Administrator}, password))
	if ok, err := a.MaySetup(ctx, token); ok || err != nil {
		t.Errorf("afterwards: %v %v", ok, err)
	}
	if again, err := a.BeginSetup(ctx); again != "" || err != nil {
		t.Errorf("another token: %q %v", again, err)
	}
}

func TestRolesAreSubsets(t *testing.T) {
	for _, p := range Permissions() {
		if !Administrator.May(p) {
			t.Errorf("an administrator may not %s", p)
		}
		if Viewer.May(p) && !Operator.May(p) || EndUser.May(p) && !DomainAdministrator.May(p) {
			t.Errorf("%s: a lesser role may what a greater may not", p)
		}
		if Role("").May(p) || Role("root").May(p) {
			t.Errorf("%s: an unknown role may", p)
		}
	}
	for _, p := range []Permission{ConfigRead, ConfigWrite, UsersWrite} {
		if Operator.May(p) {
			t.Errorf("an operator may %s", p)
		}
	}
	for _, p := range Permissions() {
		if strings.HasSuffix(string(p), ":write") && Viewer.May(p) {
			t.Errorf("a viewer may %s", p)
		}
	}
}

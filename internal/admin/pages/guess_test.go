package pages_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gatepost/internal/accounts"
	"gatepost/internal/admin"
	"gatepost/internal/policy/auth"
)

// prefixes are networks.
func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// WEB-11.
func TestGuessingPasswordsIsLockedForTheGuesserOnly(t *testing.T) {
	guard, err := auth.NewGuard(auth.GuardConfig{Delay: time.Millisecond, MaxDelay: 2 * time.Millisecond, Window: 2 * time.Second, Lock: 2 * time.Second, MaxLock: 2 * time.Second})
	must(t, err)
	w := open(t, func(c *admin.GateConfig) {
		check, err := auth.New(auth.Config{Pad: -1, Guard: guard, Blocks: []auth.Block{{Use: admin.LocalBlock, Backend: admin.LocalUsers{Accounts: c.Accounts}}}})
		must(t, err)
		c.Check = check
		c.Proxies = prefixes("192.0.2.0/24") // where httptest's requests come from
	})
	must(t, w.accounts.Create(t.Context(), accounts.Account{Name: "ada", Role: accounts.Administrator}, password))
	from := func(ip string) *client {
		c := w.client()
		c.header.Set("X-Forwarded-For", ip)
		return c
	}
	message := func(name string, i int) string {
		page := from("198.51.100.7").login(name, "wrong "+strings.Repeat("x", i)).Body.String()
		_, rest, _ := strings.Cut(page, `role="alert">`)
		text, _, _ := strings.Cut(rest, "<")
		return text
	}
	if a, b := message("ada", 0), message("nobody", 0); a != b || a == "" {
		t.Errorf("a name that is there: %q, one that is not: %q", a, b)
	}
	locked := false
	for i := range 20 {
		locked = strings.Contains(message("ada", i+1), "wait some minutes")
	}
	if !locked {
		t.Error("20 wrong passwords and no lock")
	}
	if r := from("198.51.100.7").login("ada", password); r.Code != http.StatusUnprocessableEntity {
		t.Errorf("the right password from where was guessed: %d", r.Code)
	}
	if r := from("203.0.113.9").login("ada", password); r.Code != http.StatusSeeOther {
		t.Errorf("the right password from elsewhere: %d", r.Code)
	}
	deadline := time.Now().Add(20 * time.Second)
	for from("198.51.100.7").login("ada", password).Code != http.StatusSeeOther {
		if time.Now().After(deadline) {
			t.Fatal("the lock does not end")
		}
	}
}

func TestOnlyTrustedProxiesAreBelieved(t *testing.T) {
	w := open(t)
	must(t, w.accounts.Create(t.Context(), accounts.Account{Name: "ada", Role: accounts.Administrator}, password))
	c := w.client()
	c.header.Set("X-Forwarded-For", "203.0.113.9")
	c.header.Set("X-Forwarded-Proto", "https")
	c.login("ada", password)
	list, err := w.accounts.Sessions(t.Context(), "ada")
	must(t, err)
	if len(list) != 1 || list[0].Client != "192.0.2.1" || c.cookies["gatepost-session"] == "" {
		t.Errorf("%+v %v", list, c.cookies)
	}
}

package browser_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
)

func TestMain(m *testing.M) { os.Exit(gatepost.Main(m)) }

// code is what an authenticator shows (RFC 6238), some steps from now.
func code(t *testing.T, secret string, steps int64) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimSpace(secret))
	if err != nil {
		t.Fatal(err)
	}
	h := hmac.New(sha1.New, key)
	if err := binary.Write(h, binary.BigEndian, time.Now().Unix()/30+steps); err != nil {
		t.Fatal(err)
	}
	sum := h.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

func TestTheFirstAdministratorSetsUpLogsInWithASecondFactorAndOut(t *testing.T) {
	g := gatepost.Start(t, gatepost.Options{})
	b := browser.Open(t, g)
	link := b.SetupLink()
	b.Go(link)
	b.Shot("setup")
	b.SetUp("ada", browser.Password)
	b.Shot("account")

	b.Expect("status of 404") // the link works once
	if status := b.Go(link); status != 404 {
		t.Errorf("the link for the first administrator still works: %d", status)
	}

	b.Go("/account")
	b.Fill("#current3", browser.Password)
	b.Press("#totp-begin")
	b.Shot("second-factor")
	secret := b.Text("section .secret")
	used := code(t, secret, 0)
	b.Fill("#code", used)
	b.Press("section[aria-labelledby=offer] button.primary")
	b.See("The second factor is on")

	b.Press("form[action='/logout'] button")
	b.See("You are logged out")
	b.Shot("login")
	b.Go("/users")
	if !strings.HasPrefix(b.Path(), "/login?next=") {
		t.Errorf("nobody sees the users: %s", b.Path())
	}

	b.Expect("status of 422")
	b.LogIn("ada", "wrong")
	b.See("Name or password is not right")
	b.LogIn("ada", browser.Password)
	b.See("Second factor")
	b.Go("/users") // the password alone is not enough
	if !strings.HasPrefix(b.Path(), "/login") {
		t.Errorf("without the code: %s", b.Path())
	}
	b.Go("/login/code?next=%2Fusers")
	b.Fill("#code", used)
	b.Press("button.primary")
	b.See("not right")
	b.Fill("#code", code(t, secret, 1))
	b.Press("button.primary")
	if b.Path() != "/users" {
		t.Errorf("after the code: %s", b.Path())
	}
	b.Shot("users")
	b.Phone(true)
	b.Go("/users")
	b.Shot("users-phone")
	b.Phone(false)
	b.Go("/audit")
	b.See("first administrator ada")
	b.Dark(true)
	b.Shot("audit-dark")
}

package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The second factor: codes of six digits that change every 30 seconds, with
// HMAC-SHA1, which is what every program for it knows (RFC 6238 §4, RFC 4226 §5.3).
const (
	totpStep   = 30 * time.Second
	totpDigits = 1_000_000
	totpSecret = 20 // bytes, RFC 4226 §4 R6
	// A wrong code costs nothing up to totpFree in a row; then each one locks the
	// second factor of the account for longer, totpLock at most.
	totpFree = 5
	totpLock = 15 * time.Minute
)

// totpCode is the code of one step.
func totpCode(secret []byte, step int64) string {
	h := hmac.New(sha1.New, secret)
	_ = binary.Write(h, binary.BigEndian, step)
	sum := h.Sum(nil)
	at := sum[len(sum)-1] & 0xf // RFC 4226 §5.3: dynamic truncation
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%totpDigits)
}

// totpMatch returns the step whose code it is: now, the one before or the one after
// (RFC 6238 §5.2), later than the last one that was used.
func totpMatch(secret, code string, last int64, now time.Time) (int64, bool) {
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil || len(key) == 0 {
		return 0, false
	}
	found := int64(0)
	for step := now.Unix()/30 - 1; step <= now.Unix()/30+1; step++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(key, step)), []byte(code)) == 1 && step > last {
			found = step
		}
	}
	return found, found != 0
}

// Offer is a secret for a second factor that is not in force yet.
type Offer struct {
	// Secret is for typing, URI for a QR code.
	Secret, URI string
}

// OfferTOTP makes a secret; ConfirmTOTP puts it into force. issuer is what programs
// list it under: the host.
func (s *Accounts) OfferTOTP(ctx context.Context, name, issuer string) (Offer, error) {
	raw := make([]byte, totpSecret)
	rand.Read(raw)
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)
	err := s.change(ctx, name, func(a *Account) error { a.secrets.Offered = secret; return nil })
	if err != nil {
		return Offer{}, err
	}
	label := url.PathEscape("Gatepost " + issuer + ":" + name)
	v := url.Values{"secret": {secret}, "issuer": {"Gatepost " + issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}
	return Offer{Secret: secret, URI: "otpauth://totp/" + label + "?" + strings.ReplaceAll(v.Encode(), "+", "%20")}, nil
}

// ConfirmTOTP puts the offered secret into force, given a code of it, and ends the
// account's sessions but one.
func (s *Accounts) ConfirmTOTP(ctx context.Context, name, code, keep string) error {
	now := time.Now()
	err := s.change(ctx, name, func(a *Account) error {
		step, ok := totpMatch(a.secrets.Offered, tidyCode(code), 0, now)
		if a.secrets.Offered == "" || !ok {
			return ErrWrong
		}
		a.secrets.TOTP, a.secrets.Offered, a.secrets.Step, a.secrets.Misses = a.secrets.Offered, "", step, 0
		return nil
	})
	if err != nil {
		return err
	}
	return s.endAll(ctx, name, keep)
}

// ResetTOTP takes the second factor away and ends the account's sessions but one.
func (s *Accounts) ResetTOTP(ctx context.Context, name, keep string) error {
	name = strings.ToLower(name)
	err := s.change(ctx, name, func(a *Account) error {
		a.secrets.TOTP, a.secrets.Offered, a.secrets.Step, a.secrets.Misses = "", "", 0, 0
		return nil
	})
	if err != nil {
		return err
	}
	return s.endAll(ctx, name, keep)
}

// VerifyTOTP checks a code, which then is used up. Too many wrong ones lock the
// second factor for a while, also for right ones: ErrLocked. Who has not the password
// does not get here.
func (s *Accounts) VerifyTOTP(ctx context.Context, name, code string) error {
	now := time.Now()
	var result error
	err := s.change(ctx, name, func(a *Account) error {
		x := &a.secrets
		if over := x.Misses - totpFree; over >= 0 && now.Before(x.Missed.Add(min(totpLock, 30*time.Second<<min(over, 10)))) {
			return ErrLocked
		}
		step, ok := totpMatch(x.TOTP, tidyCode(code), x.Step, now)
		if result = nil; !ok {
			result = ErrWrong
			x.Misses, x.Missed = x.Misses+1, now.UTC()
			return nil
		}
		x.Step, x.Misses = step, 0
		return nil
	})
	if err != nil {
		return err
	}
	return result
}

// tidyCode takes away what people put between the digits.
func tidyCode(code string) string {
	return strings.NewReplacer(" ", "", "-", "").Replace(code)
}

package accounts

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// WEB-11: whoever asks for a name that is not there waits for as much work as for one
// that is. Argon2's memory stands for the work: time would be the machine's.
func TestAWrongNameCostsWhatAWrongPasswordCosts(t *testing.T) {
	a := withAda(t)
	must(t, a.Create(t.Context(), Account{Name: "disabled", Role: Administrator, Disabled: true}, password))
	must(t, a.Create(t.Context(), Account{Name: "passwordless", Role: Administrator}, ""))
	cost := func(name, password string) (bytes uint64, err error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = a.Verify(t.Context(), name, password)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc, err
	}
	right, err := cost("ada", password)
	must(t, err)
	if right < argonMemory<<10 {
		t.Fatalf("the right password costs %d bytes: this measures nothing", right)
	}
	for name, password := range map[string]string{
		"ada": "wrong", "nobody": "wrong", "disabled": password, "passwordless": "", "ADA ": password, "ada\x00": password, strings.Repeat("x", 1000): password, "": strings.Repeat("y", 100_000),
	} {
		got, err := cost(name, password)
		if err == nil || !errors.Is(err, ErrWrong) && !errors.Is(err, ErrNotFound) {
			t.Errorf("%.20q: %v", name, err)
		}
		if got < right*85/100 || got > right*115/100 {
			t.Errorf("%.20q costs %d bytes, the right password %d", name, got, right)
		}
	}
}

package pages_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"gatepost/internal/accounts"
)

// BenchmarkQuarantine100000 is WEB-15: pages of a quarantine with 100,000 messages.
func BenchmarkQuarantine100000(b *testing.B) {
	h := openHeld(b)
	var wg sync.WaitGroup
	for worker := range 64 {
		wg.Go(func() {
			for i := range 100_000 / 64 {
				row, body := message{subject: fmt.Sprintf("number %d", i), to: []string{fmt.Sprintf("user%d@a.example", i%1000)}, from: fmt.Sprintf("a%d@sender.example", worker)}.record(b)
				if err := h.store.PutQuarantined(b.Context(), row, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	h.hold(message{to: []string{"u@a.example"}})
	for _, tt := range []struct {
		name string
		role accounts.Role
		path string
	}{
		{"first", accounts.Administrator, "/quarantine"}, {"spam", accounts.Administrator, "/quarantine?threat=spam&state=held"}, {"text", accounts.Administrator, "/quarantine?text=number+1500"},
		{"nothing", accounts.Administrator, "/quarantine?text=absent"}, {"asked", accounts.Administrator, "/quarantine?state=asked"}, {"deleted", accounts.Administrator, "/quarantine?state=deleted"},
		{"domain", accounts.DomainAdministrator, "/quarantine"}, {"own", accounts.EndUser, "/quarantine"},
	} {
		c := h.as(tt.role)
		b.Run(tt.name, func(b *testing.B) {
			for b.Loop() {
				if r := c.get(tt.path); r.Code != http.StatusOK {
					b.Fatal(r.Code)
				}
			}
		})
	}
}

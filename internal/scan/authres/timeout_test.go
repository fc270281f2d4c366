package authres_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatepost/internal/dns"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres"
)

// silent is a DNS that never answers.
type silent struct{}

func (silent) wait(ctx context.Context) error {
	<-ctx.Done()
	return &dns.Error{Temporary: true, Err: ctx.Err()}
}

func (s silent) TXT(ctx context.Context, _ string) ([]string, error) { return nil, s.wait(ctx) }
func (s silent) IPv4(ctx context.Context, _ string) ([]netip.Addr, error) {
	return nil, s.wait(ctx)
}
func (s silent) Addrs(ctx context.Context, _ string) ([]netip.Addr, error) {
	return nil, s.wait(ctx)
}
func (s silent) MX(ctx context.Context, _ string) ([]dns.MX, error)      { return nil, s.wait(ctx) }
func (s silent) PTR(ctx context.Context, _ netip.Addr) ([]string, error) { return nil, s.wait(ctx) }

func TestAllLookupsEndTogetherInTime(t *testing.T) {
	w := newWorld(t)
	text := sign(t, w.signer(t, "example.org", "s1"), plain)
	env := envelope(t, badClient, "ann@example.org")
	synctest.Test(t, func(t *testing.T) {
		in, err := scan.NewInput(t.Context(), mail.Message{Envelope: env, Body: body{strings.NewReader(text)}}, scan.Inbound, scan.Options{})
		if err != nil {
			t.Fatal(err)
		}
		block := scan.Block{Key: "k", Use: authres.Name, Waits: true, Timeout: 5 * time.Second,
			Module: authres.New(authres.Config{Resolver: silent{}, Timeout: 5 * time.Second})}
		begun := time.Now()
		report := scan.Run(t.Context(), in, []scan.Block{block}, time.Minute, nil)[0]
		if got := symbols(report.Findings); got != "spf:temperror? dkim:temperror? dmarc:temperror?" {
			t.Errorf("got %s", got)
		}
		if took := time.Since(begun); took != 4500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

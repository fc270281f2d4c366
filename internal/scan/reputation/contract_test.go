package reputation

import (
	"context"
	"testing"
	"time"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
	"gatepost/internal/store"
)

// silence is a database that never answers.
type silence struct{ fakeStore }

func (*silence) Reputations(ctx context.Context, _ []string, _ time.Duration) (map[string]store.Reputation, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestContract(t *testing.T) {
	with := func(s Store) func(testing.TB) scan.Module {
		return func(t testing.TB) scan.Module {
			m, err := New(Config{Store: s})
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	known := &fakeStore{known: map[string]store.Reputation{"d:client.example": seen(3, 90), "n:198.51.100.0/24": seen(1, 50)}}
	scantest.Contract(t, scantest.Subject{Use: Name, New: with(known), Hanging: with(&silence{})})
}

package authres_test

import (
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/authres"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	scantest.Contract(t, scantest.Subject{
		Use:     authres.Name,
		New:     func(t testing.TB) scan.Module { return authres.New(authres.Config{Resolver: newWorld(t).resolver}) },
		Hanging: func(testing.TB) scan.Module { return authres.New(authres.Config{Resolver: silent{}}) },
	})
}

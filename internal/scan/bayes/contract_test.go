package bayes_test

import (
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/scan/scantest"
)

func TestContract(t *testing.T) {
	scantest.Contract(t, scantest.Subject{Use: "bayes", New: func(t testing.TB) scan.Module {
		c, _ := fresh(t, func(c *bayes.Config) { c.PerDomain = true })
		teach(t, c, "", 12)
		teach(t, c, "there.example", 12)
		return c.Module(6, -2)
	}})
}

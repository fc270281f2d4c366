package structure_test

import (
	"testing"

	"gatepost/internal/scan"
	"gatepost/internal/scan/scantest"
	"gatepost/internal/scan/structure"
)

func TestContract(t *testing.T) {
	scantest.Contract(t, scantest.Subject{Use: "structure", New: func(testing.TB) scan.Module {
		return structure.New(structure.Config{MaxSize: 1 << 20})
	}})
}

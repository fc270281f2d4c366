package main

import (
	"math"
	"testing"
)

func TestSessionsForDescriptors(t *testing.T) {
	for _, tt := range []struct {
		descriptors uint64
		want        int
	}{{0, 1}, {10, 2}, {256, 64}, {1024, 256}, {4096, 1792}, {1 << 20, (1<<20 - 512) / 2}, {math.MaxUint64, math.MaxInt32}} {
		if got := sessionsFor(tt.descriptors); got != tt.want {
			t.Errorf("%d open files: %d sessions, want %d", tt.descriptors, got, tt.want)
		}
	}
}

func TestMemoryIsShort(t *testing.T) {
	for _, tt := range []struct {
		name    string
		used    uint64
		limit   int64
		percent int
		want    bool
	}{
		{"no limit", 1 << 40, math.MaxInt64, 90, false}, {"little in use", 89, 100, 90, false}, {"just as much", 90, 100, 90, false},
		{"too much in use", 91, 100, 90, true}, {"never, by configuration", 1000, 100, 0, false},
	} {
		if got := memoryShort(tt.used, tt.limit, tt.percent); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	if memoryInUse() == 0 {
		t.Error("this process uses no memory")
	}
}

package rate

import (
	"strings"
	"testing"
	"time"
)

func TestLimitsAreParsed(t *testing.T) {
	for text, want := range map[string]Limit{
		"60/m":               {60, time.Minute, 60},
		"1/s":                {1, time.Second, 1},
		"600/h":              {600, time.Hour, 600},
		"10000/d":            {10000, 24 * time.Hour, 10000},
		"10/30s":             {10, 30 * time.Second, 10},
		"5/10m burst 20":     {5, 10 * time.Minute, 20},
		"100MiB/d":           {100 << 20, 24 * time.Hour, 100 << 20},
		"64KiB/s burst 1MiB": {64 << 10, time.Second, 1 << 20},
		"500B/s":             {500, time.Second, 500},
	} {
		got, err := ParseLimit(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "60", "/m", "60/", "60/x", "0/m", "-1/m", "+1/m", "1.5/m", "60/0m", "60/-1m", "60/+1m", "60/m burst", "60/m burst 0", "60/m  burst 1", "60/m burst x",
		"60/367d", "9999999TiB/d", "1MB/s", "MiB/s", "60/ms", "60/m\nburst 1", "1/366d burst 1000", "9223372036854775808/m",
	} {
		if got, err := ParseLimit(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		} else if !strings.HasPrefix(err.Error(), "rate \"") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"60/m", "100MiB/d", "5/10m burst 20", "1/366d", "64KiB/s burst 1MiB", "1125899906842624/s", "7/m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLimit(s)
		if err != nil {
			return
		}
		if again, err := ParseLimit(l.String()); err != nil || again != l {
			t.Errorf("%q: %q is read back as %+v, %v", s, l, again, err)
		}
		b := newBucket(l)
		if b.cost(1) < 1 || b.room < b.cost(l.Burst) || b.cost(1) > b.room {
			t.Errorf("%q: one takes %d of %d", s, b.cost(1), b.room)
		}
	})
}

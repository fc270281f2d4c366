package config

import (
	"testing"
	"time"
)

func TestSizesAreWrittenAsTheyAreRead(t *testing.T) {
	for text, want := range map[string]Size{
		"0B": 0, "512B": 512, "1KiB": 1024, "1kB": 1000, "50MiB": 50 << 20, "1.5GiB": 3 << 29, "2TB": 2e12, "1023B": 1023, "1025KiB": 1025 << 10,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s is written %s and read as %d, %v", text, got, again, err)
		}
	}
}

func TestDurationsAreWrittenAsTheyAreRead(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "90s": 90 * time.Second, "2d": 48 * time.Hour, "1h30m": 90 * time.Minute, "500ms": time.Second / 2, "1.5h": 90 * time.Minute, "36h": 36 * time.Hour,
	} {
		got, err := ParseDuration(text)
		if err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %s, %v, want %s", text, got, err, want)
		}
		if again, err := ParseDuration(formatDuration(got)); err != nil || again != got {
			t.Errorf("%s is written %s and read as %s, %v", text, formatDuration(got), again, err)
		}
	}
}

func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"50MiB", "1.5GB", "1h30m", "2d", "0s", "9999999999999999999d", "1e9B", "1..5h", "500B/s", ".5s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseSize(s); err == nil {
			if again, err := ParseSize(n.String()); n < 0 || err != nil || again != n {
				t.Errorf("%q is the size %d, which is written %s and read as %d, %v", s, n, n, again, err)
			}
		}
		if d, err := ParseDuration(s); err == nil && d < 100*365*24*time.Hour {
			again, err := ParseDuration(formatDuration(d.Truncate(time.Millisecond)))
			if d < 0 || err != nil || again != d.Truncate(time.Millisecond) {
				t.Errorf("%q is the duration %s, which is written %s and read as %s, %v", s, d, formatDuration(d), again, err)
			}
		}
	})
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"10.0.0.5:25", "[::1]:25", "::1", "mail.example.com", "unix:/run/x", ":25", "[::1%lo]:25", "bücher.example:25", "::ffff:1.2.3.4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, port := range []int{-1, 0, 25} {
			h, fault := parseHostPort(s, port, "/")
			if fault != nil || h.Unix != "" {
				continue
			}
			if h.Port == 0 && port > 0 || h.Host == "" && port >= 0 {
				t.Fatalf("%q has no place to connect to: %+v", s, h)
			}
			if h.Port == 0 {
				continue
			}
			if again, fault := parseHostPort(h.String(), port, "/"); fault != nil || again != h {
				t.Fatalf("%q is %+v, which is written %s and read as %+v, %v", s, h, h, again, fault)
			}
		}
	})
}

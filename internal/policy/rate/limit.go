package rate

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Limit is how much there may be in how much time. The zero Limit is none.
type Limit struct {
	// Count may come in each Period on average.
	Count  int64
	Period time.Duration
	// Burst is how much may come at once after a quiet time; at least 1.
	Burst int64
}

// Bounds of a limit.
const (
	maxCount  = 1 << 50
	maxPeriod = 366 * 24 * time.Hour
	// maxQuiet bounds after what time a burst is forgotten.
	maxQuiet = 10 * maxPeriod
)

// ParseLimit reads "60/m", "600/h", "10/30s", "100MiB/d", each perhaps with
// " burst 20" behind it; without, as much as the count may come at once.
func ParseLimit(s string) (Limit, error) {
	rate, burst, bursts := strings.Cut(s, " burst ")
	count, period, ok := strings.Cut(rate, "/")
	if !ok {
		return Limit{}, fmt.Errorf(`rate %q: write "60/m", "600/h" or "100MiB/d"`, short(s))
	}
	l := Limit{}
	var err error
	if l.Count, err = parseCount(count); err != nil {
		return Limit{}, fmt.Errorf("rate %q: %w", short(s), err)
	}
	if l.Period, err = parsePeriod(period); err != nil {
		return Limit{}, fmt.Errorf("rate %q: %w", short(s), err)
	}
	l.Burst = l.Count
	if bursts {
		if l.Burst, err = parseCount(strings.TrimSpace(burst)); err != nil {
			return Limit{}, fmt.Errorf("rate %q: burst: %w", short(s), err)
		}
	}
	if err := l.check(); err != nil {
		return Limit{}, fmt.Errorf("rate %q: %w", short(s), err)
	}
	return l, nil
}

// units are the sizes that a count may be written in, the longest first.
var units = [...]struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}, {"", 1}}

func parseCount(s string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || digits[0] == '+' || n < 1 || n > maxCount/u.size {
			return 0, fmt.Errorf("%q is no count from 1", short(s))
		}
		return n * u.size, nil
	}
	return 0, fmt.Errorf("%q is no count from 1", short(s))
}

// parsePeriod reads "s", "m", "h", "d", or a number of these.
func parsePeriod(s string) (time.Duration, error) {
	if s != "" {
		unit, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[s[len(s)-1]]
		number := s[:len(s)-1]
		if ok && number == "" {
			return unit, nil
		}
		if n, err := strconv.ParseInt(number, 10, 64); ok && err == nil && number[0] != '+' && n >= 1 && n <= int64(maxPeriod/unit) {
			return time.Duration(n) * unit, nil
		}
	}
	return 0, fmt.Errorf("%q is no time: write s, m, h, d or a number of them, as 10m", short(s))
}

// check reports what is wrong with a limit.
func (l Limit) check() error {
	switch {
	case l.Count < 1 || l.Count > maxCount || l.Burst < 1 || l.Burst > maxCount:
		return fmt.Errorf("counts are from 1 to %d", int64(maxCount))
	case l.Period < time.Second || l.Period > maxPeriod:
		return fmt.Errorf("a period is from 1s to %dd", maxPeriod/(24*time.Hour))
	case float64(l.Burst)/float64(l.Count)*float64(l.Period) > float64(maxQuiet):
		return fmt.Errorf("a burst of %d takes more than ten years to come again", l.Burst)
	}
	return nil
}

// String is the limit as the configuration writes it.
func (l Limit) String() string {
	if l.Count == 0 {
		return ""
	}
	s := strconv.FormatInt(l.Count, 10) + "/"
	for _, u := range []struct {
		name string
		d    time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if l.Period%u.d != 0 {
			continue
		}
		if n := l.Period / u.d; n > 1 {
			s += strconv.FormatInt(int64(n), 10)
		}
		s += u.name
		break
	}
	if l.Burst != l.Count {
		s += " burst " + strconv.FormatInt(l.Burst, 10)
	}
	return s
}

// bucket is a limit as the algorithm needs it, in nanoseconds.
type bucket struct {
	limit Limit
	// room is how far ahead of now a key's time may be.
	room int64
}

func newBucket(l Limit) bucket {
	if l.Count == 0 {
		return bucket{}
	}
	b := bucket{limit: l}
	b.room = b.cost(l.Burst)
	if int64(l.Period)%l.Count != 0 {
		// Each charge is rounded up; what that adds must not take the last place of
		// the burst.
		b.room += min(l.Burst, int64(time.Millisecond))
	}
	return b
}

// cost is how much time n take up, rounded up.
func (b *bucket) cost(n int64) int64 {
	hi, lo := bits.Mul64(uint64(n), uint64(b.limit.Period))
	count := uint64(b.limit.Count)
	if hi >= count {
		return math.MaxInt64 / 4
	}
	q, r := bits.Div64(hi, lo, count)
	if r > 0 {
		q++
	}
	return int64(min(q, math.MaxInt64/4))
}

// short cuts what an error repeats.
func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

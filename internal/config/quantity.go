package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// fault is what a value's parser says: the loader adds where.
type fault struct {
	rule          rule
	message, hint string
}

// Error implements error, for callers outside of the loader.
func (f *fault) Error() string {
	if f.hint == "" {
		return f.message
	}
	return f.message + "; " + f.hint
}

type unit struct {
	name   string
	factor float64
}

var sizeUnits = []unit{
	{"B", 1},
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
}

var timeUnits = []unit{
	{"d", float64(24 * time.Hour)}, {"h", float64(time.Hour)}, {"m", float64(time.Minute)},
	{"s", float64(time.Second)}, {"ms", float64(time.Millisecond)},
}

// ParseSize reads "50MiB", "1.5GB", "512B".
func ParseSize(s string) (Size, error) {
	n, f := parseSize(s)
	if f != nil {
		return 0, f
	}
	return n, nil
}

func parseSize(s string) (Size, *fault) {
	number, suffix := splitNumber(s)
	hint := `write a number and one of B, kB, MB, GB, KiB, MiB, GiB, such as "50MiB"`
	if number == "" {
		return 0, &fault{ruleBadSize, fmt.Sprintf("%q is no size", s), hint}
	}
	for _, u := range sizeUnits {
		if u.name == suffix {
			n, ok := scale(number, u.factor)
			if !ok {
				return 0, &fault{ruleBadSize, fmt.Sprintf("%q is no size", s), hint}
			}
			return Size(n), nil
		}
	}
	if suffix == "" {
		return 0, &fault{ruleBadSize, fmt.Sprintf("%q has no unit", s), fmt.Sprintf(`write "%sB", "%sMiB" or the like`, number, number)}
	}
	if u := sizeUnitLike(suffix); u != "" {
		hint = fmt.Sprintf("did you mean %q?", number+u)
	}
	return 0, &fault{ruleBadSize, fmt.Sprintf("%q has an unknown unit", s), hint}
}

// sizeUnitLike guesses which unit was meant: "M" and "mb" are MiB, as other mail servers read them.
func sizeUnitLike(suffix string) string {
	switch strings.ToLower(suffix) {
	case "b", "byte", "bytes":
		return "B"
	case "k", "kb", "kib":
		return "KiB"
	case "m", "mb", "mib":
		return "MiB"
	case "g", "gb", "gib":
		return "GiB"
	case "t", "tb", "tib":
		return "TiB"
	}
	return ""
}

func parseRate(s string) (Rate, *fault) {
	per, ok := strings.CutSuffix(s, "/s")
	if !ok {
		return 0, &fault{ruleBadRate, fmt.Sprintf("%q is no rate", s), `write a size per second, such as "500B/s"`}
	}
	n, f := parseSize(per)
	if f != nil {
		hint := `write a size per second, such as "500B/s"`
		if meant, ok := strings.CutPrefix(f.hint, "did you mean "); ok {
			hint = "did you mean " + strings.TrimSuffix(meant, `"?`) + `/s"?`
		}
		return 0, &fault{ruleBadRate, fmt.Sprintf("%q is no rate", s), hint}
	}
	return Rate(n), nil
}

// ParseDuration reads "90s", "2d", "1h30m", "500ms".
func ParseDuration(s string) (time.Duration, error) {
	d, f := parseDuration(s)
	if f != nil {
		return 0, f
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, *fault) {
	bad := &fault{ruleBadDuration, fmt.Sprintf("%q is no duration", s), `write a number and one of ms, s, m, h, d, such as "90s", "15m" or "1h30m"`}
	var total int64
	rest := s
	for rest != "" {
		number, after := splitNumber(rest)
		if number == "" {
			return 0, bad
		}
		end := strings.IndexAny(after, "0123456789")
		if end < 0 {
			end = len(after)
		}
		n, f := scaleTime(s, number, after[:end])
		if f != nil {
			return 0, f
		}
		if total > math.MaxInt64-n {
			return 0, bad
		}
		total += n
		rest = after[end:]
	}
	if s == "" {
		return 0, bad
	}
	return time.Duration(total), nil
}

func scaleTime(whole, number, suffix string) (int64, *fault) {
	hint := "the units are ms, s, m (minutes), h and d"
	for _, u := range timeUnits {
		if u.name == suffix {
			n, ok := scale(number, u.factor)
			if !ok {
				return 0, &fault{ruleBadDuration, fmt.Sprintf("%q is no duration", whole), hint}
			}
			return n, nil
		}
	}
	if suffix == "" {
		return 0, &fault{ruleBadDuration, fmt.Sprintf("%q has no unit", whole), fmt.Sprintf(`write "%ss", "%sm" or the like`, whole, whole)}
	}
	switch strings.ToLower(suffix) {
	case "sec", "secs", "second", "seconds", "min", "mins", "minute", "minutes", "hour", "hours", "day", "days", "m", "s", "h", "d":
		hint = fmt.Sprintf("did you mean %q?", number+strings.ToLower(suffix[:1]))
	case "w", "week", "weeks":
		hint += "; a week is 7d"
	}
	return 0, &fault{ruleBadDuration, fmt.Sprintf("%q has an unknown unit", whole), hint}
}

// splitNumber cuts the digits, with at most one decimal point, off the front.
func splitNumber(s string) (number, rest string) {
	i, point := 0, false
	for i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i] == '.' && i > 0 && !point) {
		point = point || s[i] == '.'
		i++
	}
	return s[:i], s[i:]
}

// scale multiplies and refuses what does not fit into 62 bits.
func scale(number string, factor float64) (int64, bool) {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*factor > 1<<62 {
		return 0, false
	}
	return int64(math.Round(f * factor)), true
}

// String writes the size as ParseSize reads it.
func (n Size) String() string {
	for i := 4; i > 0; i-- {
		if u := sizeUnits[i]; n != 0 && int64(n)%int64(u.factor) == 0 {
			return strconv.FormatInt(int64(n)/int64(u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(n), 10) + "B"
}

// String writes the rate as the configuration has it.
func (r Rate) String() string { return Size(r).String() + "/s" }

// formatDuration writes a duration as ParseDuration reads it.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	for _, u := range timeUnits {
		if n := d / time.Duration(u.factor); n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + u.name)
			d -= n * time.Duration(u.factor)
		}
	}
	return b.String()
}

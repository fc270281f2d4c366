package filter

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// span is a stretch of time in a week: on these days from one minute of the day
// to another. One that ends before it begins goes on into the next day.
type span struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes; to is exclusive
}

// times compiles spans: "Mon-Fri 08:00-18:00", "Sat,Sun", "22:00-06:00".
func (c *compiler) times(path string, v any) []span {
	var list []span
	for _, v := range c.values(path, v) {
		s, err := parseSpan(v.text)
		if err != nil {
			c.failValue(path, v, err)
			continue
		}
		list = append(list, s)
	}
	return list
}

func parseSpan(text string) (span, error) {
	s := span{from: 0, to: 24 * 60}
	words := strings.Fields(text)
	bad := fmt.Errorf(`%q is no time: write "Mon-Fri 08:00-18:00", "Sat,Sun" or "22:00-06:00"`, cut(text))
	hours := ""
	switch {
	case len(words) == 1 && strings.Contains(words[0], ":"):
		hours = words[0]
		s.days = [7]bool{true, true, true, true, true, true, true}
	case len(words) == 1 || len(words) == 2:
		if !s.addDays(words[0]) {
			return span{}, bad
		}
		if len(words) == 2 {
			hours = words[1]
		}
	default:
		return span{}, bad
	}
	if hours == "" {
		return s, nil
	}
	from, to, ok := strings.Cut(hours, "-")
	if !ok {
		return span{}, bad
	}
	var okFrom, okTo bool
	s.from, okFrom = minutes(from)
	s.to, okTo = minutes(to)
	if !okFrom || !okTo || s.from == s.to {
		return span{}, bad
	}
	return s, nil
}

// addDays reads "Mon-Fri,Sun".
func (s *span) addDays(list string) bool {
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, ok1 := weekday(first)
		to, ok2 := weekday(last)
		if !ok1 || !ok2 {
			return false
		}
		for d := from; ; d = (d + 1) % 7 {
			s.days[d] = true
			if d == to {
				break
			}
		}
	}
	return true
}

func weekday(s string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(s, d.String()) || strings.EqualFold(s, d.String()[:3]) {
			return d, true
		}
	}
	return 0, false
}

// minutes reads "08:00"; "24:00" is the end of the day.
func minutes(s string) (int, bool) {
	if s == "24:00" {
		return 24 * 60, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil
}

func (s *span) contains(t time.Time) bool {
	day, minute := t.Weekday(), t.Hour()*60+t.Minute()
	if s.from < s.to {
		return s.days[day] && s.from <= minute && minute < s.to
	}
	// Over midnight: the day is that on which it began.
	yesterday := (day + 6) % 7
	return s.days[day] && minute >= s.from || s.days[yesterday] && minute < s.to
}

// timeCondition is about when the message came in, in the time zone of this host.
func timeCondition(list []span) condition {
	return condition{cost: costEnvelope, test: func(_ context.Context, m *material) (answer, error) {
		t := m.envelope().Received.Local()
		for i := range list {
			if list[i].contains(t) {
				return yes("time is " + t.Format("Mon 15:04")), nil
			}
		}
		return answer{}, nil
	}}
}

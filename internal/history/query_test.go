package history

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestASearchThatIsWrongSaysWhere(t *testing.T) {
	for text, want := range map[string]string{
		"sender:":                 "at character 8: sender: needs a value",
		"colour:red":              `at character 1: there is no field "colour"`,
		"verdict:foo":             `at character 9: "foo" is none of deliver, mark`,
		"a verdict:mark,foo":      `at character 11: "foo" is none of`,
		`subject:"open`:           `at character 9: the closing " is missing`,
		"/a(/":                    "at character 1: the regular expression does not compile",
		"/open":                   "at character 1: the closing / is missing",
		"client:300.1.1.1":        `at character 8: "300.1.1.1" is no IP address`,
		"client:10.0.0.0/64":      "is no IP address or network",
		"id:123":                  "at character 4: want the 26 characters of an ID",
		"since:soon":              `at character 7: "soon" is no time`,
		"-since:2h":               "at character 1: since can't be turned round",
		"sender:/x/":              "at character 8: a regular expression looks at the whole event",
		"***":                     "would find everything",
		strings.Repeat("a ", 40):  "a search has at most 30 conditions",
		strings.Repeat("a", 3000): "a search has at most 2000 characters",
		`""`:                      "there is nothing to look for",
	} {
		_, err := ParseQuery(text, time.Now())
		var q *QueryError
		if !errors.As(err, &q) && err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	zone := time.FixedZone("x", 2*3600)
	now := time.Date(2026, 11, 22, 15, 30, 0, 0, zone)
	for text, want := range map[string]string{
		"2h": "2026-11-22T13:30:00+02:00", "90m": "2026-11-22T14:00:00+02:00", "3d": "2026-11-19T15:30:00+02:00", "1w": "2026-11-15T15:30:00+02:00",
		"today": "2026-11-22T00:00:00+02:00", "Yesterday": "2026-11-21T00:00:00+02:00", "now": "2026-11-22T15:30:00+02:00",
		"2026-11-20": "2026-11-20T00:00:00+02:00", "2026-11-20T08:15": "2026-11-20T08:15:00+02:00", "2026-11-20T08:00:00Z": "2026-11-20T10:00:00+02:00",
	} {
		got, err := ParseTime(text, now)
		if err != nil || got.In(zone).Format(time.RFC3339) != want {
			t.Errorf("%s is %v %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "-2h", "2026-13-01", "d", "99999d"} {
		if got, err := ParseTime(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestTimesBoundASearch(t *testing.T) {
	q := mustParse(t, "since:2026-11-20T00:00:00Z until:2026-11-21T00:00:00Z x")
	if q.Since.Day() != 20 || q.Until.Day() != 21 || len(q.clauses) != 1 {
		t.Errorf("%+v", q)
	}
}

func FuzzASearchIsReadOrRefused(f *testing.F) {
	for _, q := range queries {
		f.Add(q)
	}
	f.Add(`since:today -"a b" id:01kaq6w5q1q6h2x1m3n8rj4t7z:3 /x\/y/`)
	e := full(f)
	f.Fuzz(func(t *testing.T, text string) {
		q, err := ParseQuery(text, time.Now())
		if err != nil {
			var where *QueryError
			if !errors.As(err, &where) || where.At < 0 || where.At > len(text) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		q.Matches(e)
	})
}

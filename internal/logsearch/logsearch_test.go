package logsearch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"gatepost/internal/mail"
)

// begin is when the logs of the tests begin.
var begin = time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)

// parseTime reads the times of the tests.
func parseTime(text string, _ time.Time) (time.Time, error) { return time.Parse(time.RFC3339, text) }

// writeLog writes a file of lines, a minute apart, that was changed last at its end.
func writeLog(t testing.TB, dir, name string, first time.Time, lines ...string) {
	t.Helper()
	var b bytes.Buffer
	at := first
	for _, l := range lines {
		fmt.Fprintf(&b, "%s info Queue %s\n", at.Format("2006-01-02T15:04:05.000Z07:00"), l)
		at = at.Add(time.Minute)
	}
	content := b.Bytes()
	switch filepath.Ext(name) {
	case ".gz":
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		content = packed.Bytes()
	case ".zst":
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		content = z.EncodeAll(content, nil)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// searchFor returns what a search finds, without time and level.
func searchFor(t testing.TB, r Request, query string) ([]string, Result) {
	t.Helper()
	q, err := ParseQuery(query, begin, parseTime)
	if err != nil {
		t.Fatalf("query %q: %v", query, err)
	}
	r.Query = q
	r.Name = "mail.log"
	var got []string
	r.Line = func(line []byte) error {
		_, text, _ := strings.Cut(string(line), " Queue ")
		got = append(got, text)
		return nil
	}
	result, err := Search(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got, result
}

func TestLinesAreFoundInAllFilesInTheOrderOfTime(t *testing.T) {
	dir := t.TempDir()
	id, other := mail.FirstID(begin.Add(time.Hour)), mail.FirstID(begin.Add(2*time.Hour))
	writeLog(t, dir, "mail.log.3.gz", begin, "oldest Apple")
	writeLog(t, dir, "mail.log.2.zst", begin.Add(time.Hour), "apple id="+id.String()+" received", "id="+id.String()+":1 first", "id="+id.String()+":11 eleventh")
	writeLog(t, dir, "mail.log-20261120", begin.Add(2*time.Hour), "apple pie id="+other.String())
	writeLog(t, dir, "mail.log", begin.Add(3*time.Hour), "newest apple juice", "pear id="+id.String()+":1 again")
	writeLog(t, dir, "mail.logbook", begin, "apple of somebody else")
	writeLog(t, dir, "smtp_proxy.log", begin, "apple of another log")
	for query, want := range map[string][]string{
		"apple":                            {"oldest Apple", "apple id=" + id.String() + " received", "apple pie id=" + other.String(), "newest apple juice"},
		"apple -pie -id":                   {"oldest Apple", "newest apple juice"},
		`"apple juice"`:                    {"newest apple juice"},
		"/^.* (newest|oldest) [Aa]pple/":   {"oldest Apple", "newest apple juice"},
		"-/apple/ pear":                    {"pear id=" + id.String() + ":1 again"},
		id.String():                        {"apple id=" + id.String() + " received", "id=" + id.String() + ":1 first", "id=" + id.String() + ":11 eleventh", "pear id=" + id.String() + ":1 again"},
		id.String() + ":1":                 {"apple id=" + id.String() + " received", "id=" + id.String() + ":1 first", "pear id=" + id.String() + ":1 again"},
		id.String() + ":11":                {"apple id=" + id.String() + " received", "id=" + id.String() + ":11 eleventh"},
		"apple since:2026-11-20T10:00:00Z": {"apple pie id=" + other.String(), "newest apple juice"},
		"apple until:2026-11-20T10:00:00Z": {"oldest Apple", "apple id=" + id.String() + " received"},
		"nothing":                          nil,
	} {
		got, result := searchFor(t, Request{Dir: dir}, query)
		if !slices.Equal(got, want) || result.Lines != len(want) || result.Cut {
			t.Errorf("%q finds %q, want %q (%+v)", query, got, want, result)
		}
	}
}

func TestTheLatestLinesAreKeptWhereThereAreTooMany(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i := range 500 {
		lines = append(lines, fmt.Sprint("line ", i))
	}
	writeLog(t, dir, "mail.log", begin, lines...)
	got, result := searchFor(t, Request{Dir: dir, Limit: 3}, "line")
	if !slices.Equal(got, lines[497:]) || !result.Cut {
		t.Errorf("got %q %+v", got, result)
	}
}

func TestALongFileIsNotReadFromItsBegin(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i := range 40_000 {
		lines = append(lines, fmt.Sprintf("line %d %s", i, strings.Repeat("x", 200)))
	}
	writeLog(t, dir, "mail.log", begin, lines...)
	last := begin.Add(39_990 * time.Minute).Format(time.RFC3339)
	var read int64
	got, _ := searchFor(t, Request{Dir: dir, Progress: func(p Progress) { read = p.Read }}, "line since:"+last)
	if len(got) != 10 || !strings.HasPrefix(got[0], "line 39990 ") {
		t.Errorf("%d lines", len(got))
	}
	if read != 0 {
		t.Errorf("%d bytes were read before the first line", read)
	}
}

func TestASearchTellsHowFarItIsAndCanBeEnded(t *testing.T) {
	dir := t.TempDir()
	var lines []string
	for i := range 60_000 {
		lines = append(lines, fmt.Sprintf("line %d %s", i, strings.Repeat("x", 200)))
	}
	writeLog(t, dir, "mail.log", begin, lines...)
	q, err := ParseQuery("nothing", begin, parseTime)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := 0
	_, err = Search(ctx, Request{Dir: dir, Name: "mail.log", Query: q, Line: func([]byte) error { return nil }, Progress: func(p Progress) {
		if told++; p.Read <= 0 || p.Of < p.Read || p.File != "mail.log" {
			t.Errorf("%+v", p)
		}
		cancel()
	}})
	if !errors.Is(err, context.Canceled) || told != 1 {
		t.Errorf("told %d times, then %v", told, err)
	}
}

func TestWithoutLogFilesItSaysWhere(t *testing.T) {
	q, err := ParseQuery("x", begin, parseTime)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Search(t.Context(), Request{Query: q}); !errors.Is(err, ErrNoFiles) || !strings.Contains(err.Error(), "journalctl") {
		t.Errorf("got %v", err)
	}
}

func TestLinesOfJSONHaveATimeToo(t *testing.T) {
	at, ok := timeOf([]byte(`{"time":"2026-11-20T08:00:00.5+01:00","level":"INFO"}`))
	if !ok || !at.Equal(time.Date(2026, 11, 20, 7, 0, 0, 5e8, time.UTC)) {
		t.Errorf("%v %v", at, ok)
	}
}

func TestAWrongSearchSaysWhere(t *testing.T) {
	for query, want := range map[string]string{
		"a /b(/": "at character 3: the regular expression does not compile", `x "y`: `at character 3: the closing " is missing`,
		"since:": "at character 1: since: needs a time", "until:x": "at character 1:", "//": "nothing to look for", strings.Repeat("x", 3000): "at most 2000",
	} {
		if _, err := ParseQuery(query, begin, parseTime); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", query, err, want)
		}
	}
}

func FuzzASearchIsReadOrRefused(f *testing.F) {
	for _, q := range []string{"apple -pie", `"a b" /x\/y/`, "since:2026-11-20T08:00:00Z", "01kaq6w5q1q6h2x1m3n8rj4t7z:1", "-"} {
		f.Add(q, "2026-11-20T08:00:00.000Z info Queue apple id=01kaq6w5q1q6h2x1m3n8rj4t7z:1")
	}
	f.Fuzz(func(t *testing.T, text, line string) {
		if q, err := ParseQuery(text, begin, parseTime); err == nil {
			q.look([]byte(line))
		}
	})
}

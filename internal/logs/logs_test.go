package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"testing/synctest"
	"time"
	"unicode"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buffer is a standard error that several goroutines may write to.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func open(t *testing.T, cfg Config) *Logs {
	t.Helper()
	if cfg.Stderr == nil {
		cfg.Stderr = io.Discard
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestALineHasTimeLevelComponentMessageThenAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		l := open(t, Config{Stderr: &out})
		log := l.Logger("Queue").With("id", "01x", slog.Group("next", "hop", "mx1 [192.0.2.1]:25"))
		log.WithGroup("g").Info("delivered", "took", 1500*time.Millisecond, "n", 3, "ok", true, "cause", errors.New(`no "way"`),
			"client", netip.MustParseAddrPort("[::1]:25"), "empty", "")
		must(t, l.Flush())
		want := time.Now().Format(timeLayout) + ` info Queue delivered id=01x next.hop="mx1 [192.0.2.1]:25"` +
			` g.took=1.5s g.n=3 g.ok=true g.cause="no \"way\"" g.client=[::1]:25 g.empty=""` + "\n"
		if got := out.String(); got != want {
			t.Errorf("got  %swant %s", got, want)
		}
	})
}

func TestHostileValuesStayOnOneLine(t *testing.T) {
	hostile := []string{
		"a\r\nb", "a\nDATE info Queue forged id=1", "\x1b[2J\x1b[31mred", "nul\x00", "tab\t", "\u2028line\u2029", "rtl\u202egnp.exe",
		"\x7f", "\xff\xfe", "a b", `q"q`, "k=v", "\u0085next", "back\\slash",
	}
	for _, format := range []Format{FormatText, FormatJSON} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir, Format: format})
		for _, s := range hostile {
			l.Logger("SMTP-Proxy").Info("helo "+s, "helo", s, "any", fmt.Errorf("x: %s", s), "bytes", []byte(s))
		}
		must(t, l.Close())
		lines := strings.Split(strings.TrimSuffix(read(t, dir, MailFile), "\n"), "\n")
		if len(lines) != len(hostile) {
			t.Fatalf("%s: %d lines for %d records", format, len(lines), len(hostile))
		}
		for i, line := range lines {
			for _, r := range line {
				// JSON keeps U+202E and DEL as they are; its readers unescape anyway.
				if unicode.IsControl(r) && r != 0x7f && r != 0x85 || r == '\u2028' || format == FormatText && !unicode.IsPrint(r) {
					t.Errorf("%s: %q went into the log as %q", format, hostile[i], line)
				}
			}
		}
	}
}

func TestLongValuesAreCutAndSecretsLeftOut(t *testing.T) {
	for _, format := range []Format{FormatText, FormatJSON} {
		dir := t.TempDir()
		l := open(t, Config{Dir: dir, MaxValue: 11, Format: format})
		l.Logger("X").Info("m", "long", strings.Repeat("é", 1000), "any", errors.New(strings.Repeat("z", 5000)),
			"password", "hunter2", "Authorization", "Basic abc", slog.Group("g", "token", "t0k"))
		must(t, l.Close())
		got := read(t, dir, MailFile)
		if !strings.Contains(got, "ééééé…(+1990 bytes)") || !strings.Contains(got, "zzzzzzzzzzz…(+4989 bytes)") {
			t.Errorf("values are not cut: %s", got)
		}
		for _, secret := range []string{"hunter2", "Basic", "t0k"} {
			if strings.Contains(got, secret) {
				t.Errorf("%q stands in the log: %s", secret, got)
			}
		}
	}
}

func TestJSONHandlerKeepsTheRulesOfSlog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, Format: FormatJSON, Level: slog.LevelDebug})
	results := func() []map[string]any {
		must(t, l.Flush())
		var all []map[string]any
		for line := range strings.Lines(read(t, dir, MailFile)) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if m["component"] != "Test" {
				t.Errorf("no component: %s", line)
			}
			all = append(all, m)
		}
		return all
	}
	if err := slogtest.TestHandler(l.Logger("Test").Handler(), results); err != nil {
		t.Error(err)
	}
}

func TestTextHandlerKeepsTheRulesOfSlog(t *testing.T) {
	record := func(fn func(*slog.Logger)) string {
		var out buffer
		l := open(t, Config{Stderr: &out})
		fn(l.Logger("T"))
		must(t, l.Flush())
		_, rest, _ := strings.Cut(out.String(), " info T ")
		return strings.TrimSuffix(rest, "\n")
	}
	for _, c := range []struct {
		name, want string
		fn         func(*slog.Logger)
	}{
		{"groups qualify keys", "m a=b G.c=d G.H.e=f", func(l *slog.Logger) {
			l.With("a", "b").WithGroup("G").With("c", "d").WithGroup("H").Info("m", "e", "f")
		}},
		{"a group without a key is inlined", "m a=b c=d", func(l *slog.Logger) { l.Info("m", "a", "b", slog.Group("", "c", "d")) }},
		{"an empty group is left out", "m a=b", func(l *slog.Logger) { l.Info("m", "a", "b", slog.Group("G")) }},
		{"an empty attribute is left out", "m a=b", func(l *slog.Logger) { l.Info("m", "a", "b", slog.Attr{}) }},
		{"a LogValuer is resolved", "m k=replaced", func(l *slog.Logger) { l.Info("m", "k", valuer{"replaced"}) }},
		{"a method that panics costs the value only", `m k="!PANIC: no" z=1`, func(l *slog.Logger) { l.Info("m", "k", panics{}, "z", 1) }},
		{"two children of one logger do not share", "m a=1 c=3", func(l *slog.Logger) {
			parent := l.With("a", 1)
			child := parent.With("c", 3)
			parent.With("b", 2)
			child.Info("m")
		}},
	} {
		if got := record(c.fn); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

type valuer struct{ v any }

func (v valuer) LogValue() slog.Value { return slog.AnyValue(v.v) }

type panics struct{}

func (panics) Error() string { panic("no") }

func TestLinesAreWrittenWithinTheFlushTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out buffer
		l := open(t, Config{Stderr: &out})
		log := l.Logger("Queue")
		log.Info("one")
		time.Sleep(199 * time.Millisecond)
		log.Info("two")
		synctest.Wait()
		if out.String() != "" {
			t.Error("written before the flush time: lines are not gathered")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := strings.Count(out.String(), "\n"); got != 2 {
			t.Errorf("%d lines after the flush time, want 2", got)
		}
	})
}

func TestLevelAndFormatChangeUnderLoggersInUse(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	log := l.Logger("Spool").With("k", "v")
	log.Debug("hidden")
	must(t, l.Reload(Config{Dir: dir, Level: slog.LevelDebug, Format: FormatJSON}))
	log.Debug("shown")
	must(t, l.Reload(Config{Dir: dir, Level: slog.LevelError, Format: FormatJSON}))
	log.Warn("hidden again")
	must(t, l.Close())
	got := read(t, dir, MailFile)
	if strings.Contains(got, "hidden") || !strings.Contains(got, `"level":"debug","msg":"shown","component":"Spool","k":"v"}`) {
		t.Error(got)
	}
}

func TestReloadMovesTheFilesOrChangesNothing(t *testing.T) {
	first, second := t.TempDir(), filepath.Join(t.TempDir(), "new")
	l := open(t, Config{Dir: first})
	log := l.Logger("Admin")
	log.Info("one")
	if err := l.Reload(Config{Dir: filepath.Join(first, MailFile), Level: slog.LevelDebug}); err == nil {
		t.Fatal("a file was taken for a directory")
	}
	log.Debug("hidden")
	log.Info("two")
	must(t, l.Reload(Config{Dir: second}))
	log.Info("three")
	must(t, l.Close())
	if got := read(t, first, MailFile); strings.Count(got, "\n") != 2 || strings.Contains(got, "hidden") {
		t.Errorf("first: %s", got)
	}
	if got := read(t, second, MailFile); !strings.Contains(got, "three") {
		t.Errorf("second: %s", got)
	}
}

func TestFilesRotateBySizeAndTheDiskIsBounded(t *testing.T) {
	dir := t.TempDir()
	const maxSize, backups = 20_000, 3
	l := open(t, Config{Dir: dir, MaxSize: maxSize, Backups: backups})
	log := l.Logger("SMTP-Proxy")
	for i := range 5_000 {
		log.Info("rejected", "n", i, "client", "192.0.2.1")
		if i%500 == 0 {
			must(t, l.Flush())
		}
	}
	must(t, l.Close())
	files, err := filepath.Glob(filepath.Join(dir, MailFile+"*"))
	must(t, err)
	if len(files) != backups+1 {
		t.Fatalf("files: %v", files)
	}
	next := 5_000
	for _, name := range []string{MailFile, MailFile + ".1", MailFile + ".2", MailFile + ".3"} {
		content := read(t, dir, name)
		if len(content) > maxSize {
			t.Errorf("%s has %d bytes, limit %d", name, len(content), maxSize)
		}
		lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
		for i := len(lines) - 1; i >= 0; i-- {
			next--
			if !strings.Contains(lines[i], fmt.Sprintf(" n=%d ", next)) {
				t.Fatalf("%s: line %d is %q, want n=%d", name, i, lines[i], next)
			}
		}
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

func TestReopenFollowsLogrotate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, MailFile)
	l := open(t, Config{Dir: dir})
	log := l.Logger("Queue")
	log.Info("before")
	must(t, l.Flush())
	must(t, os.Rename(path, path+"-20260102"))
	log.Info("between")
	must(t, l.Reopen())
	log.Info("after")
	must(t, l.Close())
	if old, now := read(t, path+"-20260102"), read(t, path); !strings.Contains(old, "before") || !strings.Contains(old, "between") || !strings.Contains(now, "after") {
		t.Errorf("old: %s\nnow: %s", old, now)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestATornLastLineIsEndedAtOpen(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, MailFile), []byte("whole\nhalf a li"), 0o600))
	l := open(t, Config{Dir: dir})
	l.Logger("Queue").Info("next")
	must(t, l.Close())
	if got := read(t, dir, MailFile); !strings.HasPrefix(got, "whole\nhalf a li\n20") {
		t.Errorf("%q", got)
	}
}

func TestAFileThatCannotBeRotatedDoesNotGrow(t *testing.T) {
	dir := t.TempDir()
	// A directory with a file in it stands in the way of the backup.
	must(t, os.MkdirAll(filepath.Join(dir, MailFile+".1", "x"), 0o700))
	l := open(t, Config{Dir: dir, MaxSize: 1000, Backups: 1, Buffer: 2000})
	log := l.Logger("Queue")
	for range 200 {
		log.Info("a line of the flood")
	}
	if err := l.Close(); err == nil {
		t.Error("nobody was told")
	}
	if got := len(read(t, dir, MailFile)); got > 1000 {
		t.Errorf("file has %d bytes", got)
	}
	if l.Dropped() == 0 {
		t.Error("lost lines were not counted")
	}
}

func TestEveryLineOfManyWritersArrivesOnce(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, MaxSize: 30_000, Backups: 1000})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			log := l.Logger("T").With("w", w)
			for i := range 500 {
				log.Info("m", "i", i)
			}
		})
	}
	for range 5 {
		must(t, l.Reopen())
	}
	wg.Wait()
	must(t, l.Close())
	seen := map[string]int{}
	files, err := filepath.Glob(filepath.Join(dir, MailFile+"*"))
	must(t, err)
	for _, f := range files {
		for line := range strings.Lines(read(t, f)) {
			_, rest, _ := strings.Cut(line, " info T m ")
			seen[rest]++
		}
	}
	if len(seen) != 4000 || l.Dropped() != 0 {
		t.Errorf("%d distinct lines, %d dropped", len(seen), l.Dropped())
	}
}

func TestTheLogIsNotOpenedWhereItCannotBe(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, smtpProxyFile), 0o700))
	if l, err := Open(Config{Dir: dir}); err == nil {
		l.Close()
		t.Error("a directory was taken for a log file")
	}
}

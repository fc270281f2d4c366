package route

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of these tests is synctest's; the times of files are set to match.
func fileTable(t *testing.T, text string) (*Table, string, *bytes.Buffer) {
	t.Helper()
	path := writeList(t, text)
	setTime(t, path)
	var log bytes.Buffer
	table := newTable(t, Config{
		Hostname: "gw.example", CheckInterval: 10 * time.Second, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Domains: []Domain{{Name: "in.example", Transport: "exchange", RecipientFiles: []string{path}}},
	})
	return table, path, &log
}

func setTime(t *testing.T, path string) {
	t.Helper()
	if err := os.Chtimes(path, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
}

// replace replaces the file in one step: the system's clock, by which a file
// would look long settled here, must not show.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	setTime(t, path+".new")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func wantKnown(t *testing.T, table *Table, user string, known bool) {
	t.Helper()
	want := "550 5.1.1"
	if known {
		want = "exchange"
	}
	if got := rcpt(t, table, "inbound", stranger, "<"+user+"@in.example>"); got != want {
		t.Errorf("%s: got %s, want %s", user, got, want)
	}
}

func TestAChangedFileIsReadAgainWithinTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, path, log := fileTable(t, "anna\n")
		wantKnown(t, table, "anna", true)
		time.Sleep(time.Second)
		replace(t, path, "bert\n")
		time.Sleep(5 * time.Second)
		wantKnown(t, table, "bert", false)
		time.Sleep(6 * time.Second)
		wantKnown(t, table, "bert", true)
		wantKnown(t, table, "anna", false)
		if !strings.Contains(log.String(), "recipients read") {
			t.Errorf("the log says nothing of it: %s", log)
		}
	})
}

func TestAFileThatIsBeingWrittenIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, path, _ := fileTable(t, "anna\nbert\n")
		time.Sleep(time.Minute)
		replace(t, path, "ann") // so far
		wantKnown(t, table, "anna", true)
		time.Sleep(11 * time.Second)
		wantKnown(t, table, "anna", false)
	})
}

func TestTheLastGoodListStays(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"the file is gone": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"the file has a bad line": func(t *testing.T, path string) { replace(t, path, "bert\nnot an address\n") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table, path, log := fileTable(t, "anna\n")
				spoil(t, path)
				for range 3 {
					time.Sleep(11 * time.Second)
					wantKnown(t, table, "anna", true)
					wantKnown(t, table, "bert", false)
				}
				if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
					t.Errorf("the log has %d errors, want one: %s", n, log)
				}
				replace(t, path, "bert\n")
				time.Sleep(11 * time.Second)
				wantKnown(t, table, "bert", true)
			})
		})
	}
}

func TestManySessionsWhileTheFileChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table, path, _ := fileTable(t, "anna\n")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					wantKnown(t, table, "anna", true)
					time.Sleep(3 * time.Second)
				}
			})
		}
		wg.Go(func() {
			for i := range 10 {
				replace(t, path, "anna\n"+strings.Repeat("x", i+1)+"\n")
				time.Sleep(15 * time.Second)
			}
		})
		wg.Wait()
	})
}

package store_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/store"
	"gatepost/internal/store/storetest"
)

func TestSQLiteFileIsForItsOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := (&storetest.Database{Dir: dir}).Open(t)
	if err := s.SetSetting(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 3 {
		t.Fatalf("files: %q, %v", files, err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", f, info.Mode(), err)
		}
	}
}

func TestSQLiteFileThatIsNone(t *testing.T) {
	t.Run("text", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "records.db"), []byte(strings.Repeat("not a database\n", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.Open(t.Context(), store.Options{Dir: dir})
		if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "records.db") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a damaged page", func(t *testing.T) {
		dir := t.TempDir()
		s, err := store.Open(t.Context(), store.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		m, body := storetest.Message("a@example.net", "", 10, "b@example.com")
		if err := errors.Join(s.PutQuarantined(t.Context(), m, body), s.Close()); err != nil {
			t.Fatal(err)
		}
		damage(t, filepath.Join(dir, "records.db"))
		s, err = store.Open(t.Context(), store.Options{Dir: dir})
		if err == nil {
			defer s.Close()
			_, err = s.Quarantined(t.Context(), m.ID)
			if health := s.Health(); !errors.Is(health, store.ErrDamaged) {
				t.Errorf("health is %v", health)
			}
		}
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a directory that is not there", func(t *testing.T) {
		if _, err := store.Open(t.Context(), store.Options{Dir: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

// damage overwrites all pages of a database but the first, which has the schema.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	for at := int64(page); at < info.Size(); at += page {
		// The type of page that it begins with does not exist.
		if _, err := f.WriteAt([]byte(strings.Repeat("\xee", 100)), at); err != nil {
			t.Fatal(err)
		}
	}
}

// childEnv tells the test binary that it is the process that gets killed.
const childEnv = "GATEPOST_STORE_TEST_CHILD"

// child puts messages into the store in dir until it is killed, and prints the ID
// of each one that is durable.
func child(dir string) {
	s, err := store.Open(context.Background(), store.Options{Dir: dir})
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 4 {
		wg.Go(func() {
			for size := 1000; ; size = 1000 + (size+400_000)%2_000_000 {
				m, body := storetest.Message("a@example.net", "killed", size, "bob@example.com")
				if err := s.PutQuarantined(context.Background(), m, body); err != nil {
					println(err.Error())
					os.Exit(1)
				}
				mu.Lock()
				os.Stdout.WriteString(m.ID.String() + "\n")
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestSQLiteSurvivesTheDeathOfTheProcess(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var ids []mail.ID
	for lines.Scan() {
		id, err := mail.ParseID(lines.Text())
		if err != nil {
			break // cut off by the kill
		}
		if ids = append(ids, id); len(ids) == 20 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd.Wait() // killed
	if len(ids) < 20 {
		t.Fatalf("only %d messages were stored", len(ids))
	}
	s := (&storetest.Database{Dir: dir}).Open(t)
	for _, id := range ids {
		m, err := s.Quarantined(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		checkStored(t, s, id, int(m.Size))
	}
	// What was not acknowledged is there as a whole or not at all.
	found, _, err := s.FindQuarantined(t.Context(), store.QuarantineQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range found {
		checkStored(t, s, m.ID, int(m.Size))
	}
}

func TestSQLiteFileThatIsRemovedWhileItIsInUseTakesNothingMore(t *testing.T) {
	for name, replace := range map[string]bool{"removed": false, "replaced": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "records.db")
			s, err := store.Open(t.Context(), store.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			kept := path + ".kept"
			if err := os.Rename(path, kept); err != nil {
				t.Fatal(err)
			}
			if replace {
				if err := os.WriteFile(path, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, body := storetest.Message("a@example.net", "", 10, "b@example.com")
			// It is looked at once a second.
			for err = s.PutQuarantined(t.Context(), m, body); err == nil; {
				m.ID = mail.NewID()
				m.Envelope.ID = m.ID
				err = s.PutQuarantined(t.Context(), m, body)
			}
			if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "records.db was removed or replaced") || s.Health() == nil {
				t.Errorf("got %v, health %v", err, s.Health())
			}
			if err := os.Rename(kept, path); err != nil {
				t.Fatal(err)
			}
			for err = s.Health(); err != nil; err = s.Health() {
				runtime.Gosched()
			}
			if err := s.PutQuarantined(t.Context(), m, body); err != nil {
				t.Errorf("after it was put back: %v", err)
			}
		})
	}
}

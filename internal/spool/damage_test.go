package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// overwrite puts raw bytes under a key, as damage would.
func overwrite(t *testing.T, s *Spool, key []byte, change func([]byte) []byte) {
	t.Helper()
	v, err := s.get(key)
	noError(t, err)
	noError(t, s.db.Set(key, change(v), pebble.Sync))
}

func flip(v []byte) []byte {
	for i := len(v) / 2; i < min(len(v)/2+16, len(v)); i++ {
		v[i] ^= 0x55
	}
	return v
}

func asideKeys(t *testing.T, s *Spool) []string {
	t.Helper()
	all, err := s.SetAside()
	noError(t, err)
	var keys []string
	for _, d := range all {
		if d.Reason == "" || d.Time.IsZero() {
			t.Errorf("incomplete report %+v", d)
		}
		keys = append(keys, d.Key)
	}
	return keys
}

func TestADamagedRecordStopsNothingButItself(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	var ids []mail.ID
	for range 6 {
		ids = append(ids, put(t, s, testBody(2000), 1))
	}
	q := func(i int) mail.QueueID { return mail.QueueID{Message: ids[i], N: 1} }
	var body [bodyKeyLen]byte
	putBodyKey(body[:], ids[0], 0)
	overwrite(t, s, body[:], func([]byte) []byte { return nil })
	overwrite(t, s, msgKey(famEnvelope, ids[1]), func(v []byte) []byte { return v[:len(v)/2] })
	overwrite(t, s, itemKey(famItem, q(2)), flip)
	overwrite(t, s, itemKey(famSchedule, q(3)), flip)
	overwrite(t, s, itemKey(famItem, q(4)), flip)
	overwrite(t, s, itemKey(famSchedule, q(4)), flip)
	noError(t, s.Close())

	s = openTest(t, memOptions(fs))
	found := scanAll(t, s)
	for i := range ids {
		if _, ok := found[q(i)]; ok != (i != 4) {
			t.Errorf("Scan finds item %d: %v", i, ok)
		}
	}
	if e := found[q(3)]; e.Dest.Transport != "exchange" || !e.NextAttempt.Equal(testItem(ids[3], 1).NextAttempt) {
		t.Errorf("rebuilt entry is %+v", e)
	}
	var walked []mail.ID
	noError(t, s.Walk(mail.QueueID{}, func(it *mail.QueueItem, env *mail.Envelope) (bool, error) {
		walked = append(walked, it.ID.Message)
		return true, nil
	}))
	want := []mail.ID{ids[0], ids[3], ids[5]}
	if fmt.Sprint(sortIDs(walked)) != fmt.Sprint(sortIDs(want)) {
		t.Errorf("Walk finds %v, want %v", walked, want)
	}
	b, err := s.Body(ids[0])
	noError(t, err)
	if _, err := readBody(b); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged body reads as %v", err)
	}
	if _, err := s.Envelope(ids[1]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged envelope reads as %v", err)
	}
	if _, err := s.Item(q(2)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged item reads as %v", err)
	}
	keys := strings.Join(asideKeys(t, s), "; ")
	for _, want := range []string{
		"body " + ids[0].String() + " chunk 0", "envelope " + ids[1].String(), "item " + q(2).String(),
		"schedule " + q(3).String(), "item " + q(4).String(), "schedule " + q(4).String(), "message " + ids[4].String(),
	} {
		if !strings.Contains(keys, want) {
			t.Errorf("%s is not named in %s", want, keys)
		}
	}
	storedBody(t, s, ids[5])
	noError(t, s.Done(q(5)))
	noError(t, s.Done(q(3)))
}

func TestAMessageThatIsPutAsideIsKeptForTheAdministrator(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	data := testBody(chunkSize + 100)
	id := put(t, s, data, 2)
	noError(t, s.PutAside(id, "a test"))
	if len(scanAll(t, s)) != 0 {
		t.Error("its items are still there")
	}
	all, err := s.SetAside()
	noError(t, err)
	if len(all) != 1 || all[0].Key != "message "+id.String() || all[0].Reason != "a test" {
		t.Fatalf("SetAside = %+v", all)
	}
	got, err := readFile(fs, "/spool/corrupt/"+all[0].File)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the body that was kept has %d bytes, %v", len(got), err)
	}
	noError(t, s.Close())
	s = openTest(t, memOptions(fs))
	if keys := allKeys(t, s); len(keys) != 1 {
		t.Errorf("left behind: %v", keys)
	}
	if len(asideKeys(t, s)) != 1 {
		t.Error("the report did not survive a restart")
	}
}

// fill commits messages of several sizes, so that tables hold all kinds of blocks.
func fill(t *testing.T, s *Spool, m *model, n int) {
	t.Helper()
	for i := range n {
		size := 500 + 997*i%9000
		if i == 7 {
			size = chunkSize + 300
		}
		_, err := m.commit(s, testBody(size), 1+i%2)
		noError(t, err)
	}
}

// filesOf lists the files in a directory whose names end so.
func filesOf(t *testing.T, fs vfs.FS, dir, suffix string) []string {
	t.Helper()
	names, err := fs.List(dir)
	noError(t, err)
	var out []string
	for _, n := range names {
		if strings.HasSuffix(n, suffix) || strings.HasPrefix(n, suffix) {
			out = append(out, fs.PathJoin(dir, n))
		}
	}
	return out
}

// copyWith copies a file system, changing one file.
func copyWith(t *testing.T, src *vfs.MemFS, name string, change func([]byte) []byte) *vfs.MemFS {
	t.Helper()
	dst := vfs.NewMem()
	_, err := vfs.Clone(src, dst, "/spool", "/spool")
	noError(t, err)
	data, err := readFile(dst, name)
	noError(t, err)
	f, err := dst.Create(name, vfs.WriteCategoryUnspecified)
	noError(t, err)
	_, err = f.Write(change(data))
	noError(t, err)
	noError(t, f.Close())
	return dst
}

// survivors opens a damaged spool, reads whatever can be read and counts the
// messages that are whole. It fails the test when the damage stops anything.
func survivors(t *testing.T, fs vfs.FS, known map[mail.ID]fate, what string) (whole int) {
	t.Helper()
	o := memOptions(fs)
	o.retryPause = time.Millisecond
	s, err := Open(o)
	if err != nil {
		t.Errorf("%s: open: %v", what, err)
		return 0
	}
	defer s.Close()
	entries := make(map[mail.ID]int)
	if err := s.Scan(func(e Entry) error { entries[e.ID.Message]++; return nil }); err != nil {
		t.Errorf("%s: scan: %v", what, err)
	}
	walked := make(map[mail.ID]int)
	err = s.Walk(mail.QueueID{}, func(it *mail.QueueItem, env *mail.Envelope) (bool, error) {
		walked[it.ID.Message]++
		return true, nil
	})
	if err != nil {
		t.Errorf("%s: walk: %v", what, err)
	}
	for id, f := range known {
		if entries[id] != f.items || walked[id] != f.items {
			continue
		}
		b, err := s.Body(id)
		if err != nil {
			continue
		}
		if data, err := readBody(b); err == nil {
			if sum(data) != f.body {
				t.Errorf("%s: body differs", what)
			}
			whole++
		}
	}
	if err := tryPut(s, mail.NewID(), testBody(10), 1); err != nil {
		t.Errorf("%s: new mail is refused: %v", what, err)
	}
	if whole < len(known) {
		// Reports about tables are filed by the keeper; Close waits for it.
		noError(t, s.Close())
		s2, err := Open(o)
		noError(t, err)
		defer s2.Close()
		if len(asideKeys(t, s2)) == 0 {
			t.Errorf("%s: %d of %d messages are gone and nothing is named", what, len(known)-whole, len(known))
		}
	}
	return whole
}

func TestADamagedTableStopsNothingButWhatItHolds(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	m := newModel()
	fill(t, s, m, 60)
	if !s.flush(t.Context()) {
		t.Fatal("no flush")
	}
	noError(t, s.Close())
	known := m.snapshot()
	tables := filesOf(t, fs, "/spool", ".sst")
	if len(tables) == 0 {
		t.Fatal("no tables")
	}
	for _, table := range tables {
		data, err := readFile(fs, table)
		noError(t, err)
		const points = 10
		step := max(len(data)/points, 1)
		total := 0
		for at := 0; at < len(data); at += step {
			bad := copyWith(t, fs, table, func(b []byte) []byte {
				for i := at; i < min(at+16, len(b)); i++ {
					b[i] ^= 0x55
				}
				return b
			})
			total += survivors(t, bad, known, fmt.Sprintf("%s, flipped at %d of %d", table, at, len(data)))
		}
		t.Logf("%s: on average %d of %d messages survive 16 flipped bytes", table, total/points, len(known))
		for _, n := range []int{0, 10, len(data) / 2, len(data) - 1} {
			cut := copyWith(t, fs, table, func(b []byte) []byte { return b[:n] })
			survivors(t, cut, known, fmt.Sprintf("%s, cut to %d", table, n))
		}
		gone := copyWith(t, fs, table, func(b []byte) []byte { return b })
		noError(t, gone.Remove(table))
		survivors(t, gone, known, table+" missing")
	}
}

func TestADamagedManifestIsAnErrorAndNeverALoss(t *testing.T) {
	fs := vfs.NewMem()
	s := openTest(t, memOptions(fs))
	m := newModel()
	for range 3 {
		fill(t, s, m, 10)
		if !s.flush(t.Context()) {
			t.Fatal("no flush")
		}
	}
	noError(t, s.Close())
	known := m.snapshot()
	desc, err := pebble.Peek("/spool", fs)
	noError(t, err)
	name := desc.ManifestFilename
	data, err := readFile(fs, name)
	noError(t, err)
	check := func(what string, bad *vfs.MemFS) {
		t.Helper()
		before := len(filesOf(t, bad, "/spool", ".sst"))
		s, err := Open(memOptions(bad))
		if err == nil {
			err := verifyOpen(s, known, true)
			aside, aerr := s.SetAside()
			if err != nil && len(aside) == 0 {
				t.Errorf("%s: opened, but %v", what, err)
			}
			noError(t, errors.Join(aerr, s.Close()))
			return
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", what, err)
		}
		if n := len(filesOf(t, bad, "/spool", ".sst")); n < before {
			t.Errorf("%s: %d tables were removed", what, before-n)
		}
	}
	for at := range data {
		check(fmt.Sprintf("byte %d of %d flipped", at, len(data)), copyWith(t, fs, name, func(b []byte) []byte {
			b[at] ^= 0x10
			return b
		}))
	}
	check("emptied", copyWith(t, fs, name, func([]byte) []byte { return nil }))
	gone := copyWith(t, fs, name, func(b []byte) []byte { return b })
	noError(t, gone.Remove(name))
	if _, err := Open(memOptions(gone)); err == nil || !strings.Contains(err.Error(), "Copy the whole directory") {
		t.Errorf("missing manifest: %v", err)
	}
}

func TestForeignFilesAreLeftAloneAndLinksNotFollowed(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: filepath.Join(dir, "spool")}
	s := openTest(t, o)
	id := put(t, s, testBody(100), 1)
	noError(t, s.Close())
	victim := filepath.Join(dir, "victim")
	noError(t, os.WriteFile(victim, []byte("precious"), 0o644))
	for _, name := range []string{"foo", "wal/foo", "foo.sst", "wal/x.log"} {
		noError(t, os.WriteFile(filepath.Join(o.Dir, name), []byte("junk"), 0o600))
	}
	noError(t, os.Mkdir(filepath.Join(o.Dir, "directory"), 0o700))
	for _, name := range []string{"link", "wal/link", "000999.sst", "wal/000998.txt"} {
		noError(t, os.Symlink(victim, filepath.Join(o.Dir, name)))
	}
	s = openTest(t, o)
	storedBody(t, s, id)
	put(t, s, testBody(100), 1)
	noError(t, s.Close())
	got, err := os.ReadFile(victim)
	if err != nil || string(got) != "precious" {
		t.Errorf("a link was followed: %q, %v", got, err)
	}
	for _, name := range []string{"foo", "wal/foo", "directory", "link"} {
		if _, err := os.Lstat(filepath.Join(o.Dir, name)); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
	}
	noError(t, os.Remove(filepath.Join(o.Dir, "LOCK")))
	noError(t, os.Symlink(victim, filepath.Join(o.Dir, "LOCK")))
	if _, err := Open(withDefaults(t, o)); err == nil {
		t.Error("a lock that is a link was followed")
	}
	if got, _ := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("the lock's link was followed: %q", got)
	}
}

func sortIDs(ids []mail.ID) []mail.ID {
	out := append([]mail.ID(nil), ids...)
	for i := range out {
		for j := range i {
			if bytes.Compare(out[i][:], out[j][:]) < 0 {
				out[i], out[j] = out[j], out[i]
			}
		}
	}
	return out
}

package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gatepost/internal/mail"
)

// Damaged names something that was found damaged.
type Damaged struct {
	// Key says what it is: "item ID:n", "body ID chunk 3", "table 000123.sst".
	Key    string    `json:"key"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
	// File holds the bytes as they were found, in Dir/corrupt; "" where they
	// could not be read.
	File string `json:"file,omitempty"`
}

// maxNoted bounds how many damages are remembered so that they are reported once.
const maxNoted = 10000

// aside is the directory of what was found damaged: for each case a .json that
// names it, and the raw bytes beside it.
type aside struct {
	fs      vfs.FS
	dir     string
	log     *slog.Logger
	reports chan report // from Pebble's goroutines to the keeper

	mu    sync.Mutex
	noted map[string]bool
}

// report is a damage that Pebble met; path is the file.
type report struct {
	d    Damaged
	path string
}

func (a *aside) init(fs vfs.FS, dir string, log *slog.Logger) {
	a.fs, a.dir, a.log = fs, dir, log
	a.reports = make(chan report, 64)
	a.noted = make(map[string]bool)
}

// note says whether the damage is new, and remembers it.
func (a *aside) note(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.noted[key] {
		return false
	}
	if len(a.noted) < maxNoted {
		a.noted[key] = true
	}
	return true
}

// setAside keeps the raw bytes of a damaged record and names it, once.
func (s *Spool) setAside(key, raw []byte, cause error) {
	name := keyName(key)
	if !s.aside.note(name) {
		return
	}
	s.o.Log.Error("spool: damaged record", "key", name, "error", cause.Error())
	d := Damaged{Key: name, Reason: cause.Error(), Time: time.Now().UTC()}
	if err := s.aside.keep(d, raw); err != nil {
		s.o.Log.Error("spool: cannot keep a damaged record", "key", name, "error", err.Error())
	}
}

// onDataCorruption is called by Pebble when a table file can't be read. Pebble may
// hold locks, so the report is filed by the keeper.
func (s *Spool) onDataCorruption(i pebble.DataCorruptionInfo) {
	s.guard.bad.learn(i)
	name := "table " + s.o.FS.PathBase(i.Path)
	if s.aside.note(name) {
		s.o.Log.Error("spool: damaged table file; what it held cannot be read", "file", i.Path, "error", i.Details.Error())
		d := Damaged{Key: name, Reason: i.Details.Error(), Time: time.Now().UTC()}
		select {
		case s.aside.reports <- report{d, i.Path}:
		default:
		}
	}
	s.h.damagePause()
}

// keepTable files a table that Pebble removes because a torn manifest does not
// name it.
func (s *Spool) keepTable(path string) {
	d := Damaged{
		Key:    "table " + s.o.FS.PathBase(path),
		Reason: "the last record of the manifest is torn and may have named this table; it may hold mail",
		Time:   time.Now().UTC(),
	}
	s.o.Log.Error("spool: the end of the manifest is torn; a table that it does not name is kept", "file", path)
	s.aside.file(report{d, path})
}

// file writes a report and keeps the file it is about.
func (a *aside) file(r report) {
	d := r.d
	d.File = a.fs.PathBase(r.path)
	err := makeDir(a.fs, a.dir)
	if err == nil {
		err = a.fs.Link(r.path, a.fs.PathJoin(a.dir, d.File))
	}
	if err != nil {
		d.File = ""
	}
	if err := a.keep(d, nil); err != nil {
		a.log.Error("spool: cannot file a report of damage", "key", d.Key, "error", err.Error())
	}
}

// fileName turns the name of a key into that of a file.
func fileName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.':
			return r
		}
		return '-'
	}, key)
}

// keep writes the report and, where there are any, the raw bytes.
func (a *aside) keep(d Damaged, raw []byte) error {
	if err := makeDir(a.fs, a.dir); err != nil {
		return err
	}
	base := fileName(d.Key)
	if raw != nil {
		d.File = base + ".raw"
		if err := a.write(d.File, raw); err != nil {
			return err
		}
	}
	js, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return a.write(base+".json", js)
}

// write makes a file of Dir/corrupt durable.
func (a *aside) write(name string, data []byte) error {
	f, err := a.fs.Create(a.fs.PathJoin(a.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return a.syncDir()
}

func (a *aside) syncDir() error {
	d, err := a.fs.OpenDir(a.dir)
	if err != nil {
		return fmt.Errorf("open directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// SetAside lists what was found damaged, now or in earlier runs, until an
// administrator removes the files.
func (s *Spool) SetAside() ([]Damaged, error) {
	names, err := s.aside.fs.List(s.aside.dir)
	if err != nil {
		if _, serr := s.aside.fs.Stat(s.aside.dir); serr != nil {
			return nil, nil // never had to be made
		}
		return nil, fmt.Errorf("list damaged records: %w", err)
	}
	var all []Damaged
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		d, err := s.aside.read(name)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	sortDamaged(all)
	return all, nil
}

func (a *aside) read(name string) (Damaged, error) {
	d := Damaged{Key: name, Reason: "the report itself cannot be read"}
	f, err := a.fs.Open(a.fs.PathJoin(a.dir, name))
	if err != nil {
		return d, fmt.Errorf("open report: %w", err)
	}
	defer f.Close()
	const most = 1 << 20
	js, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil {
		_ = json.Unmarshal(js, &d) // what can't be parsed is listed by its name
	}
	return d, nil
}

// PutAside takes a message with all its items out of the spool because it can
// not be used. What can be read of its records is kept in Dir/corrupt: the body
// as it is in a file of its own. The queue calls it on ErrCorrupt.
func (s *Spool) PutAside(id mail.ID, reason string) error {
	if err := s.h.enter(); err != nil {
		return err
	}
	defer s.h.leave()
	d := Damaged{Key: "message " + id.String(), Reason: reason, Time: time.Now().UTC()}
	s.o.Log.Error("spool: message is put aside", "id", id, "reason", reason)
	file, err := s.export(id)
	if err != nil {
		return fmt.Errorf("put message %s aside: %w", id, err)
	}
	d.File = file
	if err := s.aside.keep(d, nil); err != nil {
		return fmt.Errorf("put message %s aside: %w", id, err)
	}
	b := s.db.NewBatch()
	for _, fam := range []byte{famBody, famEnvelope, famItem, famMark, famSchedule} {
		start := msgKey(fam, id)
		if err := b.DeleteRange(start, prefixEnd(start), nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := s.unsynced(b); err != nil {
		return fmt.Errorf("put message %s aside: %w", id, err)
	}
	return nil
}

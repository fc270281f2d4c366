package change

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/config/edit"
)

// Config is what a Keeper needs; all but Log and the bounds is required.
type Config struct {
	// File is the configuration file, DataDir the gateway's own directory.
	File    string
	DataDir string
	// Reload has the gateway load the file. It must not call Loaded.
	Reload func(context.Context) error
	// InUse is the configuration that runs, NeedsRestart the keys of another that it
	// can't change to.
	InUse        func() *config.Config
	NeedsRestart func(next *config.Config) []string
	Log          *slog.Logger
	// Keep bounds the revisions, default 1000, KeepBytes their contents, default 256 MiB.
	Keep      int
	KeepBytes int64
}

// Keeper makes changes, one after the other.
type Keeper struct {
	cfg  Config
	dir  string   // of the configuration: relative paths begin there
	root *os.Root // the same
	mask *masker

	mu      sync.Mutex // one change at a time; guards what follows
	journal *journal
	running string // version of the text that is in use
	told    string // version on disk that the log has spoken of
}

// Open reads the revisions. The first Loaded after it tells what is in use.
func Open(cfg Config) (*Keeper, error) {
	if cfg.Keep <= 0 {
		cfg.Keep = 1000
	}
	if cfg.KeepBytes <= 0 {
		cfg.KeepBytes = 256 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	full, err := filepath.Abs(cfg.File)
	if err != nil {
		return nil, fmt.Errorf("find configuration: %w", err)
	}
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("find data_dir: %w", err)
	}
	k := &Keeper{cfg: cfg, dir: filepath.Dir(full), mask: newMasker()}
	k.cfg.File = full
	if k.journal, err = openJournal(filepath.Join(cfg.DataDir, "revisions"), cfg.Keep, cfg.KeepBytes); err != nil {
		return nil, err
	}
	if k.root, err = os.OpenRoot(k.dir); err != nil {
		return nil, fmt.Errorf("open directory of the configuration: %w", err)
	}
	return k, k.settle()
}

// Close lets go of the directory. It waits for nobody: a change that is under way may
// be waiting for who closes.
func (k *Keeper) Close() error { return k.root.Close() }

// settle finds out what became of changes that were under way when the last process
// ended: the file says it.
func (k *Keeper) settle() error {
	for _, r := range slices.Clone(k.journal.list) {
		if r.State != Begun {
			continue
		}
		done := true
		for _, f := range r.Files {
			c, err := k.current(f.Path, f.Secret)
			done = done && err == nil && (f.Secret || c.version == f.After)
		}
		if !done {
			// What it wrote, if anything, is found as a change by hand.
			if err := k.journal.drop(r.ID); err != nil {
				return err
			}
			continue
		}
		r.State = InUse // what starts now loads it
		if err := k.journal.put(r); err != nil {
			return err
		}
	}
	return os.RemoveAll(k.stageDir())
}

// current reads the configuration or a file that it names.
func (k *Keeper) current(path string, secret bool) (content, error) {
	if path == filepath.Base(k.cfg.File) {
		return k.readConfig()
	}
	return k.read(path, secret)
}

// Loaded tells that the gateway has just loaded the file for another reason than a
// change of this package. What was edited by hand becomes a revision.
func (k *Keeper) Loaded() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.readConfig()
	if err != nil {
		return err
	}
	k.running = c.version
	for i := range k.journal.list {
		if r := k.journal.list[i]; r.State == Waiting {
			r.State = InUse
			if err := k.journal.put(r); err != nil {
				return err
			}
		}
	}
	return k.note(c)
}

// note keeps what has changed by hand since the last revision; c is the configuration
// on disk, or empty where it is not to be looked at.
func (k *Keeper) note(c content) error {
	known := k.journal.last()
	r := Revision{ID: k.journal.next(), When: time.Now(), How: ByHand, State: InUse}
	if len(known) == 0 {
		r.How = First
	}
	add := func(path string, c content) error {
		before, seen := known[path]
		// A file that nobody has seen yet is no change, but for the record.
		if !c.exists || before == c.version || !seen && len(r.Files) == 0 && r.How != First {
			return nil
		}
		after, err := k.journal.keepText(c.text)
		r.Files = append(r.Files, FileChange{Path: path, Before: before, After: after})
		return err
	}
	var errs []error
	if c.exists {
		errs = append(errs, add(filepath.Base(k.cfg.File), c))
	}
	for _, f := range k.cfg.InUse().Files() {
		rel, why := k.inside(f.Path)
		if why != "" || f.Kind.Secret() || f.Kind == config.FileData {
			continue
		}
		if c, err := k.read(rel, false); err == nil {
			errs = append(errs, add(rel, c))
		}
	}
	if len(r.Files) == 0 {
		return errors.Join(errs...)
	}
	errs = append(errs, k.journal.put(r), k.journal.prune())
	return errors.Join(errs...)
}

// Watch looks every now and then for changes by hand until ctx ends: files that the
// gateway reads again by itself become revisions, and the log speaks of a configuration
// that nobody has loaded yet.
func (k *Keeper) Watch(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := k.look(); err != nil {
			k.cfg.Log.Warn("changes by hand cannot be looked for", "error", err)
		}
	}
}

func (k *Keeper) look() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.readConfig()
	if err != nil {
		return err
	}
	if c.version != k.running && c.version != k.told && k.waiting() == 0 {
		k.told = c.version
		k.cfg.Log.Info("the configuration was changed on disk and is not loaded yet", "config", k.cfg.File)
	}
	return k.note(content{})
}

// waiting is the revision that waits for a restart, 0 for none.
func (k *Keeper) waiting() int {
	for i := len(k.journal.list) - 1; i >= 0; i-- {
		if k.journal.list[i].State == Waiting {
			return k.journal.list[i].ID
		}
	}
	return 0
}

// Status tells how the file is.
func (k *Keeper) Status() (*Status, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.readConfig()
	if err != nil {
		return nil, err
	}
	s := &Status{File: k.cfg.File, Version: c.version, Text: k.mask.hide(kindConfig, c.text), Waiting: k.waiting(), Unloaded: c.version != k.running}
	if s.Unloaded {
		if old, err := k.journal.text(k.running); err == nil && k.running != "" {
			s.Diff = edit.Diff("in use", k.mask.hide(kindConfig, old), "on disk", s.Text)
		}
	}
	s.Writable = k.whyNot()
	return s, nil
}

// whyNot tries whether a file can be made beside the configuration.
func (k *Keeper) whyNot() string {
	name := tempName(".try")
	f, err := k.root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Sprintf("the gateway can't write to %s (%s): let its user write there, and under systemd add ReadWritePaths=%s", k.dir, cause(err), k.dir)
	}
	if err := errors.Join(f.Close(), k.root.Remove(name)); err != nil {
		return cause(err)
	}
	return ""
}

// Text is the configuration on disk with its secrets, for those who build on it inside
// of the gateway; it must not be shown.
func (k *Keeper) Text() (text, version string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.readConfig()
	return c.text, c.version, err
}

// Files lists the files that the configuration names.
func (k *Keeper) Files() ([]File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := []File{}
	for _, f := range k.onDisk().Files() {
		list = append(list, k.describe(f))
	}
	return list, nil
}

// File opens a file that the configuration names; a secret one has no text.
func (k *Keeper) File(path string) (*Opened, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, ok := k.named(k.onDisk(), path)
	if !ok {
		return nil, fmt.Errorf("the configuration names no such file: %w", ErrNotFound)
	}
	o := &Opened{File: k.describe(f)}
	if o.Elsewhere != "" || o.Secret || !o.Exists {
		return o, nil
	}
	c, err := k.read(o.Path, false)
	if err != nil {
		return nil, err
	}
	if err := checkText(o.Path, c.text); err != nil {
		o.Elsewhere = "it is no text: " + err.Error()
		return o, nil
	}
	o.Version, o.Text = c.version, k.mask.hide(f.Kind, c.text)
	return o, nil
}

// Revisions lists up to n of them, the newest first, below the number before (0: all).
func (k *Keeper) Revisions(before, n int) []Revision {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := []Revision{}
	for i := len(k.journal.list) - 1; i >= 0 && len(list) < n; i-- {
		if r := k.journal.list[i]; before <= 0 || r.ID < before {
			list = append(list, r)
		}
	}
	return list
}

// Revision returns one with what it changed.
func (k *Keeper) Revision(id int) (*Detail, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.journal.find(id)
	if r == nil {
		return nil, fmt.Errorf("revision %d: %w", id, ErrNotFound)
	}
	d := &Detail{Revision: *r}
	for _, f := range r.Files {
		if f.Secret {
			d.Diffs = append(d.Diffs, FileDiff{Path: f.Path, Secret: true})
			continue
		}
		before, err := k.journal.text(f.Before)
		if err != nil {
			return nil, err
		}
		after, err := k.journal.text(f.After)
		if err != nil {
			return nil, err
		}
		d.Diffs = append(d.Diffs, k.diff(f.Path, k.kindOf(f.Path), before, after))
	}
	return d, nil
}

// diff shows what changes in a text.
func (k *Keeper) diff(path string, kind config.FileKind, before, after string) FileDiff {
	return FileDiff{Path: path, Diff: edit.Diff("a/"+path, k.mask.hide(kind, before), "b/"+path, k.mask.hide(kind, after))}
}

// kindOf is the kind of a file, which says where its secrets are. Whether it is in use
// or not, a file that may hold passwords is taken for one.
func (k *Keeper) kindOf(path string) config.FileKind {
	if path == filepath.Base(k.cfg.File) {
		return kindConfig
	}
	for _, cfg := range []*config.Config{k.cfg.InUse(), k.onDisk()} {
		if f, ok := k.named(cfg, path); ok {
			return f.Kind
		}
	}
	return config.FileUsers
}

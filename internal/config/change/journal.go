package change

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// journal is the revisions in a directory: NUMBER.json for each, and contents by their
// versions in objects/. It is small enough to be read whole at the start. Its methods
// are called under the keeper's lock.
type journal struct {
	dir  string
	keep int
	// bytes bounds the contents; the newest revision stays in any case.
	bytes int64
	list  []Revision // oldest first
	// base are the versions of files after the revisions that were forgotten.
	base map[string]string
}

// baseName is the record of base; it is no revision by its name.
const baseName = "base"

const objectsDir = "objects"

// openJournal reads what is there. What is not a revision is left alone.
func openJournal(dir string, keep int, bytes int64) (*journal, error) {
	if err := os.MkdirAll(filepath.Join(dir, objectsDir), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of revisions: %w", err)
	}
	j := &journal{dir: dir, keep: keep, bytes: bytes, base: map[string]string{}}
	if text, err := os.ReadFile(filepath.Join(dir, baseName)); err == nil {
		if err := json.Unmarshal(text, &j.base); err != nil {
			return nil, fmt.Errorf("read base of revisions: %w", err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list revisions: %w", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read revision: %w", err)
		}
		var r Revision
		// A record that a crash has cut off is of a change that was not made.
		if json.Unmarshal(text, &r) == nil && r.ID > 0 && filepath.Base(name) == recordName(r.ID) {
			j.list = append(j.list, r)
		}
	}
	slices.SortFunc(j.list, func(a, b Revision) int { return a.ID - b.ID })
	return j, nil
}

func recordName(id int) string { return fmt.Sprintf("%08d.json", id) }

func (j *journal) next() int {
	if len(j.list) == 0 {
		return 1
	}
	return j.list[len(j.list)-1].ID + 1
}

// find returns a revision, nil for none.
func (j *journal) find(id int) *Revision {
	i, ok := slices.BinarySearchFunc(j.list, id, func(r Revision, id int) int { return r.ID - id })
	if !ok {
		return nil
	}
	return &j.list[i]
}

// put writes a revision, new or changed, durably.
func (j *journal) put(r Revision) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write revision: %w", err)
	}
	if err := writeDurably(filepath.Join(j.dir, recordName(r.ID)), append(text, '\n')); err != nil {
		return fmt.Errorf("write revision: %w", err)
	}
	if have := j.find(r.ID); have != nil {
		*have = r
		return nil
	}
	j.list = append(j.list, r)
	return nil
}

// drop removes a revision that did not come to be.
func (j *journal) drop(id int) error {
	j.list = slices.DeleteFunc(j.list, func(r Revision) bool { return r.ID == id })
	return os.Remove(filepath.Join(j.dir, recordName(id)))
}

// keepText stores a content and returns its version.
func (j *journal) keepText(text string) (string, error) {
	v := version(text)
	name := j.object(v)
	if _, err := os.Stat(name); err == nil {
		return v, nil
	}
	if err := writeDurably(name, []byte(text)); err != nil {
		return "", fmt.Errorf("keep content of revision: %w", err)
	}
	return v, nil
}

func (j *journal) object(v string) string { return filepath.Join(j.dir, objectsDir, v) }

// text is a content, "" for the version "".
func (j *journal) text(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	text, err := os.ReadFile(j.object(v))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("this content is not kept any more: %w", ErrNotFound)
	}
	return string(text), err
}

// prune forgets the oldest revisions beyond the bounds, and contents that none needs.
func (j *journal) prune() error {
	sizes, err := j.sizes()
	if err != nil {
		return err
	}
	var errs []error
	for len(j.list) > 1 && (len(j.list) > j.keep || j.total(sizes) > j.bytes) {
		if err := j.forget(); err != nil {
			return err
		}
	}
	used := j.used()
	for v := range sizes {
		if !used[v] {
			errs = append(errs, os.Remove(j.object(v)))
		}
	}
	return errors.Join(errs...)
}

// forget drops the oldest revision, but not what it made of files.
func (j *journal) forget() error {
	for _, f := range j.list[0].Files {
		if !f.Secret {
			j.base[f.Path] = f.After
		}
	}
	text, err := json.Marshal(j.base)
	if err != nil {
		return fmt.Errorf("write base of revisions: %w", err)
	}
	if err := writeDurably(filepath.Join(j.dir, baseName), text); err != nil {
		return fmt.Errorf("write base of revisions: %w", err)
	}
	return j.drop(j.list[0].ID)
}

// sizes are those of the contents on disk, by version.
func (j *journal) sizes() (map[string]int64, error) {
	entries, err := os.ReadDir(filepath.Join(j.dir, objectsDir))
	if err != nil {
		return nil, fmt.Errorf("list contents of revisions: %w", err)
	}
	sizes := make(map[string]int64, len(entries))
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sizes[e.Name()] = info.Size()
		}
	}
	return sizes, nil
}

func (j *journal) used() map[string]bool {
	used := map[string]bool{}
	for _, v := range j.base {
		used[v] = true
	}
	for _, r := range j.list {
		for _, f := range r.Files {
			used[f.Before], used[f.After] = true, true
		}
	}
	return used
}

func (j *journal) total(sizes map[string]int64) (n int64) {
	for v := range j.used() {
		n += sizes[v]
	}
	return n
}

// last are the versions of all files after the last revision.
func (j *journal) last() map[string]string {
	m := maps.Clone(j.base)
	for _, r := range j.list {
		for _, f := range r.Files {
			if !f.Secret {
				m[f.Path] = f.After
			}
		}
	}
	return m
}

// at are the versions after revision id of all files that have changed since.
func (j *journal) at(id int) map[string]string {
	m := map[string]string{}
	for i := len(j.list) - 1; i >= 0 && j.list[i].ID > id; i-- {
		for _, f := range j.list[i].Files {
			if !f.Secret {
				m[f.Path] = f.Before
			}
		}
	}
	return m
}

// writeDurably writes a file whole or not at all, readable by its owner only.
func writeDurably(name string, data []byte) error {
	root, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer root.Close()
	return replace(root, filepath.Base(name), data, 0o600)
}

// tempName is a name beside a file that no other writer takes.
func tempName(name string) string {
	return strings.TrimSuffix(name, filepath.Base(name)) + "." + filepath.Base(name) + "." + strconv.Itoa(os.Getpid()) + ".tmp"
}

// replace puts data in the place of a file, or makes it, atomically and durably. A file
// that was there keeps its mode, and its owner where the system lets it.
func replace(root *os.Root, name string, data []byte, mode fs.FileMode) (err error) {
	temp := tempName(name)
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Remove(temp))
		}
	}()
	if old, statErr := root.Lstat(name); statErr == nil {
		mode = old.Mode().Perm()
		keepOwner(f, old)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return err
	}
	dir, err := root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

package change

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"gatepost/internal/config"
)

// maxText bounds a text that is read or written.
const maxText = 16 << 20

// content is a file as it is on disk.
type content struct {
	exists  bool
	text    string
	version string
	info    fs.FileInfo
}

// inside returns the path of a file relative to the directory of the configuration, and
// why it can't be handled here, "" where it can: it must lie below that directory, and
// no link may be on the way.
func (k *Keeper) inside(path string) (rel, why string) {
	rel, err := filepath.Rel(k.dir, path)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return path, "it is not below " + k.dir
	}
	if rel == filepath.Base(k.cfg.File) {
		return rel, "it is the configuration itself"
	}
	if data, err := filepath.Rel(k.cfg.DataDir, path); err == nil && filepath.IsLocal(data) {
		return rel, "it is in data_dir, which is the gateway's own"
	}
	at := ""
	for _, part := range strings.Split(rel, string(filepath.Separator)) {
		at = filepath.Join(at, part)
		info, err := k.root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return rel, ""
		case err != nil:
			return rel, "it can't be reached: " + cause(err)
		case info.Mode()&fs.ModeSymlink != 0:
			return rel, at + " is a link"
		case at != rel && !info.IsDir() || at == rel && !info.Mode().IsRegular():
			return rel, at + " is not a regular file"
		}
	}
	return rel, ""
}

// cause shortens an error of the system.
func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// read reads a file below the directory of the configuration. A secret one gets a
// version, and no text leaves this package.
func (k *Keeper) read(rel string, secret bool) (content, error) {
	f, err := k.root.Open(rel)
	if errors.Is(err, fs.ErrNotExist) {
		return content{}, nil
	}
	if err != nil {
		return content{}, fmt.Errorf("read %s: %s", rel, cause(err))
	}
	defer f.Close()
	c, err := readAll(f)
	if err != nil {
		return c, fmt.Errorf("read %s: %w", rel, err)
	}
	if secret {
		c.version = versionOf(c.info.Size(), c.info.ModTime().UnixNano())
	}
	return c, nil
}

func readAll(f *os.File) (content, error) {
	info, err := f.Stat()
	if err != nil {
		return content{}, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return content{}, err
	}
	if len(data) > maxText {
		return content{}, fmt.Errorf("it is larger than %d bytes", maxText)
	}
	return content{exists: true, text: string(data), version: version(string(data)), info: info}, nil
}

// readConfig reads the configuration itself.
func (k *Keeper) readConfig() (content, error) {
	f, err := os.Open(k.cfg.File)
	if err != nil {
		return content{}, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	return readAll(f)
}

// checkText wants what can stand in a text file.
func checkText(path, text string) error {
	switch {
	case len(text) > maxText:
		return badf("%s is larger than %d bytes", path, maxText)
	case !utf8.ValidString(text):
		return badf("%s is not UTF-8", path)
	case strings.IndexByte(text, 0) >= 0:
		return badf("%s holds a NUL", path)
	}
	return nil
}

// describe is what is known of a file that the configuration names.
func (k *Keeper) describe(f config.File) File {
	d := File{Kind: f.Kind, Keys: f.Keys, Stages: f.Stages, Secret: f.Kind.Secret()}
	d.Path, d.Elsewhere = k.inside(f.Path)
	if f.Kind == config.FileData && d.Elsewhere == "" {
		d.Elsewhere = "it is a database, which its maker's program replaces"
	}
	if d.Elsewhere != "" {
		if info, err := os.Stat(f.Path); err == nil {
			d.Exists, d.Size, d.Modified = true, info.Size(), info.ModTime()
		}
		return d
	}
	c, err := k.read(d.Path, d.Secret)
	if err != nil {
		d.Elsewhere = err.Error()
		return d
	}
	if c.exists {
		d.Exists, d.Size, d.Modified, d.Version = true, c.info.Size(), c.info.ModTime(), c.version
	}
	return d
}

// named returns the file of this path in a configuration.
func (k *Keeper) named(cfg *config.Config, path string) (config.File, bool) {
	for _, f := range cfg.Files() {
		if rel, _ := k.inside(f.Path); rel == path {
			return f, true
		}
	}
	return config.File{}, false
}

// files lists the files of the configuration on disk, or where that is in disorder of
// the one in use.
func (k *Keeper) onDisk() *config.Config {
	cfg, _ := config.Load(k.cfg.File)
	if cfg == nil {
		cfg = k.cfg.InUse()
	}
	return cfg
}

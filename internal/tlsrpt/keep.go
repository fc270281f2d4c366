package tlsrpt

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// load reads the days that were kept. One that cannot be read is lost, and is no reason
// not to start.
func (c *Collector) load() error {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("open TLS reports: %w", err)
	}
	list, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return fmt.Errorf("open TLS reports: %w", err)
	}
	for _, f := range list {
		date, ok := strings.CutSuffix(f.Name(), ".json")
		if _, err := time.Parse(time.DateOnly, date); !ok || err != nil {
			continue
		}
		d := &day{}
		text, err := os.ReadFile(filepath.Join(c.cfg.Dir, f.Name()))
		if err == nil {
			err = json.Unmarshal(text, d)
		}
		if err != nil || d.Date != date || d.Domains == nil {
			c.cfg.Log.Warn("counts for TLS reports can't be read; they are lost", "date", date, "error", err)
			continue
		}
		c.days[date] = d
	}
	return nil
}

// save writes the days that have changed.
func (c *Collector) save() error {
	texts := map[string][]byte{}
	c.mu.Lock()
	for date, d := range c.days {
		if !d.dirty {
			continue
		}
		text, err := json.Marshal(d)
		if err != nil {
			c.mu.Unlock()
			return fmt.Errorf("keep counts for TLS reports: %w", err)
		}
		texts[date], d.dirty = text, false
	}
	lost := c.lost
	c.lost = 0
	c.mu.Unlock()
	if lost > 0 {
		c.cfg.Log.Warn("too many domains for the TLS reports of a day", "sessions_not_counted", lost)
	}
	var errs []error
	for date, text := range texts {
		if err := c.write(date, text); err != nil {
			errs = append(errs, fmt.Errorf("keep counts for TLS reports: %w", err))
			c.mu.Lock()
			if d := c.days[date]; d != nil {
				d.dirty = true
			}
			c.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// write replaces the file of a day, whole or not at all.
func (c *Collector) write(date string, text []byte) error {
	name := filepath.Join(c.cfg.Dir, date+".json")
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// forget is for a day that is done.
func (c *Collector) forget(date string) error {
	c.mu.Lock()
	delete(c.days, date)
	c.mu.Unlock()
	if err := os.Remove(filepath.Join(c.cfg.Dir, date+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget counts for TLS reports: %w", err)
	}
	return nil
}

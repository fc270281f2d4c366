package webhook

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gatepost/internal/mail"
)

// maxKept bounds a file of what waits, in bytes.
const maxKept = 64 << 20

// EventTest is the type of an event that only shows that a service can be reached.
const EventTest mail.EventKind = "test"

// Test sends an event of the type "test" at once, and once. The error says what was
// wrong; nothing of an answer but its status is in it.
func (h *Hook) Test(ctx context.Context) error {
	e := mail.Event{ID: mail.NewID(), Time: time.Now().UTC(), Kind: EventTest, Reason: "a test of the webhook " + h.cfg.Name}
	body, err := json.Marshal(payload{Type: e.Kind, Time: e.Time, Event: &e})
	if err != nil {
		return fmt.Errorf("write test event: %w", err)
	}
	_, err = h.send(ctx, delivery{e.ID.String(), body})
	return err
}

// load takes what an earlier process has kept. A file that is damaged gives what can be
// read of it: that is no reason not to start.
func (h *Hook) load() error {
	if h.cfg.File == "" {
		return nil
	}
	f, err := os.Open(h.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what waits for webhook %s: %w", h.cfg.Name, err)
	}
	defer f.Close()
	in := json.NewDecoder(io.LimitReader(f, maxKept))
	var list []delivery
	for len(list) < h.cfg.Waiting {
		var d delivery
		if err := in.Decode(&d); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			h.cfg.Log.Warn("what waited for a webhook cannot all be read", "webhook", h.cfg.Name, "file", h.cfg.File, "error", err)
			break
		}
		list = append(list, d)
	}
	h.keep(list)
	h.loaded = len(list)
	return nil
}

// forget removes the file when all that it holds has gone out: after a crash, long ago
// would be told again.
func (h *Hook) forget() {
	if h.loaded == 0 {
		return
	}
	if h.loaded--; h.loaded > 0 {
		return
	}
	if err := os.Remove(h.cfg.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.cfg.Log.Warn("what waited for a webhook has gone out, but its file stays", "webhook", h.cfg.Name, "error", err)
	}
}

// Close keeps what waits for the next process. It comes after Run and after the last
// Note.
func (h *Hook) Close() error {
	list := h.kept
	for len(h.events) > 0 {
		list = append(list, <-h.events)
	}
	h.keep(list)
	if h.cfg.File == "" {
		return nil
	}
	if len(list) == 0 {
		if err := os.Remove(h.cfg.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget what waited for webhook %s: %w", h.cfg.Name, err)
		}
		return nil
	}
	if err := h.write(list[:min(len(list), h.cfg.Waiting)]); err != nil {
		return fmt.Errorf("keep what waits for webhook %s: %w", h.cfg.Name, err)
	}
	h.cfg.Log.Info("events for a webhook wait for the next start", "webhook", h.cfg.Name, "events", len(list))
	return nil
}

// write replaces the file as a whole.
func (h *Hook) write(list []delivery) error {
	f, err := os.CreateTemp(filepath.Dir(h.cfg.File), filepath.Base(h.cfg.File)+".")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	for _, d := range list {
		if err = enc.Encode(d); err != nil {
			break
		}
	}
	err = errors.Join(err, out.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), h.cfg.File)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

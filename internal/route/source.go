package route

import (
	"fmt"
	"log/slog"
	"time"

	"gatepost/internal/lookup"
	"gatepost/internal/recipients"
)

// source is one recipient file.
type source = lookup.File[*recipients.List]

// sources makes one source for each file, however many domains use it.
type sources struct {
	interval time.Duration
	log      *slog.Logger
	byPath   map[string]*source
}

func newSources(cfg Config) *sources {
	return &sources{interval: cfg.CheckInterval, log: cfg.Log, byPath: map[string]*source{}}
}

func (all *sources) get(path string) (*source, error) {
	if s := all.byPath[path]; s != nil {
		return s, nil
	}
	s, err := lookup.OpenFile(lookup.FileConfig[*recipients.List]{
		Path: path, What: "recipients", Interval: all.interval, Log: all.log,
		Read: readList, Entries: (*recipients.List).Len,
	})
	if err == nil {
		all.byPath[path] = s
	}
	return s, err
}

// readList reads a file; one bad line is an error, since nobody can know which
// recipients it should have named.
func readList(path string) (*recipients.List, error) {
	list, bad, err := recipients.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("%s:%d: %s", path, bad[0].Number, bad[0].Message)
	}
	return list, nil
}

// discard is the logger of a Config without one.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

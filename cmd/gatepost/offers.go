package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/upstream"
)

// offers is what upstreams offered when they were last spoken to, by transport. It is
// kept in a file, so that EHLO is as true after a restart while they are down.
type offers map[string][]upstream.Learned

func offersFile(cfg *config.Config) string {
	return filepath.Join(string(cfg.DataDir), "upstreams.json")
}

func readOffers(file string) (offers, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what upstreams offer: %w", err)
	}
	var o offers
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("read what upstreams offer: %s: %w", file, err)
	}
	return o, nil
}

// writeOffers writes the file anew and puts it in the place of the old one: whatever
// happens, one of them is there whole.
func writeOffers(file string, text []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("write what upstreams offer: %w", err)
	}
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write what upstreams offer: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}

// How often it is looked whether something new was learned, and how old a time in the
// file may be.
const (
	offersEvery = 5 * time.Second
	offersAge   = 24 * time.Hour
)

// keepOffers writes down what is learned until the process stops.
func (a *app) keepOffers(file string) {
	tick := time.NewTicker(offersEvery)
	defer tick.Stop()
	var written []byte
	for running := true; running; {
		select {
		case <-tick.C:
		case <-a.running.Done():
			running = false
		}
		text, err := a.learnedText()
		if err == nil && text != nil && !bytes.Equal(text, written) {
			if err = writeOffers(file, text); err == nil {
				written = text
			}
		}
		if err != nil {
			a.log.Warn("what upstreams offer is not kept", "error", err)
		}
	}
}

// learnedText is the file as it should be; nil: there is nothing to keep.
func (a *app) learnedText() ([]byte, error) {
	state := a.state.Load()
	if state == nil {
		return nil, nil
	}
	all := make(offers)
	for name, p := range state.gen.proxies {
		known := p.Server.Known()
		for i := range known {
			known[i].At = known[i].At.UTC().Truncate(offersAge)
		}
		if len(known) > 0 {
			all[name] = known
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	text, err := json.MarshalIndent(all, "", "\t")
	return text, err
}

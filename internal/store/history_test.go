package store_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/store"
)

func TestADamagedHistoryIsMovedAside(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "history.db")
	if err := os.WriteFile(file, bytes.Repeat([]byte("not a database"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s, err := store.Open(t.Context(), store.Options{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h, err := s.OpenHistory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if all, err := h.Segments(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
	aside, err := filepath.Glob(file + ".damaged-*")
	if err != nil || len(aside) != 1 || !strings.Contains(log.String(), aside[0]) {
		t.Errorf("moved to %v; log %s", aside, log.String())
	}
}

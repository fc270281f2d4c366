package main

import (
	"os"
	"path/filepath"
	"testing"

	"gatepost/internal/config"
)

func TestStorageIsWhatFilesTake(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"spool/a/1": 1000, "spool/b": 500, "records.db": 4096, "records.db-wal": 100} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	uses := newStorageWatch(&config.Config{DataDir: config.Path(dir)}).measure()
	if len(uses) != 2 || uses[0].Bytes != 1500 || uses[1].Bytes != 4196 || uses[0].Free <= 0 || uses[0].Total < uses[0].Free {
		t.Errorf("%+v", uses)
	}
}

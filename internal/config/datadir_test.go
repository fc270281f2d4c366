package config

import (
	"os"
	"path/filepath"
	"testing"
)

// Whoever wants to look at the queue finds the gateway, however much of the file is
// wrong.
func TestDataDirIsFoundInAFileWithErrors(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing wrong", "data_dir = \"/var/lib/x\"\n", "/var/lib/x"},
		{"an unknown key, a dangling name and nothing that is required", "data_dir = \"data\"\nnonsense = 1\n[[domain]]\nname = \"a.example\"\ntransport = \"nowhere\"\n", filepath.Join(dir, "data")},
		{"no data_dir", "hostname = \"gw.example\"\n", ""},
		{"not TOML", "data_dir = \"/var/lib/x\"\n[[listener\n", ""},
		{"not a text", "data_dir = 7\n", ""},
	} {
		file := filepath.Join(dir, "gatepost.toml")
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := DataDir(file); string(got) != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := DataDir(filepath.Join(dir, "missing")); got != "" {
		t.Errorf("no file: %q", got)
	}
}

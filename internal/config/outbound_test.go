package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheOutboundGuideIsValid checks the examples of docs/outbound.md: the first as it is,
// the smarthost in the place of its transport.
func TestTheOutboundGuideIsValid(t *testing.T) {
	text, err := os.ReadFile("../../docs/outbound.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "```toml\n")
	if len(parts) < 4 {
		t.Fatalf("%d examples", len(parts)-1)
	}
	example, _, _ := strings.Cut(parts[1], "```")
	smarthost, _, _ := strings.Cut(parts[2], "```")
	dir := t.TempDir()
	writeFixtures(t, dir)
	for name, from := range map[string]string{"dkim-s1.pem": "ed25519.pem", "dkim-e1.pem": "ed25519.pem", "smarthost.pw": "password"} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"users.txt": "anna@example.com {PLAIN}secret\n", "legal.txt": "Example Ltd.\n", "legal.html": "<p>Example Ltd.</p>\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := strings.Index(example, "[[transport]]\nname = \"internet\"")
	end := strings.Index(example, "[[dkim]]")
	if start < 0 || end < start {
		t.Fatal("the example has no transport internet")
	}
	through := example[:start] + strings.TrimSuffix(smarthost, "\n") + "\ndkim = [\"main-rsa\", \"main-ed\"]\n\n" + example[end:]
	for _, text := range []string{example, through} {
		cfg, problems := load("gatepost.toml", dir, []byte(text), testHost("gw.example.com"))
		for _, p := range problems {
			t.Error(p)
		}
		if cfg == nil || len(cfg.DKIM) != 2 || len(cfg.Transports) != 2 {
			t.Error("the example does not show what it should")
		}
	}
}

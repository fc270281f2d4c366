package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tour is what a newcomer sees first: each step ends as it says.
func TestTheDemoShowsWhatItPromises(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	out, err := command(t, "demo", "--once", "--dir", dir, "--smtp", "127.0.0.1:0", "--admin", "127.0.0.1:0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rest := string(out)
	for _, want := range []string{
		"Gatepost is up.",
		"1. A clean message", "250 2.0.0 OK: queued (", "Delivered. Read it: less " + dir,
		"2. Messages that are refused", "550 5.7.1 Relaying denied", "550 5.1.1 No such recipient",
		"3. The mail server behind is down", "250 2.0.0 OK: queued (", "In the queue: ", "The mail server is back", "Delivered by the next attempt: " + dir,
		"4. A virus", "In the quarantine: ", "clamd found Test.EICAR", "delivered as it came, " + dir,
		"5. A filter at work", "Delivered with a notice", "less " + dir,
		"6. Spam", "Learned 12 messages of ham", "Learned 12 messages of spam", "Delivered and marked: ", "[SPAM] CONGRATULATIONS you have WON", "gatepost scan",
		"7. An ordinary morning", "14 messages: 11 accepted, 2 asked to come again (greylisting), 1 refused", "Now 2 messages wait", "are held in the quarantine",
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("the tour does not say %q, or not in this order:\n%s", want, out)
		}
		rest = after
	}
	files, err := filepath.Glob(filepath.Join(dir, "Maildir", "new", "*"))
	if err != nil || len(files) != 12 {
		t.Fatalf("the mail server has %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.Count(string(text), "\nReceived: from ") != 2 {
			t.Errorf("%s did not go through both servers: %v\n%s", file, err, text)
		}
	}
	for _, name := range []string{"gateway.toml", "mailserver.toml"} {
		if got, err := command(t, "check", "-c", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	// What it left behind can be looked at, and started again.
	out, err = command(t, "demo", "--once", "--dir", dir, "--smtp", "127.0.0.1:0", "--admin", "127.0.0.1:0").CombinedOutput()
	if err != nil {
		t.Errorf("a second tour in the same directory: %v\n%s", err, out)
	}
}

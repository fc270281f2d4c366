package filter_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"gatepost/internal/flow"
	"gatepost/internal/scan/filter"
)

// The examples of the manual are what administrators copy: each must compile.
func TestTheExamplesOfTheManualCompile(t *testing.T) {
	page, err := os.ReadFile("../../../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// In a table a bar is escaped, and "…" stands for what the reader fills in.
	text := strings.ReplaceAll(string(page), `\|`, "|")
	for _, m := range regexp.MustCompile(`file:(\w+\.txt)`).FindAllStringSubmatch(text, -1) {
		if err := os.WriteFile(filepath.Join(dir, m[1]), []byte("192.0.2.1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	examples := regexp.MustCompile("(?m)(?:^|`)((when|then|reply) = [^`\n]*)(?:`|$)").FindAllStringSubmatch(text, -1)
	if len(examples) < 40 {
		t.Fatalf("only %d examples: does the manual look different now?", len(examples))
	}
	for _, m := range examples {
		if strings.Contains(m[1], "…") {
			continue
		}
		var got struct {
			When  map[string]any
			Then  any
			Reply string
		}
		if err := toml.Unmarshal([]byte(m[1]), &got); err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		switch m[2] {
		case "when":
			if _, err := filter.Compile(filter.Spec{Name: "f", When: got.When, Dir: dir}); err != nil && !isListOfAddresses(m[1]) {
				t.Errorf("%s: %v", m[1], err)
			}
		case "then":
			checkThen(t, got.Then)
		case "reply":
			if err := flow.CheckReply(got.Reply); err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
		}
	}
}

// isListOfAddresses reports an example whose list holds senders; the lists of
// this test hold what a client or a link may be.
func isListOfAddresses(s string) bool {
	return strings.Contains(s, "sender") && strings.Contains(s, "file:")
}

func checkThen(t *testing.T, then any) {
	t.Helper()
	list, ok := then.([]any)
	if !ok {
		list = []any{then}
	}
	var actions []flow.FilterAction
	for _, s := range list {
		a, err := flow.ParseThen(s.(string))
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		actions = append(actions, a)
	}
	if err := flow.CheckThen(actions); err != nil {
		t.Errorf("%v: %v", then, err)
	}
}

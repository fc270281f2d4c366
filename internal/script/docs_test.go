package script_test

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"gatepost/internal/script"
)

func page(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/scripts.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The examples of the manual are what administrators copy: each has its tests,
// which pass.
func TestTheExamplesOfTheManualWork(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```python\n(.*?)```").FindAllStringSubmatch(page(t), -1)
	if len(blocks) < 12 {
		t.Fatalf("only %d examples: does the manual look different now?", len(blocks))
	}
	for _, b := range blocks {
		var out bytes.Buffer
		sum := compile(t, b[1]).Test(t.Context(), script.TestOptions{Out: &out, Scan: options(t)})
		if want := strings.Count(b[1], "def test_"); sum.Passed != want || want == 0 || len(sum.Failed) > 0 {
			t.Errorf("%s\n%s", b[1], out.String())
		}
	}
}

func TestTheManualNamesEveryFunction(t *testing.T) {
	text := page(t)
	for _, name := range script.Functions() {
		if !strings.Contains(text, "`"+name+"(") && !strings.Contains(text, name+"(") {
			t.Errorf("%s is not in the manual", name)
		}
	}
}

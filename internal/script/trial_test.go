package script_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/script"
)

func TestTestsOfAScriptSayWhatFailedAndWhere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "recipient.star")
	source := `def recipient(s):
    if in_file("list.txt", s.envelope.recipient):
        reject("Listed")
    dns("a.example")

def test_listed():
    with_dns({})
    assert_eq(run(recipient="bob@example.com").action, "reject")
    assert_eq(run(recipient="eve@example.com").action, "")

def test_wrong_expectation():
    assert_eq(run(recipient="bob@example.com").action, "defer")

def test_script_that_fails():
    assert_eq(run(recipient="eve@example.com").action, "reject")

def test_true():
    assert_true(run(recipient="bob@example.com").action == "", "it was stopped")

def test_of_another_stage():
    run(stage="content", message="x")

def test_nobody_sees_fakes_of_others():
    assert_eq(run(recipient="eve@example.com").error, "dns: not configured")
`
	for name, text := range map[string]string{"recipient.star": source, "list.txt": "bob@example.com\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	sum, err := script.TestFile(t.Context(), file, script.Config{}, script.TestOptions{Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	want := `ok   test_listed
FAIL recipient.star:12:14: test_wrong_expectation: got "reject", want "defer"
FAIL recipient.star:15:14: test_script_that_fails: got "", want "reject" (the script failed at recipient.star:4:8: dns: not configured)
FAIL recipient.star:18:16: test_true: it was stopped
FAIL recipient.star:21:8: test_of_another_stage: the script has no def content(s)
ok   test_nobody_sees_fakes_of_others
`
	if diff := cmp.Diff(want, out.String()); diff != "" || sum.Passed != 2 || len(sum.Failed) != 4 {
		t.Errorf("%s %+v", diff, sum)
	}
	if _, err := script.TestFile(t.Context(), filepath.Join(dir, "none.star"), script.Config{}, script.TestOptions{}); err == nil {
		t.Error("no error for a file that is not there")
	}
}

func TestWhatIsForTestsIsForTestsOnly(t *testing.T) {
	r := say(t, visit(t), `run()`)
	if r.Failed == nil || r.Failed.Text != "run is for test functions only" {
		t.Errorf("%+v", r.Failed)
	}
}

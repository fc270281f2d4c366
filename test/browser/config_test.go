package browser_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/test/browser"
	"gatepost/test/gatepost"
)

const (
	next  = ".actions.sticky .primary" // of a form: on to the review
	apply = "form[action='/config/apply'] .primary"
)

// flows are added to the configuration of the tests.
const flows = `
# What we look at.
[[flow]]
name = "inbound"
stage = "content"
blocks = [
  { use = "authres" },
  # Ours.
  { use = "script", file = "rules.star", label = "house rules", icon = "🏠" },
  { use = "score", mark = 5 }, # last
]
`

// configured is a gateway with a flow and a script, and a browser of its administrator.
func configured(t *testing.T) (*gatepost.Instance, *browser.Browser) {
	t.Helper()
	g := gatepost.New(t, gatepost.Options{})
	text := read(t, g.ConfigFile) + flows
	for name, text := range map[string]string{g.ConfigFile: text, filepath.Join(g.Dir, "rules.star"): "def content(m):\n    return None\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	b := browser.Open(t, g)
	b.SetUp("ada", browser.Password)
	return g, b
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTheConfigurationIsChangedInTheBrowser adds a domain, puts the blocks of a flow in
// another order, and rolls back.
func TestTheConfigurationIsChangedInTheBrowser(t *testing.T) {
	g, b := configured(t)
	b.Go("/config")
	b.See("As by default")
	b.Shot("config")
	start := read(t, g.ConfigFile)

	b.Go("/config/domain/new")
	b.Fill("#f-name", "added.example")
	b.Expect("status of 422")
	if status := b.Press(next); status != 422 {
		t.Errorf("a domain without a transport is taken: %d", status)
	}
	b.See("is missing")
	transport := browser.Eval[string](b, "document.querySelector('#f-transport option:not([value=\"\"])').value")
	b.Fill("#f-transport", transport)
	b.Press(next)
	b.See("+name = \"added.example\"")
	b.Fill("#why", "we bought them")
	b.Shot("config-review")
	b.Press(apply)
	b.See("The change is in use")
	if text := read(t, g.ConfigFile); strings.Replace(text, "[[domain]]\nname = \"added.example\"\ntransport = \"next\"\n\n", "", 1) != start {
		t.Errorf("the file is\n%s", text)
	}

	b.Go("/config/flow/0")
	b.See("house rules")
	b.Shot("config-flow")
	b.Press("button[value='up:1']")
	b.See("Not saved yet")
	b.Press(next)
	b.Fill("#why", "our rules first")
	b.Press(apply)
	b.See("The change is in use")
	if text := read(t, g.ConfigFile); !strings.Contains(text, "blocks = [\n  # Ours.\n  { use = \"script\"") || !strings.Contains(text, "# last") {
		t.Errorf("the file is\n%s", text)
	}

	b.Go("/config/revisions")
	b.See("our rules first")
	b.Shot("config-revisions")
	b.Go("/config/revisions/1")
	b.Fill("#why", "back to the start")
	b.Press("form[action='/config/revisions/1'] .danger")
	b.See("The change is in use")
	if text := read(t, g.ConfigFile); text != start {
		t.Errorf("after the rollback the file is\n%s", text)
	}
}

// TestAScriptIsEditedAndTriedInTheBrowser breaks a script, puts it right and tries it
// with a message.
func TestAScriptIsEditedAndTriedInTheBrowser(t *testing.T) {
	g, b := configured(t)
	b.Go("/config/files")
	b.See("rules.star")
	b.Shot("config-files")
	b.Go("/config/file?path=rules.star")
	b.Fill("#raw", "def content(m):\n    return accept(\n")
	b.Expect("status of 422")
	if status := b.Press("button[value=check]"); status != 422 {
		t.Errorf("a broken script is taken: %d", status)
	}
	b.See("rules.star, line")
	b.Fill("#raw", "def content(m):\n    return None # fine\n")
	b.Press("button[value=review]")
	b.Fill("#why", "tidier")
	b.Press(apply)
	b.See("The change is in use")
	if text := read(t, filepath.Join(g.Dir, "rules.star")); text != "def content(m):\n    return None # fine\n" {
		t.Errorf("the script is %q", text)
	}
	b.Go("/config/try")
	b.Fill("#client", "198.51.100.7")
	b.Press("button[value=try]")
	b.See("What would happen")
	b.Shot("config-try")
	b.Go("/config/dkim-keys")
	b.Fill("#domain", "example.com")
	b.Fill("#selector", "s1")
	b.Fill("#why", "sign")
	b.Press("form[action='/config/dkim-keys'] .primary")
	b.See("s1._domainkey.example.com")
	b.Shot("config-dkim")
	b.Go("/config/certificates")
	b.Shot("config-certificates")
	b.Go("/config/raw")
	b.Shot("config-raw")
	b.Phone(true)
	b.Go("/config/flow/0")
	b.Shot("config-flow-phone")
}

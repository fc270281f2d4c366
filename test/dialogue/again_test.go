package dialogue

import (
	"os"
	"strings"
	"testing"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// A message that is held is looked at again with the rules of now: the filter that held
// it has another name by then, and does something else.
func TestAMessageIsExplainedWithTheRulesOfNow(t *testing.T) {
	t.Parallel()
	s := next(t, sink.Options{})
	g := behind(t, s, gatepost.Settings{Listener: scanning, More: filter("kept", "subject = 'keep'", `then = "quarantine"`) + flowOf(`{ use = "filters" }`)})
	id := give(t, g.Hello(""), "ada@out.example", "a@in.example", "Subject: keep\n\nbody\n")
	quarantine(t, g, 1)

	type again struct {
		Recipients []struct {
			Address   string
			Then, Now struct{ Action, Rule string }
			Changed   bool
		}
		Findings []struct{ Symbol, Change string }
	}
	var x again
	ask(t, g, &x, "explain", id, "--json")
	if len(x.Recipients) != 1 || x.Recipients[0].Changed || x.Recipients[0].Now.Rule != "kept" || len(x.Findings) != 1 || x.Findings[0].Change != "" {
		t.Errorf("nothing has changed: %+v", x)
	}

	text, err := os.ReadFile(g.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.ConfigFile, []byte(strings.NewReplacer(`name = "kept"`, `name = "seen"`, `then = "quarantine"`, `then = "mark"`).Replace(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := g.Run("reload"); err != nil {
		t.Fatal(err, out)
	}
	x = again{}
	ask(t, g, &x, "explain", id, "--json")
	if len(x.Recipients) != 1 {
		t.Fatalf("%+v", x)
	}
	if r := x.Recipients[0]; !r.Changed || r.Then.Action != "quarantine" || r.Then.Rule != "kept" || r.Now.Action != "mark" || r.Now.Rule != "seen" {
		t.Errorf("decided: %+v", r)
	}
	changes := map[string]string{}
	for _, f := range x.Findings {
		changes[f.Symbol] = f.Change
	}
	if changes["seen"] != "new" || changes["kept"] != "gone" {
		t.Errorf("found: %v", changes)
	}
	out, err := g.Run("explain", id)
	if err != nil {
		t.Fatal(err)
	}
	mustContain(t, "explain", out, "a@in.example", "quarantine, score", "mark, score", "gone")
	// It is held as before, and nothing went out.
	quarantine(t, g, 1, "--state", "held")
	if n := len(s.Mails()); n != 0 {
		t.Errorf("%d mails went out", n)
	}
	if why := fails(t, g, 1, "explain", "01aaaaaaaaaaaaaaaaaaaaaaaa"); !strings.Contains(why, "not here any more") {
		t.Errorf("of a message that is gone: %s", why)
	}
}

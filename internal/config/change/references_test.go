package change_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/internal/config"
	"gatepost/internal/config/change"
	"gatepost/internal/config/edit"
)

// entangled names everything that can be named, from everywhere that can name it.
const entangled = `hostname = "gw.example.com"
data_dir = "data"
[admin]
flows = { auth = "u" }
[rewrite]
generic_transports = ["up"]
virtual = ["ldap:dir", "http:api"]
[[listener]]
name = "in"
address = ["127.0.0.1:0"]
flows = { connect = "k", auth = "u", recipient = "r", content = "c" }
[[listener]]
name = "through"
address = ["127.0.0.1:0"]
auth_upstream = "up" # not this one
[[domain]]
name = "example.com"
listener = "in"
transport = "up"
recipients = ["ldap:dir", "http:api"]
flows = { recipient = "r", content = "c" }
[[transport]]
name = "up"
kind = "smtp"
hosts = ["127.0.0.1:25"]
dkim = ["sig"]
arc = "sig"
[[dkim]]
name = "sig"
domain = "example.com"
selector = "s"
key_file = "k.pem"
[[ldap]]
name = "dir"
url = ["ldap://127.0.0.1"]
[[http]]
name = "api"
url = "https://api.example.com/{user}/{password}/{recipient}"
[[disclaimer]]
name = "legal"
text_file = "legal.txt"
[[filter]]
name = "no programs"
when = { any = [{ listener = "in" }, { not = { listener = ["through", "in"] } }] }
then = ["disclaimer:legal", "score:2"]
[[flow]]
name = "k"
stage = "connect"
blocks = []
[[flow]]
name = "u"
stage = "auth"
blocks = [{ use = "auth-smtp", transport = "up" }, { use = "auth-ldap", ldap = "dir" }, { use = "auth-http", http = "api" }]
[[flow]]
name = "r"
stage = "recipient"
blocks = []
[[flow]]
name = "c"
stage = "content"
blocks = [{ use = "filters", names = ["no programs"] }]
`

// dangling is what the check of the configuration says of names that lead nowhere.
func dangling(t *testing.T, text string) (paths []string) {
	t.Helper()
	_, problems := config.LoadText(filepath.Join(t.TempDir(), "gatepost.toml"), []byte(text), nil)
	for _, p := range problems {
		if strings.HasPrefix(p.Rule, "dangling-") {
			paths = append(paths, p.Path)
		}
	}
	return paths
}

func TestEveryNameThatTheCheckMissesIsAReference(t *testing.T) {
	s, err := config.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	if before := dangling(t, entangled); len(before) > 0 {
		t.Fatalf("to begin with: %v", before)
	}
	for _, c := range []struct{ section, name string }{
		{"listener", "in"}, {"transport", "up"}, {"dkim", "sig"}, {"ldap", "dir"}, {"http", "api"}, {"disclaimer", "legal"}, {"filter", "no programs"},
		{"flow", "k"}, {"flow", "u"}, {"flow", "r"}, {"flow", "c"},
	} {
		d, err := edit.Parse(entangled)
		if err != nil {
			t.Fatal(err)
		}
		at := edit.Path{{Key: c.section}}.Named(c.name)
		found := change.References(d, s, c.section, c.name)
		if err := d.Set(at.With("name"), "other"); err != nil {
			t.Fatal(err)
		}
		// Conditions of filters may name what is not there; the check is silent there.
		strict := slices.DeleteFunc(slices.Clone(found), func(r change.Reference) bool { return strings.Contains(r.Where(), ".when.") })
		if missed := dangling(t, d.Text()); len(missed) != len(strict) || len(missed) == 0 {
			t.Errorf("%s: the check misses it at %v, found %v", at, missed, found)
		}
	}
}

func TestARenamedThingIsNamedSoEverywhere(t *testing.T) {
	s, err := config.NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	d, err := edit.Parse(entangled)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []struct{ section, old, to string }{
		{"listener", "in", "mx"}, {"transport", "up", "exchange"}, {"dkim", "sig", "key.1"}, {"ldap", "dir", "ad"}, {"http", "api", "web"},
		{"disclaimer", "legal", "lawyers"}, {"filter", "no programs", "no \"exe\""}, {"flow", "u", "users"}, {"flow", "c", "scan"},
	} {
		if err := change.Rename(d, s, edit.Path{{Key: name.section}}.Named(name.old), name.to); err != nil {
			t.Errorf("%v: %v", name, err)
		}
		if left := change.References(d, s, name.section, name.old); len(left) > 0 {
			t.Errorf("%v: %v is left", name, left)
		}
	}
	if left := dangling(t, d.Text()); len(left) > 0 {
		t.Errorf("leads nowhere: %v in\n%s", left, d.Text())
	}
	for _, want := range []string{
		`any = [{ listener = "mx" }, { not = { listener = ["through", "mx"] } }]`, `auth_upstream = "exchange" # not this one`, `virtual = ["ldap:ad", "http:web"]`,
		`names = ['no "exe"']`, `flows = { recipient = "r", content = "scan" }`, `then = ["disclaimer:lawyers", "score:2"]`,
	} {
		if !strings.Contains(d.Text(), want) {
			t.Errorf("there is no %s in\n%s", want, d.Text())
		}
	}
	if err := change.Rename(d, s, edit.Path{{Key: "flow"}}.Named("users"), "scan"); err == nil {
		t.Error("a name is given twice")
	}
	if err := change.Rename(d, s, edit.Path{{Key: "admin"}}, "x"); err == nil {
		t.Error("a section without a name is renamed")
	}
}

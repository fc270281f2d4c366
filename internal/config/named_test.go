package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const namesFiles = `hostname = "gw.example.com"
data_dir = "data"
log_dir = "log"
[tls]
cert_file = "cert.pem"
key_file = "key.pem"
[[listener]]
name = "in"
address = ["127.0.0.1:0"]
flows = { content = "c", recipient = "r" }
[[domain]]
name = "example.com"
transport = "t"
recipients = ["file:recipients.txt"]
[[transport]]
name = "t"
kind = "smtp"
hosts = ["127.0.0.1:2525"]
auth = { mechanism = "PLAIN", username = "u", password_file = "password" }
[rewrite]
virtual = ["file:virtual"]
[[filter]]
name = "f"
when = { not = { sender = ["file:senders.txt", "x@example.com"] } }
then = "mark"
[[flow]]
name = "c"
stage = "content"
blocks = [ { use = "filters" }, { use = "script", file = "s.star" } ]
[[flow]]
name = "r"
stage = "recipient"
blocks = [ { use = "script", file = "s.star" } ]
`

// namedDir is a directory with all that namesFiles names.
func namedDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeFixtures(t, dir)
	for name, text := range map[string]string{
		"gatepost.toml": namesFiles, "recipients.txt": "anna@example.com\n", "virtual": "a@example.com b@example.com\n", "senders.txt": "spam@example.net\n",
		"s.star": "def content(m):\n    return None\n\ndef recipient(s):\n    return None\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFilesThatTheConfigurationNames(t *testing.T) {
	dir := namedDir(t)
	cfg, problems := Load(filepath.Join(dir, "gatepost.toml"))
	if cfg == nil {
		t.Fatal(problems)
	}
	var got []string
	for _, f := range cfg.Files() {
		got = append(got, filepath.Base(f.Path)+" "+string(f.Kind)+" "+strings.Join(f.Stages, ",")+" "+strings.Join(f.Keys, " "))
	}
	want := []string{
		"cert.pem certificate  tls.cert_file", "key.pem key  tls.key_file", "password secret  transport.t.auth.password_file",
		"recipients.txt recipients  domain.\"example.com\".recipients", "s.star script content,recipient flow.c.blocks.script.file flow.r.blocks.script.file",
		"senders.txt list  filter.f.when.not.sender", "virtual table  rewrite.virtual",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestStagedFilesAreCheckedInThePlaceOfOthers checks each text that is wrong without
// writing it where the gateway would read it.
func TestStagedFilesAreCheckedInThePlaceOfOthers(t *testing.T) {
	dir := namedDir(t)
	for name, text := range map[string]string{
		"recipients.txt": "no address @ at all\n", "virtual": "one-word\n", "senders.txt": "/(/\n", "s.star": "def content(m)\n",
	} {
		real, other := filepath.Join(dir, name), filepath.Join(t.TempDir(), "staged")
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, problems := LoadText(filepath.Join(dir, "gatepost.toml"), []byte(namesFiles), map[string]string{real: other})
		if cfg != nil || !slices.ContainsFunc(problems, func(p Problem) bool { return strings.Contains(p.String(), real) }) {
			t.Errorf("%s: %v", name, problems)
		}
		for _, p := range problems {
			if strings.Contains(p.String(), other) {
				t.Errorf("the problem names the staged file: %s", p)
			}
		}
	}
}

// TestEveryPathHasAKind keeps a new key with a secret from being taken for text.
func TestEveryPathHasAKind(t *testing.T) {
	directories := []string{"data_dir", "log_dir", "scan_temp", "path"}
	texts := []string{"notice_file", "text_file", "html_file"}
	seen := map[reflect.Type]bool{}
	var visit func(reflect.Type)
	visit = func(in reflect.Type) {
		if seen[in] {
			return
		}
		seen[in] = true
		for _, k := range keysOf(in) {
			ft := elemOf(in.Field(k.index).Type)
			if isTable(ft) {
				visit(ft)
			}
			if ft != reflect.TypeFor[Path]() {
				continue
			}
			switch kind := kindOfFile(in, k.name); {
			case kind == "" && !slices.Contains(directories, k.name):
				t.Errorf("%s of %s is neither a file nor a known directory", k.name, in.Name())
			case kind == FileText && !slices.Contains(texts, k.name):
				t.Errorf("%s of %s is shown as text: give it a kind", k.name, in.Name())
			}
		}
	}
	visit(reflect.TypeFor[Config]())
	for _, kind := range blockKinds {
		visit(reflect.TypeOf(kind.params()).Elem())
	}
}

package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/rogpeppe/go-internal/txtar"
)

// update says that expectations are to be written anew: GATEPOST_UPDATE=1 go test.
func update() bool { return os.Getenv("GATEPOST_UPDATE") == "1" }

// testHost is the host that the configurations under testdata are read on.
func testHost(name string) host {
	return host{name: name, addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")}}
}

// A case under testdata/bad is a configuration, the files that it needs and, in
// the file "want", every problem that must be found, as "rule: problem". A
// comment line "host: NAME" sets the name of the host.
func TestBadConfigurations(t *testing.T) {
	cases, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	fixtures := t.TempDir()
	writeFixtures(t, fixtures)
	seen := map[string]bool{string(ruleUnreadable): true} // TestAFileThatCantBeRead
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			copyFiles(t, fixtures, dir)
			cfg, problems := loadCase(t, dir, archive)
			var got strings.Builder
			for _, p := range problems {
				seen[p.Rule] = true
				fmt.Fprintf(&got, "%s: %s\n", p.Rule, strings.ReplaceAll(p.String(), dir, "DIR"))
			}
			if (cfg == nil) != HasErrors(problems) {
				t.Errorf("a Config: %v, errors: %v", cfg != nil, HasErrors(problems))
			}
			compareWant(t, path, archive, got.String())
		})
	}
	for name, r := range rules(t) {
		if !seen[r] {
			t.Errorf("no case shows %s (%q)", name, r)
		}
	}
}

func loadCase(t *testing.T, dir string, archive *txtar.Archive) (*Config, []Problem) {
	t.Helper()
	name := "gw.example.com"
	for line := range strings.SplitSeq(string(archive.Comment), "\n") {
		if value, ok := strings.CutPrefix(line, "host:"); ok {
			name = strings.TrimSpace(value)
		}
	}
	var text []byte
	for _, f := range archive.Files {
		switch f.Name {
		case "gatepost.toml":
			text = f.Data
		case "want":
		default:
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return load("gatepost.toml", dir, text, testHost(name))
}

func compareWant(t *testing.T, path string, archive *txtar.Archive, got string) {
	t.Helper()
	i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
	if update() {
		if i < 0 {
			archive.Files, i = append(archive.Files, txtar.File{Name: "want"}), len(archive.Files)
		}
		archive.Files[i].Data = []byte(got)
		if err := os.WriteFile(path, txtar.Format(archive), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if i < 0 || string(archive.Files[i].Data) != got {
		t.Errorf("got\n%s", got)
	}
}

// rules lists the constants of type rule in this package.
func rules(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "rules.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "rule" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[spec.Names[0].Name] = value
		}
		return true
	})
	if len(found) < 40 {
		t.Fatalf("only %d rules found: is the test blind?", len(found))
	}
	return found
}

// smallest is the smallest useful configuration.
const smallest = `
hostname = "gw.example.com"
data_dir = "data"

[[listener]]
name = "inbound"
address = ["0.0.0.0:25"]

[[domain]]
name = "example.com"
transport = "exchange"

[[transport]]
name = "exchange"
kind = "smtp"
hosts = ["10.0.0.5"]
`

func TestTheSmallestConfigurationHasAllDefaults(t *testing.T) {
	dir := t.TempDir()
	cfg, problems := load("gatepost.toml", dir, []byte(smallest), testHost("gw.example.com"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	checks := map[string][2]any{
		"data_dir":           {cfg.DataDir, Path(filepath.Join(dir, "data"))},
		"log_dir":            {cfg.LogDir, Path("")},
		"log_level":          {cfg.LogLevel, "info"},
		"postmaster":         {cfg.Postmaster.Raw, "postmaster@example.com"},
		"max_message_size":   {cfg.Limits.MaxMessageSize, Size(50 << 20)},
		"min_data_rate":      {cfg.Limits.MinDataRate, Rate(500)},
		"command_timeout":    {cfg.Limits.CommandTimeout.String(), "5m0s"},
		"listener.protocol":  {cfg.Listeners[0].Protocol, "smtp"},
		"listener.tls":       {cfg.Listeners[0].TLS, "starttls"},
		"listener.address":   {cfg.Listeners[0].Address[0], HostPort{Host: "0.0.0.0", Port: 25}},
		"domain.listener":    {cfg.Domains[0].Listener, Name("*")},
		"transport.hosts":    {cfg.Transports[0].Hosts[0], HostPort{Host: "10.0.0.5", Port: 25}},
		"transport.delays":   {fmt.Sprint(cfg.Transports[0].Retry.Delays), "[1m0s 5m0s 15m0s 30m0s 1h0m0s]"},
		"transport.give up":  {cfg.Transports[0].Retry.GiveUpAfter.String(), "48h0m0s"},
		"transport.auth":     {cfg.Transports[0].Auth == nil, true},
		"transport.sessions": {cfg.Transports[0].Sessions, 20},
	}
	for key, c := range checks {
		if !reflect.DeepEqual(c[0], c[1]) {
			t.Errorf("%s is %v, want %v", key, c[0], c[1])
		}
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	dir := t.TempDir()
	writeFixtures(t, dir)
	archive, err := txtar.ParseFile("testdata/full.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := loadCase(t, dir, archive)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	// Everything in the file differs from its default, so a field that is at its
	// default was not read.
	defaults, _ := load("gatepost.toml", dir, []byte(smallest), testHost("gw.example.com"))
	for _, pair := range []struct {
		name      string
		got, none any
	}{
		{"", *cfg, *defaults}, {"admin", cfg.Admin, defaults.Admin}, {"webhook", cfg.Admin.Webhooks[0], AdminWebhook{}}, {"oidc", cfg.Admin.OIDC[0], AdminOIDC{NameClaim: "email", RoleClaim: "groups"}}, {"tls", cfg.TLS, defaults.TLS}, {"dns", cfg.DNS, defaults.DNS},
		{"limits", cfg.Limits, defaults.Limits}, {"queue", cfg.Queue, defaults.Queue},
		{"listener", cfg.Listeners[0], Listener{}}, {"pop", cfg.Listeners[1], defaults.Listeners[0]}, {"domain", cfg.Domains[0], Domain{}}, {"dkim", cfg.DKIM[0], DKIM{}},
		{"transport smtp", cfg.Transports[0], Transport{}}, {"auth", *cfg.Transports[0].Auth, Auth{}},
		{"retry", cfg.Transports[0].Retry, defaults.Transports[0].Retry},
		{"timeouts", cfg.Transports[0].Timeouts, defaults.Transports[0].Timeouts}, {"lookup", cfg.Transports[1].Lookup, Lookup{}},
		{"store", cfg.Store, defaults.Store}, {"clamav", cfg.ClamAV, defaults.ClamAV}, {"bayes", cfg.Bayes, defaults.Bayes}, {"autolearn", *cfg.Bayes.Autolearn, Autolearn{12, -1}},
		{"quarantine", cfg.Quarantine, defaults.Quarantine}, {"history", cfg.History, defaults.History}, {"digest", *cfg.Quarantine.Digest, Digest{At: TimeOfDay(7 * time.Hour), From: cfg.Postmaster}},
		{"flows", cfg.Listeners[0].Flows, Flows{}}, {"domain flows", cfg.Domains[0].Flows, DomainFlows{}},
		{"filter", cfg.Filters[0], Filter{Direction: "any"}}, {"flow", cfg.Flows[0], Flow{Mode: "enforce"}},
		{"users", cfg.Users, defaults.Users}, {"guard", cfg.Users.Guard, defaults.Users.Guard}, {"srs", cfg.SRS, defaults.SRS}, {"tls_reports", cfg.TLSReports, defaults.TLSReports}, {"disclaimer", cfg.Disclaimers[0], Disclaimer{}},
		{"rewrite", cfg.Rewrite, defaults.Rewrite}, {"ldap", cfg.LDAP[0], LDAP{Scope: "sub"}}, {"http", cfg.HTTP[0], HTTP{Method: "GET"}},
	} {
		got, none := reflect.ValueOf(pair.got), reflect.ValueOf(pair.none)
		for _, k := range keysOf(got.Type()) {
			if k.name == "auth_without_tls" {
				continue // with the TLS of this one it would be an error
			}
			if l, ok := pair.got.(Listener); ok && l.POP3() != isPOPKey(k.name) {
				continue // the other one has it
			}
			if k.name == "auth_upstream" {
				continue // it stands in the place of auth
			}
			if k.name == "intercept_ports" {
				continue // nothing is diverted to a listener that believes proxies
			}
			if only := k.tag.Get("kinds"); only != "" && !strings.Contains(only, "smtp") {
				continue
			}
			if reflect.DeepEqual(got.Field(k.index).Interface(), none.Field(k.index).Interface()) {
				t.Errorf("%s.%s was not read: %v", pair.name, k.name, got.Field(k.index))
			}
		}
	}
}

// popKeys are those of listeners for POP3 only.
var popKeys = []string{"upstream", "upstream_hosts", "upstream_tls", "upstream_tls_ca_file", "upstream_timeout", "connect_timeout", "idle_timeout",
	"wait_after", "wait_interval", "too_large", "delete_replaced"}

func isPOPKey(name string) bool { return slices.Contains(popKeys, name) }

// TestEveryParameterOfEveryBlockIsRead does for the blocks what
// TestEveryKeyIsRead does for the rest.
func TestEveryParameterOfEveryBlockIsRead(t *testing.T) {
	dir := t.TempDir()
	writeFixtures(t, dir)
	archive, err := txtar.ParseFile("testdata/full.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := loadCase(t, dir, archive)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, kind := range blockKinds {
		unread := map[string]bool{}
		for i := range cfg.Flows {
			for _, b := range cfg.Flows[i].Blocks {
				if b.Use == kind.use && cfg.Flows[i].Stage == kind.stage {
					unreadParams(t, kind, b.Params, unread)
				}
			}
		}
		if len(unread) == 0 && kind.use != "pregreet" {
			t.Errorf("no block %s of the stage %s in the full configuration", kind.use, kind.stage)
		}
		for name, is := range unread {
			if is {
				t.Errorf("%s.%s of the stage %s was not read", kind.use, name, kind.stage)
			}
		}
	}
	blocks := cfg.Flows[slices.IndexFunc(cfg.Flows, func(f Flow) bool { return f.Stage == "content" })].Blocks
	if b := blocks[0]; b.Label != "who" || b.Timeout != 5*time.Second {
		t.Errorf("label %q, timeout %s", b.Label, b.Timeout)
	}
	if b := blocks[2]; b.Timeout != 20*time.Second {
		t.Errorf("clamav has the timeout %s, not that of its section", b.Timeout)
	}
	zones := blocks[6].Params.(*LinksBlock).Zones
	if got := fmt.Sprint(zones); got != "[dbl.example.org dbl.example.net=127.0.1.2-99*4 white.example.org=127.0.0.10*-2.5]" {
		t.Errorf("zones %s", got)
	}
}

// unreadParams notes the parameters that are not at their defaults in any of the
// blocks of a kind.
func unreadParams(t *testing.T, kind blockKind, params BlockParams, unread map[string]bool) {
	t.Helper()
	none := kind.params()
	b := &binder{places: map[any]*place{}}
	b.table(reflect.ValueOf(none).Elem(), nil, scope{})
	got := reflect.ValueOf(params)
	if got.Type() != reflect.TypeOf(none) {
		t.Errorf("%s has the parameters %s", kind.use, got.Type())
		return
	}
	for _, k := range keysOf(got.Elem().Type()) {
		if kind.use == "rate" && kind.stage == stageRecipient && k.name != "recipients" {
			continue // as at connect
		}
		same := reflect.DeepEqual(got.Elem().Field(k.index).Interface(), reflect.ValueOf(none).Elem().Field(k.index).Interface())
		if before, ok := unread[k.name]; !ok || before {
			unread[k.name] = same
		}
	}
}

// TestWhatFollowsFromABlockIsRead is about the keys that blocks before content share.
func TestWhatFollowsFromABlockIsRead(t *testing.T) {
	dir := t.TempDir()
	writeFixtures(t, dir)
	archive, err := txtar.ParseFile("testdata/full.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cfg, problems := loadCase(t, dir, archive)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	blocks := map[string]Block{}
	for _, b := range cfg.Flows[0].Blocks {
		blocks[b.Use] = b
	}
	if got, want := *blocks["dnsbl"].Acts, (StageActs{OnMatch: "drop", OnUnknown: "defer", Score: 1.5, Reply: "Listed"}); got != want {
		t.Errorf("dnsbl: got %+v, want %+v", got, want)
	}
	if b := blocks["dnsbl"]; b.Mode != "observe" || b.Label != "lists" || b.Timeout != 5*time.Second {
		t.Errorf("dnsbl: mode %q, label %q, timeout %s", b.Mode, b.Label, b.Timeout)
	}
	if got := blocks["reputation"].Acts.OnMatch; got != "defer" {
		t.Errorf("action is another name of on_match, which is %q", got)
	}
	if got := blocks["pregreet"].Acts; got.OnMatch != "" || got.OnUnknown != "" || got.Score != 2 {
		t.Errorf("without an action the block's own must hold, got %+v", got)
	}
	if blocks["tarpit"].Acts != nil || cfg.Flows[1].Blocks[0].Acts != nil || cfg.Flows[3].Blocks[0].Acts != nil {
		t.Error("a block that decides nothing, or not in this way, has actions")
	}
	zones := blocks["dnsbl"].Params.(*DNSBLBlock).Zones
	if got := fmt.Sprint(zones); got != "[zen.example.org=127.0.0.2-11*3 dnswl.example.org*-2]" {
		t.Errorf("zones %s", got)
	}
	if p := blocks["bandwidth"].Params.(*BandwidthBlock); p.WhenScore == nil || *p.WhenScore != 0 || p.Limit != 64<<10 {
		t.Errorf("bandwidth: %+v", p)
	}
	if text := blocks["script"].Params.(*ScriptBlock).Source; !strings.HasPrefix(text, "def connect(s):") {
		t.Errorf("the text of the script is %q", text)
	}
}

func TestAFileThatCantBeRead(t *testing.T) {
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none.toml"): "can't be read: there is no such file",
		t.TempDir():                             "can't be read: it is a directory",
	} {
		cfg, problems := Load(path)
		if cfg != nil || len(problems) != 1 || problems[0].String() != path+": "+want || problems[0].Rule != string(ruleUnreadable) {
			t.Errorf("got %v, %v", cfg, problems)
		}
	}
}

// TestMistakesThatTheDecoderWouldSeeAreSeen compares with the library on files
// that break TOML in ways that its parser alone does not notice.
func TestMistakesThatTheDecoderWouldSeeAreSeen(t *testing.T) {
	for _, text := range []string{
		"a = 1\na = 2", "[a]\n[a]", "a.b = 1\n[a]", "a = {}\n[a.b]", "a = []\n[[a]]", "[[a]]\n[a]", "[a]\nb = 1\n[a.b]",
		"a = 1\na.b = 2", "[a.b]\n[a]\nb.c = 1", "[[a.b]]\n[a]\nb = 1", "a = {b = 1, b = 2}",
	} {
		if cfg, problems := load("f", "/", []byte(text), testHost("gw.example.com")); cfg != nil || !HasErrors(problems) {
			t.Errorf("%q passed", text)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(smallest)
	cases, err := filepath.Glob("testdata/bad/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "gatepost.toml" {
				f.Add(string(file.Data))
			}
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		cfg, problems := load("gatepost.toml", dir, []byte(text), testHost("gw.example.com"))
		if (cfg == nil) != HasErrors(problems) {
			t.Fatalf("a Config: %v, problems: %v", cfg != nil, problems)
		}
		if cfg != nil {
			var ignored map[string]any
			if err := toml.Unmarshal([]byte(text), &ignored); err != nil {
				t.Fatalf("what the library refuses passed: %v", err)
			}
		}
		lines := strings.Split(text, "\n")
		for _, p := range problems {
			switch {
			case p.File != "gatepost.toml":
			case p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1:
				t.Fatalf("outside of the file: %s", p)
			case p.Message == "" || p.Rule == "" || strings.ContainsAny(p.String(), "\r\n\x00\x1b"):
				t.Fatalf("not one printable line: %q", p)
			}
		}
	})
}

package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// withFlow is the smallest configuration with a flow of these blocks.
func withFlow(blocks string) string {
	return strings.Replace(smallest, `name = "inbound"`, "name = \"inbound\"\nflows.content = \"x\"", 1) +
		"\n[[flow]]\nname = \"x\"\nstage = \"content\"\nblocks = [" + blocks + "]\n[clamav]\naddress = \"tcp:[::1]:3310\"\ntimeout = \"7s\"\n"
}

func TestAFlowHasTheBlockStructureAndEveryBlockItsTimeout(t *testing.T) {
	for _, c := range []struct{ blocks, want string }{
		{`{ use = "filters" }`, "filters 0s, structure 0s"},
		{`{ use = "structure", on_macro = "mark" }, { use = "clamav" }`, "structure 0s, clamav 7s"},
		{`{ use = "clamav", timeout = "1s" }, { use = "authres" }`, "clamav 1s, authres 10s, structure 0s"},
		{`{ use = "icap", url = "icap://127.0.0.1/avscan" }`, "icap 30s, structure 0s"},
	} {
		cfg, problems := load("f", "/", []byte(withFlow(c.blocks)), testHost("gw.example.com"))
		if len(problems) > 0 {
			t.Errorf("%s: %v", c.blocks, problems)
			continue
		}
		var got []string
		for _, b := range cfg.Flows[0].Blocks {
			got = append(got, b.Use+" "+b.Timeout.String())
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: got %s, want %s", c.blocks, text, c.want)
		}
	}
}

func TestTheImpliedStructureHasTheDefaults(t *testing.T) {
	cfg, problems := load("f", "/", []byte(withFlow(`{ use = "filters" }`)), testHost("gw.example.com"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got := cfg.Flows[0].Blocks[1].Params.(*StructureBlock)
	want := StructureBlock{OnAmbiguous: "quarantine", OnEncrypted: "quarantine", OnDamaged: "quarantine", OnLimit: "quarantine", OnMacro: "deliver", OnUnknown: "quarantine"}
	if *got != want {
		t.Errorf("got %+v", *got)
	}
}

func TestWhatDependsOnOtherKeysFollowsThem(t *testing.T) {
	text := smallest + "\n[limits]\nmax_message_size = \"7MiB\"\n[admin]\nlisten = \"127.0.0.1:0\"\nbase_url = \"https://gw.example.com/\"\n[quarantine]\ndigest = {}\n"
	cfg, problems := load("f", "/etc", []byte(text), testHost("gw.example.com"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for key, c := range map[string][2]any{
		"max_scan_size": {cfg.Limits.MaxScanSize, Size(7 << 20)},
		"scan_temp":     {cfg.Limits.ScanTemp, Path("/etc/data/tmp")},
		"store.node":    {cfg.Store.Node, Name("gw.example.com")},
		"digest.from":   {cfg.Quarantine.Digest.From.Raw, "postmaster@example.com"},
		"digest.at":     {cfg.Quarantine.Digest.At.String(), "07:00"},
		"base_url":      {cfg.Admin.BaseURL, BaseURL("https://gw.example.com")},
		"autolearn":     {cfg.Bayes.Autolearn == nil, true},
		"keep":          {cfg.Quarantine.Keep, 30 * 24 * time.Hour},
	} {
		if c[0] != c[1] {
			t.Errorf("%s is %v, want %v", key, c[0], c[1])
		}
	}
}

func TestSocketsAreWrittenAsTheyWereRead(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run/x": "unix:/run/x", "unix:run/x": "unix:/etc/run/x", "tcp:127.0.0.1:3310": "tcp:127.0.0.1:3310",
		"tcp:[::1]:3310": "tcp:[::1]:3310", "tcp:Scanner.Example:3310": "tcp:scanner.example:3310", "": "",
	} {
		if got, f := parseSocket(in, "/etc"); f != nil || got.Socket() != want {
			t.Errorf("%q: got %q, %v", in, got.Socket(), f)
		}
	}
	for _, in := range []string{"tcp:", "unix:", "tcp:x", "tcp:x:0", "tcp:x:65536", "127.0.0.1:3310", "/run/x", "tcp:unix:/x", "udp:x:1"} {
		if got, f := parseSocket(in, "/etc"); f == nil {
			t.Errorf("%q passed as %v", in, got)
		}
	}
}

func TestZonesAreWrittenAsTheyWereRead(t *testing.T) {
	for _, s := range []string{"dbl.example.org", "dbl.example.org=127.0.0.2", "dbl.example.org=127.0.0.2-11", "dbl.example.org*-2.5", "dbl.example.org=127.0.1.2-99*4"} {
		if z, f := parseZone(s); f != nil || z.String() != s {
			t.Errorf("%q: got %q, %v", s, z, f)
		}
	}
	for _, s := range []string{"", "*", "=127.0.0.2", "x.example=", "x.example=127.0.0.2-", "x.example=127.0.0.2-256", "x.example=::1", "x.example*", "x.example*0", "x.example*inf", "x.example=127.0.0.0"} {
		if z, f := parseZone(s); f == nil {
			t.Errorf("%q passed as %q", s, z)
		}
	}
}

// The URL of a database may hold a password; problems go to logs and terminals.
func TestNoProblemRepeatsThePasswordOfTheStore(t *testing.T) {
	for _, url := range []string{
		"postgres://u:s3cret@h/d", "postgres://u:s3cret@h/d/e", "postgres://u:s3cret@/d", "postgres://u:s3cr%zz@h", "postgres://u:5/s3cret@h/d",
		"mysql://u:s3cret@h/d", "s3cret", "password=s3cret", "postgres:u:s3cret@h", "postgres://h:s3cret/d", "://s3cret", "postgres://u@h/d?password=s3cret",
	} {
		text := smallest + "\n[store]\nurl = " + strconv.Quote(url) + "\n"
		_, problems := load("f", "/", []byte(text), testHost("gw.example.com"))
		if len(problems) == 0 {
			t.Errorf("%q: no problem", url)
		}
		if all := fmt.Sprint(problems); strings.Contains(all, "s3cr") {
			t.Errorf("%q: %s", url, all)
		}
	}
}

func TestStoresThatAreFine(t *testing.T) {
	for _, url := range []string{"", "postgres://u@h/d", "postgresql://u@h:5433/d?sslmode=require", "postgres:///d?host=/run/postgresql", "postgres://h"} {
		text := smallest + "\n[store]\nurl = " + strconv.Quote(url) + "\n"
		if _, problems := load("f", "/", []byte(text), testHost("gw.example.com")); len(problems) > 0 {
			t.Errorf("%q: %v", url, problems)
		}
	}
}

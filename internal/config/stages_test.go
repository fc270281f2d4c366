package config

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/internal/policy/rate"
)

func TestSourcesAreWrittenAsTheyWereRead(t *testing.T) {
	for in, want := range map[string]string{
		"file:list": "file:/etc/list", "file:/list": "file:/list", "ldap:ad": "ldap:ad", "http:api": "http:api", "callout": "callout",
	} {
		if got, f := parseSource(in, "/etc"); f != nil || got.String() != want {
			t.Errorf("%q: got %q, %v", in, got, f)
		}
	}
	for _, in := range []string{"", "ldap", "ldap:*", "ldap:a b", "http://x.example/", "callout:x", "file", "FILE:x"} {
		if got, f := parseSource(in, "/etc"); f == nil {
			t.Errorf("%q passed as %q", in, got)
		}
	}
}

func TestPartsOfTablesAreWrittenAsTheyWereRead(t *testing.T) {
	for in, want := range map[string]string{
		"file:a b": "file:/etc/a b", "ldap:ad": "ldap:ad", "http:api": "http:api", "anna a@example.com": "anna a@example.com",
		"ldap:x a@example.com": "ldap:x a@example.com", "/^file:/ x@example.com": "/^file:/ x@example.com",
	} {
		if got, f := parseTableSource(in, "/etc"); f != nil || got.String() != want {
			t.Errorf("%q: got %q, %v", in, got, f)
		}
	}
	for _, in := range []string{"", "anna", "file:", "hash:x", "ldap:", "http://x.example/"} {
		if got, f := parseTableSource(in, "/etc"); f == nil {
			t.Errorf("%q passed as %q", in, got)
		}
	}
}

func TestLimitsThatAreNotWrittenAreNotThere(t *testing.T) {
	p := RateBlock{Connections: rate.Limit{Count: 60, Period: time.Minute, Burst: 60}}
	if got := p.Limits(); len(got) != 1 || got[rate.Connections].String() != "60/m" {
		t.Errorf("got %v", got)
	}
}

// A namesake of another stage has other parameters, and the stage may stand behind the
// blocks in the file.
func TestTheStageOfTheFlowSaysWhichBlockIsMeant(t *testing.T) {
	for stage, want := range map[string]string{"connect": "*config.ClientReputationBlock", "content": "*config.ReputationBlock"} {
		text := strings.Replace(smallest, `name = "inbound"`, "name = \"inbound\"\nflows."+stage+" = \"x\"", 1) +
			"\n[[flow]]\nname = \"x\"\nblocks = [{ use = \"reputation\" }, { use = \"score\", mark = 1 }]\nstage = " + strconv.Quote(stage) + "\n"
		if stage == "connect" {
			text = strings.Replace(text, `, { use = "score", mark = 1 }`, "", 1)
		}
		cfg, problems := load("f", "/", []byte(text), testHost("gw.example.com"))
		if len(problems) > 0 {
			t.Errorf("%s: %v", stage, problems)
			continue
		}
		if got := fmt.Sprintf("%T", cfg.Flows[0].Blocks[0].Params); got != want {
			t.Errorf("%s: got %s, want %s", stage, got, want)
		}
		if structure := len(cfg.Flows[0].Blocks) == 3; structure != (stage == "content") {
			t.Errorf("%s: %d blocks", stage, len(cfg.Flows[0].Blocks))
		}
	}
}

// The URL of a directory or a service may hold a password; problems go to logs and
// terminals.
func TestNoProblemRepeatsThePasswordOfALookup(t *testing.T) {
	for _, url := range []string{
		"ldap://u:s3cret@h", "ldaps://u:s3cret@h/x", "http://u:s3cret@h/", "https://u:s3cret@h/?u={user}", "s3cret@h", "ftp://u:s3cret@h",
		"http://u:s3cr%zz@h/", "https://u:s3cret@[::1/",
	} {
		text := smallest + "\n[[ldap]]\nname = \"a\"\nurl = " + strconv.Quote(url) + "\n[[http]]\nname = \"b\"\nurl = " + strconv.Quote(url) + "\n"
		_, problems := load("f", "/", []byte(text), testHost("gw.example.com"))
		if !HasErrors(problems) {
			t.Errorf("%q: no problem", url)
		}
		if all := fmt.Sprint(problems); strings.Contains(all, "s3cr") {
			t.Errorf("%q: %s", url, all)
		}
	}
}

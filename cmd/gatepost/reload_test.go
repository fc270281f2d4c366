package main

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/admin"
)

// A first administrator gives the host its name while it runs: greetings and reports
// have it, and the first report goes to the new postmaster.
func TestAReloadGivesTheHostAnotherName(t *testing.T) {
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	text, err := os.ReadFile(s.file())
	if err != nil {
		t.Fatal(err)
	}
	s.write("gatepost.toml", strings.NewReplacer(`hostname = "gw.example.com"`, "hostname = \"mx.other.example\"\npostmaster = \"me@in.example\"").Replace(string(text)))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", s.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "220 mx.other.example ") {
		t.Errorf("greeting %q, %v", line, err)
	}
	if got := a.pagesConfig(a.gen.cfg, &admin.Config{}).Hostname(); got != "mx.other.example" {
		t.Errorf("the pages say %q", got)
	}
}

// The page of a message says where its client is, where a block knows countries.
func TestCountriesAreKnownWhereADatabaseIsConfigured(t *testing.T) {
	database, err := filepath.Abs("../../internal/policy/access/testdata/country.mmdb")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	s.configure("")
	a := s.mustStart()
	german := netip.MustParseAddr("203.0.113.7")
	if got := a.country(german); got != "" {
		t.Errorf("without a database it is in %q", got)
	}
	s.configure(fmt.Sprintf("[[flow]]\nname = \"doors\"\nstage = \"connect\"\nblocks = [ { use = \"access\", mmdb_file = [%q], countries_deny = [\"FR\"] } ]\n", database))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := a.country(german); got != "DE" {
		t.Errorf("it is in %q, want DE", got)
	}
	if got := a.country(netip.Addr{}); got != "" {
		t.Errorf("nobody is in %q", got)
	}
}

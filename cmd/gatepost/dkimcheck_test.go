package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/internal/dns/dnstest"
)

func TestDKIMCheckFindsWhatReceiversFind(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "s1.pem")
	var made bytes.Buffer
	if err := (&dkimNewCmd{Domain: "example.com", Selector: "s1", Type: "rsa2048", Out: file}).Run(&terminal{out: &made, err: &made}); err != nil {
		t.Fatal(err)
	}
	names := dnstest.Start(t, strings.Replace(made.String(), " IN TXT", " 60 IN TXT", 1))
	text := fmt.Sprintf(`hostname = "gw.example.com"
data_dir = %q
[dns]
servers = [%q]
[[listener]]
name = "in"
address = ["127.0.0.1:2525"]
[[domain]]
name = "example.com"
transport = "out"
[[transport]]
name = "out"
kind = "smtp"
hosts = ["192.0.2.5"]
dkim = ["main"]
[[dkim]]
name = "main"
domain = "example.com"
also_for = ["example.net"]
selector = "s1"
key_file = %q
`, dir, names.Addr(), file)
	cfg := filepath.Join(dir, "gatepost.toml")
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&dkimCheckCmd{Config: cfg}).Run(&terminal{out: &out, err: &out}); err != errSaid {
		t.Errorf("error %v", err)
	}
	if s := out.String(); !strings.Contains(s, "main  example.com  s1        rsa 2048  out         yes\n") || !strings.Contains(s, "NO: there is no such record") ||
		!strings.Contains(s, "\ns1._domainkey.example.net. IN TXT (") || strings.Contains(s, "\ns1._domainkey.example.com.") {
		t.Error(s)
	}
	out.Reset()
	names.Script("*", "TXT", dnstest.Behaviour{Rcode: "SERVFAIL"})
	if err := (&dkimCheckCmd{Config: cfg}).Run(&terminal{out: &out, err: &out}); err != errSaid || strings.Count(out.String(), "not known: the DNS does not answer") != 2 || strings.Contains(out.String(), "belong into") {
		t.Errorf("%v, %s", err, out.String())
	}
	names.Script("*", "TXT", dnstest.Behaviour{})
	out.Reset()
	var states []keyState
	err := (&dkimCheckCmd{Config: cfg, JSON: true}).Run(&terminal{out: &out, err: &out})
	if err != errSaid || json.Unmarshal(out.Bytes(), &states) != nil || len(states) != 2 || !states[0].Published || states[1].Published {
		t.Errorf("%v, %s", err, out.String())
	}
}

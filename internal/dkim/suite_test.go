package dkim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"gatepost/internal/message"
)

// suiteFile reads a file of the public test suites, which are not part of this
// tree: GATEPOST_CORPORA names the directory that holds suites/.
func suiteFile(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("GATEPOST_CORPORA")
	if dir == "" {
		t.Skip("GATEPOST_CORPORA is not set")
	}
	b, err := os.ReadFile(filepath.Join(dir, "suites", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// arcCase is a case of the ARC test suite.
type arcCase struct {
	Description string
	Message     string
	CV          string `yaml:"cv"`
	// Of the cases about signing.
	Time    int64  `yaml:"t"`
	Names   string `yaml:"sig-headers"`
	Seal    string `yaml:"AS"`
	Signed  string `yaml:"AMS"`
	Results string `yaml:"AAR"`
}

// arcScenario is a document of the suite. Some of the names in Tests stand there
// twice, so that they are no map.
type arcScenario struct {
	Tests   yaml.Node
	Records map[string]string `yaml:"txt-records"`
	Key     string            `yaml:"privatekey"`
	Domain  string
	Sel     string
}

func (s *arcScenario) zone() zone {
	z := make(zone)
	for name, text := range s.Records {
		z[name] = []string{strings.ReplaceAll(strings.TrimSpace(text), "\n", "")}
	}
	return z
}

// AUT-02: all cases about validation of the public ARC test suite.
func TestARCSuite(t *testing.T) {
	n := eachARCCase(t, "arc_test_suite/tests__arc-draft-validation-tests.yml", runARCCase)
	if n != 171 {
		t.Errorf("%d cases, want 171", n)
	}
}

// AUT-02: all cases about signing.
func TestARCSigningSuite(t *testing.T) {
	n := eachARCCase(t, "arc_test_suite/tests__arc-draft-sign-tests.yml", runSealCase)
	if n != 17 {
		t.Errorf("%d cases, want 17", n)
	}
}

// eachARCCase returns how many different cases it ran.
func eachARCCase(t *testing.T, file string, run func(*testing.T, *arcScenario, *arcCase)) int {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader(suiteFile(t, file)))
	names := make(map[string]bool)
	for {
		var s arcScenario
		if err := decoder.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(s.Tests.Content); i += 2 {
			name := s.Tests.Content[i].Value
			names[name] = true
			var c arcCase
			if err := s.Tests.Content[i+1].Decode(&c); err != nil {
				t.Fatal(err)
			}
			t.Run(name, func(t *testing.T) { run(t, &s, &c) })
		}
	}
	return len(names)
}

func runARCCase(t *testing.T, s *arcScenario, c *arcCase) {
	v := verify(t, s.zone(), crlfs(c.Message))
	want := Status(strings.ToLower(c.CV))
	if want == "" {
		want = Fail // the suite leaves open how a chain is called that was broken before
	}
	if v.ARC.Status != want {
		t.Errorf("%s: got %s (%s), want %s", c.Description, v.ARC.Status, v.ARC.Reason, want)
	}
}

var valueOfB = regexp.MustCompile(`(?s)\bb=([A-Za-z0-9+/=\s]*)`)

func runSealCase(t *testing.T, s *arcScenario, c *arcCase) {
	key, err := ParseKey([]byte(s.Key))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(s.Domain, s.Sel, key, Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, results, _ := strings.Cut(strings.Join(strings.Fields(c.Results), " "), "; ")
	if results == "" {
		results = "lists.example.org; arc=fail"
	}
	say := sealing{results: results, cv: Pass, now: time.Unix(c.Time, 0), names: strings.Split(c.Names, ":")}
	if strings.Contains(results, "arc=fail") {
		say.cv = Fail
	}
	fields, err := signer.seal(t.Context(), content(crlfs(c.Message)), say)
	if err != nil {
		t.Fatal(err)
	}
	if c.Seal == "" {
		if fields != nil {
			t.Errorf("there is a set:\n%s", fields)
		}
		return
	}
	header := message.ParseHeader(fields)
	for name, want := range map[string]string{arcSeal: c.Seal, arcSignature: c.Signed} {
		got := valueOfB.FindStringSubmatch(header.Get(name))
		want := valueOfB.FindStringSubmatch(want)
		if withoutWhite(got[1]) != withoutWhite(want[1]) {
			t.Errorf("%s: got %s, want %s", name, got[1], want[1])
		}
	}
}

func withoutWhite(s string) string { return strings.Join(strings.Fields(s), "") }

// crlfFile reads a message of a suite with line ends as they are on the wire.
func crlfFile(t *testing.T, name string) string {
	return crlfs(strings.ReplaceAll(string(suiteFile(t, name)), crlf, "\n"))
}

// perlZone is the zone file of the Perl suite: a name, spaces, a text.
func perlZone(t *testing.T) zone {
	z := make(zone)
	for line := range strings.Lines(string(suiteFile(t, "perl-mail-dkim/t__FAKE_DNS.dat"))) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		text = strings.TrimSpace(text)
		switch {
		case !ok || strings.HasPrefix(name, "#") || text == "NXDOMAIN":
		case strings.HasPrefix(text, "~~"):
			z[name] = nil
		default:
			z[name] = []string{strings.Trim(text, `"`)}
		}
	}
	return z
}

// AUT-03: most of the suite is older than RFC 8301, so that what it calls good
// must fail here, and for that reason.
func TestPerlSuite(t *testing.T) {
	z := perlZone(t)
	files, err := filepath.Glob(filepath.Join(os.Getenv("GATEPOST_CORPORA"), "suites/perl-mail-dkim/t__corpus__*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no messages: %v", err)
	}
	reasons := map[string]string{
		"badkey1_ed25519": "the key is no Ed25519 key",
		"badkey2_ed25519": "the signature does not fit the header",
		"badkey3_ed25519": "the body was changed",
		"badkey4_ed25519": "no key",
		"badkey5_ed25519": "the key record is malformed",
		"badkey_11":       "the key is not for sha256",
		"good_1878523":    "rsa-sha1 is not accepted",
		"good_83176":      "rsa-sha1 is not accepted",
		"goodkey_1":       "rsa-sha1 is not accepted",
		"goodkey_2":       "rsa-sha1 is not accepted",
		"goodkey_ed25519": "",
	}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "t__corpus__"), ".txt")
		v := verify(t, z, crlfFile(t, "perl-mail-dkim/"+filepath.Base(file)))
		for _, r := range v.Signatures {
			if (r.Status == Pass) != (name == "goodkey_ed25519") {
				t.Errorf("%s: %s (%s)", name, r.Status, r.Reason)
			}
			if want, ok := reasons[name]; ok && r.Reason != want {
				t.Errorf("%s: %s (%s), want %q", name, r.Status, r.Reason, want)
			}
		}
	}
}

// AUT-03.
func TestDKIMpySuite(t *testing.T) {
	const dir = "dkimpy/dkim__tests__data__"
	z := zone{
		"test._domainkey.football.example.com":     {strings.TrimSpace(string(suiteFile(t, dir+"test.txt")))},
		"brisbane._domainkey.football.example.com": {testRecord(t, "ed25519")},
	}
	for _, r := range verify(t, z, crlfFile(t, dir+"rfc6376.signed.msg")).Signatures {
		if r.Status != Pass {
			t.Errorf("%+v", r)
		}
	}
	for file, want := range map[string]string{
		"badk.txt": "the key is of an unknown kind", "badversion.txt": "the key record has another version",
		"test_bad.txt": "the key is no RSA key", "test_tlsrpt.txt": "the key is not for mail", "test.txt": "", "test2.txt": "",
	} {
		_, wrong := parseKeyRecord(strings.TrimSpace(string(suiteFile(t, dir+file))))
		if got := reasonOf(wrong); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

func reasonOf(wrong *fault) string {
	if wrong == nil {
		return ""
	}
	return wrong.reason
}

package dkim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// zone answers from memory, as dns.Resolver does.
type zone map[string][]string

type zoneError struct {
	error
	notFound bool
}

func (e zoneError) NotFound() bool { return e.notFound }

func (z zone) TXT(_ context.Context, name string) ([]string, error) {
	texts, ok := z[name]
	switch {
	case !ok:
		return nil, zoneError{context.Canceled, true}
	case texts == nil:
		return nil, zoneError{context.DeadlineExceeded, false}
	}
	return texts, nil
}

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
}

// arcScenario is a document of the suite. Some of the names in Tests stand there
// twice, so that they are no map.
type arcScenario struct {
	Tests   yaml.Node
	Records map[string]string `yaml:"txt-records"`
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
	text := suiteFile(t, "arc_test_suite/tests__arc-draft-validation-tests.yml")
	decoder := yaml.NewDecoder(bytes.NewReader(text))
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
			t.Run(name, func(t *testing.T) { runARCCase(t, s.zone(), s.Tests.Content[i+1]) })
		}
	}
	if len(names) != 171 {
		t.Errorf("%d cases, want 171", len(names))
	}
}

func runARCCase(t *testing.T, z zone, node *yaml.Node) {
	var c arcCase
	if err := node.Decode(&c); err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(VerifierConfig{Resolver: z}).Verify(t.Context(), Input{Body: body{strings.NewReader(crlfs(c.Message))}})
	if err != nil {
		t.Fatal(err)
	}
	want := Status(strings.ToLower(c.CV))
	if want == "" {
		want = Fail // the suite leaves open how a chain is called that was broken before
	}
	if v.ARC.Status != want {
		t.Errorf("%s: got %s (%s), want %s", c.Description, v.ARC.Status, v.ARC.Reason, want)
	}
}

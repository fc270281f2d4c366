package spf

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"gatepost/internal/mail"
)

// scenario is a document of the RFC 7208 test suite of pyspf.
type scenario struct {
	Description string
	Tests       map[string]suiteCase
	Zone        map[string]yaml.Node `yaml:"zonedata"`
}

type suiteCase struct {
	Helo, Host string
	MailFrom   string `yaml:"mailfrom"`
	Result     texts
}

// texts is a list that may be written as one text.
type texts []string

func (t *texts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.SequenceNode {
		var list []yaml.Node
		if err := n.Decode(&list); err != nil {
			return err
		}
		for _, item := range list {
			*t = append(*t, item.Value)
		}
		return nil
	}
	*t = texts{n.Value}
	return nil
}

// zoneOf makes the zone of a scenario. Records of the type SPF stand for TXT,
// unless the name has TXT of its own.
func zoneOf(t *testing.T, nodes map[string]yaml.Node) *zone {
	t.Helper()
	z := &zone{records: map[string][]rr{}}
	for name, node := range nodes {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		hasTXT := false
		z.records[name] = []rr{}
		for _, item := range node.Content {
			hasTXT = hasTXT || item.Kind == yaml.MappingNode && item.Content[0].Value == "TXT"
		}
		for _, item := range node.Content {
			if item.Kind != yaml.MappingNode {
				z.records[name] = append(z.records[name], rr{kind: item.Value})
				continue
			}
			kind := item.Content[0].Value
			var values texts
			if err := item.Content[1].Decode(&values); err != nil {
				t.Fatal(err)
			}
			switch {
			case kind == "TXT" && values[0] == "NONE", kind == "SPF" && hasTXT:
				continue
			case kind == "SPF":
				kind = "TXT"
			}
			value := strings.Join(values, "")
			if kind == "MX" {
				value = strings.ToLower(strings.TrimSuffix(values[1], "."))
			}
			z.records[name] = append(z.records[name], rr{kind, value})
		}
	}
	return z
}

// AUT-01.
func TestSuiteOfRFC7208(t *testing.T) {
	dir := os.Getenv("GATEPOST_CORPORA")
	if dir == "" {
		t.Skip("GATEPOST_CORPORA is not set")
	}
	text, err := os.ReadFile(filepath.Join(dir, "suites", "pyspf", "test__rfc7208-tests.yml"))
	if err != nil {
		t.Fatal(err)
	}
	right, all := 0, 0
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var s scenario
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		c := New(Config{Resolver: zoneOf(t, s.Zone)})
		for name, tt := range s.Tests {
			all++
			got := c.Check(t.Context(), tt.query())
			if slices.Contains(tt.Result, string(got.Status)) {
				right++
			} else {
				t.Errorf("%s, %s: got %s (%s), want %v", s.Description, name, got.Status, got.Reason, tt.Result)
			}
		}
	}
	t.Logf("%d of %d", right, all)
	if all < 203 {
		t.Errorf("only %d cases", all)
	}
}

func (c *suiteCase) query() Query {
	local, domain, _ := strings.Cut(c.MailFrom, "@")
	return Query{
		Client: netip.MustParseAddr(c.Host), Helo: c.Helo,
		Sender: mail.Address{Local: local, Domain: strings.ToLower(domain), Raw: c.MailFrom},
	}
}

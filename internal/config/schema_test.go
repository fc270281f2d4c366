package config

import (
	"slices"
	"strings"
	"testing"
)

// find returns a key of a section of the schema.
func (s *Schema) find(t *testing.T, section string, path ...string) SchemaKey {
	t.Helper()
	i := slices.IndexFunc(s.Sections, func(x SchemaSection) bool { return x.Name == section })
	if i < 0 {
		t.Fatalf("there is no section %q", section)
	}
	keys, k := s.Sections[i].Keys, SchemaKey{}
	for _, name := range path {
		j := slices.IndexFunc(keys, func(k SchemaKey) bool { return k.Name == name })
		if j < 0 {
			t.Fatalf("%s has no key %s", section, name)
		}
		k = keys[j]
		keys = k.Keys
	}
	return k
}

func TestTheSchemaSaysWhatTheReferenceSays(t *testing.T) {
	s, err := NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	if k := s.find(t, "", "data_dir"); !k.Required || k.Type != "path" || k.Doc == "" {
		t.Errorf("data_dir: %+v", k)
	}
	if k := s.find(t, "limits", "max_message_size"); k.Type != "size" || k.Default != `"50MiB"` || k.Min != "64KiB" || k.Max != "2GiB" {
		t.Errorf("max_message_size: %+v", k)
	}
	if k := s.find(t, "listener", "tls"); k.Type != "choice" || !slices.Contains(k.Choices, "implicit") {
		t.Errorf("tls: %+v", k)
	}
	if k := s.find(t, "listener", "flows", "content"); k.Names != "flow" {
		t.Errorf("flows.content: %+v", k)
	}
	if k := s.find(t, "transport", "hosts"); !k.List || !slices.Equal(k.Kinds, []string{"smtp", "lmtp"}) {
		t.Errorf("hosts: %+v", k)
	}
	if k := s.find(t, "domain", "transport"); k.Names != "transport" {
		t.Errorf("transport: %+v", k)
	}
	var checked func(where string, keys []SchemaKey)
	checked = func(where string, keys []SchemaKey) {
		for _, k := range keys {
			if k.Type == "" || k.Doc == "" && len(k.Keys) == 0 {
				t.Errorf("%s.%s has no type or words: %+v", where, k.Name, k)
			}
			checked(where+"."+k.Name, k.Keys)
		}
	}
	for _, section := range s.Sections {
		checked(section.Name, section.Keys)
		if section.Doc == "" {
			t.Errorf("%s has no words", section.Name)
		}
	}
	for _, b := range s.Blocks {
		checked(b.Stage+"/"+b.Use, b.Keys)
		if b.Doc == "" {
			t.Errorf("%s/%s has no words", b.Stage, b.Use)
		}
	}
}

func TestBlocksHaveTheParametersOfTheirStage(t *testing.T) {
	s, err := NewSchema()
	if err != nil {
		t.Fatal(err)
	}
	names := func(stage, use string) string {
		for _, b := range s.Blocks {
			if b.Stage == stage && b.Use == use {
				var all []string
				for _, k := range b.Keys {
					all = append(all, k.Name)
				}
				return " " + strings.Join(all, " ") + " "
			}
		}
		t.Fatalf("there is no %s at %s", use, stage)
		return ""
	}
	for _, c := range []struct{ stage, use, has, lacks string }{
		{"connect", "reputation", "threshold", "file"}, {"content", "reputation", "max_score", "threshold"},
		{"recipient", "script", "on_match", "source"}, {"content", "script", "on_unknown", "on_match"}, {"recipient", "spf", "on_fail", "on_match"},
	} {
		if got := names(c.stage, c.use); !strings.Contains(got, " "+c.has+" ") || strings.Contains(got, " "+c.lacks+" ") {
			t.Errorf("%s/%s has%s", c.stage, c.use, got)
		}
	}
}

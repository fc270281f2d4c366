package config

import (
	"embed"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"gatepost/internal/flow"
	"gatepost/internal/scan/filter"
)

// Schema describes the configuration to those who show it as forms. It is made of the
// same types and comments as docs/configuration.md.
type Schema struct {
	// Sections are those of the file in the order of the reference; the first, without
	// a name, has the keys at the top.
	Sections []SchemaSection `json:"sections"`
	// Blocks are what flows are made of, by stage.
	Blocks []SchemaBlock `json:"blocks"`
	Stages []string      `json:"stages"`
	// Conditions are the keys of `when` of a [[filter]], Actions what may stand in `then`;
	// one that ends in ":" takes an argument.
	Conditions []string `json:"conditions"`
	Actions    []string `json:"actions"`
}

// SchemaSection is [name], or [[name]] where there may be many.
type SchemaSection struct {
	Name string      `json:"name"`
	Many bool        `json:"many"`
	Doc  string      `json:"doc"`
	Keys []SchemaKey `json:"keys"`
}

// SchemaKey is one key of a section or block.
type SchemaKey struct {
	Name string `json:"name"`
	// Type is what a value is: "text", "number", "decimal", "boolean", "choice", "size",
	// "duration", "path" and so on; "table" has Keys of its own.
	Type string `json:"type"`
	// List says that there may be several values, or, for a table, several tables.
	List     bool   `json:"list"`
	Required bool   `json:"required"`
	Doc      string `json:"doc"`
	// Default is the value in TOML that a key has that is not there; Computed says
	// instead where it comes from.
	Default  string   `json:"default,omitempty"`
	Computed string   `json:"computed,omitempty"`
	Example  string   `json:"example,omitempty"` // in TOML
	Choices  []string `json:"choices,omitempty"`
	Min      string   `json:"min,omitempty"`
	Max      string   `json:"max,omitempty"`
	// Kinds are the kinds of transport that have the key; none: all.
	Kinds []string `json:"kinds,omitempty"`
	// Values is what the values of a table are that has whatever keys: "text", "decimal".
	Values string `json:"values,omitempty"`
	// Names is the section whose names are the values: "flow".
	Names string `json:"names,omitempty"`
	// NamesAfter are sections whose names are values behind a word and ":": "ldap" for
	// "ldap:staff".
	NamesAfter []string    `json:"names_after,omitempty"`
	Keys       []SchemaKey `json:"keys,omitempty"`
}

// SchemaBlock is a block that a flow of the stage may hold.
type SchemaBlock struct {
	Stage string `json:"stage"`
	Use   string `json:"use"`
	Doc   string `json:"doc"`
	// Repeats says that a flow may hold several.
	Repeats bool `json:"repeats"`
	// Timeout is the default, "" where it depends.
	Timeout string `json:"timeout,omitempty"`
	// Keys are the parameters of its own, then what blocks of the stage have in common.
	Keys []SchemaKey `json:"keys"`
}

// NewSchema makes the description. The error is that of a build gone wrong.
func NewSchema() (*Schema, error) {
	docs, err := readDocs(typeSources)
	if err != nil {
		return nil, err
	}
	m := &schemaMaker{docs: docs}
	root := reflect.TypeFor[Config]()
	s := &Schema{Sections: []SchemaSection{{Doc: "These keys stand before the first section."}}}
	for _, k := range keysOf(root) {
		ft := root.Field(k.index).Type
		elem := elemOf(ft)
		if !isTable(elem) {
			s.Sections[0].Keys = append(s.Sections[0].Keys, m.key(root, k, k.name))
			continue
		}
		s.Sections = append(s.Sections, SchemaSection{
			Name: k.name, Many: ft.Kind() == reflect.Slice, Doc: capital(afterSubject(docs[elem.Name()].text)), Keys: m.keys(elem, k.name),
		})
	}
	for _, kind := range blockKinds {
		if !slices.Contains(s.Stages, kind.stage) {
			s.Stages = append(s.Stages, kind.stage)
		}
		s.Blocks = append(s.Blocks, m.block(&kind))
	}
	s.Conditions = filter.Conditions()
	s.Actions = slices.Clone(filterVerbs)
	return s, nil
}

type schemaMaker struct{ docs map[string]structDoc }

func (m *schemaMaker) block(kind *blockKind) SchemaBlock {
	params := reflect.TypeOf(kind.params()).Elem()
	b := SchemaBlock{
		Stage: kind.stage, Use: kind.use, Repeats: kind.repeats,
		Doc: capital(strings.TrimPrefix(m.docs[params.Name()].text, params.Name()+" ")), Keys: m.keys(params, "flow.blocks"),
	}
	if kind.timeout != 0 {
		b.Timeout = formatDuration(kind.timeout)
	}
	if kind.acts() {
		acts, d := m.keys(reflect.TypeFor[StageActs](), "flow.blocks"), flow.StageDefaults(kind.use)
		for i := range acts {
			switch acts[i].Name {
			case "on_match":
				acts[i].Default, acts[i].Computed = literalOr(string(d.OnMatch)), ""
			case "on_unknown":
				acts[i].Default, acts[i].Computed = literalOr(string(d.OnUnknown)), ""
			}
		}
		if kind.use == "spf" {
			acts = slices.DeleteFunc(acts, func(k SchemaKey) bool { return k.Name == "on_match" || k.Name == "action" })
		}
		b.Keys = append(b.Keys, acts...)
	}
	for _, k := range m.keys(reflect.TypeFor[Block](), "flow.blocks") {
		if k.Name != "use" {
			b.Keys = append(b.Keys, k)
		}
	}
	return b
}

func literalOr(text string) string {
	if text == "" {
		return ""
	}
	return exampleLiteral(reflect.TypeFor[string](), text)
}

func (m *schemaMaker) keys(t reflect.Type, path string) []SchemaKey {
	var keys []SchemaKey
	for _, k := range keysOf(t) {
		keys = append(keys, m.key(t, k, path+"."+k.name))
	}
	return keys
}

func (m *schemaMaker) key(t reflect.Type, k key, path string) SchemaKey {
	ft := t.Field(k.index).Type
	elem := elemOf(ft)
	s := SchemaKey{
		Name: k.name, Type: schemaType(elem, k), List: ft.Kind() == reflect.Slice, Required: k.tag.Get("required") == "true",
		Doc: m.docs[t.Name()].fields[k.name], Min: k.tag.Get("min"), Max: k.tag.Get("max"), Names: namesOf(path),
		NamesAfter: namesAfter(elem, path), Values: valuesOf(elem),
	}
	if isTable(elem) && elem != reflect.TypeFor[Block]() {
		s.Keys = m.keys(elem, path)
		return s
	}
	if def, ok := k.tag.Lookup("default"); strings.HasPrefix(def, "(") {
		s.Computed = strings.Trim(def, "()")
	} else if ok {
		s.Default = exampleLiteral(ft, def)
	}
	if example := k.tag.Get("example"); example != "" {
		s.Example = exampleLiteral(ft, example)
	}
	if enum := k.tag.Get("enum"); enum != "" {
		s.Choices = strings.Split(enum, ",")
	}
	if kinds := k.tag.Get("kinds"); kinds != "" {
		s.Kinds = strings.Split(kinds, ",")
	}
	return s
}

// schemaType names the type of a key for forms.
func schemaType(t reflect.Type, k key) string {
	switch {
	case k.tag.Get("enum") != "":
		return "choice"
	case k.tag.Get("port") == "socket":
		return "socket"
	case isTable(t), t.Kind() == reflect.Map:
		return "table"
	}
	names := map[string]string{
		"string": "text", "int": "number", "bool": "boolean", "float64": "decimal", "Addr": "ip", "Prefix": "network",
		"Address": "mail", "HostPort": "hostport", "DomainName": "domain", "TimeOfDay": "time", "BaseURL": "url", "TableSource": "source",
	}
	if name := names[t.Name()]; name != "" {
		return name
	}
	return strings.ToLower(t.Name())
}

// namesOf is the section whose names are the values of a key, by its path or its end.
func namesOf(path string) string {
	for _, row := range [][2]string{
		{"domain.transport", "transport"}, {"domain.listener", "listener"}, {"transport.dkim", "dkim"}, {"rewrite.generic_transports", "transport"},
		{"transport.arc", "dkim"}, {"listener.auth_upstream", "transport"},
		{"flow.blocks.transport", "transport"}, {"flow.blocks.names", "filter"}, {"flow.blocks.ldap", "ldap"}, {"flow.blocks.http", "http"},
		{".flows.connect", "flow"}, {".flows.auth", "flow"}, {".flows.recipient", "flow"}, {".flows.content", "flow"},
	} {
		if path == row[0] || strings.HasPrefix(row[0], ".") && strings.HasSuffix(path, row[0]) {
			return row[1]
		}
	}
	return ""
}

// valuesOf is what the values of a map are, "" where they may be anything.
func valuesOf(t reflect.Type) string {
	if t.Kind() != reflect.Map {
		return ""
	}
	return map[reflect.Kind]string{reflect.String: "text", reflect.Float64: "decimal"}[t.Elem().Kind()]
}

// namesAfter are the sections that values of a type, or of one key, may name behind a
// word of the same name.
func namesAfter(t reflect.Type, path string) []string {
	switch {
	case t == reflect.TypeFor[Source](), t == reflect.TypeFor[TableSource]():
		return []string{"ldap", "http"}
	case path == "filter.then":
		return []string{flow.VerbDisclaimer}
	}
	return nil
}

// typeSources are the files of this package whose comments are the reference.
//
//go:embed *types.go
var typeSources embed.FS

// structDoc is the comment of a struct and those of its fields, by key.
type structDoc struct {
	text   string
	fields map[string]string
}

// readDocs reads the comments of all structs.
func readDocs(sources fs.FS) (map[string]structDoc, error) {
	names, err := fs.Glob(sources, "*types.go")
	if err != nil || len(names) == 0 {
		return nil, errors.Join(err, errors.New("read the reference: there is no source"))
	}
	docs := map[string]structDoc{}
	for _, name := range names {
		text, err := fs.ReadFile(sources, name)
		if err != nil {
			return nil, fmt.Errorf("read the reference: %w", err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read the reference: %w", err)
		}
		for _, decl := range file.Decls {
			if gen, ok := decl.(*ast.GenDecl); ok && gen.Tok == token.TYPE {
				readDoc(docs, gen)
			}
		}
	}
	return docs, nil
}

func readDoc(docs map[string]structDoc, gen *ast.GenDecl) {
	spec, ok := gen.Specs[0].(*ast.TypeSpec)
	if !ok {
		return
	}
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	d := structDoc{text: paragraph(gen.Doc.Text()), fields: map[string]string{}}
	for _, f := range st.Fields.List {
		if f.Tag == nil {
			continue
		}
		name := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("toml")
		if text := paragraph(f.Doc.Text()); text != "" || !isSection(f.Type) {
			d.fields[name] = text
		}
	}
	docs[spec.Name.Name] = d
}

// isSection tells fields that are sections of their own, which need no comment: those
// of Config with a type of this package.
func isSection(e ast.Expr) bool {
	if a, ok := e.(*ast.ArrayType); ok {
		e = a.Elt
	}
	id, ok := e.(*ast.Ident)
	if !ok {
		return false
	}
	root := reflect.TypeFor[Config]()
	for _, k := range keysOf(root) {
		if elem := elemOf(root.Field(k.index).Type); isTable(elem) && elem.Name() == id.Name {
			return true
		}
	}
	return false
}

func paragraph(s string) string { return strings.Join(strings.Fields(s), " ") }

func elemOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// afterSubject cuts "Listener is " off the comment of a type.
func afterSubject(s string) string {
	_, rest, _ := strings.Cut(s, " ")
	for _, verb := range []string{"is ", "says "} {
		rest = strings.TrimPrefix(rest, verb)
	}
	return rest
}

// capital begins a sentence.
func capital(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

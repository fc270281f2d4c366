package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// FileKind is what a file that the configuration names is for.
type FileKind string

// The kinds of files.
const (
	FileScript      FileKind = "script"      // of a block script
	FileUsers       FileKind = "users"       // names and passwords, of a block auth-file
	FileClients     FileKind = "clients"     // a list of a block access
	FileRecipients  FileKind = "recipients"  // a list of a [[domain]]
	FileTable       FileKind = "table"       // of [rewrite]
	FileList        FileKind = "list"        // of a condition of a [[filter]]
	FileCertificate FileKind = "certificate" // one, a chain, or authorities
	FileKey         FileKind = "key"         // a private key
	FileSecret      FileKind = "secret"      // a password, a token, the secrets of SRS
	FileData        FileKind = "data"        // a database that others make
	FileText        FileKind = "text"        // anything else
)

// Secret reports whether files of the kind are never shown.
func (k FileKind) Secret() bool { return k == FileKey || k == FileSecret }

// File is a file that a configuration names.
type File struct {
	// Path is absolute.
	Path string
	Kind FileKind
	// Stages are those of the flows that run it, of a script.
	Stages []string
	// Keys are where it is named: "listener.inbound.tls_cert_file".
	Keys []string
}

// Files lists the files that the configuration names, by path.
func (c *Config) Files() []File {
	byPath := map[string]*File{}
	c.eachFile(func(f *fileRef) {
		have := byPath[f.path]
		if have == nil {
			have = &File{Path: f.path, Kind: f.kind}
			byPath[f.path] = have
		}
		if f.kind.Secret() {
			have.Kind = f.kind // named as anything else, too, it stays a secret
		}
		have.Keys = append(have.Keys, f.key)
		if f.stage != "" && f.kind == FileScript && !slices.Contains(have.Stages, f.stage) {
			have.Stages = append(have.Stages, f.stage)
		}
	})
	files := make([]File, 0, len(byPath))
	for _, f := range byPath {
		files = append(files, *f)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return files
}

// Stage puts other files in the place of some that the configuration names, as LoadText
// does; with the map turned round it takes that back.
func (c *Config) Stage(staged map[string]string) { c.stage(staged, "") }

func (c *Config) stage(staged map[string]string, dir string) {
	if len(staged) == 0 {
		return
	}
	c.eachFile(func(f *fileRef) {
		if other, ok := staged[f.path]; ok {
			f.set(other)
		}
	})
	c.eachCondition(func(text string) string {
		if path, ok := strings.CutPrefix(text, "file:"); ok {
			if other, ok := staged[string(absolute(path, dir))]; ok {
				return "file:" + other
			}
		}
		return text
	})
}

// absoluteLists makes the paths in conditions absolute, as all others are.
func (c *Config) absoluteLists(dir string) {
	c.eachCondition(func(text string) string {
		if path, ok := strings.CutPrefix(text, "file:"); ok {
			return "file:" + string(absolute(path, dir))
		}
		return text
	})
}

// eachCondition replaces every string in the conditions of filters by what f makes of it.
func (c *Config) eachCondition(f func(string) string) {
	for i := range c.Filters {
		replaceStrings(map[string]any(c.Filters[i].When), f)
	}
}

func replaceStrings(v any, f func(string) string) any {
	switch v := v.(type) {
	case string:
		return f(v)
	case []any:
		for i := range v {
			v[i] = replaceStrings(v[i], f)
		}
	case map[string]any:
		for key := range v {
			v[key] = replaceStrings(v[key], f)
		}
	}
	return v
}

// fileRef is one place of a Config that names a file.
type fileRef struct {
	path, key, stage string
	kind             FileKind
	set              func(path string)
}

// eachFile calls fn for every place that names a file.
func (c *Config) eachFile(fn func(*fileRef)) {
	w := &fileWalk{fn: fn}
	w.table(reflect.ValueOf(c).Elem(), "")
	for i := range c.Filters {
		w.conditions(map[string]any(c.Filters[i].When), "filter."+quoteKey(c.Filters[i].Name)+".when")
	}
}

type fileWalk struct {
	fn    func(*fileRef)
	stage string // of the flow
}

// table visits a struct and, of a variant, its further keys.
func (w *fileWalk) table(v reflect.Value, path string) {
	switch x := v.Addr().Interface().(type) {
	case *Flow:
		w.stage = x.Stage
	case *Block:
		if x.Params != nil {
			w.table(reflect.ValueOf(x.Params).Elem(), path)
		}
	}
	for _, k := range keysOf(v.Type()) {
		at := strings.TrimPrefix(path+"."+k.name, ".")
		w.value(v.Field(k.index), v.Type(), k.name, at)
	}
}

func (w *fileWalk) value(v reflect.Value, in reflect.Type, key, path string) {
	switch x := v.Addr().Interface().(type) {
	case *Path:
		if kind := kindOfFile(in, key); *x != "" && kind != "" {
			w.fn(&fileRef{path: string(*x), key: path, stage: w.stage, kind: kind, set: func(s string) { *x = Path(s) }})
		}
		return
	case *Source:
		if x.Kind == "file" {
			w.fn(&fileRef{path: x.Arg, key: path, kind: FileRecipients, set: func(s string) { x.Arg = s }})
		}
		return
	case *TableSource:
		if x.Kind == "file" {
			w.fn(&fileRef{path: x.Arg, key: path, kind: FileTable, set: func(s string) { x.Arg = s }})
		}
		return
	}
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil() && isTable(v.Elem().Type()):
		w.table(v.Elem(), path)
	case isTable(v.Type()):
		w.table(v, path)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			at := path
			if isTable(v.Type().Elem()) {
				at += "." + nameOf(v.Index(i), i)
			}
			w.value(v.Index(i), in, key, at)
		}
	}
}

// nameOf tells one [[table]] from the others, as in problems.
func nameOf(v reflect.Value, i int) string {
	for _, k := range keysOf(v.Type()) {
		if f := v.Field(k.index); (k.name == "name" || k.name == "use") && f.Kind() == reflect.String && f.String() != "" {
			return quoteKey(f.String())
		}
	}
	return fmt.Sprintf("#%d", i+1)
}

// conditions visits the strings of conditions, which the filters have read already.
func (w *fileWalk) conditions(v any, path string) {
	switch v := v.(type) {
	case string:
		if name, ok := strings.CutPrefix(v, "file:"); ok && filepath.IsAbs(name) {
			w.fn(&fileRef{path: name, key: path, kind: FileList, set: func(string) {}})
		}
	case []any:
		for _, e := range v {
			w.conditions(e, path)
		}
	case map[string]any:
		for key, e := range v {
			w.conditions(e, path+"."+quoteKey(key))
		}
	}
}

// kindOfFile is what the file of a key is for, "" for a directory. The names of keys
// say it, so that a new one is never shown by mistake: what is not known is text only
// where nothing in its name speaks of secrets.
func kindOfFile(in reflect.Type, key string) FileKind {
	switch in {
	case reflect.TypeFor[ScriptBlock](), reflect.TypeFor[ContentScriptBlock]():
		return FileScript
	case reflect.TypeFor[AuthFileBlock]():
		return FileUsers
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(key, w) })
	}
	switch {
	case !strings.HasSuffix(key, "file"):
		return ""
	case has("ca_file", "cert"):
		return FileCertificate
	case has("password", "secret", "token"):
		return FileSecret
	case has("key"):
		return FileKey
	case has("mmdb"):
		return FileData
	case in == reflect.TypeFor[AccessBlock]():
		return FileClients
	}
	return FileText
}

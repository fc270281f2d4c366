package scan

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive"
	"gatepost/internal/message/mimetree"
)

// Files is what a message carries, in every reading.
type Files struct {
	List []File
	// Findings are what is wrong with archives and documents: modules "archive",
	// "office" and "pdf"; see package archive for the symbols.
	Findings []mail.Finding
	// Links are the places elsewhere that documents refer to.
	Links []archive.Link
}

// File is one file, or one way to read one.
type File struct {
	// Part is the path of the part that carries it.
	Part string `json:"part"`
	// Path is the names from the attachment down to the file, where it is in an
	// archive or document.
	Path []string `json:"path,omitempty"`
	// Name is the name to show, "" where it has none.
	Name string `json:"name,omitempty"`
	// Keys are the forms of all its names under which lists of names are matched,
	// lower case (mimetree.NameKeys).
	Keys []string `json:"-"`
	// Types are the media types by content, Declared those that the header gives.
	Types    []string `json:"types,omitempty"`
	Declared []string `json:"declared,omitempty"`
	// Size is in bytes, -1 where it is not known without decoding.
	Size      int64 `json:"size"`
	Encrypted bool  `json:"encrypted,omitempty"`
	// Derived says that it is no file but what was taken out of one: the source
	// of a macro, a script.
	Derived bool `json:"derived,omitempty"`
}

// InArchive reports whether the file is inside of another.
func (f *File) InArchive() bool { return len(f.Path) > 1 }

// sniffSize is how much of a file is looked at for its type; a disk image is
// known by its bytes from 32769 on.
const sniffSize = 33 << 10

// Visit is called by Walk: member is nil for the contents of the parts
// themselves, and content is what can be read of the file.
type Visit func(f *File, content mail.Body) error

func (in *Input) listFiles(ctx context.Context) (*Files, error) {
	w := walk{unpacker: in.options.Unpacker, files: &Files{}}
	for _, p := range in.Tree.Parts {
		if p.Leaf() || len(p.Names) > 0 {
			w.files.addPart(p)
		}
		if err := w.part(ctx, p); err != nil {
			return nil, err
		}
	}
	return w.files, nil
}

// WalkMembers opens the archives and documents of the message again, and calls
// visit for every member with its content, which is gone when visit returns. It
// is for modules whose engine does not open them itself.
func (in *Input) WalkMembers(ctx context.Context, visit Visit) error {
	w := walk{unpacker: in.options.Unpacker, files: &Files{}, visit: visit}
	for _, p := range in.Tree.Parts {
		if err := w.part(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// walk is one way through all archives of a message, under one budget.
type walk struct {
	unpacker *archive.Unpacker // nil: archives stay closed
	budget   *archive.Budget   // made when the first is opened: its time runs
	files    *Files
	visit    Visit // nil: they are only listed
}

// part opens the contents of a part that may hold other files.
func (w *walk) part(ctx context.Context, p *mimetree.Part) error {
	for _, c := range p.Contents {
		if w.unpacker == nil || !mayHold(p, c) {
			continue
		}
		if w.budget == nil {
			w.budget = w.unpacker.NewBudget()
		}
		if err := w.open(ctx, p, c); err != nil {
			return err
		}
	}
	return nil
}

// addPart lists the contents of a part, or its names alone where it has none.
func (f *Files) addPart(p *mimetree.Part) {
	var keys []string
	p.EachName(func(key string) bool { keys = append(keys, key); return true })
	file := File{Part: p.Path, Keys: keys, Declared: p.Types, Size: -1}
	if len(p.Names) > 0 {
		file.Name = p.Names[0].Text
		file.Path = []string{file.Name}
	}
	for _, c := range p.Contents {
		file.Types = union(file.Types, c.Types)
		if c.Encoding == mimetree.Identity && c.Main {
			file.Size = c.Raw.End - c.Raw.Start
		}
	}
	f.List = append(f.List, file)
}

// open walks one content of a part.
func (w *walk) open(ctx context.Context, p *mimetree.Part, c *mimetree.Content) error {
	body, err := c.OpenAt(ctx)
	if err != nil {
		return err
	}
	name := ""
	if len(p.Names) > 0 {
		name = p.Names[0].Text
	}
	result, err := w.unpacker.Walk(ctx, w.budget, archive.Input{Name: name, Body: body}, func(m *archive.Member) error {
		file, err := memberFile(p, m)
		if err != nil {
			return err
		}
		w.files.List = append(w.files.List, file)
		if w.visit != nil {
			return w.visit(&w.files.List[len(w.files.List)-1], m.Content)
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.files.addResult(p, result)
	return nil
}

// addResult notes what a walk found, each observation about a file once.
func (f *Files) addResult(p *mimetree.Part, result *archive.Result) {
	for _, found := range result.Findings {
		found.Part, found.Name = p.Path, strings.Join(found.Path, " > ")
		if !slices.ContainsFunc(f.Findings, func(g mail.Finding) bool {
			return g.Module == found.Module && g.Symbol == found.Symbol && g.Part == found.Part && g.Name == found.Name
		}) {
			f.Findings = append(f.Findings, found.Finding)
		}
	}
	f.Links = append(f.Links, result.Links...)
}

func memberFile(p *mimetree.Part, m *archive.Member) (File, error) {
	f := File{
		Part: p.Path, Path: slices.Clone(m.Path), Name: m.Name,
		Size: m.Content.Size(), Encrypted: m.Encrypted, Derived: m.Derived,
	}
	for _, name := range m.Names {
		f.Keys = union(f.Keys, mimetree.NameKeys(name))
	}
	start := make([]byte, min(sniffSize, m.Content.Size()))
	n, err := m.Content.ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return f, err
	}
	if n > 0 {
		f.Types = mimetree.Sniff(start[:n])
	}
	return f, nil
}

// mayHold reports whether a content can hold other files or programs. Text that is
// meant to be read cannot: what is hidden in it (uuencode, base64 in data: links)
// the tree and the texts bring out. A part that is a file for its reader is always
// looked at, whatever it begins like: an archive may stand behind anything.
func mayHold(p *mimetree.Part, c *mimetree.Content) bool {
	isFile := len(p.Names) > 0 || slices.ContainsFunc(p.Types, func(t string) bool {
		return !strings.HasPrefix(t, "text/") && !strings.HasPrefix(t, "multipart/") && !strings.HasPrefix(t, "message/")
	})
	return isFile || slices.ContainsFunc(c.Types, func(t string) bool {
		return t != "text/plain" && t != "text/html" && !strings.HasPrefix(t, "image/") && !strings.HasPrefix(t, "message/")
	})
}

// union appends the strings of b that a does not have.
func union(a, b []string) []string {
	for _, s := range b {
		if !slices.Contains(a, s) {
			a = append(a, s)
		}
	}
	return a
}

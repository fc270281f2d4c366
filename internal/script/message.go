package script

import (
	"strings"

	"go.starlark.net/starlark"

	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/message/textview"
	"gatepost/internal/scan"
	"gatepost/internal/scan/authres/dmarc"
)

// Limits of what a script reads of a message, in bytes.
const (
	maxHeaderValue = 16 << 10
	maxName        = 1000
)

// letter is s.message. What is costly to derive is made when it is asked for, by
// scan.Input, once for all modules.
type letter struct {
	object
	c     *call
	parts *starlark.List
	files *starlark.List
	urls  *starlark.List
	text  starlark.Value
}

var (
	letterAttrs = attrNames{"author", "author_domains", "files", "get", "get_all", "hidden", "parts", "size", "subject", "text", "urls"}
	partAttrs   = attrNames{"charset", "disposition", "names", "path", "size", "types"}
	fileAttrs   = attrNames{"declared", "encrypted", "name", "part", "path", "size", "types"}
	urlAttrs    = attrNames{"domain", "host", "shown", "url"}
)

func (v *letter) String() string      { return "<message>" }
func (v *letter) Type() string        { return "message" }
func (v *letter) AttrNames() []string { return letterAttrs }

// Attr implements starlark.HasAttrs.
func (v *letter) Attr(name string) (starlark.Value, error) {
	in := v.c.in.Message
	switch name {
	case "subject":
		return v.c.header(in.Header.Get("Subject"))
	case "author":
		return v.c.header(in.Header.Get("From"))
	case "author_domains":
		// Nobody there is a list without anybody.
		domains, _ := dmarc.Authors(in.Header)
		return v.c.list(domains, 0)
	case "size":
		return starlark.MakeInt64(in.Message.Body.Size()), nil
	case "get":
		return bind("get", getHeader), nil
	case "get_all":
		return bind("get_all", getHeaders), nil
	case "parts":
		return v.partList()
	case "files":
		return v.fileList()
	case "text", "hidden":
		return v.readText(name == "hidden")
	case "urls":
		return v.urlList()
	}
	return nil, nil
}

// header makes a value of a header field: decoded, one printable line.
func (c *call) header(value string) (starlark.Value, error) {
	if err := c.charge(sizeValue + 2*int64(min(len(value), maxHeaderValue))); err != nil {
		return nil, err
	}
	return starlark.String(message.SafeText(value, maxHeaderValue)), nil
}

// list makes a list of strings, each one printable line of limit bytes at most; 0:
// as they are.
func (c *call) list(texts []string, limit int) (*starlark.List, error) {
	values := make([]starlark.Value, len(texts))
	var sum int64
	for i, s := range texts {
		if limit > 0 {
			s = message.SafeText(s, limit)
		}
		values[i] = starlark.String(s)
		sum += 3*sizeValue + int64(len(s))
	}
	l := starlark.NewList(values)
	l.Freeze()
	return l, c.charge(sum)
}

// getHeader is s.message.get(name, default): the first field of that name.
func getHeader(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	var otherwise starlark.Value = starlark.String("")
	if err := starlark.UnpackArgs("get", args, kwargs, "name", &name, "default?", &otherwise); err != nil {
		return nil, err
	}
	for _, f := range c.in.Message.Header.Fields() {
		if f.Is(name) {
			return c.header(f.Value())
		}
	}
	return otherwise, nil
}

// getHeaders is s.message.get_all(name).
func getHeaders(c *call, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var name string
	if err := starlark.UnpackArgs("get_all", args, kwargs, "name", &name); err != nil {
		return nil, err
	}
	var list []starlark.Value
	for _, f := range c.in.Message.Header.Fields() {
		if !f.Is(name) {
			continue
		}
		v, err := c.header(f.Value())
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return starlark.NewList(list), nil
}

// frozen makes a list that is kept for the rest of the call.
func frozen[T any](c *call, items []T, value func(*T) (starlark.Value, error)) (*starlark.List, error) {
	if err := c.charge(int64(len(items)) * 4 * sizeObject); err != nil {
		return nil, err
	}
	list := make([]starlark.Value, len(items))
	for i := range items {
		v, err := value(&items[i])
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	l := starlark.NewList(list)
	l.Freeze()
	return l, nil
}

func (v *letter) partList() (starlark.Value, error) {
	var err error
	if v.parts == nil {
		v.parts, err = frozen(v.c, v.c.in.Message.Tree.Parts, func(p **mimetree.Part) (starlark.Value, error) { return &part{c: v.c, p: *p}, nil })
	}
	return v.parts, err
}

func (v *letter) fileList() (starlark.Value, error) {
	if v.files != nil {
		return v.files, nil
	}
	files, err := v.c.in.Message.Files(v.c.ctx)
	if err != nil {
		return nil, err
	}
	v.files, err = frozen(v.c, files.List, func(f *scan.File) (starlark.Value, error) { return &file{c: v.c, f: f}, nil })
	return v.files, err
}

// view is what a reader sees of the message.
func (v *letter) view() (*textview.View, error) { return v.c.in.Message.Text(v.c.ctx) }

// readText is the texts that most programs show, or what is hidden in them.
func (v *letter) readText(hidden bool) (starlark.Value, error) {
	if !hidden && v.text != nil {
		return v.text, nil
	}
	view, err := v.view()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i := range view.Texts {
		t := &view.Texts[i]
		switch {
		case hidden:
			b.WriteString(t.Hidden)
		case t.Main:
			b.WriteString(t.Shown)
		default:
			continue
		}
		if i < len(view.Texts)-1 {
			b.WriteByte('\n')
		}
		if b.Len() > maxString {
			break
		}
	}
	text := b.String()
	text = strings.ToValidUTF8(text[:min(len(text), maxString)], "")
	if err := v.c.charge(sizeValue + int64(len(text))); err != nil {
		return nil, err
	}
	if hidden {
		return starlark.String(text), nil
	}
	v.text = starlark.String(text)
	return v.text, nil
}

func (v *letter) urlList() (starlark.Value, error) {
	if v.urls != nil {
		return v.urls, nil
	}
	view, err := v.view()
	if err != nil {
		return nil, err
	}
	v.urls, err = frozen(v.c, view.URLs, func(u *textview.URL) (starlark.Value, error) { return &link{u: u}, nil })
	return v.urls, err
}

type part struct {
	object
	c *call
	p *mimetree.Part
}

func (v *part) String() string      { return "<part " + v.p.Path + ">" }
func (v *part) Type() string        { return "part" }
func (v *part) AttrNames() []string { return partAttrs }

// Attr implements starlark.HasAttrs.
func (v *part) Attr(name string) (starlark.Value, error) {
	switch name {
	case "path":
		return starlark.String(v.p.Path), nil
	case "types":
		types := append([]string(nil), v.p.Types...)
		for _, c := range v.p.Contents {
			types = append(types, c.Types...)
		}
		return v.c.list(types, maxName)
	case "names":
		names := make([]string, len(v.p.Names))
		for i := range names {
			names[i] = v.p.Names[i].Text
		}
		return v.c.list(names, maxName)
	case "disposition":
		return starlark.String(v.p.Disposition), nil
	case "charset":
		return starlark.String(v.p.Charset), nil
	case "size":
		return starlark.MakeInt64(v.p.Body.End - v.p.Body.Start), nil
	}
	return nil, nil
}

type file struct {
	object
	c *call
	f *scan.File
}

func (v *file) String() string      { return "<file " + message.SafeText(v.f.Name, maxName) + ">" }
func (v *file) Type() string        { return "file" }
func (v *file) AttrNames() []string { return fileAttrs }

// Attr implements starlark.HasAttrs.
func (v *file) Attr(name string) (starlark.Value, error) {
	switch name {
	case "name":
		return starlark.String(message.SafeText(v.f.Name, maxName)), v.c.charge(int64(len(v.f.Name)))
	case "path":
		return v.c.list(v.f.Path, maxName)
	case "part":
		return starlark.String(v.f.Part), nil
	case "types":
		return v.c.list(v.f.Types, maxName)
	case "declared":
		return v.c.list(v.f.Declared, maxName)
	case "size":
		return starlark.MakeInt64(v.f.Size), nil
	case "encrypted":
		return starlark.Bool(v.f.Encrypted), nil
	}
	return nil, nil
}

type link struct {
	object
	u *textview.URL
}

func (v *link) String() string      { return v.u.Clean }
func (v *link) Type() string        { return "url" }
func (v *link) AttrNames() []string { return urlAttrs }

// Attr implements starlark.HasAttrs.
func (v *link) Attr(name string) (starlark.Value, error) {
	switch name {
	case "url":
		return starlark.String(v.u.Clean), nil
	case "host":
		return starlark.String(v.u.Host), nil
	case "domain":
		return starlark.String(v.u.Domain), nil
	case "shown":
		return starlark.String(v.u.Text), nil
	}
	return nil, nil
}

package textview

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
)

// Limits that need no configuration: they bound what one link or one place of a
// message may cost, and no honest message comes near.
const (
	maxURL       = 8 << 10 // bytes of one address that are looked at
	maxLinkText  = 300     // bytes of the text of a link that are kept
	maxEmbedded  = 16      // documents in data: addresses and srcdoc, in all
	maxEmbedding = 3       // documents in documents
	maxNested    = 3       // addresses in queries of addresses
	minShare     = 16 << 10
)

// reader makes one View.
type reader struct {
	view  View
	left  int64 // bytes of text
	urls  int   // links that may still be kept
	seen  map[linkKey]struct{}
	part  string // the path of the part that is being read
	main  bool
	notes notes
	// embedded counts documents inside of documents, depth how deep this one is.
	embedded, depth int
}

type linkKey struct{ clean, text string }

// source is one text to read.
type source struct {
	part    *mimetree.Part
	content *mimetree.Content
	html    bool
	main    bool
	// attached texts come last when there is not enough room for all.
	attached bool
	order    int
}

// Read makes the view of a message. The errors are those of reading the body and
// of ctx.
func Read(ctx context.Context, tree *mimetree.Tree, header *message.Header, limits Limits) (*View, error) {
	r := &reader{left: limits.Text, urls: limits.URLs, seen: map[linkKey]struct{}{}}
	if r.left <= 0 {
		r.left = 1 << 20
	}
	if r.urls <= 0 {
		r.urls = 1000
	}
	r.readHeader(header)
	sources := listSources(tree)
	places := make([]int, 0, len(sources))
	for i, s := range sources {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		before := len(r.view.Texts)
		if err := r.readSource(tree, s, len(sources)-i-1); err != nil {
			return nil, fmt.Errorf("read part %s: %w", s.part.Path, err)
		}
		for range len(r.view.Texts) - before {
			places = append(places, s.order)
		}
	}
	r.view.Texts = inOrder(r.view.Texts, places)
	r.view.Findings = r.notes.findings()
	return &r.view, nil
}

// inOrder sorts texts by the place of their part.
func inOrder(texts []Text, places []int) []Text {
	if slices.IsSorted(places) {
		return texts
	}
	index := make([]int, len(texts))
	for i := range index {
		index[i] = i
	}
	slices.SortStableFunc(index, func(a, b int) int { return cmp.Compare(places[a], places[b]) })
	sorted := make([]Text, len(texts))
	for i, j := range index {
		sorted[i] = texts[j]
	}
	return sorted
}

// listSources returns the texts of all readings, those first that are shown
// without a click.
func listSources(tree *mimetree.Tree) []source {
	var list []source
	for _, p := range tree.Parts {
		if p.Reading == mimetree.Quoted {
			continue
		}
		for i, c := range p.Contents {
			plain, html := textKinds(p, c)
			s := source{part: p, content: c, order: len(list), attached: p.Disposition == "attachment" || p.Reading != mimetree.Main}
			s.main = i == 0 && p.Reading == mimetree.Main && !s.attached
			if plain {
				list = append(list, s)
				s.main = false
				s.order++
			}
			if html {
				s.html = true
				list = append(list, s)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b source) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

func rank(s source) int {
	switch {
	case s.main:
		return 0
	case s.attached:
		return 2
	}
	return 1
}

// textKinds says how programs could show a content: as plain text, as HTML, as
// both where some believe the header and some the content, or not at all.
func textKinds(p *mimetree.Part, c *mimetree.Content) (plain, html bool) {
	for _, t := range p.Types {
		switch {
		case isHTMLType(t):
			html = true
		case strings.HasPrefix(t, "text/") && t != "text/rtf":
			plain = true
		}
	}
	for _, t := range c.Types {
		html = html || isHTMLType(t)
	}
	if plain || html || len(c.Types) == 0 {
		return plain, html
	}
	p.EachName(func(key string) bool {
		html = isHTMLName(key)
		return !html
	})
	return plain, html
}

func isHTMLType(t string) bool {
	switch t {
	case "text/html", "application/xhtml+xml", "image/svg+xml", "text/x-amp-html", "application/vnd.wap.xhtml+xml":
		return true
	}
	return false
}

func isHTMLName(key string) bool {
	switch key[strings.LastIndexByte(key, '.')+1:] {
	case "htm", "html", "shtml", "xhtml", "xht", "svg", "mht", "mhtml", "hta":
		return true
	}
	return false
}

// readSource reads one text; others is how many come after it, for which some
// room is kept.
func (r *reader) readSource(tree *mimetree.Tree, s source, others int) error {
	reserve := min(r.left/2, int64(others)*minShare)
	limit := r.left - reserve
	if limit <= 0 {
		r.noteCut(s)
		return nil
	}
	r.part, r.main = s.part.Path, s.main
	raw, cut, err := readSome(s.content, limit)
	if err != nil {
		return err
	}
	if len(raw) == 0 {
		return nil
	}
	r.left -= int64(len(raw))
	if cut {
		r.noteCut(s)
	}
	decoded := decode(raw, hint{charset: s.part.Charset, html: s.html, cut: cut})
	if looksBinary(decoded.text) {
		return nil
	}
	r.noteDecoded(s.part, decoded)
	t := Text{Part: s.part.Path, Type: "text/plain", Main: s.main, Cut: cut, Charset: decoded.charset}
	if s.html {
		t.Type = "text/html"
		r.html(&t, decoded.text)
		return nil
	}
	text := decoded.text
	if strings.Contains(text, " \r\n") || strings.Contains(text, " \n") {
		flow, err := flowOf(tree, s.part)
		if err != nil {
			return err
		}
		text = flow.join(text)
	}
	r.plain(&t, text)
	if decoded.other != "" {
		other := Text{Part: t.Part, Type: t.Type, Charset: "utf-7"}
		r.main = false
		r.html(&other, decoded.other)
	}
	return nil
}

// readSome returns the first bytes of a content and whether there are more.
func readSome(c *mimetree.Content, limit int64) (b []byte, cut bool, err error) {
	var buf bytes.Buffer
	buf.Grow(int(min(c.Raw.End-c.Raw.Start, limit)) + bytes.MinRead)
	if _, err := buf.ReadFrom(io.LimitReader(c.Open(), limit+1)); err != nil {
		return nil, false, err
	}
	b = buf.Bytes()
	if int64(len(b)) > limit {
		return b[:limit], true, nil
	}
	return b, false, nil
}

// looksBinary reports that what was declared to be text is none.
func looksBinary(s string) bool {
	s = s[:min(len(s), 1024)]
	odd := 0
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f' && c != 0x1b {
			odd++
		}
	}
	return odd*10 > len(s)
}

// plain adds a plain text.
func (r *reader) plain(t *Text, s string) {
	w := newWriter(len(s))
	w.text(s, true)
	t.Shown = w.done()
	r.notes.writer(&w, r.part)
	r.findBare(t.Shown, "text")
	r.add(*t)
}

// add keeps a text.
func (r *reader) add(t Text) {
	r.view.Texts = append(r.view.Texts, t)
}

// readHeader decodes the fields that programs show in a list of messages.
func (r *reader) readHeader(h *message.Header) {
	if h == nil {
		return
	}
	r.part = "1"
	r.view.Subject = r.shownField(h, "Subject")
	r.view.From = r.shownField(h, "From")
	r.view.ReplyTo = r.shownField(h, "Reply-To")
	r.findBare(r.view.Subject, "subject")
}

// maxField is how much of a field is looked at, in bytes.
const maxField = 8 << 10

// shownField returns all fields of a name, decoded, on one line.
func (r *reader) shownField(h *message.Header, name string) string {
	w := newWriter(80)
	for _, f := range h.Fields() {
		if !f.Is(name) || len(w.b) > maxField {
			continue
		}
		if len(w.b) > 0 {
			w.text(", ", false)
		}
		v := f.Value()
		w.text(decodeWords(v[:min(len(v), maxField)]), false)
	}
	s := w.done()
	r.notes.writer(&w, "1")
	return s
}

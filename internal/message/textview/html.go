package textview

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxOpen bounds how many open elements are remembered. Deeper ones count, but
// look like the last that is remembered.
const maxOpen = 256

// element is an open element.
type element struct {
	tag   string
	style style
}

// page renders one HTML document.
type page struct {
	r             *reader
	z             *html.Tokenizer
	shown, hidden writer
	open          []element
	beyond        int // open elements that are not remembered
	sheet         sheet
	styles        map[string]style // of attributes
	title         string
	base          string
	links         []link
	anchor        int // the link whose text is being read, plus 1
	anchorAt      int // where in shown it begins
	pre           int
	comments      int // bytes of comments in hidden
	inTitle       bool
	svg           bool
}

// link is an address that waits for the base of the document.
type link struct{ raw, from, text string }

// maxLinks bounds the links of one document; the limit of the message counts
// those that differ.
const maxLinks = 20000

// html adds an HTML text and all that is in it.
func (r *reader) html(t *Text, s string) {
	p := r.render(s)
	t.Type = "text/html"
	t.Title = p.title
	t.Shown, t.Hidden = p.shown.done(), p.hidden.done()
	r.notes.writer(&p.shown, r.part)
	if r.main {
		r.noteHidden(len(t.Shown), len(t.Hidden)-p.comments)
	}
	// The place of the text comes before that of documents inside of it.
	r.add(*t)
	p.addLinks()
	r.findBare(t.Shown, "text")
	r.findBare(t.Title, "text")
}

// render reads a document from front to back.
func (r *reader) render(s string) *page {
	p := &page{r: r, z: html.NewTokenizer(strings.NewReader(s)), sheet: sheet{}, styles: map[string]style{}}
	p.shown, p.hidden = newWriter(len(s)/3), newWriter(0)
	p.open = append(p.open, element{style: style{fg: 0, bg: 0xffffff}})
	p.run()
	return p
}

// run goes through the tokens.
func (p *page) run() {
	raw := ""
	for {
		switch p.z.Next() {
		case html.ErrorToken:
			p.endAnchor()
			return
		case html.TextToken:
			switch raw {
			case "style":
				css := string(p.z.Raw())
				p.sheet.read(css)
				p.styleLinks(css)
			case "script":
				p.scriptLinks(string(p.z.Raw()))
			default:
				p.text(string(p.z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			raw = p.start()
			continue
		case html.EndTagToken:
			name, _ := p.z.TagName()
			p.end(atom.String(name))
		case html.CommentToken:
			p.comment(string(p.z.Text()))
		}
		raw = ""
	}
}

// top is the innermost element that is remembered.
func (p *page) top() *element { return &p.open[len(p.open)-1] }

// text adds text of the document.
func (p *page) text(s string) {
	switch {
	case p.inTitle:
		w := newWriter(len(s))
		w.text(s, false)
		if p.title == "" {
			p.title = w.done()
		}
	case p.top().style.hidden():
		p.hidden.text(s, false)
		p.hidden.gap()
	default:
		p.shown.text(s, p.pre > 0)
	}
}

// comment keeps a comment as hidden text. What is for certain versions of
// Outlook is seen there: its links count.
func (p *page) comment(s string) {
	if strings.HasPrefix(strings.TrimSpace(s), "[if") {
		p.conditional(s)
		return
	}
	const maxComment = 4 << 10
	before := len(p.hidden.b)
	p.hidden.text(strings.ToValidUTF8(s[:min(len(s), maxComment)], ""), false)
	p.hidden.gap()
	p.comments += len(p.hidden.b) - before
}

func (p *page) conditional(s string) {
	_, s, _ = strings.Cut(s, ">")
	z := html.NewTokenizer(strings.NewReader(s))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return
		case html.StartTagToken, html.SelfClosingTagToken:
			z.NextIsNotRawText()
			name, more := z.TagName()
			tag := string(name)
			for more {
				var k, v []byte
				k, v, more = z.TagAttr()
				if from := linkAttribute(tag, string(k)); from == "href" || from == "src" || from == "form" {
					p.addLink(string(v), "comment")
				}
			}
		}
	}
}

// attributes are those of one tag that matter.
type attributes struct {
	style, class, id, bgcolor, color, alt, value, kind, http, content, srcdoc, background, placeholder string
	hidden                                                                                             bool
}

// start opens an element and returns its name where raw text may follow.
func (p *page) start() string {
	name, more := p.z.TagName()
	tag := atom.String(name)
	if tag == "a" || tag == "area" {
		p.endAnchor()
	}
	var a attributes
	first := len(p.links)
	for n := 0; more && n < 1000; n++ {
		var k, v []byte
		k, v, more = p.z.TagAttr()
		if len(v) > 0 || string(k) == "hidden" {
			p.attribute(&a, tag, k, v)
		}
	}
	switch tag {
	case "style", "script":
		return tag
	case "noscript", "noframes", "noembed", "xmp", "iframe":
		// Mail programs run no scripts, and show what is meant for that case.
		p.z.NextIsNotRawText()
	case "title":
		p.inTitle = !p.svg
		return tag
	case "svg":
		p.svg = true
	}
	p.closeImplied(tag)
	st := p.styleOf(tag, &a)
	if !st.gone {
		p.breaks(tag)
	}
	p.replaced(tag, &a, st)
	if !isVoid(tag) {
		p.push(tag, st)
	}
	if tag == "a" && len(p.links) > first {
		p.anchor, p.anchorAt = len(p.links), len(p.shown.b)
	}
	return tag
}

// attribute takes one attribute.
func (p *page) attribute(a *attributes, tag string, k, v []byte) {
	// Most attributes are about the layout and are not even copied.
	switch string(k) {
	case "style":
		a.style = string(v)
		p.styleLinks(a.style)
	case "class":
		a.class = string(v)
	case "id":
		a.id = string(v)
	case "bgcolor":
		a.bgcolor = string(v)
	case "color", "text":
		a.color = string(v)
	case "alt":
		a.alt = string(v)
	case "value":
		a.value = string(v)
	case "placeholder":
		a.placeholder = string(v)
	case "type":
		a.kind = string(v)
	case "http-equiv":
		a.http = string(v)
	case "content":
		a.content = string(v)
	case "hidden":
		a.hidden = string(v) != "until-found"
	case "srcdoc":
		a.srcdoc = string(v)
	case "srcset", "imagesrcset":
		p.sourceSet(string(v))
	case "background":
		a.background = string(v)
		p.addLink(a.background, "src")
	default:
		if from := linkAttribute(tag, string(k)); from != "" {
			p.addLink(string(v), from)
		}
	}
}

// linkAttribute says what an attribute with an address is, "" for none.
func linkAttribute(tag, k string) string {
	switch k {
	case "href", "xlink:href":
		if tag == "base" {
			return "base"
		}
		if tag == "link" || tag == "image" || tag == "use" {
			return "src"
		}
		return "href"
	case "src", "background", "poster", "data-src", "lowsrc", "dynsrc", "codebase", "archive":
		return "src"
	case "data":
		if tag == "object" {
			return "src"
		}
	case "action", "formaction":
		return "form"
	}
	return ""
}

// styleOf says how the text of an element looks.
func (p *page) styleOf(tag string, a *attributes) style {
	own := p.sheet.of(tag, a.id, a.class)
	if a.bgcolor != "" {
		own.setBackground(parseColour(strings.ToLower(a.bgcolor)))
	}
	if a.color != "" && (tag == "font" || tag == "body" || tag == "basefont") {
		own.fg, own.hasFg = parseColour(strings.ToLower(a.color)), true
	}
	if tag == "a" && !own.hasFg {
		own.fg, own.hasFg = 0x0000ee, true
	}
	if a.background != "" {
		own.bg, own.hasBg = anyColour, true
	}
	if a.style != "" {
		own = own.merge(p.inlineStyle(a.style))
	}
	own.gone = own.gone || a.hidden || isNeverShown(tag)
	if own.hasFg && own.fg == transparent {
		own.gone = true
	}
	parent := p.top().style
	st := parent.merge(own)
	st.hasFg, st.hasBg = false, false
	return st
}

// inlineStyle remembers what it has read: documents repeat themselves.
func (p *page) inlineStyle(s string) style {
	st, known := p.styles[s]
	if !known {
		st = parseStyle(s)
		if len(p.styles) < maxRules {
			p.styles[s] = st
		}
	}
	return st
}

// isNeverShown reports elements whose content is no text of the page.
func isNeverShown(tag string) bool {
	switch tag {
	case "template", "datalist", "object", "applet":
		return true
	}
	return false
}

// replaced shows what stands for an element that has no text of its own.
func (p *page) replaced(tag string, a *attributes, st style) {
	switch tag {
	case "img", "area":
		p.put(a.alt, st)
	case "input", "isindex":
		switch strings.ToLower(a.kind) {
		case "hidden":
			st.gone = true
		case "checkbox", "radio", "image", "file", "password":
			return
		}
		p.gap(st)
		p.put(a.value, st)
		p.gap(st)
		p.put(a.placeholder, st)
		p.gap(st)
	case "meta":
		if strings.EqualFold(a.http, "refresh") {
			p.refresh(a.content)
		}
	}
	if a.srcdoc != "" {
		p.r.embed(a.srcdoc)
	}
}

// put adds text in a style that is not that of the open element.
func (p *page) put(s string, st style) {
	if s == "" {
		return
	}
	if st.hidden() {
		p.hidden.gap()
		p.hidden.text(s, false)
		p.hidden.gap()
		return
	}
	// A picture of one letter may stand in a word, longer ones are words.
	if len(s) > 2 {
		p.shown.gap()
	}
	p.shown.text(s, false)
	if len(s) > 2 {
		p.shown.gap()
	}
}

func (p *page) gap(st style) {
	if !st.hidden() {
		p.shown.gap()
	}
}

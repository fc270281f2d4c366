package textview

// isVoid reports elements that have no content and no end tag.
func isVoid(tag string) bool {
	switch tag {
	case "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img", "input", "isindex", "keygen", "link", "meta", "param", "source", "track", "wbr", "image":
		return true
	}
	return false
}

// kind says how an element stands in the text around it.
type kind uint8

const (
	inline kind = iota
	block       // on lines of its own
	cell        // apart from its neighbours
)

func kindOf(tag string) kind {
	switch tag {
	case "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "dir", "div", "dl", "dt", "fieldset",
		"figcaption", "figure", "footer", "form", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "legend", "li",
		"listing", "main", "menu", "nav", "noscript", "ol", "optgroup", "option", "p", "plaintext", "pre", "section", "summary", "table", "tbody",
		"tfoot", "thead", "title", "tr", "ul", "xmp", "br", "image":
		return block
	case "td", "th", "button", "select", "textarea", "iframe", "object", "video", "audio":
		return cell
	}
	return inline
}

// breaks ends the line or the word where an element begins or ends.
func (p *page) breaks(tag string) {
	if p.top().style.hidden() {
		return
	}
	switch kindOf(tag) {
	case block:
		p.shown.line()
	case cell:
		p.shown.gap()
	}
}

// push remembers an open element.
func (p *page) push(tag string, st style) {
	if tag == "pre" || tag == "textarea" || tag == "xmp" || tag == "listing" || tag == "plaintext" {
		p.pre++
	}
	if len(p.open) == maxOpen {
		p.beyond++
		return
	}
	p.open = append(p.open, element{tag, st})
}

// closeImplied closes what cannot hold the new element: "<li>one<li>two". It
// looks no further than a few elements and never out of a table.
func (p *page) closeImplied(tag string) {
	if p.beyond > 0 {
		return
	}
	for i := len(p.open) - 1; i > 0 && i >= len(p.open)-4; i-- {
		e := p.open[i].tag
		switch {
		case e == "table" || e == "ul" || e == "ol" || e == "select" || e == "dl":
			return
		case e == tag && (tag == "li" || tag == "tr" || tag == "option" || tag == "p"),
			(e == "td" || e == "th") && (tag == "td" || tag == "th" || tag == "tr"),
			(e == "dt" || e == "dd") && (tag == "dt" || tag == "dd"),
			e == "p" && kindOf(tag) == block && tag != "br",
			e == "head" && tag == "body":
			p.open = p.open[:i]
			return
		}
	}
}

// end closes an element, and with it those inside that were left open. The end
// of a word's element does not close a block.
func (p *page) end(tag string) {
	switch tag {
	case "a":
		p.endAnchor()
	case "title":
		p.inTitle = false
		return
	case "svg":
		p.svg = false
	case "pre", "textarea", "xmp", "listing":
		p.pre = max(0, p.pre-1)
	case "br", "p":
		p.breaks(tag)
	}
	if p.beyond > 0 {
		p.beyond--
		p.breaks(tag)
		return
	}
	for i := len(p.open) - 1; i > 0; i-- {
		e := p.open[i].tag
		if e == tag {
			gone := p.open[i].style.gone
			p.open = p.open[:i]
			if !gone {
				p.breaks(tag)
			}
			return
		}
		if kindOf(tag) == inline && kindOf(e) != inline {
			return
		}
	}
}

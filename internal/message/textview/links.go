package textview

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// addLink remembers an address of the document.
func (p *page) addLink(raw, from string) {
	raw = strings.TrimSpace(raw)
	if raw == "" || raw[0] == '#' || len(p.links) >= maxLinks {
		return
	}
	if _, ok := cutFold(raw, "cid:"); ok {
		return
	}
	if rest, ok := cutFold(raw, "data:"); ok {
		p.dataLink(raw, rest, from)
		return
	}
	if from == "base" {
		if p.base != "" {
			return
		}
		p.base = raw
	}
	p.links = append(p.links, link{raw: raw[:min(len(raw), maxURL)], from: from})
}

// endAnchor gives a link the text that was shown since it began.
func (p *page) endAnchor() {
	if p.anchor == 0 {
		return
	}
	text := strings.TrimSpace(string(p.shown.b[p.anchorAt:min(len(p.shown.b), p.anchorAt+2*maxLinkText)]))
	if len(text) > maxLinkText {
		text = text[:maxLinkText]
	}
	p.links[p.anchor-1].text = strings.ToValidUTF8(strings.ReplaceAll(text, "\n", " "), "")
	p.anchor = 0
}

// addLinks completes the links by the base of the document and keeps them.
func (p *page) addLinks() {
	var base *url.URL
	if u, ok := parseURL(p.base); ok && u.Host != "" {
		if b, err := url.Parse(u.Clean); err == nil {
			base = b
		}
	}
	for _, l := range p.links {
		u, ok := resolve(base, l.raw)
		if !ok {
			continue
		}
		if u.Scheme != "javascript" && u.Scheme != "vbscript" && u.Host == "" {
			continue
		}
		if l.from == "base" {
			p.r.notes.add("base", p.r.part, "part %s sets a base for its links: %s", p.r.part, u.Host)
		}
		p.r.addLink(u, l.from, l.text)
	}
}

// resolve makes an address absolute.
func resolve(base *url.URL, raw string) (URL, bool) {
	if u, ok := parseURL(raw); ok && (u.Host != "" || u.Scheme == "javascript" || u.Scheme == "vbscript") {
		return u, true
	}
	clean, _ := stripControls(raw)
	if strings.HasPrefix(clean, "//") || strings.HasPrefix(clean, `\\`) || strings.HasPrefix(clean, `/\`) {
		u, ok := parseURL("http:" + clean)
		u.Raw = raw
		return u, ok
	}
	if base != nil {
		ref, err := url.Parse(clean)
		if err != nil {
			ref = &url.URL{Path: clean}
		}
		u, ok := parseURL(base.ResolveReference(ref).String())
		u.Raw = raw
		return u, ok
	}
	// Without a base there is nothing that a relative link could mean, but
	// programs help out where it looks like the name of a host.
	end := strings.IndexAny(clean, "/?#:")
	if end < 0 {
		end = len(clean)
	}
	if !linkable(clean[:end], clean[end:]) {
		return URL{}, false
	}
	u, ok := parseURL("http://" + clean)
	u.Raw = raw
	return u, ok && u.Domain != ""
}

// sourceSet reads "a.png 1x, b.png 2x".
func (p *page) sourceSet(v string) {
	n := 0
	for candidate := range strings.SplitSeq(v, ",") {
		if n++; n > 20 {
			return
		}
		raw, _, _ := strings.Cut(strings.TrimSpace(candidate), " ")
		p.addLink(raw, "src")
	}
}

// refresh reads "0; url=http://…".
func (p *page) refresh(content string) {
	i := indexFold(content, "url")
	if i < 0 {
		return
	}
	rest := strings.TrimLeft(content[i+3:], " \t\r\n=")
	p.addLink(strings.Trim(rest, " \t\r\n\"'"), "refresh")
}

func (p *page) styleLinks(css string) {
	if strings.IndexByte(css, '(') < 0 {
		return
	}
	styleURLs(css, func(raw string) { p.addLink(raw, "style") })
}

// scriptLinks finds the addresses that stand in a script as they are.
func (p *page) scriptLinks(s string) {
	for range 100 {
		i := strings.Index(s, "://")
		if i < 0 {
			return
		}
		start := i
		for start > 0 && s[start-1]|0x20 >= 'a' && s[start-1]|0x20 <= 'z' && i-start < 6 {
			start--
		}
		end := i + 3
		for end < len(s) && !isBreak[s[end]] && s[end] != '\'' && s[end] != ')' && end-start < maxURL {
			end++
		}
		if scheme := strings.ToLower(s[start:i]); scheme == "http" || scheme == "https" {
			p.addLink(s[start:end], "script")
		}
		s = s[end:]
	}
}

// dataLink decodes a document that a link holds itself. Pictures are no links.
func (p *page) dataLink(raw, rest, from string) {
	clean, _ := stripControls(rest)
	kind, data, ok := strings.Cut(clean, ",")
	kind = strings.ToLower(kind)
	media, _, _ := strings.Cut(kind, ";")
	media = strings.TrimSpace(media)
	if !ok || strings.HasPrefix(media, "image/") && media != "image/svg+xml" || strings.HasPrefix(media, "font/") {
		return
	}
	if from == "src" && !isHTMLType(media) && !strings.Contains(media, "xml") {
		return
	}
	const shown = 200
	p.r.keep(URL{
		Raw: cut(raw, shown), Clean: cut("data:"+clean, shown), Scheme: "data", From: from, Part: p.r.part,
	})
	if !isHTMLType(media) && !strings.Contains(media, "xml") && media != "" && !strings.HasPrefix(media, "text/") {
		return
	}
	data = string(unescape(data, '%'))
	if strings.HasSuffix(strings.TrimSpace(kind), "base64") {
		data = string(decodeLoose(data))
	}
	p.r.notes.add("data-html", p.r.part, "part %s holds a document inside of a link (data:%s)", p.r.part, media)
	charset := ""
	if _, after, ok := strings.Cut(kind, "charset="); ok {
		charset, _, _ = strings.Cut(after, ";")
	}
	p.r.embed(decode([]byte(data), hint{charset: charset, html: true}).text)
}

// decodeLoose decodes base64 as far as it goes.
func decodeLoose(s string) []byte {
	s, _, _ = strings.Cut(s, "=")
	s = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(s)
	out, err := base64.RawStdEncoding.DecodeString(s)
	if err != nil {
		return bits64(s)
	}
	return out
}

func cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// embed reads a document inside of another.
func (r *reader) embed(s string) {
	if r.embedded >= maxEmbedded || r.depth >= maxEmbedding || r.left <= 0 {
		r.notes.add("embedding", r.part, "there are more documents inside of documents than are read")
		return
	}
	r.embedded++
	r.depth++
	main := r.main
	r.main = false
	limit := int(min(int64(len(s)), r.left))
	r.left -= int64(limit)
	t := Text{Part: r.part, Charset: "utf-8", Cut: limit < len(s)}
	r.html(&t, strings.ToValidUTF8(s[:limit], ""))
	r.main = main
	r.depth--
}

// noteHidden reports more hidden text than mail honestly has.
func (r *reader) noteHidden(shown, hidden int) {
	if hidden > fewHidden && hidden > shown/2 {
		r.notes.add("hidden-text", r.part, "part %s has %d bytes of text that is not shown beside %d that are", r.part, hidden, shown)
	}
}

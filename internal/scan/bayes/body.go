package bayes

import (
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/message/textview"
)

// Bounds of what is read of the content.
const (
	maxText   = 24 << 10 // bytes of shown text in all
	maxHidden = 4 << 10  // bytes of hidden text in all
	maxURLs   = 60
	maxParts  = 50
	window    = 1 // words that pairs may reach over
)

// kindCaps marks a word that stands in capitals.
const kindCaps kind = "caps:"

// addText adds words, and pairs of words that stand near each other (orthogonal
// sparse bigrams, Siefkes et al. 2004), under kind k.
func (t *tokens) addText(k kind, s string) {
	var last [window]string
	n := 0
	for w := range words(s) {
		if t.full() {
			return
		}
		t.add(k, w)
		if isCaps(w) {
			t.add(kindCaps, w)
		}
		for gap := range min(n, window) {
			t.addPair(k, last[(n-1-gap)%window], w, gap)
		}
		last[n%window] = w
		n++
	}
}

// isCaps reports whether a word of ASCII letters has no small one.
func isCaps(w string) bool {
	if len(w) < 4 {
		return false
	}
	for i := range len(w) {
		if c := w[i]; c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// addTexts adds the texts of a view: those that most programs show first, as the
// space is bounded.
func (t *tokens) addTexts(v *textview.View) {
	shown, hidden := maxText, maxHidden
	for _, main := range []bool{true, false} {
		for i := range v.Texts {
			text := &v.Texts[i]
			if text.Main != main {
				continue
			}
			shown -= t.addEnds(text.Shown, shown)
			n := min(len(text.Hidden), hidden)
			t.addHidden(text.Hidden[:n])
			hidden -= n
		}
	}
}

// addEnds adds a text, or its beginning and its end where there is no space for
// more, and returns how much that was: what is in the middle of a long text tells
// the least, and padding in front of it must not hide all of it.
func (t *tokens) addEnds(s string, space int) int {
	if len(s) <= space {
		t.addText(kindWord, s)
		return len(s)
	}
	tail := space / 3
	t.addText(kindWord, s[len(s)-tail:])
	t.addText(kindWord, s[:space-tail])
	return space
}

// addHidden adds words that no reader sees. They count apart, so that innocent
// words that are hidden in a spam do not help it.
func (t *tokens) addHidden(s string) {
	for w := range words(s) {
		t.add(kindHidden, w)
	}
}

// addURLs adds where links lead.
func (t *tokens) addURLs(urls []textview.URL) {
	for i := range urls[:min(len(urls), maxURLs)] {
		u := &urls[i]
		t.add(kindURL, u.From)
		if u.Scheme != "http" && u.Scheme != "https" {
			t.add(kindURL, u.Scheme)
		}
		if u.Host == "" {
			continue
		}
		t.add(kindHost, u.Host)
		if isIPv4(u.Host) {
			t.add(kindURL, "(address)")
		} else {
			t.add(kindSite, siteOf(u.Host))
		}
		t.addPath(u)
	}
}

// addPath adds the pieces of the path of a link, and that it names a user or port.
func (t *tokens) addPath(u *textview.URL) {
	_, rest, ok := strings.Cut(u.Clean, "://")
	if !ok {
		return
	}
	authority, path, _ := strings.Cut(rest, "/")
	_, raw, _ := strings.Cut(u.Raw, "//")
	if raw, _, _ = strings.Cut(raw, "/"); strings.Contains(raw, "@") {
		t.add(kindURL, "(user)")
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		t.add(kindURL, authority[i:])
	}
	n := 0
	for w := range words(path[:min(len(path), 200)]) {
		if n++; n > 8 {
			return
		}
		t.add(kindPath, w)
	}
}

// addStructure adds the tree of the message and what carries its content.
func (t *tokens) addStructure(tree *mimetree.Tree) {
	for _, p := range tree.Parts[:min(len(tree.Parts), maxParts)] {
		if p.Reading != mimetree.Main && p.Reading != mimetree.Embedded {
			continue
		}
		above := "message"
		if p.Parent != nil {
			above = p.Parent.Types[0]
		}
		t.addPair(kindShape, above, p.Types[0], 0)
		if p.Charset != "" {
			t.add(kindShape, p.Charset)
		}
		if p.Leaf() {
			t.addLeaf(p)
		}
	}
	t.addFindings(tree.Findings)
}

// addFindings adds what the readers of the message found.
func (t *tokens) addFindings(findings []mail.Finding) {
	for i := range findings {
		t.add(kindOdd, findings[i].Symbol)
	}
}

// addLeaf adds the encoding, size, names and types of one part.
func (t *tokens) addLeaf(p *mimetree.Part) {
	for _, c := range p.Contents {
		if c.Main {
			t.addPair(kindShape, p.Types[0], c.Encoding, 0)
			t.addPair(kindShape, p.Types[0], sizeClass(c.Raw), 0)
			for _, typ := range c.Types {
				t.add(kindFile, typ)
			}
		}
	}
	for i, name := range p.Names {
		if i == 4 {
			break
		}
		t.add(kindFile, name.Text)
		if dot := strings.LastIndexByte(name.Text, '.'); dot >= 0 {
			t.add(kindFile, name.Text[dot:])
		}
	}
}

// sizeClass names the order of magnitude of a stretch.
func sizeClass(s mail.Span) string {
	switch n := s.End - s.Start; {
	case n == 0:
		return "(empty)"
	case n < 500:
		return "(short)"
	case n < 8<<10:
		return "(medium)"
	case n < 64<<10:
		return "(long)"
	}
	return "(huge)"
}

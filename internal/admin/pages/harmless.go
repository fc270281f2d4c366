package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"

	"github.com/microcosm-cc/bluemonday"
)

// frameStyle is the only style in the frame; its policy names it by its hash.
const frameStyle = `html{color-scheme:light}body{font:14px/1.45 system-ui,sans-serif;color:#111;background:#fff;margin:12px;overflow-wrap:anywhere}` +
	`table{border-collapse:collapse;max-width:100%}td,th{padding:2px 4px;vertical-align:top;text-align:left}blockquote{border-left:3px solid #bbb;margin:0 0 0 8px;padding-left:8px}pre{white-space:pre-wrap}`

// frameHead begins the document in the frame.
const frameHead = `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex"><title>Preview</title><style>` + frameStyle + `</style></head><body>`

// framePolicy allows one style and nothing else, and takes from the document scripts,
// forms, links and its origin.
var framePolicy = func() string {
	sum := sha256.Sum256([]byte(frameStyle))
	return "sandbox; default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
}()

// span is how many cells one may take.
var span = regexp.MustCompile(`^[1-9][0-9]?$`)

// harmlessHTML allows what structures a text and nothing else: no links (their targets
// are listed beside the preview), pictures, styles, forms, names or classes, and no
// foreign documents within.
func harmlessHTML() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "div", "span", "center", "b", "strong", "i", "em", "u", "s", "strike", "del", "ins", "small", "big", "sub", "sup",
		"h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "dl", "dt", "dd", "blockquote", "q", "cite", "abbr", "address", "pre", "code", "kbd", "samp", "tt",
		"table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th")
	p.AllowAttrs("colspan", "rowspan").Matching(span).OnElements("td", "th")
	// What these hold is not text for readers.
	p.SkipElementsContent("title", "svg", "math", "template", "textarea", "select", "xmp", "plaintext", "audio", "video", "canvas", "applet", "xml", "noscript")
	return p
}

package textview

import (
	"fmt"

	"gatepost/internal/message/mimetree"
)

// Source is the source of an HTML text of a message.
type Source struct {
	// Part is the path of the part.
	Part string
	// HTML is the document in UTF-8, as it came otherwise: hostile until proven
	// harmless.
	HTML string
	// Cut says that the document is longer.
	Cut bool
}

// HTMLPart is the path of the HTML text that programs show first; "" where there is
// none that is shown without a click.
func HTMLPart(tree *mimetree.Tree) string {
	if s := htmlSource(tree); s != nil {
		return s.part.Path
	}
	return ""
}

// HTML returns the source of that text, up to limit bytes of the message; nil where
// there is none. Its errors are those of reading the body.
func HTML(tree *mimetree.Tree, limit int64) (*Source, error) {
	s := htmlSource(tree)
	if s == nil {
		return nil, nil
	}
	raw, cut, err := readSome(s.content, limit)
	if err != nil {
		return nil, fmt.Errorf("read part %s: %w", s.part.Path, err)
	}
	d := decode(raw, hint{charset: s.part.Charset, html: true, cut: cut})
	return &Source{Part: s.part.Path, HTML: d.text, Cut: cut}, nil
}

func htmlSource(tree *mimetree.Tree) *source {
	for _, s := range listSources(tree) {
		if s.html && !s.attached {
			return &s
		}
	}
	return nil
}

package archive

import (
	"io"
	"path"
	"strings"

	"gatepost/internal/message/archive/ooxml"
	"gatepost/internal/message/archive/zipfile"
)

// maxPart is how much of a part of a document is read for what it says, in bytes.
const maxPart = 16 << 20

// officePackage watches the members of a zip that is a document. Their names are
// advice only: what is a macro project is found by content too, whatever it is
// called.
type officePackage struct {
	*scope
	office, odf bool
}

// watchPackage tells a document from other zips by the parts that it must have,
// and looks at its members from then on.
func watchPackage(s *scope, z *zipfile.Archive) {
	p := &officePackage{scope: s}
	for i := range z.Entries {
		switch strings.ToLower(CleanName(z.Entries[i].Names[0])) {
		case "[content_types].xml":
			p.office = true
		case "meta-inf/manifest.xml", "mimetype":
			p.odf = true
		}
	}
	if p.office || p.odf {
		s.inspect = p.part
	}
}

// part looks at one part of a document.
func (p *officePackage) part(n *node, m *Member) {
	name := strings.ToLower(m.Name)
	content := func() io.Reader { return io.LimitReader(p.w.open(n.body), maxPart) }
	if p.office {
		p.officePart(name, content)
	}
	if p.odf {
		p.odfPart(name, content)
	}
}

func (p *officePackage) officePart(name string, content func() io.Reader) {
	base := path.Base(name)
	switch {
	case strings.HasSuffix(name, ".rels"):
		for _, r := range ooxml.Relationships(content()) {
			p.relationship(r)
		}
	case strings.HasPrefix(base, "vbaproject"):
		p.note(symMacro, "VBA macros")
	case strings.Contains(name, "macrosheets/"):
		p.note(symXLM, "an Excel 4.0 macro sheet")
	case strings.Contains(name, "externallinks/") && strings.HasSuffix(name, ".xml"):
		if ooxml.Has(content(), "ddeLink") {
			p.note(symDDE, "a link to another program")
		}
	case strings.HasPrefix(name, "word/") && strings.HasSuffix(name, ".xml"):
		ooxml.Fields(content(), p.field)
	}
}

// relationship reports what a document fetches or starts.
func (p *officePackage) relationship(r ooxml.Relationship) {
	switch r.Type {
	case "vbaProject", "wordVbaData":
		p.note(symMacro, "VBA macros")
	case "xlMacrosheet", "xlIntlMacrosheet":
		p.note(symXLM, "an Excel 4.0 macro sheet")
	case "control", "activeXControlBinary":
		p.note(symActiveX, "an ActiveX control")
	}
	if !r.External {
		return
	}
	switch r.Type {
	case "hyperlink":
		p.link("uri", r.Target)
	case "attachedTemplate":
		p.link("template", r.Target)
		// The path of the author's own template is in every other document.
		if isRemote(r.Target) {
			p.note(symTemplate, "a template from %q", shorten(r.Target, 120))
		}
	case "image", "video", "audio", "media":
		p.link("image", r.Target)
	default:
		p.link("object", r.Target)
		if isRemote(r.Target) {
			p.note(symLink, "%s from %q", r.Type, shorten(r.Target, 120))
		}
	}
}

// isRemote tells a place on the network, or a scheme with side effects, from a
// file of the author's own computer.
func isRemote(target string) bool {
	t := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(target), `\`, "/"))
	scheme, rest, ok := strings.Cut(t, ":")
	switch {
	case strings.HasPrefix(t, "//"):
		return true
	case !ok || len(scheme) < 2 || strings.ContainsAny(scheme, "/."):
		return false
	case scheme == "file":
		// file:///c:/x is local, file://host/x and file://///host/x are not.
		path := strings.TrimLeft(rest, "/")
		slashes := len(rest) - len(path)
		drive := len(path) > 1 && path[1] == ':'
		return !drive && slashes != 1 && slashes != 3 && path != ""
	}
	return true
}

func (p *officePackage) odfPart(name string, content func() io.Reader) {
	switch {
	case name == "meta-inf/manifest.xml":
		if ooxml.Has(content(), "encryption-data") {
			p.note(symOfficeEncrypted, "needs a password")
		}
	case strings.HasPrefix(name, "basic/") && strings.HasSuffix(name, "script-lc.xml"), strings.HasPrefix(name, "scripts/") && !strings.HasSuffix(name, "/"):
		p.note(symMacro, "Basic or script macros")
	case name == "content.xml":
		if ooxml.Has(content(), "dde-source", "dde-connection", "dde-link") {
			p.note(symDDE, "a link to another program")
		}
	}
}

package clamav

import (
	"context"
	"io"
	"regexp"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/scan"
)

// What clamd is given:
//
//   - the message as it is. This is all for texts and images of ordinary mail:
//     clamd decodes them as all programs do;
//   - every other content by itself, decoded, in every reading: attachments, files
//     inside of text and in winmail.dat, damaged data read in several ways. For
//     clamd's own reader of mail is one more program that may be led astray, and
//     was by 27 of 84 valid tricks. It costs little where clamd did read the
//     message rightly: it knows the files again that it has just found clean;
//   - of a message that is odd in any way (see straight and usual), the texts and
//     images too;
//   - members of archives that programs read differently (directory and headers of
//     a zip contradict each other, an archive behind other data …), that clamd
//     does not open, and what was taken out of documents. See members.

// prefix goes in front of the message. clamd takes a file for a mail by how it
// begins: the first field might be one that it does not know, and "From " would
// make it a mailbox, in which any line "From " begins another message.
const prefix = "Received: by gatepost.invalid\r\n"

// target is one thing to stream.
type target struct {
	part, name string
	what       string // "the message", "part 1.2 (a.zip > b.exe)"
	open       func() io.Reader
}

// whole is the message as it is.
func whole(in *scan.Input) target {
	return target{what: "the message", open: func() io.Reader {
		return io.MultiReader(strings.NewReader(prefix), io.NewSectionReader(in.Message.Body, 0, in.Message.Body.Size()))
	}}
}

// The limits of a straight message. clamd stops reading a mail at 1,024 header
// fields, 1,024 parts, 256 KiB of header and its MaxRecursion (17, archives
// included) without a word, unless AlertExceedsMax is set.
const (
	straightFields = 500
	straightHeader = 64 << 10
	straightParts  = 200
	straightDepth  = 6
)

// indifferent are the findings of the tree that make no difference to clamd: what
// they are about is streamed anyway, or is read alike.
var indifferent = map[string]bool{
	"embedded-file": true, "quoted-message": true, "external-body": true, "partial-message": true, "damaged-tnef": true,
}

// straight reports whether clamd reads the message as the tree has it: nothing
// about it is odd, and it keeps far from clamd's limits.
func straight(in *scan.Input) bool {
	for _, f := range in.Tree.Findings {
		if !indifferent[f.Symbol] {
			return false
		}
	}
	if len(in.Tree.Parts) > straightParts || in.Header != nil && len(in.Header.Fields()) > straightFields {
		return false
	}
	for _, p := range in.Tree.Parts {
		if p.Header.End-p.Header.Start > straightHeader {
			return false
		}
	}
	return true
}

// The forms of header fields that every program reads alike: one type or
// encoding, parameters without spaces, comments, escapes and continuations.
var (
	usualType     = regexp.MustCompile(`(?i)^[a-z]+/[a-z0-9.+_-]+(;[ \t]*([a-z-]+="[^"\\]*"|[a-z-]+=[a-z0-9'+_.-]+))*;?$`)
	usualBoundary = regexp.MustCompile(`(?i)boundary=("[a-z0-9'+_./:=?-]+"|[a-z0-9'+_.-]+)(;|$)`)
	usualEncoding = regexp.MustCompile(`(?i)^(7bit|8bit|base64|quoted-printable)$`)
)

// usual reports whether the header sections on the way to a part are such that
// every program comes to it.
func usual(in *scan.Input, p *mimetree.Part) bool {
	for ; p != nil; p = p.Parent {
		if p.Nested || p.Header.End-p.Header.Start > straightHeader {
			return false
		}
		section := make([]byte, p.Header.End-p.Header.Start)
		if n, _ := in.Message.Body.ReadAt(section, p.Header.Start); n < len(section) {
			return false
		}
		types := 0
		for _, f := range message.ParseHeader(section).Fields() {
			switch {
			case f.Name == "" || !strings.HasPrefix(f.Raw(), f.Name+":"):
				return false
			case f.Is("Content-Type"):
				types++
				v := f.Value()
				if !usualType.MatchString(v) || len(p.Children) > 0 && strings.HasPrefix(p.Types[0], "multipart/") && len(usualBoundary.FindAllString(v, 2)) != 1 {
					return false
				}
			case f.Is("Content-Transfer-Encoding"):
				if !usualEncoding.MatchString(f.Value()) {
					return false
				}
			}
		}
		if types > 1 {
			return false
		}
	}
	return true
}

// contents returns the contents that clamd is given by themselves.
func contents(in *scan.Input) []target {
	ordinary := straight(in)
	type key struct {
		raw               mail.Span
		encoding, variant string
	}
	var list []target
	seen := map[key]bool{}
	for _, p := range in.Tree.Parts {
		for _, c := range p.Contents {
			if len(c.Types) == 0 || ordinary && shown(p, c) && usual(in, p) {
				continue
			}
			// What is nested has the place of what holds it.
			if k := (key{c.Raw, c.Encoding, c.Variant}); !p.Nested {
				if seen[k] {
					continue
				}
				seen[k] = true
			}
			list = append(list, ofContent(p, c))
		}
	}
	return list
}

// shown reports whether a content is a text or an image, encoded as everybody
// does, that is no file to save.
func shown(p *mimetree.Part, c *mimetree.Content) bool {
	switch c.Encoding {
	case mimetree.Identity, mimetree.Base64, mimetree.QuotedPrintable:
	default:
		return false
	}
	if !c.Main || c.Variant != "" || p.Reading != mimetree.Main || p.Nested || strings.Count(p.Path, ".") > straightDepth {
		return false
	}
	return !slices.ContainsFunc(c.Types, func(t string) bool {
		return !strings.HasPrefix(t, "image/") && (len(p.Names) > 0 || t != "text/plain" && t != "text/html")
	})
}

func ofContent(p *mimetree.Part, c *mimetree.Content) target {
	t := target{part: p.Path, open: c.Open}
	what := "part " + p.Path
	if len(p.Names) > 0 {
		t.name = message.SafeText(p.Names[0].Text, maxName)
		what += " (" + t.name + ")"
	}
	if c.Encoding != mimetree.Identity {
		what += " read as " + c.Encoding
	}
	if c.Variant != "" {
		what += ", " + c.Variant
	}
	t.what = what
	return t
}

// dubious are the findings of archives which say that programs take different
// files out of them.
var dubious = map[string]bool{
	"mismatch": true, "hidden": true, "overlap": true, "ambiguous": true, "prefixed": true, "damaged": true,
}

// opened are the types of archives and documents that clamd opens, by their
// beginnings. RAR is not among them: the code for it is not free, and many
// distributions leave it out.
var opened = []string{
	"application/zip", "application/gzip", "application/x-gzip", "application/x-bzip2", "application/bzip2", "application/x-xz",
	"application/x-tar", "application/x-7z-compressed", "application/vnd.ms-cab-compressed", "application/x-iso9660-image",
	"application/java-archive", "application/jar", "application/x-ole-storage", "application/msword", "application/vnd.ms-",
	"application/vnd.openxmlformats-", "application/vnd.oasis.opendocument.", "application/pdf", "application/rtf", "text/rtf",
}

func opens(types []string) bool {
	return slices.ContainsFunc(types, func(t string) bool {
		return slices.ContainsFunc(opened, func(o string) bool { return strings.HasPrefix(t, o) })
	})
}

// place names a file among all of a message. What part holds as a whole has no
// path, or its own name alone.
func place(part string, path []string) string {
	if len(path) < 2 {
		return part
	}
	return part + "\x00" + strings.Join(path, "\x00")
}

// wanted returns the places of the members to stream.
func wanted(files *scan.Files) map[string]bool {
	parts := map[string]bool{}
	for _, f := range files.Findings {
		if f.Module == "archive" && dubious[f.Symbol] {
			parts[f.Part] = true
		}
	}
	shut := map[string]bool{} // what clamd does not open, with all that is in it
	want := map[string]bool{}
	for i := range files.List {
		f := &files.List[i]
		at := place(f.Part, f.Path)
		if !f.InArchive() {
			shut[at] = !opens(f.Types)
			continue
		}
		above := place(f.Part, f.Path[:len(f.Path)-1])
		outside, known := shut[above]
		outside = outside || !known
		shut[at] = outside || !opens(f.Types)
		if f.Derived || outside || parts[f.Part] {
			want[at] = true
		}
	}
	return want
}

// members calls visit with the members of archives that clamd does not come to by
// itself, those above limit bytes among them. Archives are opened again only where
// there is one.
func members(ctx context.Context, in *scan.Input, limit int64, visit func(t target, size int64) error) error {
	files, err := in.Files(ctx)
	if err != nil {
		return err
	}
	want := wanted(files)
	for i := range files.List {
		// Without a word, clamd leaves out what is larger than its MaxFileSize.
		if f := &files.List[i]; f.InArchive() && f.Size > limit {
			want[place(f.Part, f.Path)] = true
		}
	}
	if len(want) == 0 {
		return nil
	}
	return in.WalkMembers(ctx, func(f *scan.File, content mail.Body) error {
		if !want[place(f.Part, f.Path)] || content.Size() == 0 {
			return nil
		}
		name := message.SafeText(strings.Join(f.Path, " > "), maxName)
		return visit(target{part: f.Part, name: name, what: "part " + f.Part + " (" + name + ")", open: func() io.Reader {
			return io.NewSectionReader(content, 0, content.Size())
		}}, content.Size())
	})
}

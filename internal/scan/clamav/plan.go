package clamav

import (
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
//     misses 22 of 84 valid tricks of a public collection. It costs little where
//     clamd did read the message rightly: it knows the files again that it has
//     just found clean;
//   - of a message that is odd in any way (see straight and usual), the texts and
//     images too;
//   - members of archives that programs read differently (directory and headers of
//     a zip contradict each other, an archive behind other data …), that clamd
//     does not open, or not always, and what was taken out of documents. See
//     members.go.

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

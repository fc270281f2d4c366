package clamav

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// dubious are the findings of archives which say that programs take different
// files out of them.
var dubious = map[string]bool{
	"mismatch": true, "hidden": true, "overlap": true, "ambiguous": true, "prefixed": true, "damaged": true,
}

// opened are the types of archives and documents that clamd opens, by their
// beginnings. RAR is not among them: the code for it is not free, and many
// distributions leave it out. Nor are 7z and xz, of which clamd knows some
// methods and passes over the others without a word.
var opened = []string{
	"application/zip", "application/gzip", "application/x-gzip", "application/x-bzip2", "application/bzip2",
	"application/x-tar", "application/vnd.ms-cab-compressed", "application/x-iso9660-image",
	"application/java-archive", "application/jar", "application/x-ole-storage", "application/msword", "application/vnd.ms-",
	"application/vnd.openxmlformats-", "application/vnd.oasis.opendocument.", "application/pdf", "application/rtf", "text/rtf",
}

func opens(types []string) bool {
	return slices.ContainsFunc(types, func(t string) bool {
		return slices.ContainsFunc(opened, func(o string) bool { return strings.HasPrefix(t, o) })
	})
}

// rareMethod reports whether a file has headers of a zip with a compression method
// that clamd does not know: it opens stored, imploded, deflated and bzip2 members,
// and passes over LZMA, xz, zstd and PPMd without a word. All headers count, not
// only those that a directory lists.
func rareMethod(r io.Reader) (bool, error) {
	const window = 64 << 10
	buf, have := make([]byte, window), 0
	for {
		n, err := io.ReadFull(r, buf[have:])
		b := buf[:have+n]
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return false, err
		}
		for at := 0; ; at += 2 {
			i := bytes.Index(b[at:], []byte("PK"))
			if i < 0 {
				break
			}
			if at += i; rareHeader(b[at:]) {
				return true, nil
			}
		}
		if end {
			return false, nil
		}
		// A header may lie across the border.
		have = copy(buf, b[len(b)-headerStart:])
	}
}

// headerStart is how much of a header must be seen to know its method.
const headerStart = 12

func rareHeader(b []byte) bool {
	if len(b) < headerStart {
		return false
	}
	var method uint16
	switch string(b[2:4]) {
	case "\x03\x04": // of a member
		method = binary.LittleEndian.Uint16(b[8:])
	case "\x01\x02": // in the directory
		method = binary.LittleEndian.Uint16(b[10:])
	default:
		return false
	}
	switch method {
	case 0, 6, 8, 9, 12, 99: // 99 is encrypted, and nobody's
		return false
	}
	return true
}

// place names a file among all of a message. What part holds as a whole has no
// path, or its own name alone.
func place(part string, path []string) string {
	if len(path) < 2 {
		return part
	}
	return part + "\x00" + strings.Join(path, "\x00")
}

func above(f *scan.File) string { return place(f.Part, f.Path[:len(f.Path)-1]) }

// choice is which members of a message are streamed.
type choice struct {
	want  map[string]bool // by place
	shut  map[string]bool // what clamd does not open, with all that is in it
	holds map[string]bool // what has members
	// nested says that there are archives in archives, which have to be looked
	// into to know.
	nested bool
}

func choose(files *scan.Files, limit int64) *choice {
	c := &choice{want: map[string]bool{}, shut: map[string]bool{}, holds: map[string]bool{}}
	parts := map[string]bool{}
	for _, f := range files.Findings {
		if f.Module == "archive" && dubious[f.Symbol] {
			parts[f.Part] = true
		}
	}
	for i := range files.List {
		f := &files.List[i]
		at := place(f.Part, f.Path)
		if !f.InArchive() {
			c.shut[at] = !opens(f.Types)
			continue
		}
		c.holds[above(f)] = true
		outside, known := c.shut[above(f)]
		outside = outside || !known
		c.shut[at] = outside || !opens(f.Types)
		// Without a word, clamd leaves out what is larger than its MaxFileSize.
		if f.Derived || outside || parts[f.Part] || f.Size > limit {
			c.want[at] = true
		}
	}
	for i := range files.List {
		f := &files.List[i]
		c.nested = c.nested || f.InArchive() && c.holds[place(f.Part, f.Path)]
	}
	return c
}

// look reads what has members, and takes note of methods that clamd does not know.
func (c *choice) look(at string, r io.Reader) error {
	if !c.holds[at] || c.shut[at] {
		return nil
	}
	rare, err := rareMethod(r)
	c.shut[at] = rare
	return err
}

// members calls visit with the members of archives that clamd does not come to by
// itself, those above limit bytes among them. Archives are opened again only where
// there is one, or where one archive is in another.
func members(ctx context.Context, in *scan.Input, limit int64, visit func(t target, size int64) error) error {
	files, err := in.Files(ctx)
	if err != nil {
		return err
	}
	c := choose(files, limit)
	needed := c.nested || len(c.want) > 0
	for _, p := range in.Tree.Parts {
		for _, content := range p.Contents {
			if err := c.look(p.Path, content.Open()); err != nil {
				return err
			}
			needed = needed || c.holds[p.Path] && c.shut[p.Path]
		}
	}
	if !needed {
		return nil
	}
	return in.WalkMembers(ctx, func(f *scan.File, content mail.Body) error {
		at := place(f.Part, f.Path)
		all := io.NewSectionReader(content, 0, content.Size())
		if c.shut[above(f)] {
			c.shut[at] = true
		} else if err := c.look(at, all); err != nil {
			return err
		}
		if content.Size() == 0 || !c.want[at] && !c.shut[above(f)] {
			return nil
		}
		name := message.SafeText(strings.Join(f.Path, " > "), maxName)
		return visit(target{part: f.Part, name: name, what: "part " + f.Part + " (" + name + ")", open: func() io.Reader {
			return io.NewSectionReader(content, 0, content.Size())
		}}, content.Size())
	})
}

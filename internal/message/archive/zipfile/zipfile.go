// Package zipfile reads the structure of zip archives as they come by mail: with
// programs in front, with several directories, with local headers that say
// otherwise than the central directory or that no directory mentions. It lists
// every member that some program would show, and what does not fit together.
//
// The standard library's reader is not used for this: it goes by one central
// directory, does not look at what the local headers say, and refuses an archive
// as a whole where one record is odd.
//
// Invariants:
//   - Nothing is decompressed here but where the end of a member's data is.
//   - Memory is bounded by the number of entries that the caller allows, 8 KiB
//     each at most; no size that the archive states is ever allocated.
//   - Offsets that leave the file are problems, not errors.
package zipfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrNoZip says that there is neither a directory nor a member.
var ErrNoZip = errors.New("not a zip archive")

// Methods of compression (APPNOTE.TXT §4.4.5) that matter to readers.
const (
	Store   = 0
	Deflate = 8
	Bzip2   = 12
	LZMA    = 14
	Zstd    = 93
	XZ      = 95
	AES     = 99
)

// Entry is one member.
type Entry struct {
	// Names are the raw names from the central directory, the local header and
	// their Unicode extra fields, without repetition; the first is the central
	// directory's where there is one.
	Names []string
	// Offset is where the local header stands.
	Offset int64
	// Readings are the ways to read the content: one, or two where the headers
	// differ. None: there is no local header.
	Readings []Reading
	// Dir and Symlink are what the attributes and the name say.
	Dir, Symlink bool
	// Hidden says that no directory lists the member.
	Hidden bool

	central *header
	local   *header
	end     int64 // of the data
}

// Reading is one opinion about the content of a member.
type Reading struct {
	Method    int
	Encrypted bool
	// Data is where the packed bytes begin, Packed how many they are; -1 is
	// unknown: up to the end of the compressed stream, and at most up to Limit.
	Data, Packed, Limit int64
	// Size is the size of the content, -1 where unknown.
	Size int64
	CRC  uint32
	// HasCRC is false where the header leaves it to what follows the data.
	HasCRC bool
}

// ProblemKind classes problems.
type ProblemKind uint8

// The kinds of problems.
const (
	// Damaged: records are missing or cut.
	Damaged ProblemKind = iota
	// Mismatch: two headers of a member contradict each other.
	Mismatch
	// Hidden: members that the directory does not list.
	Hidden
	// Overlap: members share bytes.
	Overlap
	// Ambiguous: several directories list different members.
	Ambiguous
	// EncryptedDirectory: names are encrypted.
	EncryptedDirectory
	// Volumes: other parts are needed.
	Volumes
)

// Problem is something that does not fit together.
type Problem struct {
	Kind ProblemKind
	// Name is the raw name of the member it is about, "" for the archive.
	Name string
	Text string
}

// Span is a range of bytes.
type Span struct{ Start, End int64 }

// Archive is the structure of a zip.
type Archive struct {
	Entries  []Entry
	Problems []Problem
	// Spans are the bytes that belong to the zip, in ascending order.
	Spans []Span
	// Prefix is where the zip begins in the file.
	Prefix int64
	// More says that there are more entries than the caller allows.
	More bool
}

// reader is the state of Read.
type reader struct {
	io.ReaderAt
	size int64
	most int
	a    *Archive
	byAt map[int64]int // offset of the local header: index of the entry
	dirs []directory
	buf  [8 << 10]byte

	candidates int
	probed     int64
}

// Read lists at most so many entries of the zip in r. Errors of r are returned;
// everything else is a problem or ErrNoZip.
func Read(r io.ReaderAt, size int64, entries int) (*Archive, error) {
	z := &reader{ReaderAt: r, size: size, most: entries, a: &Archive{}, byAt: map[int64]int{}}
	if err := z.directories(); err != nil {
		return nil, err
	}
	for i := range z.a.Entries {
		if err := z.locate(&z.a.Entries[i]); err != nil {
			return nil, err
		}
	}
	if err := z.unlisted(); err != nil {
		return nil, err
	}
	if len(z.a.Entries) == 0 && len(z.dirs) == 0 {
		return nil, ErrNoZip
	}
	z.overlaps()
	z.a.Spans = z.spans()
	if len(z.a.Spans) > 0 {
		z.a.Prefix = z.a.Spans[0].Start
	}
	return z.a, nil
}

// problem records the first problem of each kind, so that an archive of 60,000
// lies is no list of 60,000 problems.
func (z *reader) problem(kind ProblemKind, name, format string, args ...any) {
	for _, p := range z.a.Problems {
		if p.Kind == kind {
			return
		}
	}
	z.a.Problems = append(z.a.Problems, Problem{Kind: kind, Name: name, Text: fmt.Sprintf(format, args...)})
}

// locate reads the local header of an entry that a directory lists.
func (z *reader) locate(e *Entry) error {
	local, err := z.localHeader(e.Offset)
	switch {
	case errors.Is(err, errNoHeader):
		z.problem(Damaged, e.Names[0], "no local header where the directory says")
		return nil
	case err != nil:
		return err
	}
	e.local = local
	e.compare(z)
	return nil
}

// compare makes the readings of an entry with both headers.
func (e *Entry) compare(z *reader) {
	c, l := e.central, e.local
	for _, name := range append(l.names(), c.names()...) {
		if !slices.Contains(e.Names, name) {
			e.Names = append(e.Names, name)
		}
	}
	if !sameName(c.name, l.name) {
		z.problem(Mismatch, c.name, "the local header says %q", l.name)
	}
	first := c.reading(l.data, z.size)
	e.Readings = []Reading{first}
	e.end = min(l.data+max(first.Packed, 0), z.size)
	if l.deferred() && l.packed <= 0 {
		// Sizes follow the data; the method and the encryption must still agree.
		l.packed, l.size, l.crc = c.packed, c.size, c.crc
	}
	second := l.reading(l.data, z.size)
	switch {
	case first.Method != second.Method:
		z.problem(Mismatch, c.name, "method %d in the directory, %d in the local header", first.Method, second.Method)
	case first.Encrypted != second.Encrypted:
		z.problem(Mismatch, c.name, "encrypted according to one header only")
	case first.Packed != second.Packed || first.Size != second.Size:
		z.problem(Mismatch, c.name, "%d bytes in the directory, %d in the local header", first.Size, second.Size)
	default:
		return
	}
	e.Readings = append(e.Readings, second)
	e.end = max(e.end, min(l.data+max(second.Packed, 0), z.size))
}

// sameName forgives the two spellings of a separator.
func sameName(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x != y && (x != '\\' || y != '/') && (x != '/' || y != '\\') {
			return false
		}
	}
	return true
}

// overlaps compares neighbours in the order of the file.
func (z *reader) overlaps() {
	order := make([]*Entry, 0, len(z.a.Entries))
	for i := range z.a.Entries {
		if len(z.a.Entries[i].Readings) > 0 {
			order = append(order, &z.a.Entries[i])
		}
	}
	slices.SortStableFunc(order, func(a, b *Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	var end int64
	for _, e := range order {
		if e.Offset < end {
			z.problem(Overlap, e.Names[0], "begins inside another member")
		}
		end = max(end, e.end)
	}
	for _, d := range z.dirs {
		if end > d.start && d.end > d.start && len(order) > 0 && order[len(order)-1].Offset < d.start {
			z.problem(Overlap, order[len(order)-1].Names[0], "reaches into the directory")
		}
	}
}

// spans merges what entries and directories occupy.
func (z *reader) spans() []Span {
	var list []Span
	for i := range z.a.Entries {
		if e := &z.a.Entries[i]; e.local != nil {
			list = append(list, Span{e.Offset, max(e.end, e.local.data)})
		}
	}
	for _, d := range z.dirs {
		list = append(list, Span{d.start, d.end}, Span{d.record, d.recordEnd})
	}
	slices.SortFunc(list, func(a, b Span) int { return cmp.Compare(a.Start, b.Start) })
	var merged []Span
	for _, s := range list {
		if n := len(merged); n > 0 && s.Start <= merged[n-1].End {
			merged[n-1].End = max(merged[n-1].End, s.End)
		} else if s.Start < s.End {
			merged = append(merged, s)
		}
	}
	return merged
}

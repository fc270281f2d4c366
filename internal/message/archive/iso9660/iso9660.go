// Package iso9660 lists the files of an ISO 9660 image (ECMA-119) as each of its
// trees shows them: the primary one, with Rock Ridge names where there are any,
// and the supplementary ones with Joliet names.
//
// Invariants:
//   - A directory is read once for each tree, so loops end. Entries, directories
//     and the bytes read of them are bounded by what the caller allows.
//   - Contents are ranges of the image; nothing is copied.
package iso9660

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// ErrNoImage says that there is no volume descriptor.
var ErrNoImage = errors.New("not an ISO 9660 image")

// Entry is one file or directory.
type Entry struct {
	// Names are the raw paths in every tree that shows the file.
	Names []string
	Dir   bool
	// Link is the target of a symbolic link of Rock Ridge.
	Link string
	// Extents are the ranges of the image that make the content, in order.
	Extents []Extent
	Size    int64
}

// Extent is a range of the image.
type Extent struct{ Start, Size int64 }

// Image is what was found.
type Image struct {
	Entries []Entry
	// Size is the size of the volume, at most that of the file.
	Size int64
	// Damaged says what does not fit, "" for nothing.
	Damaged string
	// More says that there are more entries than the caller allows.
	More bool
}

const (
	sector = 2048
	first  = 16 // sector of the first descriptor
)

// Limits of one image.
const (
	maxDescriptors = 32
	maxDirectory   = 4 << 20 // bytes of one directory
	maxDepth       = 64
)

type reader struct {
	io.ReaderAt
	size  int64
	most  int
	image *Image
	// byExtent joins the names of a file in several trees.
	byExtent map[Extent]int
	dirs     map[string]bool // directories that are listed
	joliet   bool
	seen     map[int64]bool // directories of the present tree, by sector
	dirBytes int64          // read of directories
	block    int64
}

// Read lists at most so many entries of the image in r. Errors are ErrNoImage and
// those of r.
func Read(r io.ReaderAt, size int64, entries int) (*Image, error) {
	i := &reader{ReaderAt: r, size: size, most: entries, image: &Image{Size: size}, byExtent: map[Extent]int{}, dirs: map[string]bool{}}
	found := false
	for n := range int64(maxDescriptors) {
		d := make([]byte, sector)
		if _, err := r.ReadAt(d, (first+n)*sector); err != nil && err != io.EOF {
			return nil, err
		}
		const primary, supplementary, terminator = 1, 2, 255
		if string(d[1:6]) != "CD001" || d[0] == terminator {
			if d[0] == terminator || found {
				break
			}
			continue
		}
		if d[0] != primary && d[0] != supplementary {
			continue
		}
		found = true
		if err := i.tree(d); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, ErrNoImage
	}
	return i.image, nil
}

// tree reads the files of one volume descriptor.
func (r *reader) tree(d []byte) error {
	r.block = int64(binary.LittleEndian.Uint16(d[128:]))
	if r.block < 512 || r.block > sector {
		r.block = sector
	}
	if volume := int64(binary.LittleEndian.Uint32(d[80:])) * r.block; volume > first*sector {
		r.image.Size = min(r.size, volume)
	}
	// Joliet says so by its escape sequences: UCS-2, levels 1 to 3.
	escape := string(d[88:91])
	r.joliet = d[0] == 2 && (escape == "%/@" || escape == "%/C" || escape == "%/E")
	r.seen = map[int64]bool{}
	root, ok := r.record(d[156:190])
	if !ok {
		r.damaged("root directory")
		return nil
	}
	return r.directory(root, "", 0)
}

func (r *reader) damaged(what string) {
	if r.image.Damaged == "" {
		r.image.Damaged = what + " does not fit"
	}
}

// record is a directory record.
type record struct {
	extent Extent
	name   string
	dir    bool
	more   bool // the next record continues the file
	rock   string
	link   string
	hidden bool // a relocated directory's placeholder
}

// record parses a directory record (ECMA-119 §9.1).
func (r *reader) record(b []byte) (record, bool) {
	if len(b) < 34 || int(b[32])+33 > len(b) {
		return record{}, false
	}
	start := (int64(binary.LittleEndian.Uint32(b[2:])) + int64(b[1])) * r.block
	rec := record{
		extent: Extent{start, int64(binary.LittleEndian.Uint32(b[10:]))},
		dir:    b[25]&0x02 != 0, more: b[25]&0x80 != 0,
	}
	id := b[33 : 33+int(b[32])]
	switch {
	case len(id) == 1 && id[0] <= 1:
		rec.name = "."
	case r.joliet:
		rec.name = ucs2(id)
	default:
		rec.name = string(id)
	}
	// A version number follows the name.
	if i := strings.LastIndexByte(rec.name, ';'); i > 0 {
		rec.name = rec.name[:i]
	}
	system := 33 + int(b[32])
	if b[32]%2 == 0 {
		system++
	}
	if system < len(b) && !r.joliet {
		r.rockRidge(&rec, b[system:], 0)
	}
	return rec, true
}

func ucs2(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.BigEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// directory lists a directory and those below.
func (r *reader) directory(d record, path string, depth int) error {
	if r.seen[d.extent.Start] || depth > maxDepth {
		return nil
	}
	r.seen[d.extent.Start] = true
	size := min(d.extent.Size, maxDirectory, max(0, r.size-d.extent.Start))
	if size < d.extent.Size {
		r.damaged("a directory")
	}
	if r.dirBytes += size; r.dirBytes > 16*maxDirectory {
		r.image.More = true
		return nil
	}
	b := make([]byte, size)
	if _, err := r.ReadAt(b, d.extent.Start); err != nil && err != io.EOF {
		return err
	}
	var file *Entry // that continues
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 {
			// Records do not cross sectors: the rest of this one is empty.
			at := int(size) - len(b)
			b = b[min(len(b), sector-at%sector):]
			continue
		}
		if n > len(b) {
			r.damaged("a directory record")
			return nil
		}
		rec, ok := r.record(b[:n])
		b = b[n:]
		if !ok {
			r.damaged("a directory record")
			return nil
		}
		if rec.name == "." || rec.hidden {
			continue
		}
		if file != nil {
			file.Extents = append(file.Extents, r.clip(rec.extent))
			file.Size += rec.extent.Size
			if !rec.more {
				file = nil
			}
			continue
		}
		var err error
		if file, err = r.add(rec, path, depth); err != nil || r.image.More {
			return err
		}
	}
	return nil
}

// add records one entry; the result is not nil where the next record continues
// it.
func (r *reader) add(rec record, path string, depth int) (*Entry, error) {
	names := []string{path + rec.name}
	if rec.rock != "" {
		names = []string{path + rec.rock, path + rec.name}
	}
	if rec.dir {
		// The same directory has another place in another tree.
		if !r.dirs[names[0]] && len(r.image.Entries) < r.most {
			r.dirs[names[0]] = true
			r.image.Entries = append(r.image.Entries, Entry{Names: names, Dir: true})
		}
		return nil, r.directory(rec, names[0]+"/", depth+1)
	}
	if i, ok := r.byExtent[rec.extent]; ok && rec.extent.Size > 0 && !rec.more {
		e := &r.image.Entries[i]
		for _, n := range names {
			if !slices.Contains(e.Names, n) && len(e.Names) < 8 {
				e.Names = append(e.Names, n)
			}
		}
		return nil, nil
	}
	if len(r.image.Entries) >= r.most {
		r.image.More = true
		return nil, nil
	}
	r.byExtent[rec.extent] = len(r.image.Entries)
	r.image.Entries = append(r.image.Entries, Entry{Names: names, Link: rec.link, Size: rec.extent.Size, Extents: []Extent{r.clip(rec.extent)}})
	if rec.more {
		return &r.image.Entries[len(r.image.Entries)-1], nil
	}
	return nil, nil
}

// clip keeps an extent inside the file.
func (r *reader) clip(e Extent) Extent {
	start := min(e.Start, r.size)
	return Extent{start, min(e.Size, r.size-start)}
}

// Package cfb reads compound files ([MS-CFB]): the container of the old Office
// formats, of VBA projects, of installers and of saved Outlook messages.
//
// Invariants:
//   - Chains of sectors are followed no further than the file is long, so loops
//     end; a chain that ends early gives a stream that ends early.
//   - Memory is 4 bytes for each sector of the file and 256 bytes for each entry,
//     of which there are at most as many as the caller allows.
//   - A File does not change after Open, and its streams may be read at the same time.
package cfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
)

// ErrNoFile says that it is no compound file; ErrCorrupt that its structure is
// broken.
var (
	ErrNoFile  = errors.New("not a compound file")
	ErrCorrupt = errors.New("compound file: corrupt")
)

// Type is the type of an entry.
type Type uint8

// The types of entries.
const (
	Storage Type = 1
	Stream  Type = 2
	Root    Type = 5
)

// Entry is a storage or a stream.
type Entry struct {
	// Path is the names of the storages above and its own; empty for the root.
	Path []string
	Type Type
	// Parent is the index of the storage that holds the entry, -1 for the root
	// and for what no storage lists.
	Parent int
	CLSID  [16]byte
	Size   int64
	start  uint32
}

// Name is the last part of the path, "" for the root.
func (e *Entry) Name() string {
	if len(e.Path) == 0 {
		return ""
	}
	return e.Path[len(e.Path)-1]
}

// File is an open compound file.
type File struct {
	Entries []Entry
	// Damaged says that the directory does not hold together.
	Damaged bool

	r       io.ReaderAt
	size    int64
	sector  int64
	fat     []uint32
	mini    []uint32
	miniOf  []uint32 // sectors of the stream that holds the small ones
	miniMax int64    // streams below this are small
}

const (
	headerSize = 512
	entrySize  = 128
	miniSector = 64
)

// Values above these mean something else than a sector.
const (
	maxSector = 0xfffffffa
	noEntry   = 0xffffffff
)

// Open reads the structure of the compound file in r, with at most so many
// entries.
func Open(r io.ReaderAt, size int64, entries int) (*File, error) {
	var h [headerSize]byte
	if size < headerSize {
		return nil, ErrNoFile
	}
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return nil, err
	}
	if string(h[:8]) != "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" {
		return nil, ErrNoFile
	}
	shift := binary.LittleEndian.Uint16(h[30:])
	if shift < 7 || shift > 16 {
		return nil, fmt.Errorf("%w: sectors of 2^%d bytes", ErrCorrupt, shift)
	}
	f := &File{r: r, size: size, sector: 1 << shift, miniMax: int64(binary.LittleEndian.Uint32(h[56:]))}
	if err := f.readFAT(h[:]); err != nil {
		return nil, err
	}
	dir := f.chain(binary.LittleEndian.Uint32(h[48:]), f.size)
	if err := f.readDirectory(dir, entries, binary.LittleEndian.Uint16(h[26:]) < 4); err != nil {
		return nil, err
	}
	var err error
	f.mini, err = f.numbers(f.chain(binary.LittleEndian.Uint32(h[60:]), f.size))
	return f, err
}

// offset of a sector in the file. The header takes the place of the first one.
func (f *File) offset(sector uint32) int64 { return (int64(sector) + 1) * f.sector }

// sectors is how many sectors the file can have.
func (f *File) sectors() int64 { return f.size/f.sector + 1 }

// readFAT loads the table that links sectors to chains.
func (f *File) readFAT(h []byte) error {
	var list []uint32
	add := func(s uint32) bool {
		if s >= maxSector || int64(len(list)) > f.sectors() || f.offset(s) >= f.size {
			return false
		}
		list = append(list, s)
		return true
	}
	for i := 76; i < headerSize; i += 4 {
		if !add(binary.LittleEndian.Uint32(h[i:])) {
			break
		}
	}
	next := binary.LittleEndian.Uint32(h[68:])
	b := make([]byte, f.sector)
	for range f.sectors() {
		if next >= maxSector || f.offset(next) >= f.size {
			break
		}
		if err := f.read(b, f.offset(next)); err != nil {
			return err
		}
		last := len(b) - 4
		for i := 0; i < last; i += 4 {
			if !add(binary.LittleEndian.Uint32(b[i:])) {
				break
			}
		}
		next = binary.LittleEndian.Uint32(b[last:])
	}
	var err error
	f.fat, err = f.numbers(list)
	return err
}

// numbers reads the content of sectors as numbers, no more than there are sectors
// that they could be about.
func (f *File) numbers(sectors []uint32) ([]uint32, error) {
	most := f.sectors() * max(1, f.sector/miniSector)
	var list []uint32
	b := make([]byte, f.sector)
	for _, s := range sectors {
		if int64(len(list)) >= most {
			break
		}
		if err := f.read(b, f.offset(s)); err != nil {
			return nil, err
		}
		for i := 0; i < len(b); i += 4 {
			list = append(list, binary.LittleEndian.Uint32(b[i:]))
		}
	}
	return list, nil
}

// read fills b; what lies behind the end of the file is zero.
func (f *File) read(b []byte, off int64) error {
	n, err := f.r.ReadAt(b, off)
	clear(b[n:])
	if err == io.EOF {
		return nil
	}
	return err
}

// chain follows the sectors from start on, for at most size bytes, and to the end
// of what is there.
func (f *File) chain(start uint32, size int64) []uint32 {
	var list []uint32
	for s := start; s < maxSector && int64(len(list))*f.sector < size; s = f.fat[s] {
		if int64(len(list)) > f.sectors() || f.offset(s) >= f.size {
			break
		}
		list = append(list, s)
		if int64(s) >= int64(len(f.fat)) {
			break
		}
	}
	return list
}

// node is an entry as the directory stores it.
type node struct {
	Entry
	name               string
	left, right, child uint32
}

// readDirectory reads the entries and gives each its path.
func (f *File) readDirectory(sectors []uint32, most int, old bool) error {
	var nodes []node
	b := make([]byte, f.sector)
	for _, s := range sectors {
		if err := f.read(b, f.offset(s)); err != nil {
			return err
		}
		for i := 0; i+entrySize <= len(b); i += entrySize {
			nodes = append(nodes, parseNode(b[i:i+entrySize], old))
		}
		if len(nodes) > most {
			f.Damaged = true
			break
		}
	}
	if len(nodes) == 0 || nodes[0].Type != Root {
		return fmt.Errorf("%w: no root", ErrCorrupt)
	}
	f.miniOf = f.chain(nodes[0].start, nodes[0].Size)
	f.list(nodes)
	return nil
}

func parseNode(b []byte, old bool) node {
	n := node{
		Entry: Entry{Type: Type(b[66]), Parent: -1, start: binary.LittleEndian.Uint32(b[116:]), Size: int64(binary.LittleEndian.Uint64(b[120:]))},
		left:  binary.LittleEndian.Uint32(b[68:]), right: binary.LittleEndian.Uint32(b[72:]), child: binary.LittleEndian.Uint32(b[76:]),
	}
	if old {
		// Version 3 leaves the upper half undefined.
		n.Size &= 0xffffffff
	}
	n.Size = max(0, n.Size)
	copy(n.CLSID[:], b[80:96])
	units := make([]uint16, 0, 32)
	for i := 0; i < min(64, int(binary.LittleEndian.Uint16(b[64:]))); i += 2 {
		if u := binary.LittleEndian.Uint16(b[i:]); u != 0 {
			units = append(units, u)
		}
	}
	n.name = string(utf16.Decode(units))
	return n
}

// maxPath bounds how deep storages are nested.
const maxPath = 32

// list walks the trees of siblings from the root down, then adds the streams that
// no storage lists.
func (f *File) list(nodes []node) {
	seen := make([]bool, len(nodes))
	type item struct {
		index  uint32
		parent int
	}
	f.Entries = append(f.Entries, nodes[0].Entry)
	seen[0] = true
	stack := []item{{nodes[0].child, 0}}
	for len(stack) > 0 {
		it := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if it.index == noEntry {
			continue
		}
		if int64(it.index) >= int64(len(nodes)) || seen[it.index] {
			f.Damaged = true
			continue
		}
		seen[it.index] = true
		n := &nodes[it.index]
		above := f.Entries[it.parent].Path
		stack = append(stack, item{n.right, it.parent}, item{n.left, it.parent})
		if n.Type != Storage && n.Type != Stream || len(above) >= maxPath {
			f.Damaged = true
			continue
		}
		n.Parent = it.parent
		n.Path = append(append(make([]string, 0, len(above)+1), above...), n.name)
		f.Entries = append(f.Entries, n.Entry)
		if n.Type == Storage {
			stack = append(stack, item{n.child, len(f.Entries) - 1})
		}
	}
	for i := range nodes {
		if n := &nodes[i]; !seen[i] && n.Type == Stream && n.Size > 0 {
			n.Path = []string{n.name}
			f.Entries = append(f.Entries, n.Entry)
		}
	}
}

// Open returns the content of a stream. It is shorter than e.Size where the chain
// of its sectors is.
func (f *File) Open(e *Entry) *io.SectionReader {
	s := &stream{file: f, unit: f.sector}
	if e.Size < f.miniMax {
		s.unit = miniSector
		s.units = f.miniChain(e.start, e.Size)
	} else {
		s.units = f.chain(e.start, e.Size)
	}
	return io.NewSectionReader(s, 0, min(e.Size, int64(len(s.units))*s.unit))
}

// miniChain is chain for the small units.
func (f *File) miniChain(start uint32, size int64) []uint32 {
	var list []uint32
	for s := start; s < maxSector && int64(len(list))*miniSector < size && len(list) <= len(f.mini); s = f.mini[s] {
		list = append(list, s)
		if int64(s) >= int64(len(f.mini)) {
			break
		}
	}
	return list
}

// stream reads the units of a chain as one.
type stream struct {
	file  *File
	units []uint32
	unit  int64
}

func (s *stream) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		i, within := off/s.unit, off%s.unit
		if i >= int64(len(s.units)) {
			return n, io.EOF
		}
		// Neighbouring units are read at once.
		run := int64(1)
		for i+run < int64(len(s.units)) && s.units[i+run] == s.units[i]+uint32(run) && run*s.unit-within < int64(len(p)-n) {
			run++
		}
		part := p[n:min(int64(len(p)), int64(n)+run*s.unit-within)]
		if s.unit == miniSector {
			// Small units are neighbours inside a sector only.
			part = part[:min(int64(len(part)), s.unit-within)]
		}
		at, ok := s.at(s.units[i])
		if !ok {
			return n, io.EOF
		}
		if err := s.file.read(part, at+within); err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}

// at is where a unit stands in the file.
func (s *stream) at(unit uint32) (int64, bool) {
	if s.unit != miniSector || s.file.sector == miniSector {
		return s.file.offset(unit), true
	}
	byteOff := int64(unit) * miniSector
	i := byteOff / s.file.sector
	if i >= int64(len(s.file.miniOf)) {
		return 0, false
	}
	return s.file.offset(s.file.miniOf[i]) + byteOff%s.file.sector, true
}

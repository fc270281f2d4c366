// Package cabfile reads Microsoft cabinets ([MS-CAB]): the headers, and the
// folders in which members are packed together, stored or with MSZIP. Quantum and
// LZX are recognised only. There is no library for cabinets that is looked after;
// this covers what makecab and most senders make.
//
// Invariants:
//   - Memory is bounded by the number of members that the caller allows; the
//     decoder holds two blocks of 32 KiB.
//   - The first damage of a structure ends the list, not the reading: what stands
//     before it is returned.
package cabfile

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Errors of the package.
var (
	ErrNoCabinet = errors.New("not a cabinet")
	ErrMethod    = errors.New("cab: compression not supported")
	ErrCorrupt   = errors.New("cab: corrupt")
)

// Member is a file in a cabinet.
type Member struct {
	Name   string // raw
	Size   int64
	Folder int
	// Offset is where the content begins in that of the folder.
	Offset int64
}

// Folder is a run of packed blocks.
type Folder struct {
	Method int // low byte of typeCompress: 0 stored, 1 MSZIP, 2 Quantum, 3 LZX
	start  int64
	blocks int
}

// Cabinet is one file of a set.
type Cabinet struct {
	Members []Member
	Folders []Folder
	// Size is the size that the header states, at most that of the file.
	Size int64
	// Spans says that members continue from or in another cabinet of the set.
	Spans bool
	// More says that there are more members than the caller allows.
	More bool

	r       io.ReaderAt
	reserve int64 // bytes of each block header that are not ours
}

const (
	headerSize = 36
	folderSize = 8
	fileSize   = 16
	blockSize  = 8
)

// Flags of the header.
const (
	flagPrevious = 1
	flagNext     = 2
	flagReserve  = 4
)

// maxName bounds a name, in bytes; the format says 256.
const maxName = 1024

// Read reads the headers of the cabinet at the beginning of r, with at most so
// many members. With an error that is not ErrNoCabinet the cabinet holds what
// came before.
func Read(r io.ReaderAt, size int64, members int) (*Cabinet, error) {
	var h [headerSize]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return nil, noCabinet(err)
	}
	c := &Cabinet{r: r, Size: min(size, int64(binary.LittleEndian.Uint32(h[8:])))}
	files, folders := int64(binary.LittleEndian.Uint32(h[16:])), int(binary.LittleEndian.Uint16(h[26:]))
	count, flags := int(binary.LittleEndian.Uint16(h[28:])), binary.LittleEndian.Uint16(h[30:])
	if string(h[:4]) != "MSCF" || h[25] != 1 || files < headerSize || c.Size < files {
		return nil, ErrNoCabinet
	}
	c.Spans = flags&(flagPrevious|flagNext) != 0
	in := bufio.NewReader(io.NewSectionReader(r, headerSize, size-headerSize))
	folderReserve, err := c.optional(in, flags)
	if err != nil {
		return c, err
	}
	for range folders {
		var b [folderSize]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return c, corrupt(err)
		}
		if _, err := in.Discard(folderReserve); err != nil {
			return c, corrupt(err)
		}
		c.Folders = append(c.Folders, Folder{
			start:  int64(binary.LittleEndian.Uint32(b[:])),
			blocks: int(binary.LittleEndian.Uint16(b[4:])),
			Method: int(b[6] & 0x0f),
		})
	}
	return c, c.members(bufio.NewReader(io.NewSectionReader(r, files, size-files)), min(count, members), count > members)
}

// optional skips the fields that flags announce and returns how many bytes
// follow each folder.
func (c *Cabinet) optional(in *bufio.Reader, flags uint16) (folderReserve int, err error) {
	if flags&flagReserve != 0 {
		var b [4]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return 0, corrupt(err)
		}
		folderReserve, c.reserve = int(b[2]), int64(b[3])
		if _, err := in.Discard(int(binary.LittleEndian.Uint16(b[:]))); err != nil {
			return 0, corrupt(err)
		}
	}
	names := 0
	for _, flag := range []uint16{flagPrevious, flagNext} {
		if flags&flag != 0 {
			names += 2 // cabinet and disk
		}
	}
	for range names {
		if _, err := name(in); err != nil {
			return 0, err
		}
	}
	return folderReserve, nil
}

// name reads up to a NUL.
func name(in *bufio.Reader) (string, error) {
	var b []byte
	for {
		c, err := in.ReadByte()
		if err != nil {
			return "", corrupt(err)
		}
		if c == 0 {
			return string(b), nil
		}
		if b = append(b, c); len(b) > maxName {
			return "", fmt.Errorf("%w: endless name", ErrCorrupt)
		}
	}
}

func (c *Cabinet) members(in *bufio.Reader, count int, more bool) error {
	c.More = more
	for range count {
		var b [fileSize]byte
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return corrupt(err)
		}
		n, err := name(in)
		if err != nil {
			return err
		}
		m := Member{
			Name: n, Size: int64(binary.LittleEndian.Uint32(b[:])), Offset: int64(binary.LittleEndian.Uint32(b[4:])),
			Folder: int(binary.LittleEndian.Uint16(b[8:])),
		}
		// The last values mean: continued from or in another cabinet.
		const fromPrevious, toNext, both = 0xfffd, 0xfffe, 0xffff
		switch m.Folder {
		case fromPrevious, both:
			m.Folder = 0
			c.Spans = true
		case toNext:
			m.Folder = len(c.Folders) - 1
			c.Spans = true
		}
		c.Members = append(c.Members, m)
	}
	return nil
}

// Open returns the content of a folder.
func (c *Cabinet) Open(folder int) (io.Reader, error) {
	if folder < 0 || folder >= len(c.Folders) {
		return nil, fmt.Errorf("%w: no folder %d", ErrCorrupt, folder)
	}
	f := c.Folders[folder]
	const stored, mszip = 0, 1
	if f.Method != stored && f.Method != mszip {
		return nil, fmt.Errorf("%w: type %d", ErrMethod, f.Method)
	}
	return &reader{cabinet: c, at: f.start, left: f.blocks, packed: f.Method == mszip}, nil
}

// reader gives the blocks of a folder one after the other.
type reader struct {
	cabinet *Cabinet
	at      int64
	left    int
	packed  bool
	inflate io.ReadCloser
	block   []byte // not read yet
	window  []byte // the block before, which MSZIP refers to
	raw     []byte
}

func (r *reader) Read(p []byte) (int, error) {
	for len(r.block) == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
		r.left--
	}
	n := copy(p, r.block)
	r.block = r.block[n:]
	return n, nil
}

// maxBlock is how much a block unpacks to, at most.
const maxBlock = 32 << 10

// next reads the next block. Check sums are not looked at: programs extract
// without, and what they would show is what counts.
func (r *reader) next() error {
	var h [blockSize]byte
	if _, err := r.cabinet.r.ReadAt(h[:], r.at); err != nil {
		return corrupt(err)
	}
	packed, size := int(binary.LittleEndian.Uint16(h[4:])), int(binary.LittleEndian.Uint16(h[6:]))
	r.raw = append(r.raw[:0], make([]byte, packed)...)
	if _, err := r.cabinet.r.ReadAt(r.raw, r.at+blockSize+r.cabinet.reserve); err != nil && (err != io.EOF || packed > 0) {
		return corrupt(err)
	}
	r.at += blockSize + r.cabinet.reserve + int64(packed)
	if size > maxBlock {
		return fmt.Errorf("%w: block of %d bytes", ErrCorrupt, size)
	}
	if !r.packed {
		r.block = r.raw
		return nil
	}
	if !bytes.HasPrefix(r.raw, []byte("CK")) {
		return fmt.Errorf("%w: no MSZIP block", ErrCorrupt)
	}
	return r.unpack(size)
}

// unpack inflates a block with the window of the one before ([MS-MCI] §2.2).
func (r *reader) unpack(size int) error {
	in := bytes.NewReader(r.raw[2:])
	if r.inflate == nil {
		r.inflate = flate.NewReaderDict(in, r.window)
	} else if err := r.inflate.(flate.Resetter).Reset(in, r.window); err != nil {
		return err
	}
	out := make([]byte, size)
	n, err := io.ReadFull(r.inflate, out)
	r.block = out[:n]
	r.window = append(r.window, out[:n]...)
	r.window = r.window[max(0, len(r.window)-maxBlock):]
	if err != nil && n == 0 {
		return corrupt(err)
	}
	return nil
}

func corrupt(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: cut off", ErrCorrupt)
	}
	return err
}

func noCabinet(err error) error {
	if err == io.EOF {
		return ErrNoCabinet
	}
	return err
}

// Package sevenheader reads the headers of a 7z archive to find out whether it
// is safe to give it to the library that unpacks it. The library believes counts
// and sizes: it would take gigabytes for a header of a few bytes, and try for
// ever to make a key of an empty password. It also does not say which members are
// encrypted or in which way they are compressed; this package does.
//
// Invariants:
//   - Headers are held in memory up to Limits.Header bytes; beyond that and beyond
//     the other limits the archive is refused.
//   - What the library parses in another order or way than the format's
//     description is refused here too, so both see the same folders.
package sevenheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// Errors of Check.
var (
	ErrCorrupt   = errors.New("7z: corrupt header")
	ErrEncrypted = errors.New("7z: header is encrypted")
	ErrMethod    = errors.New("7z: header is compressed in an unknown way")
	ErrLimit     = errors.New("7z: header over a limit")
)

// Limits bound what Check accepts.
type Limits struct {
	Header int64 // bytes of a header, packed and unpacked
	Files  int   // members, and also groups of members that are packed together
}

// Folder is a group of members that are packed together.
type Folder struct {
	Encrypted bool
	// Unknown names a method that cannot be decoded, "" for none.
	Unknown string
	// Memory is what its decoders allocate, in bytes.
	Memory int64
	// Size is the size of the content.
	Size int64
}

// Info is what the headers say.
type Info struct {
	Files   int
	Folders []Folder
	// End is where the archive ends.
	End int64
}

// Signature begins every archive.
const Signature = "7z\xbc\xaf\x27\x1c"

const startSize = 32

// Start checks the start header at the beginning of r and returns where the
// archive ends and where its header stands; ErrCorrupt where it is none.
func Start(r io.ReaderAt, size int64) (end, header int64, err error) {
	var b [startSize]byte
	if size < startSize {
		return 0, 0, ErrCorrupt
	}
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return 0, 0, err
	}
	if string(b[:6]) != Signature || crc32.ChecksumIEEE(b[12:]) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, 0, ErrCorrupt
	}
	offset, length := binary.LittleEndian.Uint64(b[12:]), binary.LittleEndian.Uint64(b[20:])
	if offset > uint64(size) || length > uint64(size) || startSize+int64(offset+length) > size {
		return 0, 0, fmt.Errorf("%w: cut off", ErrCorrupt)
	}
	return startSize + int64(offset+length), startSize + int64(offset), nil
}

// Check reads the headers of the archive at the beginning of r.
func Check(r io.ReaderAt, size int64, l Limits) (*Info, error) {
	end, at, err := Start(r, size)
	if err != nil {
		return nil, err
	}
	if end-at > l.Header {
		return nil, fmt.Errorf("%w: %d bytes", ErrLimit, end-at)
	}
	p := &parser{b: make([]byte, end-at), limits: l}
	if len(p.b) == 0 {
		return &Info{End: end}, nil
	}
	if _, err := r.ReadAt(p.b, at); err != nil && err != io.EOF {
		return nil, err
	}
	id := p.byte()
	if id == idEncodedHeader {
		if p, err = p.decode(r, at); err != nil {
			return nil, err
		}
		id = p.byte()
	}
	if id != idHeader {
		return nil, fmt.Errorf("%w: no header", ErrCorrupt)
	}
	info, err := p.header()
	if err != nil {
		return nil, err
	}
	info.End = end
	return info, nil
}

// decode unpacks an encoded header; its own streams info follows in p.
func (p *parser) decode(r io.ReaderAt, end int64) (*parser, error) {
	streams := p.streams()
	if p.failed != nil {
		return nil, p.failed
	}
	if len(streams.folders) != 1 || len(streams.packed) == 0 {
		return nil, fmt.Errorf("%w: encoded header", ErrCorrupt)
	}
	f := streams.folders[0]
	switch {
	case f.Encrypted:
		return nil, ErrEncrypted
	case len(f.coders) != 1 || f.Unknown != "":
		return nil, ErrMethod
	case f.Size < 0 || f.Size > p.limits.Header:
		return nil, fmt.Errorf("%w: %d bytes", ErrLimit, f.Size)
	}
	start, length := startSize+streams.at, streams.packed[0]
	if streams.at < 0 || length < 0 || start > end || length > end-start {
		return nil, fmt.Errorf("%w: encoded header outside of the file", ErrCorrupt)
	}
	in, err := f.coders[0].open(io.NewSectionReader(r, start, length), f.Size)
	if err != nil {
		return nil, err
	}
	next := &parser{b: make([]byte, f.Size), limits: p.limits}
	if _, err := io.ReadFull(in, next.b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return next, nil
}

// open decodes a header, for which archivers use LZMA or nothing.
func (c coder) open(in io.Reader, size int64) (io.Reader, error) {
	switch c.id {
	case idCopy:
		return in, nil
	case idLZMA:
		header := binary.LittleEndian.AppendUint32([]byte{c.properties[0]}, uint32(c.dictionary(size)))
		header = binary.LittleEndian.AppendUint64(header, uint64(size))
		r, err := lzma.NewReader(io.MultiReader(bytes.NewReader(header), bufio.NewReader(in)))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return r, nil
	case idLZMA2:
		r, err := lzma.Reader2Config{DictCap: int(max(c.dictionary(size), lzma.MinDictCap))}.NewReader2(bufio.NewReader(in))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return r, nil
	}
	return nil, ErrMethod
}

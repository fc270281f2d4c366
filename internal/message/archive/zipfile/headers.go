package zipfile

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// Signatures of the records (APPNOTE.TXT §4.3).
const (
	sigLocal   = "PK\x03\x04"
	sigCentral = "PK\x01\x02"
	sigEnd     = "PK\x05\x06"
	sigEnd64   = "PK\x06\x06"
	sigLoc64   = "PK\x06\x07"
)

// Sizes of the fixed parts of the records, in bytes.
const (
	localSize   = 30
	centralSize = 46
	endSize     = 22
	end64Size   = 56
	loc64Size   = 20
)

// Bits of the flags (APPNOTE.TXT §4.4.4).
const (
	flagEncrypted = 1 << 0
	flagDeferred  = 1 << 3 // sizes follow the data
	flagStrong    = 1 << 6
	flagMasked    = 1 << 13 // the central directory is encrypted
)

// Extra fields that are read.
const (
	extraZip64   = 0x0001
	extraUnicode = 0x7075
	extraAES     = 0x9901
)

const none32 = 0xffffffff

// maxName is how much of a name is kept, from both ends, in bytes.
const maxName = 4 << 10

var errNoHeader = errors.New("no header")

// header is a local header, or a central one.
type header struct {
	flags        uint16
	method       int
	crc          uint32
	packed, size int64
	name         string
	unicode      string // from the extra field
	offset       int64  // central: of the local header
	mode         uint32 // central: Unix mode, 0 where unknown
	data         int64  // local: where the data begins
}

func (h *header) deferred() bool { return h.flags&flagDeferred != 0 }

func (h *header) names() []string {
	if h.unicode != "" && h.unicode != h.name {
		return []string{h.name, h.unicode}
	}
	return []string{h.name}
}

func (h *header) reading(data, size int64) Reading {
	r := Reading{
		Method: h.method, Encrypted: h.flags&(flagEncrypted|flagStrong) != 0 || h.method == AES,
		Data: data, Packed: h.packed, Limit: size, Size: h.size, CRC: h.crc, HasCRC: true,
	}
	if r.Packed > size-data {
		r.Packed = max(0, size-data)
	}
	return r
}

// readLocal reads the local header at off; errNoHeader where there is none.
func (z *reader) localHeader(off int64) (*header, error) {
	var b [localSize]byte
	if off < 0 || off > z.size-localSize {
		return nil, errNoHeader
	}
	if err := z.full(b[:], off); err != nil {
		return nil, err
	}
	if string(b[:4]) != sigLocal {
		return nil, errNoHeader
	}
	nameLen, extraLen := int64(binary.LittleEndian.Uint16(b[26:])), int64(binary.LittleEndian.Uint16(b[28:]))
	h := &header{
		flags:  binary.LittleEndian.Uint16(b[6:]),
		method: int(binary.LittleEndian.Uint16(b[8:])),
		crc:    binary.LittleEndian.Uint32(b[14:]),
		packed: int64(binary.LittleEndian.Uint32(b[18:])),
		size:   int64(binary.LittleEndian.Uint32(b[22:])),
		data:   off + localSize + nameLen + extraLen,
	}
	if h.data > z.size {
		return nil, errNoHeader
	}
	rest := make([]byte, nameLen+extraLen)
	if err := z.full(rest, off+localSize); err != nil {
		return nil, err
	}
	h.name = cutName(rest[:nameLen])
	h.extra(rest[nameLen:])
	return h, nil
}

// centralHeader parses a record of the directory. Fixed is centralSize bytes,
// rest the name and the extra fields.
func centralHeader(fixed, rest []byte) *header {
	nameLen := int(binary.LittleEndian.Uint16(fixed[28:]))
	h := &header{
		flags:  binary.LittleEndian.Uint16(fixed[8:]),
		method: int(binary.LittleEndian.Uint16(fixed[10:])),
		crc:    binary.LittleEndian.Uint32(fixed[16:]),
		packed: int64(binary.LittleEndian.Uint32(fixed[20:])),
		size:   int64(binary.LittleEndian.Uint32(fixed[24:])),
		offset: int64(binary.LittleEndian.Uint32(fixed[42:])),
		name:   cutName(rest[:nameLen]),
	}
	const unix = 3
	if fixed[5] == unix {
		h.mode = binary.LittleEndian.Uint32(fixed[38:]) >> 16
	}
	h.extra(rest[nameLen:])
	return h
}

// extra reads the extra fields that matter; what is malformed ends them.
func (h *header) extra(b []byte) {
	for len(b) >= 4 {
		id, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if size > len(b)-4 {
			return
		}
		field := b[4 : 4+size]
		b = b[4+size:]
		switch {
		case id == extraZip64:
			h.zip64(field)
		case id == extraUnicode && len(field) > 5 && field[0] == 1:
			h.unicode = cutName(field[5:])
		case id == extraAES && len(field) >= 7:
			h.flags |= flagEncrypted
		}
	}
}

// zip64 holds the values, in this order, that do not fit into the header.
func (h *header) zip64(b []byte) {
	for _, v := range []*int64{&h.size, &h.packed, &h.offset} {
		if *v == none32 && len(b) >= 8 {
			*v, b = max(0, int64(binary.LittleEndian.Uint64(b))), b[8:]
		}
	}
}

// cutName makes a string of a name of up to 64 KiB.
func cutName(b []byte) string {
	if len(b) > maxName {
		return string(b[:maxName/2]) + string(b[len(b)-maxName/2:])
	}
	return string(b)
}

// full reads all of b at off, which must be inside of the file.
func (z *reader) full(b []byte, off int64) error {
	n, err := z.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

const (
	modeType = 0xf000
	modeLink = 0xa000
)

// entry makes the entry of a central header.
func (h *header) entry(base int64) Entry {
	e := Entry{Names: h.names(), Offset: base + h.offset, central: h}
	e.attributes()
	return e
}

func (e *Entry) attributes() {
	h := e.central
	if h == nil {
		h = e.local
	}
	e.Symlink = h.mode&modeType == modeLink
	// A directory has no content; what has content is a file, whatever its name.
	e.Dir = h.size == 0 && h.packed == 0 && (strings.HasSuffix(h.name, "/") || strings.HasSuffix(h.name, `\`))
}

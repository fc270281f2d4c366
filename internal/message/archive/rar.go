package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/nwaples/rardecode/v2"
)

// The signatures of RAR archives, which follow the same six bytes.
const (
	rarSignature = "Rar!\x1a\x07"
	rarOld       = "\x00"     // versions 1.5 to 4
	rarNew       = "\x01\x00" // version 5
)

// unpackRAR gives the members of a RAR archive. The library finds the next member
// by reading on, so the archive ends where a header is damaged.
func unpackRAR(s *scope) error {
	old, solid := s.rarHeader()
	// No decoder needs a dictionary that is longer than all content, but the
	// library's limit is all there is to say.
	dict := min(s.w.budget.memoryLeft(), maxRARDictionary)
	if err := s.reserve(dict); err != nil {
		return err
	}
	r, err := s.openRAR(old, dict)
	if err != nil {
		return err
	}
	defer r.close()
	for {
		h, err := r.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return s.rarError(err)
		}
		whole, err := s.rarMember(r, h)
		if err != nil {
			return err
		}
		if !whole && (solid || h.Solid) {
			return fmt.Errorf("what follows %q cannot be read without it", shorten(CleanName(h.Name), 80))
		}
	}
}

// maxRARDictionary is twice what WinRAR takes by default.
const maxRARDictionary = 64 << 20

// rarHeader tells from the first headers whether the archive is old and whether
// its members are packed in one stream.
func (s *scope) rarHeader() (old, solid bool) {
	var b [64]byte
	n, _ := s.body.ReadAt(b[:], 0) // what is not there is zero
	h := b[len(rarSignature):n]
	switch {
	case n < 32:
		return true, false
	case string(h[:1]) == rarOld:
		const flags, solidFlag = 4, 0x08
		return true, h[flags]&solidFlag != 0
	}
	// Sum, size, type, flags, then the archive's own flags.
	const solidFlag, hasExtra = 0x04, 0x01
	v := h[2+4:]
	_, v = vint(v)
	_, v = vint(v)
	flags, v := vint(v)
	if flags&hasExtra != 0 {
		_, v = vint(v)
	}
	own, _ := vint(v)
	return false, own&solidFlag != 0
}

// vint reads a variable-length integer of RAR 5.
func vint(b []byte) (uint64, []byte) {
	v, n := binary.Uvarint(b)
	return v, b[max(n, 0):]
}

// rarMember gives the member that the reader stands at.
func (s *scope) rarMember(r *rarSession, h *rardecode.FileHeader) (whole bool, err error) {
	e := entry{raws: []string{h.Name}, link: h.LinkTarget, claimed: h.UnPackedSize, packed: h.PackedSize}
	if h.UnKnownSize {
		e.claimed = -1
	}
	if h.Solid || e.packed < 0 {
		e.packed = -1
	}
	switch {
	case h.IsDir:
		e.kind = Directory
		return true, s.bare(e)
	case h.LinkType == rardecode.LinkTypeHardLink || h.LinkType == rardecode.LinkTypeFileCopy:
		e.kind = Hardlink
		return true, s.bare(e)
	case h.LinkType != rardecode.LinkTypeNone:
		e.kind = Symlink
		return true, s.bare(e)
	case h.Encrypted:
		e.encrypted = true
		return true, s.bare(e)
	}
	return s.stream(e, func() (io.Reader, error) { return &rarErrors{scope: s, r: r}, nil })
}

// rarErrors gives the errors of the library the meaning that findings go by.
type rarErrors struct {
	*scope
	r io.Reader
}

func (r *rarErrors) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if errors.Is(err, rardecode.ErrBadFileChecksum) {
		// All of it is there, and what follows in the same stream is as good.
		r.failed(err)
		err = io.EOF
	}
	if err != nil && err != io.EOF {
		err = r.rarError(err)
	}
	return n, err
}

func (s *scope) rarError(err error) error {
	kind := map[error]error{
		rardecode.ErrArchiveEncrypted: errPassword, rardecode.ErrArchivedFileEncrypted: errPassword,
		rardecode.ErrMultiVolume: errVolumes, rardecode.ErrBadVolumeNumber: errVolumes, rardecode.ErrInvalidFileBlock: errVolumes,
		rardecode.ErrDictionaryTooLarge: errMemory, rardecode.ErrPlatformIntSize: errMemory,
		rardecode.ErrUnsupportedDecoder: errMethod, rardecode.ErrUnknownDecoder: errMethod, rardecode.ErrUnknownVersion: errMethod,
		rardecode.ErrMultipleDecoders: errMethod, rardecode.ErrUnknownEncryptMethod: errPassword,
	}
	for from, to := range kind {
		if errors.Is(err, from) {
			if to == errPassword {
				s.quiet = false
			}
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return s.orEnded(err)
}

// isRAR checks the first header of a RAR archive at off, so that six bytes in the
// middle of a program are not taken for one.
func isRAR(body *io.SectionReader, off int64) bool {
	var b [512]byte
	n, _ := body.ReadAt(b[:], off+int64(len(rarSignature))) // what is not there is zero
	h := b[:n]
	switch {
	case n < 16:
		return false
	case string(h[:1]) == rarOld:
		h = h[1:]
		const archiveHeader = 0x73
		size := int(binary.LittleEndian.Uint16(h[5:]))
		if h[2] != archiveHeader || size < 13 || size > len(h) {
			return false
		}
		// The sum covers 13 bytes even where a comment makes the header longer.
		return uint16(crc32.ChecksumIEEE(h[2:13])) == binary.LittleEndian.Uint16(h)
	case string(h[:2]) == rarNew:
		h = h[2:]
		size, rest := vint(h[4:])
		start := len(h) - len(rest)
		if size == 0 || size > uint64(len(rest)) {
			return false
		}
		return crc32.ChecksumIEEE(h[4:start+int(size)]) == binary.LittleEndian.Uint32(h)
	}
	return false
}

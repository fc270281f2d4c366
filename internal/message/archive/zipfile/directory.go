package zipfile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"slices"
)

// directory is a central directory and the record that ends it.
type directory struct {
	start, end        int64
	record, recordEnd int64
	base              int64 // what offsets are relative to
}

// maxDirectories bounds how many end records are looked at; more are no archive
// that anybody made.
const maxDirectories = 8

// directories reads every central directory that an end record near the end of
// the file leads to. Programs choose differently between them.
func (z *reader) directories() error {
	tail, at, err := z.tail()
	if err != nil {
		return err
	}
	for len(tail) >= endSize && len(z.dirs) < maxDirectories {
		i := bytes.LastIndex(tail[:len(tail)-endSize+4], []byte(sigEnd))
		if i < 0 {
			break
		}
		if err := z.endRecord(at+int64(i), tail[i:]); err != nil {
			return err
		}
		tail = tail[:min(i+endSize-1, len(tail)-1)]
	}
	if len(z.dirs) == 0 {
		z.problem(Damaged, "", "no central directory")
	}
	return nil
}

// tail returns the last bytes, where an end record may stand, and their offset.
func (z *reader) tail() ([]byte, int64, error) {
	n := min(z.size, endSize+1<<16)
	b := make([]byte, n)
	return b, z.size - n, z.full(b, z.size-n)
}

// endRecord follows the end record at off.
func (z *reader) endRecord(off int64, b []byte) error {
	if z.insideMember(off) {
		return nil
	}
	total := int64(binary.LittleEndian.Uint16(b[10:]))
	size, start := int64(binary.LittleEndian.Uint32(b[12:])), int64(binary.LittleEndian.Uint32(b[16:]))
	recordEnd := min(z.size, off+endSize+int64(binary.LittleEndian.Uint16(b[20:])))
	if disk := binary.LittleEndian.Uint16(b[4:]); disk != 0 && disk != 0xffff {
		z.problem(Volumes, "", "the last of %d volumes", disk+1)
	}
	record := off
	if total == 0xffff || size == none32 || start == none32 {
		if err := z.end64(&record, &total, &size, &start); err != nil {
			return err
		}
	}
	found := false
	for _, d := range []directory{
		// In front of the end record, whatever stands before the archive; or
		// where the record says.
		{start: record - size, end: record, record: record, recordEnd: recordEnd, base: record - size - start},
		{start: start, end: start + size, record: record, recordEnd: recordEnd},
	} {
		ok, err := z.readDirectory(d, total)
		if err != nil {
			return err
		}
		found = found || ok
	}
	if !found && total > 0 {
		z.problem(Damaged, "", "the central directory is not where its end record says")
	}
	return nil
}

// insideMember reports that a byte belongs to a member or a directory that is
// known already: a zip that is stored in a zip has records of its own.
func (z *reader) insideMember(off int64) bool {
	for i := range z.a.Entries {
		e := &z.a.Entries[i]
		if e.central != nil && e.Offset >= 0 && off > e.Offset && off < e.Offset+localSize+e.central.packed {
			return true
		}
	}
	for _, d := range z.dirs {
		if off >= d.start && off < d.end {
			return true
		}
	}
	return false
}

// end64 replaces the values of an end record by those of its zip64 form
// (APPNOTE.TXT §4.3.14), where there is one.
func (z *reader) end64(record, total, size, start *int64) error {
	var loc [loc64Size]byte
	if *record < loc64Size {
		return nil
	}
	if err := z.full(loc[:], *record-loc64Size); err != nil || string(loc[:4]) != sigLoc64 {
		return err
	}
	var b [end64Size]byte
	for _, at := range []int64{int64(binary.LittleEndian.Uint64(loc[8:])), *record - loc64Size - end64Size} {
		if at < 0 || at > z.size-end64Size {
			continue
		}
		if err := z.full(b[:], at); err != nil {
			return err
		}
		if string(b[:4]) == sigEnd64 {
			*record = at
			*total = int64(binary.LittleEndian.Uint64(b[32:]))
			*size = int64(binary.LittleEndian.Uint64(b[40:]))
			*start = int64(binary.LittleEndian.Uint64(b[48:]))
			return nil
		}
	}
	return nil
}

// readDirectory adds the entries of a directory, if there is one.
func (z *reader) readDirectory(d directory, total int64) (bool, error) {
	if d.start < 0 || d.start > d.end || d.end > z.size || d.base < 0 {
		return false, nil
	}
	if err := z.correctBase(&d); err != nil {
		return false, err
	}
	for _, known := range z.dirs {
		if known.start == d.start && known.base == d.base {
			return true, nil
		}
	}
	if total == 0 && d.start == d.end {
		z.dirs = append(z.dirs, d)
		return true, nil
	}
	before := len(z.a.Entries)
	// A directory goes on as long as there are records, up to the end record: that is what
	// most programs do, whatever size and count say.
	r := bufio.NewReader(io.NewSectionReader(z, d.start, max(d.record, d.end)-d.start))
	count, shared, at := int64(0), 0, d.start
	for {
		h, n, err := readCentral(r)
		if err != nil {
			return false, err
		}
		if h == nil {
			break
		}
		at += n
		if count++; len(z.a.Entries) >= z.most {
			z.a.More = true
			break
		}
		if z.list(h, d.base, before) {
			shared++
		}
	}
	if count == 0 {
		return false, nil
	}
	d.end = at
	if count&0xffff != total&0xffff && !z.a.More {
		z.problem(Mismatch, "", "the directory has %d entries, its end record says %d", count, total)
	}
	if len(z.dirs) > 0 && (len(z.a.Entries) > before || shared < before) {
		z.problem(Ambiguous, "", "%d directories list different members", len(z.dirs)+1)
	}
	z.dirs = append(z.dirs, d)
	return true, nil
}

// correctBase takes offsets for absolute where the first entry says so: then what
// stands in front of the archive was known when it was made.
func (z *reader) correctBase(d *directory) error {
	if d.base == 0 {
		return nil
	}
	h, _, err := readCentral(bufio.NewReader(io.NewSectionReader(z, d.start, z.size-d.start)))
	if err != nil || h == nil {
		return err
	}
	if _, err := z.localHeader(d.base + h.offset); err != errNoHeader {
		return err
	}
	switch _, err := z.localHeader(h.offset); err {
	case nil:
		d.base = 0
	case errNoHeader:
	default:
		return err
	}
	return nil
}

// list adds an entry and reports whether another directory listed it before:
// one of the first known entries.
func (z *reader) list(h *header, base int64, known int) bool {
	if h.flags&flagMasked != 0 {
		z.problem(EncryptedDirectory, "", "names are encrypted")
	}
	e := h.entry(base)
	if i, ok := z.byAt[e.Offset]; ok && i < known {
		other := &z.a.Entries[i]
		if slices.Contains(other.Names, h.name) {
			return true
		}
		other.Names = append(other.Names, h.names()...)
		return false
	}
	// The same local header twice in one directory is two members.
	z.byAt[e.Offset] = len(z.a.Entries)
	z.a.Entries = append(z.a.Entries, e)
	return false
}

// readCentral reads one record of a directory; nil where none follows.
func readCentral(r *bufio.Reader) (h *header, n int64, err error) {
	fixed, err := r.Peek(centralSize)
	if err != nil || string(fixed[:4]) != sigCentral {
		return nil, 0, ignoreEOF(err)
	}
	fixed = slices.Clone(fixed)
	_, _ = r.Discard(centralSize) // it was peeked
	nameLen, extraLen := int(binary.LittleEndian.Uint16(fixed[28:])), int(binary.LittleEndian.Uint16(fixed[30:]))
	comment := int(binary.LittleEndian.Uint16(fixed[32:]))
	rest := make([]byte, nameLen+extraLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, 0, ignoreEOF(err)
	}
	if _, err := r.Discard(comment); err != nil {
		return nil, 0, ignoreEOF(err)
	}
	return centralHeader(fixed, rest), int64(centralSize + len(rest) + comment), nil
}

func ignoreEOF(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

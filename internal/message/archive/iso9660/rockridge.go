package iso9660

import (
	"encoding/binary"
	"io"
	"strings"
)

// maxContinuations bounds how often the system use area of a record continues
// elsewhere, maxRockName a name that is put together from pieces, in bytes.
const (
	maxContinuations = 4
	maxRockName      = 4 << 10
)

// rockRidge reads the fields of the Rock Ridge Interchange Protocol that matter:
// the name (NM), links (SL), relocated directories (CL, RE), and where more
// fields stand (CE).
func (r *reader) rockRidge(rec *record, b []byte, continued int) {
	for len(b) >= 4 {
		n := int(b[2])
		if n < 4 || n > len(b) {
			return
		}
		field := b[:n]
		b = b[n:]
		switch string(field[:2]) {
		case "NM":
			// Flags 2 and 4 are "." and "..".
			if n > 5 && field[4]&6 == 0 && len(rec.rock) < maxRockName {
				rec.rock += string(field[5:])
			}
		case "SL":
			if len(rec.link) < maxRockName {
				rec.link += link(field)
			}
		case "CL":
			if n >= 12 {
				rec.dir = true
				rec.extent = r.relocated(int64(binary.LittleEndian.Uint32(field[4:])) * r.block)
			}
		case "RE":
			rec.hidden = true
		case "CE":
			if n >= 28 && continued < maxContinuations {
				r.continuation(rec, field, continued+1)
			}
		case "ST":
			return
		}
	}
}

// continuation reads fields from elsewhere in the image.
func (r *reader) continuation(rec *record, field []byte, continued int) {
	at := int64(binary.LittleEndian.Uint32(field[4:]))*r.block + int64(binary.LittleEndian.Uint32(field[12:]))
	more := make([]byte, min(binary.LittleEndian.Uint32(field[20:]), sector))
	if n, err := r.ReadAt(more, at); err == nil || err == io.EOF {
		r.rockRidge(rec, more[:n], continued)
	}
}

// relocated returns the extent of a directory that stands elsewhere; its own
// first record says how long it is.
func (r *reader) relocated(at int64) Extent {
	var b [34]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return Extent{Start: at}
	}
	return Extent{at, int64(binary.LittleEndian.Uint32(b[10:]))}
}

// link puts together the components of a symbolic link.
func link(field []byte) string {
	var b strings.Builder
	for c := field[5:]; len(c) >= 2; {
		n := int(c[1])
		if n > len(c)-2 {
			break
		}
		switch {
		case c[0]&2 != 0:
			b.WriteString("./")
		case c[0]&4 != 0:
			b.WriteString("../")
		case c[0]&8 != 0:
			b.WriteString("/")
		default:
			b.Write(c[2 : 2+n])
			if c[0]&1 == 0 {
				b.WriteByte('/')
			}
		}
		c = c[2+n:]
	}
	return strings.TrimSuffix(b.String(), "/")
}

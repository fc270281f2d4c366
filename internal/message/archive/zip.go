package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive/zipfile"

	"github.com/ulikunitz/xz/lzma"
)

var zipSymbols = map[zipfile.ProblemKind]symbol{
	zipfile.Damaged: symDamaged, zipfile.Mismatch: symMismatch, zipfile.Hidden: symHidden, zipfile.Overlap: symOverlap,
	zipfile.Ambiguous: symAmbiguous, zipfile.EncryptedDirectory: symEncrypted, zipfile.Volumes: symVolumes,
}

// unpackZip gives every member that some program would show, and in each way in
// which it would.
func unpackZip(s *scope) error {
	z, err := zipfile.Read(s.body, s.body.Size(), s.w.budget.filesLeft()+1)
	if err != nil {
		return err
	}
	s.claimed = nil
	for _, span := range z.Spans {
		s.claimed = append(s.claimed, mail.Span(span))
	}
	for _, p := range z.Problems {
		text := p.Text
		if p.Name != "" {
			text = CleanName(p.Name) + ": " + text
		}
		s.note(zipSymbols[p.Kind], "%s", shorten(text, 200))
	}
	if z.Prefix > 0 && !s.insideOther(z) {
		s.note(symPrefixed, "a zip archive behind %d bytes of something else", z.Prefix)
	}
	watchPackage(s, z)
	for i := range z.Entries {
		if err := s.zipEntry(&z.Entries[i]); err != nil {
			return err
		}
	}
	if z.More {
		return s.tooMany()
	}
	return nil
}

// insideOther reports that the object is also something that may well end in a
// zip: an image or an archive that does not compress, or a PDF that carries the
// zip in a stream.
func (s *scope) insideOther(z *zipfile.Archive) bool {
	for _, f := range s.node.formats {
		switch f {
		case Tar, ISO, OLE, RAR, SevenZip, Cabinet, UDF:
			return true
		case PDF:
			var b [16]byte
			n, _ := s.body.ReadAt(b[:], z.Spans[len(z.Spans)-1].End) // what is not there is zero
			return bytes.HasPrefix(bytes.TrimLeft(b[:n], "\r\n "), []byte("endstream"))
		}
	}
	return false
}

func (s *scope) zipEntry(z *zipfile.Entry) error {
	e := entry{raws: z.Names, claimed: -1, packed: -1}
	if len(z.Readings) == 0 {
		return s.bare(e)
	}
	e.claimed, e.packed = z.Readings[0].Size, z.Readings[0].Packed
	switch {
	case z.Dir:
		e.kind = Directory
		return s.bare(e)
	case z.Symlink:
		e.kind = Symlink
		e.link = s.zipLink(z)
		return s.bare(e)
	}
	for _, r := range z.Readings {
		e.claimed, e.packed = r.Size, r.Packed
		if err := s.zipReading(e, r); err != nil {
			return err
		}
	}
	return nil
}

// zipLink returns the content of a symbolic link, which is where it points.
func (s *scope) zipLink(z *zipfile.Entry) string {
	r, err := guard(func() (io.Reader, error) { return s.openZip(z.Readings[0]) })
	if err != nil {
		return ""
	}
	const longest = 4 << 10
	// A link that cannot be read whole is shown as far as it can.
	b, _ := io.ReadAll(io.LimitReader(r, longest))
	return string(b)
}

func (s *scope) zipReading(e entry, r zipfile.Reading) error {
	if r.Encrypted {
		e.encrypted = true
		return s.bare(e)
	}
	if r.Method == zipfile.Store {
		return s.section(e, io.NewSectionReader(s.body, r.Data, r.Packed))
	}
	_, err := s.stream(e, func() (io.Reader, error) {
		content, err := s.openZip(r)
		if err != nil {
			return nil, err
		}
		return &zipContent{r: content, want: r}, nil
	})
	return err
}

// openZip returns the decoder of a reading.
func (s *scope) openZip(r zipfile.Reading) (io.Reader, error) {
	packed := r.Packed
	if packed < 0 || r.Method == zipfile.Deflate && packed > 0 {
		// A deflated stream knows its end, and programs differ on whether they
		// believe the header.
		packed = r.Limit - r.Data
	}
	in := bufio.NewReader(io.NewSectionReader(s.body, r.Data, packed))
	switch r.Method {
	case zipfile.Store:
		return in, nil
	case zipfile.Deflate:
		return flate.NewReader(in), nil
	case zipfile.Bzip2:
		return bzip2.NewReader(in), nil
	case zipfile.LZMA:
		return s.openZipLZMA(in, r)
	case zipfile.Zstd:
		return s.openZstd(in)
	case zipfile.XZ:
		return s.openXZ(in)
	}
	return nil, fmt.Errorf("zip %w: %d", errMethod, r.Method)
}

// openZipLZMA makes the header of an LZMA file out of that of the zip (APPNOTE.TXT
// §5.8.8): two bytes of version, two of size, five of properties.
func (s *scope) openZipLZMA(in *bufio.Reader, r zipfile.Reading) (io.Reader, error) {
	var h [9]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint16(h[2:]) != 5 {
		return nil, fmt.Errorf("zip %w: LZMA with unknown properties", errMethod)
	}
	return s.openLZMA(h[4:9], r.Size, in)
}

// openLZMA opens a raw LZMA stream. The properties end with the size of the
// dictionary; size is -1 where the stream has an end marker.
func (s *scope) openLZMA(properties []byte, size int64, in *bufio.Reader) (io.Reader, error) {
	dict := int64(binary.LittleEndian.Uint32(properties[1:]))
	// No distance reaches further back than the content is long.
	if size >= 0 {
		dict = min(dict, max(size, lzma.MinDictCap))
	}
	if err := s.reserve(dict); err != nil {
		return nil, err
	}
	header := binary.LittleEndian.AppendUint32([]byte{properties[0]}, uint32(dict))
	header = binary.LittleEndian.AppendUint64(header, uint64(size))
	return lzma.ReaderConfig{DictCap: int(max(dict, lzma.MinDictCap))}.NewReader(&joined{head: bytes.NewReader(header), Reader: in})
}

// joined reads head and then the rest byte by byte as the LZMA decoder does,
// without a buffer of its own in between.
type joined struct {
	head *bytes.Reader
	*bufio.Reader
}

func (j *joined) Read(p []byte) (int, error) {
	if j.head.Len() > 0 {
		return j.head.Read(p)
	}
	return j.Reader.Read(p)
}

func (j *joined) ReadByte() (byte, error) {
	if j.head.Len() > 0 {
		return j.head.ReadByte()
	}
	return j.Reader.ReadByte()
}

// zipContent checks size and sum of a member when its end is reached.
type zipContent struct {
	r    io.Reader
	want zipfile.Reading
	size int64
	sum  uint32
}

func (c *zipContent) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.size += int64(n)
	c.sum = crc32.Update(c.sum, crc32.IEEETable, p[:n])
	if err != io.EOF {
		return n, err
	}
	switch {
	case c.want.Size >= 0 && c.size != c.want.Size:
		return n, fmt.Errorf("%d bytes where the header says %d", c.size, c.want.Size)
	case c.want.HasCRC && c.sum != c.want.CRC:
		return n, errors.New("checksum does not match")
	}
	return n, io.EOF
}

package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"gatepost/internal/mail"
	"gatepost/internal/message/archive/cabfile"
	"gatepost/internal/message/archive/sevenheader"
)

// Format is a type of file that this package knows, by its content.
type Format string

// The formats that are opened.
const (
	Zip      Format = "zip"
	Gzip     Format = "gzip"
	Bzip2    Format = "bzip2"
	XZ       Format = "xz"
	Zstd     Format = "zstd"
	LZMA     Format = "lzma"
	Tar      Format = "tar"
	SevenZip Format = "7z"
	RAR      Format = "rar"
	Cabinet  Format = "cab"
	ISO      Format = "iso9660"
	OLE      Format = "ole" // compound file: old Office formats, .msi, .msg
	RTF      Format = "rtf"
	PDF      Format = "pdf"
)

// The formats that are recognised only: a finding says so.
const (
	ARJ  Format = "arj"
	LHA  Format = "lha"
	ACE  Format = "ace"
	UDF  Format = "udf"
	VHD  Format = "vhd"
	VHDX Format = "vhdx"
	WIM  Format = "wim"
	Lzip Format = "lzip"
	LZ   Format = "compress"
	Zoo  Format = "zoo"
	XAR  Format = "xar"
	ALZ  Format = "alz"
	EGG  Format = "egg"
	DMG  Format = "dmg"
	CPIO Format = "cpio"
	Sit  Format = "stuffit"
	NTFS Format = "ntfs"
	FAT  Format = "fat"
)

var titles = map[Format]string{
	Zip: "a zip archive", Gzip: "a gzip file", Bzip2: "a bzip2 file", XZ: "an xz file", Zstd: "a zstd file", LZMA: "an lzma file",
	Tar: "a tar archive", SevenZip: "a 7z archive", RAR: "a RAR archive", Cabinet: "a cabinet", ISO: "an ISO 9660 image",
	OLE: "a compound file", RTF: "an RTF document", PDF: "a PDF document",
	ARJ: "an ARJ archive", LHA: "an LHA archive", ACE: "an ACE archive", UDF: "a UDF image", VHD: "a virtual disk", VHDX: "a virtual disk",
	WIM: "a WIM image", Lzip: "an lzip file", LZ: "a compress file", Zoo: "a zoo archive", XAR: "a xar archive", ALZ: "an ALZ archive",
	EGG: "an EGG archive", DMG: "an Apple disk image", CPIO: "a cpio archive", Sit: "a StuffIt archive", NTFS: "a disk image", FAT: "a disk image",
}

func (f Format) title() string { return titles[f] }

// module is the module of the findings about the structure of the format.
func (f Format) module() string {
	switch f {
	case OLE, RTF:
		return symOfficeDamaged.module
	case PDF:
		return symPDFDamaged.module
	}
	return symDamaged.module
}

// hit is a format that was found in an object.
type hit struct {
	format Format
	offset int64
	quiet  bool
}

// magic is a format that shows itself by bytes at a fixed place.
type magic struct {
	format Format
	offset int
	bytes  string
	// sure tells more where the bytes alone are weak; nil is enough.
	sure func(head []byte) bool
}

var magics = []magic{
	{Zip, 0, "PK\x03\x04", nil},
	{Zip, 0, "PK\x07\x08PK\x03\x04", nil},
	{Zip, 0, "PK00PK\x03\x04", nil},
	{Gzip, 0, "\x1f\x8b\x08", nil},
	{Bzip2, 0, "BZh", isBzip2},
	{XZ, 0, "\xfd7zXZ\x00", nil},
	{Zstd, 0, "\x28\xb5\x2f\xfd", nil},
	{LZMA, 0, "\x5d\x00\x00", isLZMA},
	{SevenZip, 0, "7z\xbc\xaf\x27\x1c", nil},
	{RAR, 0, "Rar!\x1a\x07", nil},
	{Cabinet, 0, "MSCF\x00\x00\x00\x00", nil},
	{OLE, 0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", nil},
	{ARJ, 0, "\x60\xea", isARJ},
	{LHA, 2, "-lh", isLHA},
	{LHA, 2, "-lz", isLHA},
	{ACE, 7, "**ACE**", nil},
	{VHD, 0, "conectix", nil},
	{VHDX, 0, "vhdxfile", nil},
	{WIM, 0, "MSWIM\x00\x00\x00", nil},
	{Lzip, 0, "LZIP\x01", nil},
	{LZ, 0, "\x1f\x9d", isCompress},
	{Zoo, 20, "\xdc\xa7\xc4\xfd", nil},
	{XAR, 0, "xar!\x00", nil},
	{ALZ, 0, "ALZ\x01", nil},
	{EGG, 0, "EGGA\x00\x01", nil},
	{CPIO, 0, "070701", nil},
	{CPIO, 0, "070707", nil},
	{Sit, 0, "StuffIt (c)", nil},
	{NTFS, 3, "NTFS    ", isBootSector},
	{FAT, 54, "FAT", isBootSector},
	{FAT, 82, "FAT32", isBootSector},
}

// headSize is enough for every magic but that of ISO images.
const headSize = 4 << 10

// detect finds every format that the object has.
func (w *walk) detect(n *node) []hit {
	body := w.open(n.body)
	head := make([]byte, min(headSize, body.Size()))
	if _, err := io.ReadFull(io.NewSectionReader(body, 0, body.Size()), head); err != nil {
		return nil
	}
	var hits []hit
	add := func(f Format, quiet bool) {
		for _, h := range hits {
			if h.format == f {
				return
			}
		}
		hits = append(hits, hit{format: f, quiet: quiet})
	}
	for _, m := range magics {
		if m.offset <= len(head) && bytes.HasPrefix(head[m.offset:], []byte(m.bytes)) && (m.sure == nil || m.sure(head)) {
			add(m.format, m.format == LZMA)
		}
	}
	if isTar(head) {
		add(Tar, false)
	}
	if isRTF(head) {
		add(RTF, false)
	}
	// Readers look for the header of a PDF in the first KiB.
	if bytes.Contains(head[:min(len(head), 1<<10)], []byte("%PDF-")) {
		add(PDF, false)
	}
	if hasZipEnd(body) {
		add(Zip, false)
	}
	for _, f := range discFormats(body) {
		add(f, false)
	}
	for _, f := range tailFormats(body) {
		add(f, false)
	}
	for _, h := range hits {
		n.formats = append(n.formats, h.format)
	}
	return hits
}

func isBzip2(head []byte) bool {
	return len(head) >= 10 && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "1AY&SY" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// isLZMA wants the properties of the usual encoders and a believable size.
func isLZMA(head []byte) bool {
	if len(head) < 18 {
		return false
	}
	dict, size := binary.LittleEndian.Uint32(head[1:]), int64(binary.LittleEndian.Uint64(head[5:]))
	return dict != 0 && dict&(dict-1) == 0 && (size == -1 || size > 0 && size < 1<<38) && head[13] == 0
}

func isARJ(head []byte) bool {
	if len(head) < 12 {
		return false
	}
	size := binary.LittleEndian.Uint16(head[2:])
	return size >= 30 && size <= 2600 && head[4] >= 30 && head[10] == 2
}

func isLHA(head []byte) bool {
	return len(head) > 21 && head[6] == '-' && (head[5] >= '0' && head[5] <= '9' || head[5] == 'd' || head[5] == 's') && head[20] <= 3
}

func isCompress(head []byte) bool {
	return len(head) > 3 && head[2]&0x60 == 0 && head[2]&0x1f >= 9 && head[2]&0x1f <= 16
}

// isBootSector wants the jump and the mark that every PC volume has.
func isBootSector(head []byte) bool {
	return len(head) >= 512 && (head[0] == 0xeb || head[0] == 0xe9) && head[510] == 0x55 && head[511] == 0xaa
}

// isRTF takes what Word takes: not the version, and blanks before.
func isRTF(head []byte) bool {
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n\x00")
	return len(head) >= 4 && bytes.EqualFold(head[:4], []byte(`{\rt`))
}

// isTar goes by the checksum, which every version of the format has.
func isTar(head []byte) bool {
	const block, from, to = 512, 148, 156
	if len(head) < block || head[0] == 0 {
		return false
	}
	stored, ok := octal(head[from:to])
	if !ok {
		return false
	}
	var unsigned, signed int64
	for i, c := range head[:block] {
		if i >= from && i < to {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return stored == unsigned || stored == signed
}

// octal reads a number in a tar header; ok says that there is one.
func octal(field []byte) (n int64, ok bool) {
	field = bytes.Trim(field, " \x00")
	for _, c := range field {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int64(c-'0')
	}
	return n, len(field) > 0
}

// zipTail is how far from the end the end record of a zip may be: its own size
// and the longest comment.
const zipTail = 22 + 1<<16

// hasZipEnd reports the end record of a zip, which makes any file a zip too.
func hasZipEnd(body *io.SectionReader) bool {
	tail := make([]byte, min(zipTail, body.Size()))
	if _, err := body.ReadAt(tail, body.Size()-int64(len(tail))); err != nil && err != io.EOF {
		return false
	}
	for {
		i := bytes.LastIndex(tail, []byte("PK\x05\x06"))
		if i < 0 {
			return false
		}
		if len(tail)-i >= 22 {
			return true
		}
		tail = tail[:i]
	}
}

// discFormats looks at the volume descriptors of optical discs, which begin at
// sector 16.
func discFormats(body *io.SectionReader) []Format {
	const sector, first, count = 2048, 16, 32
	var list []Format
	var id [6]byte
	seen := map[Format]bool{}
	for i := range int64(count) {
		if _, err := body.ReadAt(id[:], (first+i)*sector); err != nil {
			break
		}
		var f Format
		switch string(id[1:]) {
		case "CD001":
			f = ISO
		case "NSR02", "NSR03":
			f = UDF
		case "BEA01", "TEA01", "BOOT2":
		default:
			return list
		}
		if f != "" && !seen[f] {
			seen[f] = true
			list = append(list, f)
		}
	}
	return list
}

// tailFormats looks for formats that are known by their last 512 bytes.
func tailFormats(body *io.SectionReader) []Format {
	var tail [512]byte
	if _, err := body.ReadAt(tail[:], max(0, body.Size()-512)); err != nil {
		return nil
	}
	switch {
	case string(tail[:8]) == "conectix":
		return []Format{VHD}
	case string(tail[:4]) == "koly":
		return []Format{DMG}
	}
	return nil
}

// searchLimit is how far into other data the programs that open self-extracting
// archives look, in bytes, with room to spare.
const searchLimit = 8 << 20

// inner are the formats that programs look for behind other data. Zips are found
// from their end instead.
var inner = []magic{
	{SevenZip, 0, "7z\xbc\xaf\x27\x1c\x00", nil},
	{RAR, 0, "Rar!\x1a\x07", nil},
	{Cabinet, 0, "MSCF\x00\x00\x00\x00", nil},
}

// embedded looks for archives in what no format claimed.
func (w *walk) embedded(n *node, rest []mail.Span) []hit {
	var hits []hit
	body := w.open(n.body)
	for _, span := range rest {
		span.End = min(span.End, span.Start+searchLimit)
		for _, m := range inner {
			if at := w.searchInner(n, body, span, m); at > 0 {
				w.note(n.path, symPrefixed, fmt.Sprintf("%s behind %d bytes of something else", m.format.title(), at))
				hits = append(hits, hit{format: m.format, offset: at})
			}
		}
	}
	return hits
}

// searchInner returns where the first archive of a kind stands in span, which is
// what programs open; -1 for none.
func (w *walk) searchInner(n *node, body *io.SectionReader, span mail.Span, m magic) int64 {
	// Signatures that are none are a few in programs for archives.
	const most = 1000
	for range most {
		at := search(body, span, []byte(m.bytes))
		if at < 0 || sureInner(body, m.format, at) {
			return at
		}
		span.Start = at + 1
	}
	w.note(n.path, symDamaged, "too many bytes that look like archives")
	return -1
}

// search returns where pattern stands in span, or -1.
func search(body *io.SectionReader, span mail.Span, pattern []byte) int64 {
	chunk := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	for off := span.Start; off < span.End; off += int64(len(*chunk) - len(pattern) + 1) {
		n, err := body.ReadAt((*chunk)[:min(int64(len(*chunk)), span.End-off)], off)
		if i := bytes.Index((*chunk)[:n], pattern); i >= 0 {
			return off + int64(i)
		}
		if err != nil {
			break
		}
	}
	return -1
}

// sureInner reports that what stands at off is the beginning of an archive, and
// not bytes of a program that looks for one.
func sureInner(body *io.SectionReader, f Format, off int64) bool {
	switch f {
	case SevenZip:
		_, _, err := sevenheader.Start(io.NewSectionReader(body, off, body.Size()-off), body.Size()-off)
		return err == nil
	case RAR:
		return isRAR(body, off)
	case Cabinet:
		_, err := cabfile.Read(io.NewSectionReader(body, off, body.Size()-off), body.Size()-off, 1)
		return err == nil
	}
	return false
}

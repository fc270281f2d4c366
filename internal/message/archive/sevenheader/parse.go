package sevenheader

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/ulikunitz/xz/lzma"
)

// Property IDs of the format (7zFormat.txt in the LZMA SDK).
const (
	idEnd            = 0x00
	idHeader         = 0x01
	idMainStreams    = 0x04
	idFiles          = 0x05
	idPackInfo       = 0x06
	idUnpackInfo     = 0x07
	idSubStreams     = 0x08
	idSize           = 0x09
	idCRC            = 0x0a
	idFolder         = 0x0b
	idUnpackSize     = 0x0c
	idNumUnpack      = 0x0d
	idEmptyStream    = 0x0e
	idEncodedHeader  = 0x17
	maxCoders        = 8
	maxCoderStreams  = 8
	maxProperties    = 64
	maxPackedStreams = 4 // for each folder: BCJ2 has so many
	maxProduct       = 100_000_000
)

// Method IDs, as the bytes in the header.
const (
	idCopy  = "\x00"
	idLZMA  = "\x03\x01\x01"
	idLZMA2 = "\x21"
	idPPMd  = "\x03\x04\x01"
	idAES   = "\x06\xf1\x07\x01"
)

// methods maps what the library decodes without starting goroutines to the
// memory that it takes besides dictionaries.
var methods = map[string]int64{
	idCopy: 0, idLZMA: 64 << 10, idLZMA2: 64 << 10, idPPMd: 64 << 10,
	"\x03":             4 << 10,  // Delta
	"\x03\x03\x01\x03": 4 << 10,  // BCJ x86
	"\x03\x03\x01\x1b": 64 << 10, // BCJ2
	"\x03\x03\x02\x05": 4 << 10,  // PowerPC
	"\x03\x03\x05\x01": 4 << 10,  // ARM
	"\x03\x03\x08\x05": 4 << 10,  // SPARC
	"\x0a":             4 << 10,  // ARM64
	"\x04\x01\x08":     64 << 10, // Deflate
	"\x04\x02\x02":     8 << 20,  // BZip2
}

// parser reads a header. After the first failure every value is 0.
type parser struct {
	b      []byte
	limits Limits
	failed error
}

func (p *parser) fail(err error, text string) {
	if p.failed == nil {
		p.failed = fmt.Errorf("%w: %s", err, text)
	}
	p.b = nil
}

func (p *parser) take(n int) []byte {
	if n < 0 || n > len(p.b) {
		p.fail(ErrCorrupt, "cut off")
		return nil
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b
}

func (p *parser) byte() byte {
	if b := p.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (p *parser) expect(id byte) {
	if got := p.byte(); got != id {
		p.fail(ErrCorrupt, fmt.Sprintf("property %#x where %#x belongs", got, id))
	}
}

// number reads the format's variable-length integer: as many leading ones in the
// first byte as bytes follow.
func (p *parser) number() uint64 {
	first := p.byte()
	more := bits.LeadingZeros8(^first)
	var v uint64
	for i, b := range p.take(more) {
		v |= uint64(b) << (8 * i)
	}
	if more < 7 {
		v |= uint64(first&(1<<(7-more)-1)) << (8 * more)
	}
	return v
}

// count reads a number that must be at most limit.
func (p *parser) count(limit int, what string) int {
	v := p.number()
	if v > uint64(limit) {
		p.fail(ErrLimit, fmt.Sprintf("%d %s", v, what))
		return 0
	}
	return int(v)
}

// size reads a number of bytes.
func (p *parser) size() int64 {
	v := p.number()
	if v > 1<<62 {
		p.fail(ErrCorrupt, "absurd size")
		return 0
	}
	return int64(v)
}

// digests skips the check sums of n streams.
func (p *parser) digests(n int) {
	defined := n
	if p.byte() == 0 {
		defined = 0
		for _, b := range p.take((n + 7) / 8) {
			defined += bits.OnesCount8(b)
		}
	}
	p.take(4 * defined)
}

// streams is what is known of packed streams and folders.
type streams struct {
	at      int64 // of the first packed stream, behind the start header
	packed  []int64
	folders []folder
	files   int
}

type folder struct {
	Folder
	coders []coder
}

type coder struct {
	id         string
	properties []byte
}

func (p *parser) streams() *streams {
	s := &streams{}
	id := p.byte()
	if id == idPackInfo {
		p.packInfo(s)
		id = p.byte()
	}
	if id == idUnpackInfo {
		p.unpackInfo(s)
		id = p.byte()
	}
	s.files = len(s.folders)
	if id == idSubStreams {
		p.subStreams(s)
		id = p.byte()
	}
	if id != idEnd {
		p.fail(ErrCorrupt, "streams do not end")
	}
	return s
}

func (p *parser) packInfo(s *streams) {
	s.at = p.size()
	n := p.count(p.limits.Files*maxPackedStreams, "packed streams")
	id := p.byte()
	if id == idSize {
		for range n {
			s.packed = append(s.packed, p.size())
			if p.failed != nil {
				return
			}
		}
		id = p.byte()
	}
	if id == idCRC {
		p.digests(n)
		id = p.byte()
	}
	if id != idEnd {
		p.fail(ErrCorrupt, "packed streams do not end")
	}
}

func (p *parser) unpackInfo(s *streams) {
	p.expect(idFolder)
	n := p.count(p.limits.Files, "folders")
	p.expect(0) // not in another stream, which no archiver does
	streams := make([]int, 0, min(n, len(p.b)))
	for range n {
		f, out := p.folder()
		if p.failed != nil {
			return
		}
		s.folders = append(s.folders, f)
		streams = append(streams, out)
	}
	p.expect(idUnpackSize)
	for i := range s.folders {
		sizes := make([]int64, streams[i])
		for j := range sizes {
			sizes[j] = p.size()
		}
		s.folders[i].account(sizes)
	}
	id := p.byte()
	if id == idCRC {
		p.digests(n)
		id = p.byte()
	}
	if id != idEnd {
		p.fail(ErrCorrupt, "folders do not end")
	}
}

// folder reads the coders of a folder and returns how many streams come out.
func (p *parser) folder() (f folder, out int) {
	in := 0
	for range p.count(maxCoders, "coders") {
		flags := p.byte()
		c := coder{id: string(p.take(int(flags & 0x0f)))}
		inputs, outputs := 1, 1
		if flags&0x10 != 0 {
			inputs, outputs = p.count(maxCoderStreams, "inputs of a coder"), p.count(maxCoderStreams, "outputs of a coder")
		}
		if flags&0x20 != 0 {
			c.properties = p.take(p.count(maxProperties, "bytes of properties"))
		}
		if flags&0x80 != 0 {
			p.fail(ErrCorrupt, "alternative methods")
		}
		in, out = in+inputs, out+outputs
		f.coders = append(f.coders, c)
	}
	if p.failed == nil && (out == 0 || in < out) {
		p.fail(ErrCorrupt, "folder without streams")
	}
	for range out - 1 {
		p.number()
		p.number()
	}
	if packed := in - (out - 1); packed > 1 {
		for range packed {
			p.number()
		}
	}
	return f, out
}

// account finds out what the folder needs, from the size of what each coder
// gives.
func (f *folder) account(sizes []int64) {
	for i, c := range f.coders {
		size := int64(0)
		if i < len(sizes) {
			size = sizes[i]
		}
		f.Size = max(f.Size, size)
		if c.id == idAES {
			f.Encrypted = true
			continue
		}
		base, ok := methods[c.id]
		if !ok || !c.valid() {
			f.Unknown = hex.EncodeToString([]byte(c.id))
			continue
		}
		f.Memory += base + c.dictionary(size)
	}
}

// valid reports that the properties are those of the method.
func (c coder) valid() bool {
	switch c.id {
	case idLZMA, idPPMd:
		return len(c.properties) == 5
	case idLZMA2:
		return len(c.properties) == 1 && c.properties[0] <= 40
	}
	return true
}

// dictionary is what a coder allocates for content of size bytes.
func (c coder) dictionary(size int64) int64 {
	if !c.valid() {
		return 0
	}
	switch c.id {
	case idLZMA:
		// The library takes no more than the content is long.
		return min(int64(binary.LittleEndian.Uint32(c.properties[1:])), max(size, lzma.MinDictCap))
	case idPPMd:
		return int64(binary.LittleEndian.Uint32(c.properties[1:]))
	case idLZMA2:
		if dict, err := lzma.DecodeDictCap(c.properties[0]); err == nil {
			return dict
		}
	}
	return 0
}

func (p *parser) subStreams(s *streams) {
	id := p.byte()
	counts := make([]int, len(s.folders))
	s.files = 0
	for i := range counts {
		counts[i] = 1
		if id == idNumUnpack {
			counts[i] = p.count(p.limits.Files, "members")
		}
		if s.files += counts[i]; s.files > p.limits.Files {
			p.fail(ErrLimit, fmt.Sprintf("%d members", s.files))
			return
		}
	}
	if id == idNumUnpack {
		id = p.byte()
	}
	if id == idSize {
		for _, n := range counts {
			for range n - 1 {
				p.size()
			}
		}
		id = p.byte()
	}
	if id == idCRC {
		p.digests(s.files)
		id = p.byte()
	}
	if id != idEnd {
		p.fail(ErrCorrupt, "members do not end")
	}
}

// header reads what follows idHeader.
func (p *parser) header() (*Info, error) {
	s := &streams{}
	id := p.byte()
	if id == idMainStreams {
		s = p.streams()
		id = p.byte()
	}
	info := &Info{}
	empty := 0
	if id == idFiles && p.failed == nil {
		info.Files = p.count(p.limits.Files, "members")
		empty = p.emptyStreams(info.Files)
	} else if id != idEnd {
		p.fail(ErrCorrupt, "unknown property")
	}
	if p.failed != nil {
		return nil, p.failed
	}
	// The library looks up the folder of each member from the first on.
	if int64(info.Files)*int64(len(s.folders)) > maxProduct {
		return nil, fmt.Errorf("%w: %d members in %d folders", ErrLimit, info.Files, len(s.folders))
	}
	if info.Files-empty > s.files {
		return nil, fmt.Errorf("%w: members without content", ErrCorrupt)
	}
	for _, f := range s.folders {
		info.Folders = append(info.Folders, f.Folder)
	}
	return info, nil
}

// emptyStreams returns how many members have no content, from the properties of
// the members.
func (p *parser) emptyStreams(files int) int {
	empty := 0
	for {
		id := p.byte()
		if id == idEnd || p.failed != nil {
			return empty
		}
		b := p.take(p.count(len(p.b), "bytes of a property"))
		if id != idEmptyStream {
			continue
		}
		empty = 0
		for i := range files {
			if i/8 < len(b) && b[i/8]&(0x80>>(i%8)) != 0 {
				empty++
			}
		}
	}
}

package archive

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/internal/message/archive/xzfile"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz/lzma"
)

// reserve takes decoder memory until the member, or else the object, is done.
func (s *scope) reserve(n int64) error {
	if !s.w.budget.reserve(n) {
		return fmt.Errorf("%w: %d MiB", errMemory, n>>20)
	}
	s.held += n
	return nil
}

// releaseTo gives back what was reserved since s.held was held.
func (s *scope) releaseTo(held int64) {
	s.w.budget.release(s.held - held)
	s.held = held
}

// single gives the one member of a compressed file. Raw is the name that the
// file itself tells, or "".
func (s *scope) single(raw string, open func() (io.Reader, error)) error {
	e := entry{claimed: -1, packed: s.body.Size()}
	if raw != "" {
		e.raws = append(e.raws, raw)
	}
	e.raws = append(e.raws, innerName(s.node.name, s.format))
	_, err := s.stream(e, open)
	return err
}

// innerNames says what the endings of compressed files hide.
var innerNames = map[Format][][2]string{
	Gzip:  {{".tgz", ".tar"}, {".svgz", ".svg"}, {".gz", ""}, {".z", ""}},
	Bzip2: {{".tbz2", ".tar"}, {".tbz", ".tar"}, {".bz2", ""}, {".bz", ""}},
	XZ:    {{".txz", ".tar"}, {".xz", ""}},
	Zstd:  {{".tzst", ".tar"}, {".zst", ""}},
	LZMA:  {{".tlz", ".tar"}, {".lzma", ""}},
}

func innerName(name string, f Format) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	for _, ending := range innerNames[f] {
		if cut := len(name) - len(ending[0]); cut > 0 && strings.EqualFold(name[cut:], ending[0]) {
			return name[:cut] + ending[1]
		}
	}
	return name + ".unpacked"
}

// counted is a buffered reader that knows how much was taken from it.
type counted struct {
	*bufio.Reader
	body *io.SectionReader
}

func (s *scope) counted() *counted {
	body := io.NewSectionReader(s.body, 0, s.body.Size())
	return &counted{Reader: bufio.NewReader(body), body: body}
}

func (c *counted) taken() int64 {
	// Seek to the current position of a SectionReader cannot fail.
	at, _ := c.body.Seek(0, io.SeekCurrent)
	return at - int64(c.Buffered())
}

func unpackGzip(s *scope) error {
	in := s.counted()
	z, err := gzip.NewReader(in)
	if err != nil {
		return err
	}
	name := z.Name
	err = s.single(name, func() (io.Reader, error) {
		z.Multistream(false)
		return &gzipFile{in: in.Reader, z: z}, nil
	})
	s.claim(0, in.taken())
	return err
}

// gzipFile reads the members of a gzip file one after the other (RFC 1952 §2.2),
// and ends where something else follows instead of failing.
type gzipFile struct {
	in *bufio.Reader
	z  *gzip.Reader
}

func (g *gzipFile) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if err != io.EOF || n > 0 {
			return n, eofLater(err, n)
		}
		if b, _ := g.in.Peek(3); string(b) != "\x1f\x8b\x08" {
			return 0, io.EOF
		}
		if err := g.z.Reset(g.in); err != nil {
			return 0, err
		}
		g.z.Multistream(false)
	}
}

// eofLater hides an io.EOF that came with data; the next read gives it again.
func eofLater(err error, n int) error {
	if err == io.EOF && n > 0 {
		return nil
	}
	return err
}

func unpackBzip2(s *scope) error {
	in := s.counted()
	err := s.single("", func() (io.Reader, error) {
		return &bzip2File{r: bzip2.NewReader(in.Reader)}, nil
	})
	s.claim(0, in.taken())
	return err
}

// bzip2File ends where something else follows the last stream.
type bzip2File struct {
	r     io.Reader
	found bool
}

func (b *bzip2File) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.found = b.found || n > 0
	if b.found && err == bzip2.StructuralError("bad magic value in continuation file") {
		err = io.EOF
	}
	return n, err
}

func unpackXZ(s *scope) error {
	in := s.counted()
	err := s.single("", func() (io.Reader, error) { return s.openXZ(in.Reader) })
	s.claim(0, in.taken())
	return err
}

// openXZ opens an xz file. Its blocks come one after the other, and each gives
// its dictionary back.
func (s *scope) openXZ(in *bufio.Reader) (io.Reader, error) {
	held := s.held
	return &xzErrors{xzfile.NewReader(in, xzfile.Config{Dictionary: func(want int64) int64 {
		s.releaseTo(held)
		want = min(want, s.w.budget.memoryLeft())
		if s.reserve(want) != nil {
			return 0
		}
		return want
	}})}, nil
}

// xzErrors gives the errors of xzfile the meaning that findings go by.
type xzErrors struct{ r io.Reader }

func (x *xzErrors) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	switch {
	case errors.Is(err, xzfile.ErrDictionary):
		err = fmt.Errorf("%w: %w", errMemory, err)
	case errors.Is(err, xzfile.ErrFilter):
		err = fmt.Errorf("%w: %w", errMethod, err)
	}
	return n, err
}

func unpackZstd(s *scope) error {
	return s.single("", func() (io.Reader, error) { return s.openZstd(s.counted().Reader) })
}

// openZstd opens a zstd file without goroutines of the decoder, with a window as
// large as the first frame wants, or 8 MiB, which every decoder must support
// (RFC 8878 §3.1.1.1.2).
func (s *scope) openZstd(in *bufio.Reader) (io.Reader, error) {
	const least = 8 << 20
	window := int64(least)
	head, err := in.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	var h zstd.Header
	if err := h.Decode(head); err == nil && h.WindowSize > least {
		window = int64(min(h.WindowSize, 1<<40))
	}
	if err := s.reserve(window); err != nil {
		return nil, err
	}
	r, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(uint64(window)))
	if err != nil {
		return nil, err
	}
	return &zstdErrors{r}, nil
}

type zstdErrors struct{ r io.Reader }

func (z *zstdErrors) Read(p []byte) (int, error) {
	n, err := z.r.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		err = fmt.Errorf("%w: %w", errMemory, err)
	}
	return n, err
}

// unpackLZMA tries a file of the old format, which has no signature: what does
// not decode at all was none.
func unpackLZMA(s *scope) error {
	open := func() (io.Reader, error) {
		in := s.counted().Reader
		var h [lzma.HeaderLen]byte
		if _, err := io.ReadFull(in, h[:]); err != nil {
			return nil, err
		}
		return s.openLZMA(h[:5], int64(binary.LittleEndian.Uint64(h[5:])), in)
	}
	held := s.held
	r, err := guard(open)
	if err != nil && !errors.Is(err, errMemory) {
		return err
	}
	if err == nil {
		_, err = io.ReadFull(r, make([]byte, 256))
	}
	s.releaseTo(held)
	if err != nil && err != io.ErrUnexpectedEOF && !errors.Is(err, errMemory) {
		return err
	}
	return s.single("", open)
}

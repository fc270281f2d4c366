package archive

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"testing"
)

// bombs are what must end quickly, in bounded memory, with a finding that says
// which limit ended it (MIM-22).
var bombs = []struct {
	name  string
	build func(testing.TB) []byte
	want  string
}{
	{"10 MB of zeros in 10 kB of gzip", func(t testing.TB) []byte { return makeGzip(t, "", make([]byte, 10<<20)) }, "archive ratio"},
	{"10 GB of zeros in 10 MB of gzip", func(t testing.TB) []byte { return gzipOfZeros(t, 10<<30) }, "archive bytes"},
	{"zips of 16 zips, 5 levels deep, 4 GB in each", func(t testing.TB) []byte { return zipOfZips(t, 5) }, "archive ratio"},
	{"250 members that overlap in one run of data", overlappingZip, "archive overlap"},
	{"100,000 empty members", func(t testing.TB) []byte { return emptyMembers(t, 100_000) }, "archive files"},
	{"30 zips in each other", func(t testing.TB) []byte { return deepZip(t, 30) }, "archive depth"},
	{"a deflated member that claims to be small", func(t testing.TB) []byte { return liar(t) }, "archive ratio"},
	{"500 MiB of text that packs 100:1", func(t testing.TB) []byte { return textBomb(t) }, "archive bytes"},
}

func TestBombsEndAtALimit(t *testing.T) {
	for _, b := range bombs {
		t.Run(b.name, func(t *testing.T) {
			if testing.Short() && b.want == "archive bytes" {
				t.Skip("unpacks 500 MiB")
			}
			w := open(t, "bomb", b.build(t), Limits{})
			if !w.has(b.want) {
				t.Errorf("no finding %q:\n%s", b.want, w.reasons())
			}
			if used := w.budget.Usage(); used.Bytes > 500<<20 || used.Files > 5000 {
				t.Errorf("used %+v", used)
			}
		})
	}
}

// BenchmarkBombs measures time, what is allocated, and the memory that the
// process has from the system afterwards.
func BenchmarkBombs(b *testing.B) {
	for _, bomb := range bombs {
		b.Run(bomb.name, func(b *testing.B) {
			content := bomb.build(b)
			runtime.GC()
			b.ReportAllocs()
			b.SetBytes(int64(len(content)))
			u := New(Config{Temp: DirTemp(b.TempDir())})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				_, err := u.Walk(b.Context(), u.NewBudget(), Input{Name: "bomb", Body: bytes.NewReader(content)}, func(*Member) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			// What the heap grew by, garbage included.
			b.ReportMetric(float64(int64(after.HeapSys)-int64(before.HeapSys))/(1<<20), "MiB-heap")
		})
	}
}

// deflated returns n bytes of the pattern, deflated, and their sum.
func deflated(t testing.TB, pattern []byte, n int64) ([]byte, uint32) {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	sum := crc32.NewIEEE()
	if _, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(repeating{pattern}, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), sum.Sum32()
}

// repeating yields a pattern for ever, in whole copies.
type repeating struct{ pattern []byte }

func (r repeating) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r.pattern)
	}
	return n, nil
}

// gzipOfZeros builds a gzip file out of one deflated run of 64 MiB, repeated as
// members of the file.
func gzipOfZeros(t testing.TB, n int64) []byte {
	const run = 64 << 20
	data, sum := deflated(t, make([]byte, 32<<10), run)
	var b bytes.Buffer
	for range n / run {
		b.WriteString("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")
		b.Write(data)
		b.Write(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, sum), run))
	}
	return b.Bytes()
}

// rawMember adds a member whose packed bytes and sizes are given.
func rawMember(t testing.TB, z *zip.Writer, name string, data []byte, sum uint32, size uint64) {
	t.Helper()
	w, err := z.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Deflate, CRC32: sum, CompressedSize64: uint64(len(data)), UncompressedSize64: size})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

// zipOfZips is the shape of 42.zip.
func zipOfZips(t testing.TB, levels int) []byte {
	const size = 4 << 30 // claimed; nobody comes to the end of the 64 MiB that are there
	data, sum := deflated(t, make([]byte, 32<<10), 64<<20)
	content := []byte(nil)
	for level := range levels {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for i := range 16 {
			if level == 0 {
				rawMember(t, z, fmt.Sprintf("%x.bin", i), data, sum, size)
				continue
			}
			w, err := z.Create(fmt.Sprintf("%x.zip", i))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		content = b.Bytes()
	}
	return content
}

func deepZip(t testing.TB, levels int) []byte {
	content := []byte("the end")
	for range levels {
		content = makeZip(t, file{name: "next.zip", content: string(content), method: zip.Deflate})
	}
	return content
}

func emptyMembers(t testing.TB, n int) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		if _, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%06d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// overlappingZip has one run of 21 MB of zeros in 21 kB, and 250 members that all
// have their data in it: 5.5 GB in all.
func overlappingZip(t testing.TB) []byte {
	const size = 21 << 20
	data, sum := deflated(t, make([]byte, 32<<10), size)
	z := &zipBuilder{}
	// The local header of each member is in front, the run behind all of them.
	offset := z.local("run", int(zip.Deflate), data, sum, size)
	for i := range 250 {
		z.central(fmt.Sprintf("run%d", i), int(zip.Deflate), offset, len(data), size, sum)
	}
	return z.finish()
}

// liar has a member of 64 MiB of zeros whose headers say 100 bytes.
func liar(t testing.TB) []byte {
	data, sum := deflated(t, make([]byte, 32<<10), 64<<20)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	rawMember(t, z, "small.txt", data, sum, 100)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// textBomb has twelve members of 50 MiB that pack about 100:1.
func textBomb(t testing.TB) []byte {
	pattern := make([]byte, 0, 4<<10)
	for i := 0; len(pattern) < 4000; i++ {
		pattern = fmt.Appendf(pattern, "%d lines of a log that repeats itself now and then;", i*7919)
	}
	data, sum := deflated(t, pattern, 50<<20)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range 12 {
		rawMember(t, z, fmt.Sprintf("%d.log", i), data, sum, 50<<20)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipBuilder writes zips that no library would.
type zipBuilder struct {
	b, dir bytes.Buffer
	count  int
}

func (z *zipBuilder) local(name string, method int, data []byte, sum uint32, size int) (offset int) {
	offset = z.b.Len()
	le := binary.LittleEndian
	h := le.AppendUint16(le.AppendUint16([]byte("PK\x03\x04"), 20), 0)
	h = le.AppendUint32(le.AppendUint16(h, uint16(method)), 0)
	h = le.AppendUint32(le.AppendUint32(le.AppendUint32(h, sum), uint32(len(data))), uint32(size))
	h = le.AppendUint16(le.AppendUint16(h, uint16(len(name))), 0)
	z.b.Write(append(h, name...))
	z.b.Write(data)
	return offset
}

func (z *zipBuilder) central(name string, method, offset, packed, size int, sum uint32) {
	le := binary.LittleEndian
	h := le.AppendUint16(le.AppendUint16(le.AppendUint16([]byte("PK\x01\x02"), 20), 20), 0)
	h = le.AppendUint32(le.AppendUint16(h, uint16(method)), 0)
	h = le.AppendUint32(le.AppendUint32(le.AppendUint32(h, sum), uint32(packed)), uint32(size))
	h = le.AppendUint32(le.AppendUint16(h, uint16(len(name))), 0)
	h = le.AppendUint32(le.AppendUint16(le.AppendUint16(h, 0), 0), 0)
	z.dir.Write(append(le.AppendUint32(h, uint32(offset)), name...))
	z.count++
}

// member adds both headers and the content as it is.
func (z *zipBuilder) member(name, content string) (offset int) {
	sum := crc32.ChecksumIEEE([]byte(content))
	offset = z.local(name, 0, []byte(content), sum, len(content))
	z.central(name, 0, offset, len(content), len(content), sum)
	return offset
}

func (z *zipBuilder) finish() []byte {
	start := z.b.Len()
	z.b.Write(z.dir.Bytes())
	z.b.Write(endRecord(z.count, z.dir.Len(), start, ""))
	return z.b.Bytes()
}

func endRecord(count, size, start int, comment string) []byte {
	le := binary.LittleEndian
	h := le.AppendUint32([]byte("PK\x05\x06"), 0)
	h = le.AppendUint16(le.AppendUint16(h, uint16(count)), uint16(count))
	h = le.AppendUint32(le.AppendUint32(h, uint32(size)), uint32(start))
	return append(le.AppendUint16(h, uint16(len(comment))), comment...)
}

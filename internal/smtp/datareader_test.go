package smtp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// decodeAll runs the decoder over src in pieces of the sizes that cut returns.
func decodeAll(mode DataMode, src []byte, cut func() int) (out []byte, used int, end bool, facts DataFacts) {
	var d DataDecoder
	d.Reset(mode)
	for used < len(src) && !end {
		piece := src[used:min(len(src), used+max(1, cut()))]
		before := len(out)
		var n int
		out, n, end = d.Decode(out, piece)
		if len(out)-before > 2*len(piece)+MaxExpansion {
			panic("more output than promised")
		}
		used += n
		if n < len(piece) && !end {
			panic("input left without the end of data")
		}
	}
	if mode == DataChunks && !end {
		out = d.Finish(out)
	}
	return out, used, end, d.Facts()
}

func whole(src []byte) func() int { return func() int { return len(src) } }

func TestDataDecoder(t *testing.T) {
	tests := []struct {
		name, in, out string
		normalized    bool
	}{
		{"plain", "a\r\nb\r\n.\r\n", "a\r\nb\r\n", false},
		{"empty message", ".\r\n", "", false},
		{"dots are removed once", ".\r.\r\n.\r\n", "\r\n.\r\n", true},
		{"stuffed lines", "..\r\n...\r\n..a\r\na.\r\n.a\r\n.\r\n", ".\r\n..\r\n.a\r\na.\r\na\r\n", false},
		{"bare LF", "a\nb\r\n.\r\n", "a\r\nb\r\n", true},
		{"bare CR", "a\rb\r\n.\r\n", "a\r\nb\r\n", true},
		{"two bare CR are two line ends", "a\r\rb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"CR CR LF is one line end", "a\r\r\nb\r\n.\r\n", "a\r\nb\r\n", true},
		{"three CR and LF are two", "a\r\r\r\nb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"LF CR", "a\n\rb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"NUL is dropped", "a\x00b\r\n.\r\n", "ab\r\n", true},
		{"NUL keeps CR and LF apart", "a\r\x00\nb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"a bare LF does not make a line whose dot is stuffing", "a\n.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true},
		{"LF dot LF does not end", "a\n.\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true},
		{"CRLF dot LF does not end", "a\r\n.\nb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"CRLF dot CR does not end", "a\r\n.\rb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"CRLF dot CR CR LF does not end", "a\r\n.\r\r\nb\r\n.\r\n", "a\r\n\r\nb\r\n", true},
		{"CRLF NUL dot does not end", "a\r\n\x00.\r\nb\r\n.\r\n", "a\r\n.\r\nb\r\n", true},
		{"CR CRLF dot CRLF ends", "a\r\r\n.\r\n", "a\r\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in + "NOOP\r\n")
			out, used, end, facts := decodeAll(DataDots, in, whole(in))
			if !end || string(out) != tt.out || string(in[used:]) != "NOOP\r\n" || facts.Normalized != tt.normalized {
				t.Errorf("got %q, end %v, left %q, %+v", out, end, in[used:], facts)
			}
		})
	}
}

func TestDataFacts(t *testing.T) {
	l998, l999 := strings.Repeat("x", 998), strings.Repeat("x", 999)
	tests := []struct {
		name, in string
		want     DataFacts
	}{
		{"header and body", "a: b\r\n\r\nbody\r\n", DataFacts{Size: 14, HeaderSize: 8}},
		{"no body", "a: b\r\n", DataFacts{Size: 6, HeaderSize: 6}},
		{"no header", "\r\nbody\r\n", DataFacts{Size: 8, HeaderSize: 2}},
		{"nothing", "", DataFacts{}},
		{"8-bit in the header", "a: \xc3\xbc\r\n\r\nb\r\n", DataFacts{Size: 12, HeaderSize: 9, HeaderUTF8: true}},
		{"8-bit in the body", "a: b\r\n\r\n\xff\r\n", DataFacts{Size: 11, HeaderSize: 8, Has8Bit: true}},
		{"longest line", "\r\n" + l998 + "\r\n", DataFacts{Size: 1002, HeaderSize: 2}},
		{"long line", "\r\n" + l999 + "\r\n", DataFacts{Size: 1003, HeaderSize: 2, LongLines: true}},
		{"long header line", l999 + "\r\n", DataFacts{Size: 1001, HeaderSize: 1001, LongLines: true}},
		{"two halves of a long line, split by a bare CR", "\r\n" + l998 + "\r" + l998 + "\r\n", DataFacts{Size: 2002, HeaderSize: 2, Normalized: true}},
		{"bare LFs end the header", "a: b\n\nb\r\n", DataFacts{Size: 11, HeaderSize: 8, Normalized: true}},
		{"bare CRs end the header", "a: b\r\rb\r\n", DataFacts{Size: 11, HeaderSize: 8, Normalized: true}},
		{"LF CRLF ends the header", "a: b\n\r\nb\r\n", DataFacts{Size: 11, HeaderSize: 8, Normalized: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in + ".\r\n")
			for _, cut := range []func() int{whole(in), func() int { return 1 }} {
				if _, _, _, got := decodeAll(DataDots, in, cut); got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			}
		})
	}
}

func TestBinaryDataIsKeptAsItIs(t *testing.T) {
	in := []byte("a: b\r\n\r\n\x00\r\xff\n.\r\n.\r\n")
	for _, cut := range []func() int{whole(in), func() int { return 1 }} {
		out, used, end, facts := decodeAll(DataBinary, in, cut)
		want := DataFacts{Size: int64(len(in)), HeaderSize: 8, Has8Bit: true}
		if end || used != len(in) || !bytes.Equal(out, in) || facts != want {
			t.Errorf("got %q, end %v, %+v", out, end, facts)
		}
	}
}

// TestEndOfDataAtEveryBufferEdge is SMG-05: the end of data, cut at every offset.
func TestEndOfDataAtEveryBufferEdge(t *testing.T) {
	for _, edge := range []int{4096, 8192, 65536} {
		for size := edge - 8; size <= edge+3; size++ {
			body := strings.Repeat("x", size-2) + "\r\n"
			in := []byte(body + ".\r\nNOOP\r\n")
			out, used, end, _ := decodeAll(DataDots, in, func() int { return edge })
			if !end || string(out) != body || used != size+3 {
				t.Fatalf("%d bytes, pieces of %d: end %v after %d, %d bytes out", size, edge, end, used, len(out))
			}
		}
	}
}

var lineEnds = regexp.MustCompile("\r\n|\r\r\n|\r|\n|\x00")

// reference is the decoder's specification, written for clearness.
func reference(mode DataMode, src []byte) (out []byte, used int, end bool) {
	raw, used := src, len(src)
	if mode == DataDots {
		if i := bytes.Index(append([]byte("\r\n"), src...), []byte("\r\n.\r\n")); i >= 0 {
			raw, used, end = src[:i], i+3, true
		}
		lines := strings.SplitAfter(string(raw), "\r\n")
		for i, l := range lines {
			lines[i] = strings.TrimPrefix(l, ".")
		}
		raw = []byte(strings.Join(lines, ""))
	}
	return lineEnds.ReplaceAllFunc(raw, func(m []byte) []byte {
		if m[0] == 0 {
			return nil
		}
		return []byte("\r\n")
	}), used, end
}

func referenceFacts(out []byte) DataFacts {
	f := DataFacts{Size: int64(len(out)), HeaderSize: int64(len(out))}
	if bytes.HasPrefix(out, []byte("\r\n")) {
		f.HeaderSize = 2
	} else if i := bytes.Index(out, []byte("\r\n\r\n")); i >= 0 {
		f.HeaderSize = int64(i) + 4
	}
	high := func(b []byte) bool {
		return bytes.ContainsFunc(b, func(r rune) bool { return r >= 0x80 })
	}
	f.HeaderUTF8, f.Has8Bit = high(out[:f.HeaderSize]), high(out[f.HeaderSize:])
	for line := range bytes.SplitSeq(out, []byte("\r\n")) {
		f.LongLines = f.LongLines || len(line) > 998
	}
	return f
}

// checkDecoder compares the decoder with its specification, in pieces of any size.
func checkDecoder(mode DataMode, src []byte, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 1))
	out, used, end, facts := decodeAll(mode, src, func() int { return rnd.IntN(40) })
	if bare := lineEnds.FindAll(out, -1); bare != nil {
		for _, b := range bare {
			if string(b) != "\r\n" {
				return fmt.Errorf("%q in the output %q of %q", b, out, src)
			}
		}
	}
	want, wantUsed, wantEnd := reference(mode, src)
	if end != wantEnd {
		return fmt.Errorf("%q: end %v, want %v", src, end, wantEnd)
	}
	if !end && mode == DataDots {
		// What a last CR or dot means is not yet known.
		if !bytes.HasPrefix(want, out) {
			return fmt.Errorf("%q began as %q, want %q", src, out, want)
		}
		return nil
	}
	if !bytes.Equal(out, want) || used != wantUsed {
		return fmt.Errorf("%q became %q (%d bytes), want %q (%d bytes)", src, out, used, want, wantUsed)
	}
	wantFacts := referenceFacts(want)
	wantFacts.Normalized = facts.Normalized
	if facts != wantFacts {
		return fmt.Errorf("%q: facts %+v, want %+v", src, facts, wantFacts)
	}
	return nil
}

func TestRandomDataMatchesTheSpecification(t *testing.T) {
	pieces := []string{"\r", "\n", "\r\n", ".", "\x00", "x", "\r\n.\r\n", "\r\n.", "\xc3\xbc", strings.Repeat("y", 997), ":", " "}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		var src []byte
		for range rnd.IntN(12) {
			src = append(src, pieces[rnd.IntN(len(pieces))]...)
		}
		for _, mode := range []DataMode{DataDots, DataChunks} {
			if err := checkDecoder(mode, src, uint64(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func FuzzDataDecoder(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", "a\n.\n\r\n.\r\n", ".\r.\r\n", "\r\r\n.\r\n", "a\x00\r\n..\r\n", "..\r\n.a\r\nü\r\n\r\n.\r\n"} {
		f.Add([]byte(s), uint64(3), false)
		f.Add([]byte(s), uint64(4), true)
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64, chunks bool) {
		mode := DataDots
		if chunks {
			mode = DataChunks
		}
		if err := checkDecoder(mode, src, seed); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkDataDecoder(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	src := []byte("Subject: x\r\n\r\n" + strings.Repeat(line, 64<<10/len(line)))
	dst := make([]byte, 0, 2*len(src)+MaxExpansion)
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	var d DataDecoder
	for b.Loop() {
		d.Reset(DataDots)
		d.Decode(dst, src)
	}
}

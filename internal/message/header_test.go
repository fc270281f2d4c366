package message

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

func TestReadHeader(t *testing.T) {
	type field struct{ Name, Value string }
	tests := []struct {
		name string
		in   string
		size int
		want []field
	}{
		{"ends at the empty line", "A: 1\nB: 2\n\nC: 3\n", 14, []field{{"A", "1"}, {"B", "2"}}},
		{"is all there is without an empty line", "A: 1\nB: 2\n", 12, []field{{"A", "1"}, {"B", "2"}}},
		{"may lack the last line end", "A: 1\nB: 2", 10, []field{{"A", "1"}, {"B", "2"}}},
		{"may be empty before a body", "\nA: 1\n", 2, nil},
		{"may be empty altogether", "", 0, nil},
		{"joins folded lines", "A: 1\n\t2\n  3\nB:\n 4\n\n", 25, []field{{"A", "1\t2  3"}, {"B", "4"}}},
		{"goes on after a line of white space", "A: 1\n \nB: 2\n\n", 17, []field{{"A", "1"}, {"B", "2"}}},
		{"takes white space before the colon", "A : 1\nB\t: 2\n\n", 16, []field{{"A", "1"}, {"B", "2"}}},
		{"takes a colon in the value", "A: b: c\n\n", 11, []field{{"A", "b: c"}}},
		{"takes an empty value", "A:\nB: \n\n", 11, []field{{"A", ""}, {"B", ""}}},
		{"takes 8-bit names and values", "Ä: ö\n\n", 10, []field{{"Ä", "ö"}}},
		{"keeps an mbox line as no field", "From a@b Mon Jan  1 00:00:00 2024\nA: 1\n\n", 43, []field{{"", "From a@b Mon Jan  1 00:00:00 2024"}, {"A", "1"}}},
		{"keeps a line without colon as no field", "A: 1\nhello\nB: 2\n\n", 21, []field{{"A", "1"}, {"", "hello"}, {"B", "2"}}},
		{"keeps a line that begins with a colon as no field", ": 1\nA: 2\n\n", 13, []field{{"", ": 1"}, {"A", "2"}}},
		{"keeps a name with a control character as no field", "\x00A: 1\n\n", 9, []field{{"", "\x00A: 1"}}},
		{"keeps white space at the very start as no field", " A: 1\nB: 2\n\n", 15, []field{{"", "A: 1"}, {"B", "2"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ReadHeader(body(tt.in), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var got []field
			for _, f := range h.Fields() {
				got = append(got, field{f.Name, f.Value()})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if h.Size != int64(tt.size) {
				t.Errorf("Size = %d, want %d", h.Size, tt.size)
			}
		})
	}
}

func TestCRAndLFAloneEndNothing(t *testing.T) {
	in := "A: 1\nB: 2\rC: 3\n\nD: 4\r\rE: 5\r\n\r\nF: 6\r\n"
	h, err := ReadHeader(&text{s: in}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Fields()) != 1 || h.Size != int64(strings.Index(in, "F:")) {
		t.Errorf("got %d fields in %d bytes", len(h.Fields()), h.Size)
	}
}

func TestReadAnyHeaderTakesLFAloneForALineEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		in     string
		size   int
		fields []string // "name=value"
	}{
		"LF only":              {"A: 1\nB: 2\n  3\n\nbody\n\n", 15, []string{"A=1", "B=2  3"}},
		"CRLF only":            {"A: 1\r\nB: 2\r\n  3\r\n\r\nbody", 19, []string{"A=1", "B=2  3"}},
		"both":                 {"A: 1\r\nB: 2\nC: 3\n\r\nbody", 18, []string{"A=1", "B=2", "C=3"}},
		"LF before CRLF":       {"A: 1\nB: 2\n\r\nC: 3\r\n\r\n", 12, []string{"A=1", "B=2"}},
		"no empty line":        {"A: 1\nB: 2", 9, []string{"A=1", "B=2"}},
		"nothing but an empty": {"\nbody", 1, nil},
	} {
		h, err := ReadAnyHeader(&text{s: tt.in}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range h.Fields() {
			got = append(got, f.Name+"="+f.Value())
			if raw := tt.in[f.Span.Start:f.Span.End]; raw != f.Raw() {
				t.Errorf("%s: %q stands at the place of %q", name, raw, f.Raw())
			}
		}
		if h.Size != int64(tt.size) || !slices.Equal(got, tt.fields) {
			t.Errorf("%s: %q in %d bytes", name, got, h.Size)
		}
	}
	for n := chunkSize - 8; n <= chunkSize+8; n++ {
		for _, end := range []string{"\n\n", "\n\r\n", "\r\n\n", "\r\n\r\n"} {
			in := "A: " + strings.Repeat("x", n-3) + end + "body"
			h, err := ReadAnyHeader(&text{s: in}, 1<<20)
			if err != nil || h.Size != int64(n+len(end)) || len(h.Fields()) != 1 {
				t.Fatalf("%q at %d: got %d bytes, %v", end, n, h.Size, err)
			}
		}
	}
}

func TestReadHeaderKeepsToTheLimit(t *testing.T) {
	const limit = 100
	section := func(n int) string { return "A: " + strings.Repeat("x", n-7) + "\r\n\r\n" }
	tests := []struct {
		name string
		in   string
		want error
	}{
		{"at the limit", section(limit) + "body", nil},
		{"one above", section(limit+1) + "body", ErrHeaderTooBig},
		{"no empty line, at the limit", strings.Repeat("x", limit), nil},
		{"no empty line, one above", strings.Repeat("x", limit+1), ErrHeaderTooBig},
		{"far above", strings.Repeat("x", 10*chunkSize), ErrHeaderTooBig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadHeader(&text{s: tt.in}, limit); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestReadHeaderFindsTheEmptyLineAtEveryOffsetAroundAChunk(t *testing.T) {
	for n := chunkSize - 8; n <= chunkSize+8; n++ {
		in := "A: " + strings.Repeat("x", n-3) + "\r\n\r\nbody"
		h, err := ReadHeader(&text{s: in}, 1<<20)
		if err != nil || h.Size != int64(n+4) || len(h.Fields()) != 1 {
			t.Fatalf("empty line at %d: got %+v, %v", n, h, err)
		}
	}
}

func TestReadHeaderReadsOrdinaryMailOnce(t *testing.T) {
	b := body("A: 1\n\n" + strings.Repeat("text\n", 500))
	if _, err := ReadHeader(b, 1<<20); err != nil || b.reads.Load() != 1 {
		t.Errorf("%d reads, err %v; want one read", b.reads.Load(), err)
	}
	big := &text{s: lines("A: 1\n\n") + strings.Repeat("x", 100*chunkSize)}
	if _, err := ReadHeader(big, 1<<20); err != nil || big.reads.Load() != 1 {
		t.Errorf("%d reads of a big message, err %v; want one read", big.reads.Load(), err)
	}
}

func TestReadHeaderReportsABodyThatEndsEarly(t *testing.T) {
	short := struct {
		io.ReaderAt
		sizer
	}{strings.NewReader("A: 1\r\n"), sizer(100)}
	if _, err := ReadHeader(short, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
	}
}

type sizer int64

func (s sizer) Size() int64 { return int64(s) }

// LIM-05.
func TestCountFindsEverySpellingOfReceived(t *testing.T) {
	h, err := ReadHeader(body("Received: by a\nRECEIVED : by b\nreceived:\n by c\nReCeIvEd\t:\n\tby d\n"+
		"X-Received: by e\nReceived-SPF: pass\nSubject: x\n Received: folded, no field\n"+
		"Content-Type: message/rfc822\n\nReceived: by f\nReceived: by g\n\nReceived: by h\n"), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n := h.Count("Received"); n != 4 {
		t.Errorf("counted %d, want 4", n)
	}
	if v := h.Get("RECEIVED"); v != "by a" {
		t.Errorf("Get gives %q, want the first", v)
	}
	if v := h.Get("Missing"); v != "" {
		t.Errorf("Get of a field that is not there gives %q", v)
	}
}

func TestIsOrphanFindsALineThatWouldContinueWhatIsPutBefore(t *testing.T) {
	h := ParseHeader([]byte(" forged\r\nA: 1\r\n b\r\n\r\n"))
	var got []bool
	for _, f := range h.Fields() {
		got = append(got, f.IsOrphan())
	}
	if diff := cmp.Diff([]bool{true, false}, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzReadHeader(f *testing.F) {
	for _, s := range []string{
		"A: 1\r\nB: 2\r\n\r\nbody", "A: 1\r\n", "\r\n\r\n", " x\r\n\r\n", "From a b\r\nA : 1\r\n\tfold\r\n\r\n",
		"A: 1\r\n \r\n\r\n", "A\r\r\n\n\r\n\r\n", ":\r\n:\r\n", "", "\r", "A: 1\r\n\r",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		h, err := ReadHeader(&text{s: in}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		checkHeader(t, in, h)
		var cuts []mail.Span
		want := in
		for i, field := range h.Fields() {
			if i%2 == 0 {
				cuts = append(cuts, field.Span)
				want = want[:len(want)-len(in)+int(field.Span.Start)] + in[field.Span.End:]
			}
		}
		if got := all(t, content(in, mail.Edits{Cut: cuts})); got != want {
			t.Errorf("cut %v: got %q, want %q", cuts, got, want)
		}
	})
}

// checkHeader: the fields cover the section without gaps, and what is cut and
// what stays are the original together.
func checkHeader(t *testing.T, in string, h *Header) {
	t.Helper()
	if h.Size < 0 || h.Size > int64(len(in)) {
		t.Fatalf("Size %d outside of %d bytes", h.Size, len(in))
	}
	at := int64(0)
	for _, f := range h.Fields() {
		if f.Span.Start != at || f.Span.End <= f.Span.Start || f.Span.End > h.Size {
			t.Fatalf("field %q at %v, expected at %d within %d", f.Name, f.Span, at, h.Size)
		}
		if f.Raw() != in[f.Span.Start:f.Span.End] {
			t.Fatalf("raw field %q is not what stands at %v", f.Raw(), f.Span)
		}
		if strings.ContainsAny(f.Name, " \t\r\n:") {
			t.Errorf("name %q", f.Name)
		}
		if strings.Contains(f.Value(), "\r\n") {
			t.Errorf("value %q is not unfolded", f.Value())
		}
		at = f.Span.End
	}
	if rest := in[at:h.Size]; rest != "" && rest != "\r\n" {
		t.Errorf("%q of the section is in no field", rest)
	}
	if i := strings.Index("\r\n"+in, "\r\n\r\n"); i >= 0 && h.Size != int64(i+2) || i < 0 && h.Size != int64(len(in)) {
		t.Errorf("Size %d, first empty line at %d", h.Size, i)
	}
}

func BenchmarkReadHeader(b *testing.B) {
	mail := body(ordinaryHeader + "\n" + strings.Repeat("A line of text as it is found in mail.\n", 90))
	b.ReportAllocs()
	for b.Loop() {
		h, err := ReadHeader(mail, 1<<20)
		if err != nil || h.Count("Received") != 2 {
			b.Fatal(err)
		}
	}
}

const ordinaryHeader = `Return-Path: <a@example.org>
Received: from mx.example.org (mx.example.org [192.0.2.1])
	by mail.example.net with ESMTPS id 0123456789
	for <b@example.net>; Mon, 2 Jan 2006 15:04:05 +0000
Received: from [10.0.0.1] by mx.example.org with ESMTPSA id 987; Mon, 2 Jan 2006 15:04:04 +0000
Date: Mon, 2 Jan 2006 15:04:03 +0000
From: A Sender <a@example.org>
To: B Recipient <b@example.net>
Subject: An ordinary message
Message-ID: <1234@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
`

package dkim

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestCanonicalField(t *testing.T) {
	tests := []struct {
		name, raw, relaxed string
	}{
		{"RFC 6376 §3.4.5, first field", "A: X\r\n", "a:X\r\n"},
		{"RFC 6376 §3.4.5, second field", "B : Y\t\r\n\tZ  \r\n", "b:Y Z\r\n"},
		{"empty value", "Subject:\r\n", "subject:\r\n"},
		{"value of white space", "Subject: \t \r\n", "subject:\r\n"},
		{"folded empty lines", "Subject: a\r\n \r\n\tb\r\n", "subject:a b\r\n"},
		{"colons in the value", "A: b : c\r\n", "a:b : c\r\n"},
		{"8-bit bytes", "A: \xc3\xb6\xff\r\n", "a:\xc3\xb6\xff\r\n"},
		{"a lone CR or LF is no line end", "A: b\r c\n d\r\n", "a:b\r c\n d\r\n"},
		{"a last field without line end", "A: b", "a:b\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(Relaxed.appendField(nil, tt.raw)); got != tt.relaxed {
				t.Errorf("relaxed: got %q, want %q", got, tt.relaxed)
			}
			simple := strings.TrimSuffix(tt.raw, "\r\n") + "\r\n"
			if got := string(Simple.appendField(nil, tt.raw)); got != simple {
				t.Errorf("simple: got %q, want %q", got, simple)
			}
		})
	}
}

// AUT-06.
func TestCanonicalBody(t *testing.T) {
	tests := []struct {
		name, in, relaxed, simple string
	}{
		{"RFC 6376 §3.4.5", " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n", " C \r\nD \t E\r\n"},
		{"empty", "", "", "\r\n"},
		{"one empty line", "\r\n", "", "\r\n"},
		{"empty lines only", "\r\n\r\n\r\n", "", "\r\n"},
		{"lines of white space only", " \r\n\t\r\n", "", " \r\n\t\r\n"},
		{"no line end", "a", "a\r\n", "a\r\n"},
		{"no line end, white space", "a ", "a\r\n", "a \r\n"},
		{"empty lines inside", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		{"white space lines inside", "a\r\n \t\r\nb\r\n", "a\r\n\r\nb\r\n", "a\r\n \t\r\nb\r\n"},
		{"white space in front", "  a\r\n\tb\r\n", " a\r\n b\r\n", "  a\r\n\tb\r\n"},
		{"lone CR and LF", "a \r b \n c\r\r\n", "a \r b \n c\r\r\n", "a \r b \n c\r\r\n"},
		{"CR at the very end", "a\r", "a\r\r\n", "a\r\r\n"},
		{"white space, CR at the very end", "a \r", "a \r\r\n", "a \r\r\n"},
		{"8-bit and NUL", "\xff\x00 \x00\r\n", "\xff\x00 \x00\r\n", "\xff\x00 \x00\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for step := 1; step <= len(tt.in)+1; step++ {
				if got := canonicalBody(t, Relaxed, tt.in, step); got != tt.relaxed {
					t.Errorf("relaxed in pieces of %d: got %q, want %q", step, got, tt.relaxed)
				}
				if got := canonicalBody(t, Simple, tt.in, step); got != tt.simple {
					t.Errorf("simple in pieces of %d: got %q, want %q", step, got, tt.simple)
				}
			}
		})
	}
}

func canonicalBody(t *testing.T, c Canon, in string, step int) string {
	t.Helper()
	var out bytes.Buffer
	w := newBodyWriter(c, &out)
	for s := in; s != ""; {
		n := min(step, len(s))
		if wrote, err := w.Write([]byte(s[:n])); wrote != n || err != nil {
			t.Fatalf("wrote %d of %d: %v", wrote, n, err)
		}
		s = s[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestHashOfAnEmptyBodyIsThatOfTheStandard(t *testing.T) {
	// RFC 6376 §3.4.3 and §3.4.4.
	for c, want := range map[Canon]string{
		Simple:  "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=",
		Relaxed: "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
	} {
		sum := sha256.Sum256([]byte(canonicalBody(t, c, "", 1)))
		if got := base64.StdEncoding.EncodeToString(sum[:]); got != want {
			t.Errorf("%v: got %s, want %s", c, got, want)
		}
	}
}

func TestMillionsOfEmptyLinesTakeNoMemory(t *testing.T) {
	in := strings.Repeat("\r\n", 1<<20) + "end\r\n"
	allocated := testing.AllocsPerRun(1, func() {
		w := newBodyWriter(Relaxed, io.Discard)
		io.Copy(w, strings.NewReader(in))
		w.Close()
	})
	if allocated > 20 {
		t.Errorf("%v allocations", allocated)
	}
}

func TestBodyWriterReportsTheFirstError(t *testing.T) {
	want := errors.New("full")
	w := newBodyWriter(Simple, failing{want})
	big := bytes.Repeat([]byte("x"), 2*bodyBuffer)
	if _, err := w.Write(big); !errors.Is(err, want) {
		t.Errorf("Write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, want) {
		t.Errorf("Close: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// FuzzCanonicalBody compares with the words of RFC 6376 §3.4.4 put into regular
// expressions, for every way to cut the body into pieces.
func FuzzCanonicalBody(f *testing.F) {
	for _, s := range []string{"", "a", " a \r\n\r\n", "a\r", "\r\r\n\n", "\t \r\n b  c\r\n\r\n\r\n", "a\r\n \r\n",
		"words in lines\r\nof text\r\n\r\nmore \r\n\r\n", "a\nb c\r\n\n d\x01 e\r\n\r\rf\r\n"} {
		f.Add(s, 1)
		f.Add(s, 3)
	}
	endSpace := regexp.MustCompile(`[ \t]+(\r\n|$)`)
	innerSpace := regexp.MustCompile(`[ \t]+`)
	emptyEnd := regexp.MustCompile(`(\r\n)+$`)
	f.Fuzz(func(t *testing.T, in string, step int) {
		step = max(1, step%64)
		relaxed := emptyEnd.ReplaceAllString(innerSpace.ReplaceAllString(endSpace.ReplaceAllString(in, "$1"), " "), "")
		if relaxed != "" {
			relaxed += "\r\n"
		}
		if got := canonicalBody(t, Relaxed, in, step); got != relaxed {
			t.Errorf("relaxed %q in pieces of %d: got %q, want %q", in, step, got, relaxed)
		}
		simple := emptyEnd.ReplaceAllString(in, "") + "\r\n"
		if got := canonicalBody(t, Simple, in, step); got != simple {
			t.Errorf("simple %q in pieces of %d: got %q, want %q", in, step, got, simple)
		}
	})
}

func BenchmarkRelaxedBody(b *testing.B) {
	text := []byte(strings.Repeat("A line of text as it is found in mail, with words.\r\n", 20_000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		w := newBodyWriter(Relaxed, io.Discard)
		w.Write(text)
		w.Close()
	}
}

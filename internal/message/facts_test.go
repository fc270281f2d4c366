package message

import (
	"strings"
	"testing"
)

func TestScanBytes(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	tests := []struct {
		name string
		in   string
		want Facts
	}{
		{"plain", "A: 1\r\n\r\nbody\r\n", Facts{HeaderSize: 8}},
		{"8-bit body", "A: 1\r\n\r\nb\xc3\xb6dy\r\n", Facts{HeaderSize: 8, Has8Bit: true}},
		{"8-bit header", "A: \xc3\xb6\r\n\r\nbody\r\n", Facts{HeaderSize: 9, HeaderUTF8: true}},
		{"no body", "A: 1\r\n", Facts{HeaderSize: 6}},
		{"no header", "\r\nb\xf6dy", Facts{HeaderSize: 2, Has8Bit: true}},
		{"lines of 998 bytes", "A: 1\r\n\r\n" + long + "\r\n" + long, Facts{HeaderSize: 8}},
		{"a line of 999 bytes", "A: 1\r\n\r\n" + long + "x\r\n", Facts{HeaderSize: 8, LongLines: true}},
		{"a last line of 999 bytes", "A: 1\r\n\r\n" + long + "x", Facts{HeaderSize: 8, LongLines: true}},
		{"a header line of 999 bytes", long + "x\r\n\r\n", Facts{HeaderSize: maxLine + 5, LongLines: true}},
		{"lone CR and LF end nothing", "A: 1\n\nb\r\rc\n\r\xff\r\n\r\nbody", Facts{HeaderSize: 17, HeaderUTF8: true}},
		{"empty", "", Facts{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ScanBytes(&text{s: tt.in})
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
			var s scanner
			for i := range len(tt.in) {
				s.scan([]byte(tt.in[i : i+1]))
			}
			if got := s.finish(); got != tt.want {
				t.Errorf("byte by byte: got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestScanBytesAgreesWithReadHeader(t *testing.T) {
	for n := chunkSize - 6; n < chunkSize+6; n++ {
		b := &text{s: strings.Repeat("x", n) + "\r\n\r\n\xff" + strings.Repeat("\r\n", 10)}
		facts, err := ScanBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		h, err := ReadHeader(b, 1<<20)
		if err != nil || facts.HeaderSize != h.Size || facts.HeaderUTF8 || !facts.Has8Bit {
			t.Errorf("%d: facts %+v, header of %d bytes, err %v", n, facts, h.Size, err)
		}
	}
}

package smtp

import (
	"bytes"
	"errors"
	"testing"
)

func TestParseCommand(t *testing.T) {
	tests := []struct {
		line string
		verb Verb
		arg  string
	}{
		{"NOOP", VerbNOOP, ""},
		{"noop", VerbNOOP, ""},
		{"MAIL FROM:<a@b.example> SIZE=1", VerbMAIL, "FROM:<a@b.example> SIZE=1"},
		{"EHLO  c.example \t", VerbEHLO, "c.example"},
		{"RSET\t", VerbRSET, ""},
		{"", VerbUnknown, ""},
		{" NOOP", VerbUnknown, "NOOP"},
		{"NOOPS", VerbUnknown, ""},
		{"GET / HTTP/1.1", VerbHTTP, "/ HTTP/1.1"},
		{"connect x:25 HTTP/1.0", VerbHTTP, "x:25 HTTP/1.0"},
		{"HTTP", VerbUnknown, ""},
		{"UNKNOWN", VerbUnknown, ""},
		{"R\xc5\xbfET", VerbUnknown, ""},
		{"VRFY <\xc3\xbc@x>", VerbVRFY, "<\xc3\xbc@x>"},
	}
	for _, tt := range tests {
		c, err := ParseCommand([]byte(tt.line))
		if err != nil || c.Verb != tt.verb || string(c.Arg) != tt.arg {
			t.Errorf("ParseCommand(%q) = %v %q, %v", tt.line, c.Verb, c.Arg, err)
		}
	}
	if c, err := ParseCommand([]byte("BDAT 5\x01")); !errors.Is(err, ErrCommand) || c.Verb != VerbBDAT || c.Arg != nil {
		t.Errorf("a bad BDAT is %v %q, %v", c.Verb, c.Arg, err)
	}
	for _, line := range []string{"EHLO a\x00b", "NOOP\x01", "\x16\x03\x01", "RCPT TO:<a@b>\rRCPT", "NOOP \x7f"} {
		if _, err := ParseCommand([]byte(line)); !errors.Is(err, ErrCommand) {
			t.Errorf("ParseCommand(%q): %v", line, err)
		}
	}
}

func TestParseChunk(t *testing.T) {
	good := []struct {
		arg  string
		size int64
		last bool
	}{
		{"0", 0, false}, {"10 LAST", 10, true}, {"10  last", 10, true}, {"0010", 10, false},
		{"9223372036854775807", 1<<63 - 1, false},
	}
	for _, tt := range good {
		size, last, err := ParseChunk([]byte(tt.arg))
		if err != nil || size != tt.size || last != tt.last {
			t.Errorf("ParseChunk(%q) = %d, %v, %v", tt.arg, size, last, err)
		}
	}
	bad := []string{
		"", "LAST", "-1", "+1", "0x10", "10 LAST X", "10 X", "10LAST", "1 0", "1,0", "99999999999999999999",
		"9223372036854775808", "18446744073709551626", "000000000000000000001", "\xd9\xa1",
	}
	for _, arg := range bad {
		if size, last, err := ParseChunk([]byte(arg)); err == nil {
			t.Errorf("ParseChunk(%q) = %d, %v", arg, size, last)
		}
	}
}

func TestParsingACommandDoesNotAllocate(t *testing.T) {
	line := []byte("bdat 1024 LAST")
	if n := testing.AllocsPerRun(100, func() {
		c, _ := ParseCommand(line)
		ParseChunk(c.Arg)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{"NOOP", "MAIL FROM:<a@b>", "BDAT 1 LAST", "\x00", " \t "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := ParseCommand(line)
		if err != nil {
			return
		}
		if bytes.ContainsAny(c.Arg, "\r\n\x00") || !bytes.Contains(line, c.Arg) {
			t.Fatalf("%q has the argument %q", line, c.Arg)
		}
		if size, _, err := ParseChunk(c.Arg); err == nil && size < 0 {
			t.Fatalf("chunk of %d bytes from %q", size, line)
		}
	})
}

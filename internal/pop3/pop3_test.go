package pop3

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseCommand(t *testing.T) {
	for line, want := range map[string]string{
		"RETR 1": "RETR 1", "retr 1": "RETR 1", "uSeR joe": "USER joe", "PASS  two spaces ": "PASS  two spaces ", "STAT": "STAT ", "UTF8": "UTF8 ", "TOP 1 2": "TOP 1 2",
		"": "UNKNOWN ", " RETR 1": "UNKNOWN RETR 1", "RETR1": "UNKNOWN ", "RETR\t1": "UNKNOWN ", "XTND XMIT": "UNKNOWN XMIT", "ſTAT": "UNKNOWN ", "UNKNOWN x": "UNKNOWN x",
		"RETR 1\x00": "error", "RETR 1\rQUIT": "error", "a\nb": "error",
	} {
		c, err := ParseCommand([]byte(line))
		got := c.Verb.String() + " " + string(c.Arg)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for arg, want := range map[string]string{
		"1": "[1]", " 7 ": "[7]", "007": "[7]", "999999999": "[999999999]", "0": "", "-1": "", "+1": "", "4294967297": "", "1 2": "", "": "", "x": "", "１": "",
	} {
		n, ok := Command{Arg: []byte(arg)}.Numbers(1)
		if got := fmt.Sprint(n); ok && got != want || !ok && want != "" {
			t.Errorf("%q: %v %v, want %q", arg, n, ok, want)
		}
	}
	for arg, ok := range map[string]bool{"1 0": true, "1 5": true, "0 1": false, "1 -1": false, "1": false, "1 2 3": false} {
		if _, got := (Command{Arg: []byte(arg)}).Numbers(2); got != ok {
			t.Errorf("%q: %v", arg, got)
		}
	}
}

func TestShapes(t *testing.T) {
	for _, tt := range []struct {
		command, line string
		want          Shape
	}{
		{"RETR 1", "+OK 3 octets", Message}, {"RETR 1", "-ERR no", Line}, {"TOP 1 0", "+ok", Message}, {"LIST", "+OK", List}, {"LIST 1", "+OK 1 2", Line},
		{"UIDL", "+OK", List}, {"UIDL 1", "+OK 1 x", Line}, {"CAPA", "+OK", List}, {"CAPA", "-ERR", Line}, {"LANG", "+OK", List}, {"LANG de", "+OK", Line},
		{"STAT", "+OK 1 2", Line}, {"AUTH PLAIN", "+ ", Challenge}, {"AUTH PLAIN", "+", Challenge}, {"AUTH PLAIN", "+OK", Line}, {"STAT", "+ x", Broken},
		{"STAT", "+OKAY", Broken}, {"STAT", "", Broken}, {"STAT", "OK", Broken}, {"XTND", "+OK", Broken}, {"XTND", "-ERR", Line}, {"STAT", "220 hello", Broken},
	} {
		c, err := ParseCommand([]byte(tt.command))
		if err != nil {
			t.Fatal(err)
		}
		if got := ShapeOf(c, []byte(tt.line)); got != tt.want {
			t.Errorf("%q %q: %v, want %v", tt.command, tt.line, got, tt.want)
		}
	}
}

func TestCodes(t *testing.T) {
	for line, want := range map[string]string{
		"-ERR [IN-USE] x": "IN-USE", "-ERR [sys/temp] x": "SYS/TEMP", "-ERR x [AUTH]": "", "-ERR": "", "-ERR [AUTH": "", "-ERR []": "", "-ERR [" + strings.Repeat("x", 100) + "]": "",
	} {
		if got := Code([]byte(line)); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}

func TestCapabilities(t *testing.T) {
	var c Capabilities
	for _, line := range []string{"TOP", "SASL PLAIN EXTERNAL SCRAM-SHA-256-PLUS", "STLS", "X-OWN", "", "  ", "A\x00B", strings.Repeat("x", 600), "sasl EXTERNAL"} {
		c.Add(line)
	}
	if got := fmt.Sprint(c.Through()); got != "[TOP SASL PLAIN]" {
		t.Errorf("%s", got)
	}
	if !c.Has("stls") || c.Has("UIDL") || !slices.Contains(c, "SASL PLAIN EXTERNAL SCRAM-SHA-256-PLUS") {
		t.Errorf("%q", c)
	}
	for range 1000 {
		c.Add("X")
	}
	if len(c) != maxCapabilities {
		t.Errorf("%d lines", len(c))
	}
}

func TestAccounts(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	for _, tt := range []struct{ mechanism, said, want string }{
		{"plain", b64([]byte("\x00joe\x00secret")), "joe"}, {"PLAIN", b64([]byte("box\x00joe\x00secret")), "box"}, {"PLAIN", b64([]byte("joe")), ""}, {"PLAIN", "!!!", ""}, {"PLAIN", "*", ""}, {"PLAIN", "=", ""},
		{"LOGIN", b64([]byte("joe")), "joe"}, {"CRAM-MD5", b64([]byte("joe bloggs 0123")), "joe bloggs"}, {"CRAM-MD5", b64([]byte("joe")), ""},
		{"XOAUTH2", b64([]byte("user=joe@a.example\x01auth=Bearer secret\x01\x01")), "joe@a.example"}, {"OAUTHBEARER", b64([]byte("n,a=joe@a.example,\x01auth=Bearer secret\x01\x01")), "joe@a.example"},
		{"SCRAM-SHA-256", b64([]byte("n,,n=j=2Coe=3D,r=nonce")), "j,oe="}, {"GSSAPI", b64([]byte("joe")), ""},
	} {
		if got := Account(tt.mechanism, []string{tt.said, "more"}); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.mechanism, tt.said, got, tt.want)
		}
	}
	if got := Account("LOGIN", nil); got != "" {
		t.Errorf("%q", got)
	}
}

func TestReadLine(t *testing.T) {
	for _, size := range []int{4, 64} {
		r := NewReader(iotest.OneByteReader(strings.NewReader("CRLF\r\nbare\n\r\n\nends\rin it\r\n"+strings.Repeat("x", 38)+"\r\n"+strings.Repeat("y", 39)+"\r\n")), size)
		for _, want := range []string{"CRLF false", "bare true", " false", " true", "ends\rin it false", strings.Repeat("x", 38) + " false"} {
			line, bare, err := r.ReadLine(40)
			if got := fmt.Sprint(string(line), " ", bare); err != nil || got != want {
				t.Errorf("%q %v, want %q", got, err, want)
			}
		}
		if _, _, err := r.ReadLine(40); !errors.Is(err, ErrLineTooLong) {
			t.Errorf("%v", err)
		}
	}
	r := NewReader(strings.NewReader("half"), 16)
	if _, _, err := r.ReadLine(40); !errors.Is(err, io.EOF) || string(r.Buffered()) != "half" {
		t.Errorf("%v, %q", err, r.Buffered())
	}
}

func TestABorrowedBufferIsGivenBack(t *testing.T) {
	r := NewReader(strings.NewReader("one\r\ntwo\r\n"+strings.Repeat("x", 100)), 8)
	big := make([]byte, 64)
	r.Borrow(big)
	if line, _, err := r.ReadLine(32); err != nil || string(line) != "one" {
		t.Fatalf("%q %v", line, err)
	}
	if r.Release() != nil {
		t.Error("released while it holds more than the small one")
	}
	r.Discard(len(r.Buffered()) - 4)
	if got := r.Release(); len(got) != 64 || string(r.Buffered()) != "xxxx" || r.Borrowed() {
		t.Errorf("%d bytes, %q left", len(got), r.Buffered())
	}
}

// unstuff takes data apart in pieces of the sizes that cut gives.
func unstuff(src string, lfOnly bool, cut func() int) (text string, used int, end bool) {
	u := Unstuffer{LFOnly: lfOnly}
	var b strings.Builder
	for used < len(src) && !end {
		piece := []byte(src[used:min(len(src), used+cut())])
		for len(piece) > 0 && !end {
			var t []byte
			var n int
			t, n, end = u.Next(piece)
			b.Write(t)
			piece, used = piece[n:], used+n
		}
	}
	return b.String(), used, end
}

func whole() int { return 1 << 30 }

func TestUnstuffer(t *testing.T) {
	for _, tt := range []struct {
		src    string
		lfOnly bool
		want   string
		rest   string
		end    bool
	}{
		{".\r\n", false, "", "", true}, {"a\r\n.\r\n", false, "a\r\n", "", true}, {"..\r\n.\r\nx", false, ".\r\n", "x", true},
		{"a\n.\nb\r\n.\r\n", false, "a\n.\nb\r\n", "", true}, {"a\n.\nb", true, "a\n", "b", true}, {".\n", true, "", "", true}, {".\n.\r\n", false, ".\n", "", true},
		{"a\n.b\n..c\r\n.\r\n", false, "a\n.b\n.c\r\n", "", true}, {".b\r\n.\r\n", false, "b\r\n", "", true}, {".\rx\r\n.\r\n", false, "\rx\r\n", "", true},
		{"a\n.\rx\r\n.\r\n", false, "a\n.\rx\r\n", "", true}, {"a\r\n.\r", false, "a\r\n", "", false}, {"a\r\r\n.\r\n", false, "a\r\r\n", "", true}, {"\n.\r\n", false, "\n", "", true},
	} {
		for _, cut := range []func() int{whole, func() int { return 1 }} {
			text, used, end := unstuff(tt.src, tt.lfOnly, cut)
			if text != tt.want || tt.src[used:] != tt.rest || end != tt.end {
				t.Errorf("%q: %q, rest %q, end %v", tt.src, text, tt.src[used:], end)
			}
		}
	}
}

// TestStuffingIsUndoneByUnstuffing does it with every text of a few bytes.
func TestStuffingIsUndoneByUnstuffing(t *testing.T) {
	var try func(text string, left int)
	try = func(text string, left int) {
		checkRoundTrip(t, []byte(text), 1)
		if left > 0 {
			for _, c := range "a.\r\n" {
				try(text+string(c), left-1)
			}
		}
	}
	try("", 7)
}

func checkRoundTrip(t *testing.T, text []byte, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	s := Stuffer{W: &b}
	for rest := text; len(rest) > 0; {
		n := 1 + random.IntN(len(rest))
		if _, err := s.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := string(text)
	if want != "" && !strings.HasSuffix(want, "\n") {
		want += "\r\n"
	}
	got, used, end := unstuff(b.String(), false, func() int { return 1 + random.IntN(5) })
	if got != want || used != b.Len() || !end {
		t.Fatalf("%q was sent as %q and read as %q, end %v", text, b.String(), got, end)
	}
	// A client that takes every LF for a line end sees the same, and the same end.
	var seen strings.Builder
	lines := strings.SplitAfter(b.String(), "\n")
	for i, line := range lines {
		if bare := strings.TrimRight(line, "\r\n"); bare == "." && strings.Count(line, "\r") <= 1 {
			if i != len(lines)-2 {
				t.Fatalf("%q is sent as %q, in which a client sees an end too early", text, b.String())
			}
			break
		}
		seen.WriteString(strings.TrimPrefix(line, "."))
	}
	if seen.String() != want {
		t.Fatalf("%q is sent as %q, which a client reads as %q", text, b.String(), seen.String())
	}
}

func TestHead(t *testing.T) {
	const mail = "A: b\r\nC: d\r\n\r\n1\r\n2\r\n3"
	for _, tt := range []struct {
		in    string
		lines int
		want  string
	}{
		{mail, 0, "A: b\r\nC: d\r\n\r\n"}, {mail, 1, "A: b\r\nC: d\r\n\r\n1\r\n"}, {mail, 3, mail}, {mail, 9, mail}, {"A: b", 0, "A: b"}, {"A: b\n\nx\ny\n", 1, "A: b\n\nx\n"},
		{"\r\nbody\r\n", 0, "\r\n"}, {"", 5, ""}, {"a\r\r\nb\r\n\r\nc\r\n", 0, "a\r\r\nb\r\n\r\n"}, {"A\r\n\r\r\n\r\nx", 0, "A\r\n\r\r\n\r\n"},
	} {
		for size := 1; size <= len(tt.in)+1; size++ {
			var b strings.Builder
			h := Head{W: &b, Lines: tt.lines}
			for rest := tt.in; rest != ""; {
				n := min(size, len(rest))
				if wrote, err := h.Write([]byte(rest[:n])); wrote != n || err != nil {
					t.Fatal(wrote, err)
				}
				rest = rest[n:]
			}
			if b.String() != tt.want {
				t.Errorf("%q by %d, %d lines: %q, want %q", tt.in, size, tt.lines, b.String(), tt.want)
			}
		}
	}
}

// FuzzShapeOf holds the classifier against what must always be so.
func FuzzShapeOf(f *testing.F) {
	f.Add("RETR 1", "+OK")
	f.Add("LIST", "-ERR [IN-USE] x")
	f.Add("AUTH PLAIN", "+ x")
	f.Add("XTND", "+OK\x00")
	f.Fuzz(func(t *testing.T, command, line string) {
		c, err := ParseCommand([]byte(command))
		if err != nil {
			return
		}
		shape, status := ShapeOf(c, []byte(line)), ParseStatus([]byte(line))
		switch {
		case status == StatusErr && shape != Line:
			t.Errorf("%q %q: %v", command, line, shape)
		case shape == Challenge && c.Verb != VerbAUTH, shape == Message && c.Verb != VerbRETR && c.Verb != VerbTOP:
			t.Errorf("%q %q: %v", command, line, shape)
		case c.Verb == VerbUnknown && status == StatusOK && shape != Broken:
			t.Errorf("%q %q: %v", command, line, shape)
		case (c.Verb == VerbRETR || c.Verb == VerbTOP) && status == StatusOK && shape != Message:
			t.Errorf("%q %q: %v", command, line, shape)
		}
		if code := Code([]byte(line)); strings.ContainsAny(code, "]\r\n") && !strings.ContainsAny(line, "\r\n") {
			t.Errorf("%q: code %q", line, code)
		}
		if safe := SafeLine([]byte(line)); bytes.ContainsAny(safe, "\r\n\x00") {
			t.Errorf("%q: %q", line, safe)
		}
		Account(string(c.Arg), []string{line})
	})
}

// FuzzData does for all texts what TestStuffingIsUndoneByUnstuffing does for short ones.
func FuzzData(f *testing.F) {
	f.Add([]byte("a\r\n.\r\n"), uint64(1))
	f.Add([]byte(".\n\n.\r"), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		checkRoundTrip(t, text, seed)
		one, used, end := unstuff(string(text), false, whole)
		two, used2, end2 := unstuff(string(text), false, func() int { return 1 })
		if one != two || used != used2 || end != end2 {
			t.Errorf("%q: in one piece %q %d %v, in many %q %d %v", text, one, used, end, two, used2, end2)
		}
	})
}

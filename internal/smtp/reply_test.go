package smtp

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"gatepost/internal/mail"
)

func TestReplyReader(t *testing.T) {
	for _, tc := range []struct {
		name, wire string
		want       mail.Reply
	}{
		{"a single line", "250 fine\r\n", mail.Reply{Code: 250, Lines: []string{"fine"}}},
		{"a code and nothing else", "250\r\n", mail.Reply{Code: 250, Lines: []string{""}}},
		{"a code and a space", "354 \r\n", mail.Reply{Code: 354, Lines: []string{""}}},
		{"an enhanced code is split off", "550 5.7.1 no\r\n", mail.Reply{Code: 550, Enhanced: "5.7.1", Lines: []string{"no"}}},
		{"an enhanced code without text", "250 2.0.0\r\n", mail.Reply{Code: 250, Enhanced: "2.0.0", Lines: []string{""}}},
		{"an enhanced code on every line", "550-5.7.1 a\r\n550 5.7.1 b\r\n",
			mail.Reply{Code: 550, Enhanced: "5.7.1", Lines: []string{"a", "b"}}},
		{"an enhanced code on the last line only", "550-see below\r\n550 5.1.1 no such user\r\n",
			mail.Reply{Code: 550, Enhanced: "5.1.1", Lines: []string{"see below", "no such user"}}},
		{"the first of two enhanced codes counts", "550-5.1.1 a\r\n550 5.7.1 b\r\n",
			mail.Reply{Code: 550, Enhanced: "5.1.1", Lines: []string{"a", "5.7.1 b"}}},
		{"an enhanced code of another class is text", "550 4.7.1 b\r\n", mail.Reply{Code: 550, Lines: []string{"4.7.1 b"}}},
		{"3xx has no enhanced code", "354 3.0.0 go\r\n", mail.Reply{Code: 354, Lines: []string{"3.0.0 go"}}},
		{"an address is not an enhanced code", "550 5.6.7.8 listed\r\n", mail.Reply{Code: 550, Lines: []string{"5.6.7.8 listed"}}},
		{"numbers of four digits are not an enhanced code", "550 5.1000.1 x\r\n", mail.Reply{Code: 550, Lines: []string{"5.1000.1 x"}}},
		{"EHLO", "250-mx.example\r\n250-SIZE 1000\r\n250 PIPELINING\r\n",
			mail.Reply{Code: 250, Lines: []string{"mx.example", "SIZE 1000", "PIPELINING"}}},
		{"control characters become question marks", "250 a\x00b\x1b[1m\tc\x7f\r\n", mail.Reply{Code: 250, Lines: []string{"a?b?[1m\tc?"}}},
		{"8-bit text stays", "250 gr\xfc\xc3\xbc\r\n", mail.Reply{Code: 250, Lines: []string{"gr\xfc\xc3\xbc"}}},
		{"a long line within the limit", "250 " + strings.Repeat("x", maxReplyLine-6) + "\r\n",
			mail.Reply{Code: 250, Lines: []string{strings.Repeat("x", maxReplyLine-6)}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tc.wire), iotest.OneByteReader(strings.NewReader(tc.wire))} {
				rr := NewReplyReader(r)
				got, err := rr.Read()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Error(diff)
				}
				if n := rr.Buffered(); n != 0 {
					t.Errorf("%d bytes left", n)
				}
				if _, err := rr.Read(); err != io.EOF {
					t.Errorf("at the end: %v, want EOF", err)
				}
			}
		})
	}
}

func TestReplyReaderRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, wire string
		want       error
	}{
		{"an empty line", "\r\n", ErrReply},
		{"two digits", "25\r\n", ErrReply},
		{"words", "hello there\r\n", ErrReply},
		{"a code over 599", "999 x\r\n", ErrReply},
		{"a code of 1xx", "150 wait\r\n", ErrReply},
		{"a code of 0xx", "050 x\r\n", ErrReply},
		{"four digits", "2500 x\r\n", ErrReply},
		{"a tab after the code", "250\tx\r\n", ErrReply},
		{"a bare LF", "250 x\n", ErrReply},
		{"a bare LF inside of a multi-line reply", "250-x\n250 y\r\n", ErrReply},
		{"a bare CR", "250 a\rb\r\n", ErrReply},
		{"CR CR LF", "250 a\r\r\n", ErrReply},
		{"a change of code", "250-a\r\n550 b\r\n", ErrReply},
		{"a line over the limit", "250 " + strings.Repeat("x", maxReplyLine-5) + "\r\n", ErrReplyLimit},
		{"a line of 100 kB", "250 " + strings.Repeat("x", 100_000) + "\r\n", ErrReplyLimit},
		{"too many lines", strings.Repeat("250-\r\n", maxReplyLines) + "250 \r\n", ErrReplyLimit},
		{"too much text", strings.Repeat("250-"+strings.Repeat("x", 2000)+"\r\n", 20) + "250 \r\n", ErrReplyLimit},
		{"an end within a line", "250 x", io.ErrUnexpectedEOF},
		{"an end within a reply", "250-x\r\n", io.ErrUnexpectedEOF},
		{"nothing", "", io.EOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rr := NewReplyReader(strings.NewReader(tc.wire + "250 next\r\n"))
			if tc.want == io.EOF || tc.want == io.ErrUnexpectedEOF {
				rr.Reset(strings.NewReader(tc.wire))
			}
			reply, err := rr.Read()
			if !errors.Is(err, tc.want) || !reply.IsZero() {
				t.Fatalf("got %v, %v; want %v", reply, err, tc.want)
			}
			// What follows must not be taken for the reply to the next command.
			if reply, err := rr.Read(); err == nil {
				t.Errorf("after the error it returned %v", reply)
			}
		})
	}
}

func TestReplyReaderSeesWhatWasNotAskedFor(t *testing.T) {
	rr := NewReplyReader(strings.NewReader("250 one\r\n250 two\r\n"))
	if _, err := rr.Read(); err != nil {
		t.Fatal(err)
	}
	if n := rr.Buffered(); n != len("250 two\r\n") {
		t.Errorf("%d bytes buffered", n)
	}
}

func FuzzReplyReader(f *testing.F) {
	for _, s := range []string{
		"250 ok\r\n", "550-5.7.1 a\r\n550 5.7.1 b\r\n", "250-x\r\n250 y\r\n220 z\r\n", "999 x\r\n", "25\r\n", "250 x\n",
		"354\r\n", "421 4.3.2 bye\r\n", "250-\x00\r\n250\r\n", "550-5.1.1\r\n550 5.1.1 \r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, wire string) {
		rr := NewReplyReader(strings.NewReader(wire))
		for {
			reply, err := rr.Read()
			if err != nil {
				return
			}
			if reply.Code < 200 || reply.Code > 599 || len(reply.Lines) == 0 || len(reply.Lines) > maxReplyLines {
				t.Fatalf("illegal reply %+v", reply)
			}
			if reply.Enhanced != "" && reply.Enhanced[0] != byte('0'+reply.Code/100) {
				t.Fatalf("classes disagree: %+v", reply)
			}
			for _, line := range reply.Lines {
				if strings.ContainsAny(line, "\r\n\x00") {
					t.Fatalf("line break in %q", line)
				}
			}
			// A reply that we pass on is one reply to whoever reads it.
			again := NewReplyReader(strings.NewReader(string(reply.Append(nil))))
			back, err := again.Read()
			if err == nil && (back.Code != reply.Code || len(back.Lines) != len(reply.Lines) || again.Buffered() != 0) {
				t.Fatalf("%+v became %+v", reply, back)
			}
			if err != nil && !errors.Is(err, ErrReplyLimit) {
				t.Fatalf("%+v cannot be read back: %v", reply, err)
			}
		}
	})
}

func BenchmarkReplyReader(b *testing.B) {
	src := &repeat{data: []byte("250 2.1.5 Ok\r\n")}
	rr := NewReplyReader(src)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rr.Read(); err != nil {
			b.Fatal(err)
		}
	}
}

// repeat yields its data for ever, one piece per Read.
type repeat struct{ data []byte }

func (r *repeat) Read(p []byte) (int, error) { return copy(p, r.data), nil }

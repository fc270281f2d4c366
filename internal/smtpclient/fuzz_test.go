package smtpclient_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtpclient"
)

// canned is a connection on which the remote says what it always wanted to say,
// one piece for each Read.
type canned struct {
	pieces []string
	out    strings.Builder
}

func (c *canned) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; c.pieces[0] == "" {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}
func (c *canned) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (*canned) Close() error                       { return nil }
func (*canned) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (*canned) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (*canned) SetDeadline(time.Time) error        { return nil }
func (c *canned) SetReadDeadline(time.Time) error  { return nil }
func (c *canned) SetWriteDeadline(time.Time) error { return nil }

// FuzzServer lets a server say anything. Whatever it says: an outcome for each
// recipient or an error, nothing delivered without 354 and 2xx, and on the wire
// nothing but whole commands and the message.
func FuzzServer(f *testing.F) {
	for _, s := range []string{
		"220 hi\r\n|250-a\r\n250-PIPELINING\r\n250 SIZE 1\r\n|250 ok\r\n250 ok\r\n550 no\r\n354 go\r\n|250 ok\r\n|221 bye\r\n",
		"220 hi\r\n|250-a\r\n250 CHUNKING\r\n|250 ok\r\n|250 ok\r\n|250 ok\r\n|250 ok\r\n",
		"220 hi\r\n|502 no\r\n|250 a\r\n|250 ok\r\n|452 too many\r\n|250 ok\r\n|354 go\r\n|554 no\r\n",
		"220 hi\r\n|250-a\r\n250-LIMITS RCPTMAX=1 MAILMAX=2\r\n250 DSN\r\n|250 ok\r\n|250 ok\r\n|354 go\r\n|250 ok\r\n|250 ok\r\n|250 ok\r\n|354 go\r\n|250 ok\r\n",
		"220 hi\r\n|250 a\r\n|550 no\r\n", "220 hi\r\n250 a\r\n", "554 no\r\n", "421 x\r\n", "220 hi\r\n|250 a\r\n|250 x\r\n250 y\r\n",
		"220 hi\r\n|250-a\r\n250 PIPELINING\r\n|250 ok\r\n550 ok\r\n550 no\r\n354 go\r\n|250 ok\r\n|250 next\r\n",
	} {
		f.Add(s, false, true)
		f.Add(s, true, false)
	}
	f.Fuzz(func(t *testing.T, says string, lmtp, large bool) {
		nc := &canned{pieces: strings.Split(says, "|")}
		d := smtpclient.NewDialer(smtpclient.Config{Hostname: "gw.example", LMTP: lmtp, ChunkFrom: 1,
			Dial: func(context.Context, string, string) (net.Conn, error) { return nc, nil }})
		c, err := d.Dial(context.Background(), smtpclient.Target{Network: "tcp", Address: "192.0.2.1:25"})
		if err != nil {
			return
		}
		var content smtpclient.Content = short
		if large {
			content = text(strings.Repeat("x.\r\n.y\r\n", 100))
		}
		for range 2 {
			out, err := c.Send(context.Background(), request(t, 2, content))
			if len(out) != 2 {
				t.Fatalf("%d outcomes", len(out))
			}
			for _, o := range out {
				if o.Status == "" && err == nil {
					t.Fatal("no outcome and no error")
				}
				if o.Status == mail.Delivered && !o.Reply.Positive() || o.Status == mail.Failed && !o.Reply.Permanent() {
					t.Fatalf("outcome %+v", o)
				}
				if o.Status == mail.Delivered && !c.Extensions().Chunking && !strings.Contains(says, "354") {
					t.Fatalf("delivered without 354: %q", says)
				}
			}
			if err != nil && c.Usable() {
				t.Fatalf("the session goes on after %v", err)
			}
		}
		c.Quit()
		for line := range strings.SplitAfterSeq(nc.out.String(), "\r\n") {
			if line != "" && (!strings.HasSuffix(line, "\r\n") || strings.ContainsAny(strings.TrimSuffix(line, "\r\n"), "\r\n\x00")) {
				t.Fatalf("wrote %q", line)
			}
		}
	})
}

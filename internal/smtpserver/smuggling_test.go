package smtpserver

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type eodVariant struct {
	ID     string `json:"id"`
	Hex    string `json:"hex"`
	Repr   string `json:"repr"`
	Strict bool   `json:"contains_strict_eod"`
}

func eodVariants(t *testing.T) []eodVariant {
	t.Helper()
	b, err := os.ReadFile("testdata/eod_variants.json")
	if err != nil {
		t.Fatal(err)
	}
	var variants []eodVariant
	if err := json.Unmarshal(b, &variants); err != nil || len(variants) != 109 {
		t.Fatal(len(variants), err)
	}
	return variants
}

const evil = "MAIL FROM:<evil@a.example>\r\nRCPT TO:<v@in.example>\r\nDATA\r\nSubject: evil\r\n\r\nsmuggled\r\n.\r\n"

// TestNothingButTheEndOfDataEndsData is SMG-01: what stands behind a false end of
// data is not executed, and the session stays in step.
func TestNothingButTheEndOfDataEndsData(t *testing.T) {
	for _, v := range eodVariants(t) {
		for _, le := range []LineEndings{Normalize, Reject} {
			t.Run(fmt.Sprintf("%s %s %d", v.ID, v.Repr, le), func(t *testing.T) {
				raw, err := hex.DecodeString(v.Hex)
				if err != nil {
					t.Fatal(err)
				}
				x := startServer(t, Config{LineEndings: le}, Options{})
				c := x.dial().greet()
				c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
				c.expect("250", "250", "354")
				c.sendRaw("Subject: x\r\n\r\nline" + string(raw) + evil)
				final := c.reply()
				if v.Strict {
					// Legal pipelining of a second message: it is really the end.
					c.expect("250", "250", "354", "250")
				}
				c.inSync()
				c.quit()
				mails := x.stop()
				bare := le == Reject && hasBare(raw)
				switch {
				case bare && (!strings.HasPrefix(final, "550 5.6.0") || len(mails) != boolInt(v.Strict)):
					t.Errorf("got %q and %d mails", final, len(mails))
				case !bare && (!strings.HasPrefix(final, "250") || len(mails) != 1+boolInt(v.Strict)):
					t.Errorf("got %q and %d mails", final, len(mails))
				}
				for _, m := range mails {
					if m.env.Sender.Local == "evil" != strings.HasPrefix(m.body, "Subject: evil") || m.env.Sender.Local == "evil" && !v.Strict {
						t.Errorf("mail from %q: %q", m.env.Sender, m.body)
					}
					if hasBare([]byte(m.body)) {
						t.Errorf("bare line ends kept: %q", m.body)
					}
				}
			})
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func hasBare(b []byte) bool {
	return bytes.ContainsAny(bytes.ReplaceAll(b, []byte("\r\n"), nil), "\r\n\x00")
}

// TestTheEndOfDataMayComeInPieces is SMG-05.
func TestTheEndOfDataMayComeInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := startServer(t, Config{}, Options{})
		c := x.dial().greet()
		c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
		c.expect("250", "250", "354")
		for _, piece := range []string{"x\r", "\n", ".", "\r", "\n"} {
			c.sendRaw(piece)
			<-time.After(50 * time.Millisecond)
		}
		c.expect("250")
		c.quit()
		if mails := x.stop(); len(mails) != 1 || mails[0].body != "x\r\n" {
			t.Errorf("got %+v", mails)
		}
	})
}

// TestTheEndOfDataAtBufferEdges is SMG-05's second half, and data that needs the
// large buffer.
func TestTheEndOfDataAtBufferEdges(t *testing.T) {
	x := startServer(t, Config{}, Options{})
	c := x.dial().greet()
	var want []string
	for _, edge := range []int{lineBuffer, maxPiece, dataBuffer, 2 * dataBuffer} {
		for size := edge - 6; size <= edge+3; size++ {
			body := "\r\n" + strings.Repeat("x", size-4) + "\r\n"
			want = append(want, body)
			c.send("MAIL FROM:<a@out.example>", "RCPT TO:<v@in.example>", "DATA")
			c.expect("250", "250", "354")
			// The next command follows in the same segment.
			c.sendRaw(body + ".\r\nNOOP\r\n")
			c.expect("250 2.0.0 OK: queued", "250 2.0.0 OK")
		}
	}
	c.quit()
	for i, m := range x.stop() {
		if m.body != want[i] {
			t.Errorf("mail %d has %d bytes, want %d", i, len(m.body), len(want[i]))
		}
	}
}

// TestPlaintextBehindSTARTTLSIsNotAnswered is TLS-01 with the injection in a
// segment of its own, after the reply: it disturbs the handshake and that is all.
func TestPlaintextBehindSTARTTLSIsNotAnswered(t *testing.T) {
	x := startServer(t, Config{TLS: TLSStart, TLSConfig: testTLS(t)}, Options{})
	c := x.dial()
	c.expect("220")
	c.send("STARTTLS")
	c.expect("220")
	c.send("EHLO inj", "MAIL FROM:<i@x>")
	c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 1000)
	for {
		n, err := c.conn.Read(b)
		if strings.Contains(string(b[:n]), "250") {
			t.Fatalf("answered %q", b[:n])
		}
		if err != nil {
			break
		}
	}
	x.stop()
}

// FuzzSession gives a session any bytes at all. It must come to its end, and leave
// no message in between.
func FuzzSession(f *testing.F) {
	f.Add([]byte("EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("HELO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 3\r\na\r\nBDAT 0 LAST\r\nRSET\r\n"))
	f.Add([]byte("HELO c\r\nAUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0\r\nSTARTTLS\r\n\x16\x03\x01"))
	f.Add([]byte("XCLIENT ADDR=198.51.100.1 LOGIN=x\r\nEHLO x\r\nVRFY x\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if bytes.Contains(bytes.ToLower(in), []byte("panic")) {
			t.Skip("the scripted hooks do panic")
		}
		synctest.Test(t, func(t *testing.T) {
			c := Config{Auth: []string{"PLAIN", "LOGIN"}, AuthWithoutTLS: true, XClientFrom: prefixes("192.0.2.0/24")}
			x := startServer(t, c, Options{})
			conn := x.dial()
			go func() {
				conn.conn.Write(in)
				conn.raw.CloseWrite()
			}()
			for l := conn.line(); l != ""; l = conn.line() {
				if len(l) < 4 || l[0] < '2' || l[0] > '5' || l[3] != ' ' && l[3] != '-' {
					t.Fatalf("reply line %q", l)
				}
			}
			for _, m := range x.stop() {
				if hasBare([]byte(m.body)) {
					t.Fatalf("bare line ends in %q", m.body)
				}
			}
		})
	})
}

// FuzzChunks sends a message by BDAT in chunks of any sizes. The bytes are the
// message's and nothing else, however they are cut.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("a\r\n.\r\nQUIT\r\n"), []byte{1, 2, 3})
	f.Add([]byte("a\r\rb\n\x00BDAT 3\r\n"), []byte{0, 4})
	f.Fuzz(func(t *testing.T, body, cuts []byte) {
		if bytes.Contains(body, []byte("PANIC")) || bytes.Contains(body, []byte("VIRUS")) || bytes.Contains(body, []byte("NOREPLY")) || len(cuts) > 50 {
			t.Skip("means something to the scripted intake")
		}
		synctest.Test(t, func(t *testing.T) { chunksArrive(t, body, cuts) })
	})
}

func chunksArrive(t *testing.T, body, cuts []byte) {
	x := startServer(t, Config{}, Options{})
	c := x.dial().greet()
	var out strings.Builder
	out.WriteString("MAIL FROM:<a@out.example>\r\nRCPT TO:<v@in.example>\r\n")
	rest := body
	for _, n := range cuts {
		part := rest[:min(len(rest), int(n))]
		rest = rest[len(part):]
		fmt.Fprintf(&out, "BDAT %d\r\n%s", len(part), part)
	}
	fmt.Fprintf(&out, "BDAT %d LAST\r\n%s", len(rest), rest)
	c.sendRaw(out.String())
	for range len(cuts) + 3 {
		c.expect("250")
	}
	c.inSync()
	c.quit()
	mails := x.stop()
	if len(mails) != 1 || hasBare([]byte(mails[0].body)) {
		t.Fatalf("%q became %+v", body, mails)
	}
	if !hasBare(body) && mails[0].body != string(body) {
		t.Fatalf("%q became %q", body, mails[0].body)
	}
}

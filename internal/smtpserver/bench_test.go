package smtpserver

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"gatepost/internal/mail"
)

// sinkhole takes every message and keeps none.
type sinkhole struct{}

func (sinkhole) Open(context.Context, *mail.Envelope) (Intake, error) { return sinkhole{}, nil }
func (sinkhole) Write(p []byte) (int, error)                          { return len(p), nil }
func (sinkhole) Commit(context.Context, DataFacts) mail.Reply {
	return mail.Reply{Code: 250, Enhanced: "2.0.0"}
}
func (sinkhole) Abort() {}
func (sinkhole) Rcpt(context.Context, *mail.Envelope, *mail.Recipient) mail.Decision {
	return mail.Decision{}
}

// benchClient is a client of a server on a loopback socket.
type benchClient struct {
	net.Conn
	b   *testing.B
	buf [1024]byte
}

func benchServer(b *testing.B) *benchClient {
	b.Helper()
	srv, err := New(Config{Listener: "in", Hostname: "gw.example"}, Hooks{Intake: sinkhole{}, Rcpt: sinkhole{}}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		srv.Shutdown(context.Background())
		<-done
	})
	c := &benchClient{Conn: conn, b: b}
	c.roundTrip(nil, 1)
	c.roundTrip([]byte("HELO c\r\n"), 1)
	return c
}

// roundTrip sends a group of commands and reads as many one-line replies. It does
// not allocate.
func (c *benchClient) roundTrip(commands []byte, replies int) {
	if _, err := c.Write(commands); err != nil {
		c.b.Fatal(err)
	}
	for replies > 0 {
		n, err := c.Read(c.buf[:])
		if err != nil {
			c.b.Fatal(err)
		}
		replies -= bytes.Count(c.buf[:n], []byte{'\n'})
	}
}

// BenchmarkPipelinedMessage is a message of 1 kB with two recipients: one group of
// commands, then the data with the next group behind it.
func BenchmarkPipelinedMessage(b *testing.B) {
	c := benchServer(b)
	envelope := "MAIL FROM:<a@out.example>\r\nRCPT TO:<v@in.example>\r\nRCPT TO:<w@in.example>\r\nDATA\r\n"
	data := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 14) + ".\r\n"
	group := []byte(data + envelope)
	c.roundTrip([]byte(envelope), 4)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		c.roundTrip(group, 5)
	}
}

// BenchmarkLargeMessage is 16 MB through DATA.
func BenchmarkLargeMessage(b *testing.B) {
	for name, line := range map[string]string{
		"clean": strings.Repeat("x", 76) + "\r\n",
		"dots":  "." + strings.Repeat("x", 76) + "\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			c := benchServer(b)
			envelope := []byte("MAIL FROM:<a@out.example>\r\nRCPT TO:<v@in.example>\r\nDATA\r\n")
			data := []byte("Subject: x\r\n\r\n" + strings.Repeat(line, 16<<20/len(line)) + ".\r\n")
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				c.roundTrip(envelope, 3)
				c.roundTrip(data, 1)
			}
		})
	}
}

// BenchmarkIdleSessions reports what 10,000 sessions after EHLO hold, the memconn
// ends of both sides included.
func BenchmarkIdleSessions(b *testing.B) {
	const sessions = 10_000
	for b.Loop() {
		before := memory()
		x := startServer(b, Config{}, Options{Limiter: NewLimiter(Limits{Sessions: sessions, PerNetwork: sessions})})
		conns := make([]io.Closer, 0, sessions)
		for range sessions {
			conn, err := x.ln.DialFrom(b.Context(), netip.MustParseAddr("192.0.2.1"))
			if err != nil {
				b.Fatal(err)
			}
			conn.Write([]byte("EHLO client.example\r\n"))
			var buf [1024]byte
			for got := ""; !strings.Contains(got, "250 "); {
				n, err := conn.Read(buf[:])
				if err != nil {
					b.Fatal(err)
				}
				got += string(buf[:n])
			}
			conns = append(conns, conn)
		}
		after := memory()
		b.ReportMetric(float64(after.heap-before.heap)/sessions, "heap-B/session")
		b.ReportMetric(float64(after.stack-before.stack)/sessions, "stack-B/session")
		for _, c := range conns {
			c.Close()
		}
		x.stop()
	}
}

type memoryUse struct{ heap, stack int64 }

func memory() memoryUse {
	// Twice: stacks shrink at a collection, and pools are emptied by the second.
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memoryUse{int64(m.HeapAlloc), int64(m.StackInuse)}
}

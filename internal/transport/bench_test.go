package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"gatepost/internal/mail"
)

// quickSink is the least that can be called an SMTP server: it looks for the ends
// of MAIL…DATA and of the message, and answers in one write each.
func quickSink(b *testing.B) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveQuickly(c)
		}
	}()
	return ln.Addr().String()
}

func serveQuickly(c net.Conn) {
	defer c.Close()
	io.WriteString(c, "220 sink\r\n")
	buf := make([]byte, 64<<10)
	have := 0
	inData := false
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		in := buf[:have]
		switch {
		case inData && bytes.HasSuffix(in, []byte("\r\n.\r\n")):
			io.WriteString(c, "250 2.0.0 Ok\r\n")
			inData = false
		case inData:
			continue
		case bytes.HasPrefix(in, []byte("EHLO")):
			io.WriteString(c, "250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE\r\n")
		case bytes.HasPrefix(in, []byte("QUIT")):
			io.WriteString(c, "221 bye\r\n")
			return
		case bytes.HasSuffix(in, []byte("DATA\r\n")):
			io.WriteString(c, "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go\r\n")
			inData = true
		default:
			continue
		}
		have = 0
	}
}

// countingConn counts system calls as the client makes them.
type countingConn struct {
	net.Conn
	reads, writes *atomic.Int64
}

func (c countingConn) Read(p []byte) (int, error)  { c.reads.Add(1); return c.Conn.Read(p) }
func (c countingConn) Write(p []byte) (int, error) { c.writes.Add(1); return c.Conn.Write(p) }

func benchTransport(b *testing.B, dial func(context.Context, string, string) (net.Conn, error)) Transport {
	tr, err := New(Config{Name: "bench", Kind: SMTP, Hostname: "gw.example", Hosts: []string{quickSink(b)}, MessagesPerSession: 1 << 30}, Deps{Dial: dial})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { tr.Close() })
	return tr
}

func benchDelivery(b *testing.B) *mail.Delivery {
	body := "From: a@in.example\r\nSubject: hi\r\n\r\n" + strings.Repeat("0123456789 0123456789 0123456789 0123456789 0123456789 0123456\r\n", 64)
	d := delivery(b, body, "r@out.example")
	d.Message.Envelope.Edits.Prepend = []byte("Received: from client.example by gw.example\r\n\twith ESMTP id x; Mon, 1 Jan 2026 00:00:00 +0000\r\n")
	return d
}

// BenchmarkSendReused is a 4 kB message over a session that is open: the price of
// the delivery side without the queue.
func BenchmarkSendReused(b *testing.B) {
	var reads, writes atomic.Int64
	tr := benchTransport(b, func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return countingConn{c, &reads, &writes}, err
	})
	d := benchDelivery(b)
	b.ReportAllocs()
	for b.Loop() {
		if out := tr.Deliver(b.Context(), d); out[0].Status != mail.Delivered {
			b.Fatal(briefs(out))
		}
	}
	b.ReportMetric(float64(writes.Load())/float64(b.N), "writes/op")
	b.ReportMetric(float64(reads.Load())/float64(b.N), "reads/op")
}

// BenchmarkSendParallel is the same over 20 sessions.
func BenchmarkSendParallel(b *testing.B) {
	tr := benchTransport(b, nil)
	b.ReportAllocs()
	b.SetParallelism(10)
	b.RunParallel(func(pb *testing.PB) {
		d := benchDelivery(b)
		for pb.Next() {
			if out := tr.Deliver(b.Context(), d); out[0].Status != mail.Delivered {
				b.Error(briefs(out))
			}
		}
	})
}

// BenchmarkSendFresh opens a session for each message.
func BenchmarkSendFresh(b *testing.B) {
	tr, err := New(Config{Name: "bench", Kind: SMTP, Hostname: "gw.example", Hosts: []string{quickSink(b)}, MessagesPerSession: 1}, Deps{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { tr.Close() })
	d := benchDelivery(b)
	b.ReportAllocs()
	for b.Loop() {
		if out := tr.Deliver(b.Context(), d); out[0].Status != mail.Delivered {
			b.Fatal(briefs(out))
		}
	}
}

package clamav

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
)

// fake is a clamd whose answers to streams are scripted. It knows the canary.
type fake struct {
	t  testing.TB
	l  *memconn.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	off      bool     // refuses connections
	blind    bool     // finds nothing
	paranoid bool     // finds everything
	version  string   // answer to VERSION
	streams  [][]byte // what was streamed, without the canary's
	chunks   []int    // their lengths
	dialled  int

	// answer is what a stream is answered, NUL included; nil: clean.
	answer func(stream []byte) string
	// takeover, where set, has the connection once INSTREAM was read.
	takeover func(c net.Conn, r *bufio.Reader)
}

func newFake(t testing.TB) *fake {
	f := &fake{t: t, l: memconn.Listen(), version: "ClamAV 1.4.6/27449/Sun Nov 10 09:35:20 2024"}
	f.wg.Go(func() {
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() { f.serve(c) })
		}
	})
	return f
}

func (f *fake) close() {
	if err := f.l.Close(); err != nil {
		f.t.Error(err)
	}
	f.wg.Wait()
}

func (f *fake) dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	f.dialled++
	off := f.off
	f.mu.Unlock()
	if off {
		return nil, errors.New("no such socket")
	}
	return f.l.Dial(ctx)
}

// with changes the fake while it runs.
func (f *fake) with(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fake) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	command, err := r.ReadString(0)
	if err != nil {
		return
	}
	f.mu.Lock()
	takeover, version := f.takeover, f.version
	f.mu.Unlock()
	switch command {
	case "zPING\x00":
		_, _ = io.WriteString(c, "PONG\x00")
	case "zVERSION\x00":
		_, _ = io.WriteString(c, version+"\x00")
	case "zINSTREAM\x00":
		if takeover != nil {
			takeover(c, r)
			return
		}
		f.instream(c, r)
	default:
		f.t.Errorf("command %q", command)
	}
}

func (f *fake) instream(c net.Conn, r *bufio.Reader) {
	data, chunks, err := readStream(r)
	if err != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	reply := "stream: OK\x00"
	switch {
	case f.blind:
	case f.paranoid, string(data) == testFile():
		reply = "stream: Eicar-Test-Signature FOUND\x00"
	case string(data) == harmless:
	default:
		f.streams, f.chunks = append(f.streams, data), append(f.chunks, chunks...)
		if f.answer != nil {
			reply = f.answer(data)
		}
	}
	_, _ = io.WriteString(c, reply)
}

// readStream reads chunks up to the one that ends the stream.
func readStream(r io.Reader) (data []byte, chunks []int, err error) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, nil, err
		}
		n := int(binary.BigEndian.Uint32(head[:]))
		if n == 0 {
			return data, chunks, nil
		}
		chunk := make([]byte, n)
		if _, err := io.ReadFull(r, chunk); err != nil {
			return nil, nil, err
		}
		data, chunks = append(data, chunk...), append(chunks, n)
	}
}

// sent returns what was streamed so far.
func (f *fake) sent() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.streams
}

// scanner starts a Scanner of the fake. The caller is in a bubble of synctest,
// which does not end before all its goroutines have.
func (f *fake) scanner(t testing.TB, cfg Config) *Scanner {
	t.Helper()
	cfg.Address, cfg.dial = "unix:/fake", f.dial
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(t.Context())
	return s
}

func stop(t testing.TB, s *Scanner, f *fake) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	f.close()
}

// body is a message in memory.
type body struct{ *bytes.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func input(t testing.TB, msg string) *scan.Input {
	t.Helper()
	return inputOf(t, body{bytes.NewReader([]byte(msg))})
}

func inputOf(t testing.TB, b mail.Body) *scan.Input {
	t.Helper()
	m := mail.Message{Envelope: &mail.Envelope{Size: b.Size()}, Body: b}
	in, err := scan.NewInput(context.WithoutCancel(t.Context()), m, scan.Inbound, scan.Options{Unpacker: archive.New(archive.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// lines puts CRLF behind each line.
func lines(list ...string) string { return strings.Join(list, "\r\n") + "\r\n" }

// plain is an ordinary message.
var plain = lines("From: a@b.example", "To: c@d.example", "Subject: lunch", "", "At noon?")

func scanFor(ctx context.Context, s *Scanner, in *scan.Input, d time.Duration) ([]mail.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return s.Scan(ctx, in)
}

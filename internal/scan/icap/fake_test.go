package icap

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gatepost/internal/mail"
	"gatepost/internal/memconn"
	"gatepost/internal/message/archive"
	"gatepost/internal/scan"
)

const (
	clean    = "ICAP/1.0 204 Unmodified\r\nISTag: \"t1\"\r\n\r\n"
	infected = "ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Eicar;\r\nEncapsulated: res-hdr=0, res-body=26\r\n\r\nHTTP/1.0 403 Forbidden\r\n\r\n5\r\nvirus\r\n0\r\n\r\n"
)

// request is what the fake was sent.
type request struct {
	line, http, body string
	head             *head
	preview          bool // the body is a preview, and there was more
}

// fake is an ICAP server whose answers are scripted. It knows the canary.
type fake struct {
	t  testing.TB
	l  *memconn.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	off      bool
	options  string // fields of the answer to OPTIONS
	dialled  int
	requests []request
	// answer is what a request is answered; "" hangs up. nil: clean.
	answer func(request) string
	// early, where set, is what a preview is answered.
	early string
}

func newFake(t testing.TB) *fake {
	f := &fake{t: t, l: memconn.Listen(), options: "Methods: RESPMOD, REQMOD\r\nService: fake\r\nISTag: \"t1\"\r\nAllow: 204\r\n"}
	f.wg.Go(func() {
		for {
			c, err := f.l.Accept()
			if err != nil {
				return
			}
			f.wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for f.one(c, r) {
				}
			})
		}
	})
	return f
}

func (f *fake) dial(ctx context.Context) (net.Conn, error) {
	f.mu.Lock()
	f.dialled++
	off := f.off
	f.mu.Unlock()
	if off {
		return nil, errors.New("nobody is there")
	}
	return f.l.Dial(ctx)
}

func (f *fake) with(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// one serves one request.
func (f *fake) one(c net.Conn, r *bufio.Reader) bool {
	req, err := f.read(c, r)
	if err != nil {
		return false
	}
	f.mu.Lock()
	options, script := f.options, f.answer
	f.mu.Unlock()
	out := clean
	switch {
	case strings.HasPrefix(req.line, "OPTIONS "):
		out = "ICAP/1.0 200 OK\r\n" + options + "Encapsulated: null-body=0\r\n\r\n"
	case req.body == testFile():
		out = infected
		if script != nil && script(req) == "blind" {
			out = clean
		}
	default:
		f.with(func() { f.requests = append(f.requests, req) })
		if script != nil {
			out = script(req)
		}
	}
	_, err = io.WriteString(c, out)
	return err == nil && out != ""
}

// read reads a request; it asks for what is behind a preview.
func (f *fake) read(c net.Conn, r *bufio.Reader) (request, error) {
	left := maxHead
	line, err := readLine(r, &left)
	if err != nil {
		return request{}, err
	}
	// A head looks alike but for its first line.
	h, err := readHead(bufio.NewReaderSize(io.MultiReader(strings.NewReader("ICAP/1.0 000 x\r\n"), oneByOne{r}), 16))
	if err != nil || h.bodyless() {
		return request{line: line, head: h}, err
	}
	_, at, _ := strings.Cut(h.get("Encapsulated"), "-body=")
	n, err := strconv.Atoi(at)
	if err != nil {
		f.t.Errorf("Encapsulated: %q", h.get("Encapsulated"))
		return request{}, err
	}
	block := make([]byte, n)
	if _, err := io.ReadFull(r, block); err != nil {
		return request{}, err
	}
	req := request{line: line, head: h, http: string(block)}
	body, ended, err := readChunks(r)
	if err == nil && h.get("Preview") != "" && !ended {
		req.preview = true
		if f.early != "" {
			if _, err := io.WriteString(c, f.early); err != nil {
				return req, err
			}
			return f.read(c, r)
		}
		if _, err := io.WriteString(c, "ICAP/1.0 100 Continue\r\n\r\n"); err != nil {
			return req, err
		}
		var more string
		more, _, err = readChunks(r)
		body += more
	}
	req.body = body
	return req, err
}

// readChunks reads up to the last chunk, and whether it says "ieof".
func readChunks(r *bufio.Reader) (string, bool, error) {
	var body bytes.Buffer
	for {
		left := 100
		line, err := readLine(r, &left)
		if err != nil {
			return "", false, err
		}
		size, ext, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil {
			return "", false, fmt.Errorf("chunk size %q", line)
		}
		if _, err := io.CopyN(&body, r, n); err != nil {
			return "", false, err
		}
		if _, err := readLine(r, &left); err != nil {
			return "", false, err
		}
		if n == 0 {
			return body.String(), strings.TrimSpace(ext) == "ieof", nil
		}
	}
}

// oneByOne reads no further than it must.
type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func (f *fake) seen() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func (f *fake) scanner(t testing.TB, cfg Config) *Scanner {
	t.Helper()
	cfg.URL, cfg.dial = "icap://192.0.2.1/avscan", f.dial
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stop(t testing.TB, s *Scanner, f *fake) {
	t.Helper()
	if err := errors.Join(s.Close(), f.l.Close()); err != nil {
		t.Error(err)
	}
	f.wg.Wait()
}

// echo answers with what was sent.
func echo(req request) string {
	var b bytes.Buffer
	w := httputil.NewChunkedWriter(&b)
	_, _ = io.WriteString(w, req.body)
	_ = w.Close()
	return "ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=19\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + b.String() + "\r\n"
}

type body struct{ *bytes.Reader }

func (b body) Size() int64 { return b.Reader.Size() }

func input(t testing.TB, msg string) *scan.Input {
	t.Helper()
	b := body{bytes.NewReader([]byte(msg))}
	m := mail.Message{Envelope: &mail.Envelope{Size: b.Size()}, Body: b}
	in, err := scan.NewInput(context.WithoutCancel(t.Context()), m, scan.Inbound, scan.Options{Unpacker: archive.New(archive.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func lines(list ...string) string { return strings.Join(list, "\r\n") + "\r\n" }

var plain = lines("From: a@b.example", "Subject: lunch", "", "At noon?")

func attachment(file string) string {
	return lines("From: a@b.example", "MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=m", "",
		"--m", "Content-Type: text/plain", "", "Hello",
		"--m", "Content-Type: application/octet-stream; name=\"a\x01 b.exe\"", "Content-Transfer-Encoding: base64", "", file, "--m--")
}

package icap

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"gatepost/internal/scan"
)

// bufferSize is how much is sent at once.
const bufferSize = 64 << 10

var (
	errOversized = errors.New("larger than the ICAP server is given")
	errBusy      = fmt.Errorf("all sessions with the ICAP server are taken: %w", scan.ErrBusy)
	// errStale says that a connection was closed while it was idle.
	errStale = errors.New("the connection was gone")
)

// sourceError is an error of what is to be scanned, not of the server.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return "read what is to be scanned: " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// conn is a connection with what was read ahead on it.
type conn struct {
	net.Conn
	r    *bufio.Reader
	used bool // for a request before
}

// take returns an idle connection or a new one.
func (s *Scanner) take(ctx context.Context, fresh bool) (*conn, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 && !fresh {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		c.used = true
		return c, nil
	}
	s.mu.Unlock()
	c, err := s.cfg.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 4<<10)}, nil
}

// give keeps a connection for the next request, if the last one ended well and
// nothing more came.
func (s *Scanner) give(c *conn, keep bool) {
	s.mu.Lock()
	if keep && !s.closed && c.r.Buffered() == 0 && len(s.idle) < s.cfg.Sessions {
		s.idle = append(s.idle, c)
		c = nil
	}
	s.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// exchange runs a dialogue on a connection, again on a new one where the first was
// stale, within the time for it.
func (s *Scanner) exchange(ctx context.Context, dialogue func(*conn) (keep bool, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	err := s.try(ctx, false, dialogue)
	if errors.Is(err, errStale) {
		err = s.try(ctx, true, dialogue)
	}
	return err
}

func (s *Scanner) try(ctx context.Context, fresh bool, dialogue func(*conn) (keep bool, err error)) error {
	c, err := s.take(ctx, fresh)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("connect: %w", context.Cause(ctx))
		}
		return err
	}
	// A deadline in the past wakes reads and writes, those to come included.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	keep, err := dialogue(c)
	stopped := stop()
	s.give(c, err == nil && keep && stopped)
	if err != nil && ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

// optionsOf asks for the options.
func (s *Scanner) optionsOf(ctx context.Context) (*head, error) {
	var h *head
	err := s.exchange(ctx, func(c *conn) (bool, error) {
		if _, err := io.WriteString(c, "OPTIONS "+s.url.String()+" ICAP/1.0\r\nHost: "+s.url.Host+"\r\nUser-Agent: Gatepost\r\n\r\n"); err != nil {
			return false, stale(c, err)
		}
		var err error
		if h, err = readHead(c.r); err != nil {
			return false, stale(c, err)
		}
		return h.keep() && h.bodyless(), nil
	})
	return h, err
}

// stale marks errors of a connection that had been idle.
func stale(c *conn, err error) error {
	if c.used && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w: %w", errStale, err)
	}
	return err
}

// request sends a target within one of the slots of the service.
func (s *Scanner) request(ctx context.Context, svc *service, t target) (answer, error) {
	select {
	case svc.slots <- struct{}{}:
		defer func() { <-svc.slots }()
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%w: %w", errBusy, context.Cause(ctx))
	}
	var a answer
	err := s.exchange(ctx, func(c *conn) (bool, error) {
		r := &requester{s: s, svc: svc, t: t, c: c, body: t.open(), sum: sha256.New(), buf: make([]byte, bufferSize)}
		var keep bool
		var err error
		a, keep, err = r.run()
		return keep, err
	})
	if err != nil && !errors.Is(err, errOversized) {
		err = fmt.Errorf("scan with the ICAP server: %w", err)
	}
	return a, err
}

// requester is one RESPMOD or REQMOD.
type requester struct {
	s    *Scanner
	svc  *service
	t    target
	c    *conn
	body io.Reader
	sum  hash.Hash // of the body as far as it was read
	buf  []byte
	sent int64
}

// run sends the request and reads the answer. Where the server wants a preview,
// what it says to that may be all.
func (r *requester) run() (answer, bool, error) {
	n, end, err := r.fill(r.first())
	if err != nil {
		return answer{}, false, err
	}
	var out bytes.Buffer
	r.writeHead(&out)
	if n > 0 {
		fmt.Fprintf(&out, "%x\r\n%s\r\n", n, r.buf[:n])
	}
	switch {
	case end && r.svc.preview >= 0:
		out.WriteString("0; ieof\r\n\r\n") // RFC 3507 §4.5: the preview is all there is
	case end || r.svc.preview >= 0:
		out.WriteString("0\r\n\r\n")
	}
	if _, err := r.c.Write(out.Bytes()); err != nil {
		return answer{}, false, stale(r.c, err)
	}
	if end || r.svc.preview >= 0 {
		h, err := readHead(r.c.r)
		if err != nil {
			return answer{}, false, stale(r.c, err)
		}
		if h.code != 100 {
			return r.answer(h)
		}
		if end {
			return answer{}, false, errors.New("the server wants more than there is")
		}
	}
	return r.rest()
}

// first is how much goes with the head.
func (r *requester) first() int {
	if r.svc.preview >= 0 {
		return r.svc.preview
	}
	return bufferSize
}

// fill reads up to n bytes of the body, and reports whether it ends with them.
func (r *requester) fill(n int) (int, bool, error) {
	n, err := io.ReadFull(r.body, r.buf[:n])
	r.sum.Write(r.buf[:n])
	r.sent += int64(n)
	switch {
	case r.sent > r.s.cfg.MaxSize:
		return n, false, errOversized
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, true, nil
	case err != nil:
		return n, false, &sourceError{err}
	}
	return n, false, nil
}

// rest sends what is left while it reads the answer, which may begin, and be
// longer than what fits between us, before the server has seen everything.
func (r *requester) rest() (answer, bool, error) {
	done := make(chan error, 1)
	go func() {
		err := r.sendRest()
		if err != nil {
			// Nothing will come; wake the reader. The connection is not used again.
			_ = r.c.SetReadDeadline(time.Unix(1, 0))
		}
		done <- err
	}()
	h, err := readHead(r.c.r)
	for err == nil && h.code == 100 {
		h, err = readHead(r.c.r)
	}
	var got *content
	if err == nil {
		got, err = readContent(h, r.c.r, r.s.cfg.MaxSize)
	}
	if err != nil {
		_ = r.c.SetWriteDeadline(time.Unix(1, 0))
	} else if h.code != 204 && h.code != 200 {
		_ = r.c.SetWriteDeadline(time.Unix(1, 0)) // it will not read the rest
	}
	sent := <-done
	var src *sourceError
	switch {
	case errors.As(sent, &src), errors.Is(sent, errOversized):
		return answer{}, false, sent
	case err != nil:
		return answer{}, false, errors.Join(err, sent)
	case sent != nil && h.code < 300:
		return answer{}, false, sent
	}
	a, err := judge(h, got, r.sum.Sum(nil))
	return a, h.keep() && sent == nil, err
}

func (r *requester) sendRest() error {
	for {
		n, end, err := r.fill(bufferSize)
		if err != nil {
			return err
		}
		if n > 0 {
			bufs := net.Buffers{[]byte(fmt.Sprintf("%x\r\n", n)), r.buf[:n], []byte("\r\n")}
			if _, err := bufs.WriteTo(r.c.Conn); err != nil {
				return fmt.Errorf("send: %w", err)
			}
		}
		if end {
			if _, err := io.WriteString(r.c, "0\r\n\r\n"); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			return nil
		}
	}
}

// answer understands the answer to a body that was sent, or to its preview.
func (r *requester) answer(h *head) (answer, bool, error) {
	got, err := readContent(h, r.c.r, r.s.cfg.MaxSize)
	if err != nil {
		return answer{}, false, err
	}
	if h.code == 200 && got.isBody && !h.named() {
		// Only the whole tells whether it is what was sent.
		for end := false; !end && err == nil; {
			_, end, err = r.fill(bufferSize)
		}
		if err != nil {
			return answer{}, false, err
		}
	}
	a, err := judge(h, got, r.sum.Sum(nil))
	return a, h.keep(), err
}

// writeHead writes the head of the request and of the HTTP message in which the
// file is wrapped.
func (r *requester) writeHead(out *bytes.Buffer) {
	address := "http://gatepost.invalid/" + url.PathEscape(strings.ReplaceAll(r.t.name, "\u2026", ""))
	media := "Content-Type: " + r.t.media + "\r\n"
	if r.t.size >= 0 {
		media += fmt.Sprintf("Content-Length: %d\r\n", r.t.size)
	}
	fmt.Fprintf(out, "%s %s ICAP/1.0\r\nHost: %s\r\nUser-Agent: Gatepost\r\nAllow: 204\r\n", r.svc.method, r.s.url, r.s.url.Host)
	if r.svc.preview >= 0 {
		fmt.Fprintf(out, "Preview: %d\r\n", r.svc.preview)
	}
	if r.svc.method == "REQMOD" {
		head := "POST " + address + " HTTP/1.1\r\nHost: gatepost.invalid\r\n" + media + "\r\n"
		fmt.Fprintf(out, "Encapsulated: req-hdr=0, req-body=%d\r\n\r\n%s", len(head), head)
		return
	}
	asked := "GET " + address + " HTTP/1.1\r\nHost: gatepost.invalid\r\n\r\n"
	head := "HTTP/1.1 200 OK\r\n" + media + "\r\n"
	fmt.Fprintf(out, "Encapsulated: req-hdr=0, res-hdr=%d, res-body=%d\r\n\r\n%s%s", len(asked), len(asked)+len(head), asked, head)
}

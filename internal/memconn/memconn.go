// Package memconn gives tests network connections that live in memory. Unlike
// net.Pipe they are buffered, as TCP is, so that pipelining can be tested, and
// their waits and deadlines work within a testing/synctest bubble.
//
// Invariants:
//   - A Write returns when its bytes are in the buffer, and waits while that is
//     full; a Read returns what is there.
//   - Deadlines, Close, CloseWrite and Reset wake whoever waits.
//   - An idle connection holds no buffer: it is let go when it is drained.
package memconn

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is how many bytes may be under way in one direction.
const bufferSize = 256 << 10

// Conn is one end of a connection.
type Conn struct {
	in, out       *half // in is what the peer writes
	local, remote net.Addr
}

// Pipe returns both ends of a connection between two documentation addresses.
func Pipe() (client, server net.Conn) {
	c, s := pipe(netip.MustParseAddrPort("192.0.2.1:40000"), netip.MustParseAddrPort("192.0.2.25:25"))
	return c, s
}

func pipe(client, server netip.AddrPort) (c, s *Conn) {
	up, down := newHalf(), newHalf()
	ca, sa := net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(server)
	return &Conn{in: down, out: up, local: ca, remote: sa}, &Conn{in: up, out: down, local: sa, remote: ca}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.wrap("write", err)
}

// wrap gives an error the form that package net gives it.
func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close closes both directions. The peer can still read what was written, unless
// something that it wrote was never read: then the connection is reset, as TCP does
// it, and what was under way may be lost. Here it always is.
func (c *Conn) Close() error {
	if c.in.unread() {
		c.out.reset()
	}
	c.out.closeWrite()
	c.in.closeRead()
	return nil
}

// CloseWrite tells the peer that no more will come, as shutdown(2) does.
func (c *Conn) CloseWrite() error {
	c.out.closeWrite()
	return nil
}

// Reset breaks the connection as a TCP RST does: what is under way is lost, and
// the peer gets ECONNRESET.
func (c *Conn) Reset() {
	c.out.reset()
	c.in.reset()
}

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// half is one direction: a buffer with a writer and a reader.
type half struct {
	mu              sync.Mutex
	changed         sync.Cond
	buf             []byte
	off             int // buf[off:] is unread
	noMore          bool
	abandoned       bool // the reader is gone
	broken          bool
	readBy, writeBy deadline
}

// deadline is a moment, and the timer that wakes whoever waits for it.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newHalf() *half {
	h := &half{}
	h.changed.L = &h.mu
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.abandoned:
			return 0, net.ErrClosed
		case h.broken:
			return 0, syscall.ECONNRESET
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case h.off < len(h.buf):
			n := copy(p, h.buf[h.off:])
			if h.off += n; h.off == len(h.buf) {
				h.buf, h.off = nil, 0
			}
			h.changed.Broadcast()
			return n, nil
		case h.noMore:
			return 0, io.EOF
		}
		h.wait(&h.readBy)
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.noMore:
			return n, net.ErrClosed
		case h.broken:
			return n, syscall.ECONNRESET
		case h.abandoned:
			return n, syscall.EPIPE
		case h.writeBy.passed():
			return n, os.ErrDeadlineExceeded
		}
		if room := bufferSize - (len(h.buf) - h.off); room > 0 {
			part := p[n:min(len(p), n+room)]
			h.buf = append(h.buf[h.off:], part...)
			h.off = 0
			n += len(part)
			h.changed.Broadcast()
		}
		if n == len(p) {
			return n, nil
		}
		h.wait(&h.writeBy)
	}
}

// wait sleeps until something changed or the deadline has come. The timer is made
// only now: most deadlines are replaced before anybody waits for them.
func (h *half) wait(d *deadline) {
	if d.timer == nil && !d.at.IsZero() {
		d.timer = time.AfterFunc(time.Until(d.at), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed.Broadcast()
		})
	}
	h.changed.Wait()
}

func (h *half) setDeadline(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	h.changed.Broadcast()
}

func (h *half) unread() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.off < len(h.buf)
}

func (h *half) closeWrite() { h.set(func() { h.noMore = true }) }
func (h *half) closeRead()  { h.set(func() { h.abandoned, h.buf, h.off = true, nil, 0 }) }
func (h *half) reset()      { h.set(func() { h.broken, h.buf, h.off = true, nil, 0 }) }

func (h *half) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	for _, d := range []*deadline{&h.readBy, &h.writeBy} {
		if d.timer != nil && (h.noMore && h.abandoned || h.broken) {
			d.timer.Stop()
			d.timer = nil
		}
	}
	h.changed.Broadcast()
}

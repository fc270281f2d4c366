package smtpserver

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"gatepost/internal/smtp"
)

// Sizes of buffers, in bytes.
const (
	lineBuffer = 2048     // what each session holds while it is idle
	outBuffer  = 4 << 10  // replies that wait to be sent; more is sent at once
	dataBuffer = 64 << 10 // borrowed by sessions that receive mail data quickly
	lingerMax  = 1 << 20  // read and thrown away after the last reply
)

// lingerTimeout is how long a session waits, after its last reply, for the client
// to stop sending.
const lingerTimeout = 2 * time.Second

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// wire is the connection of a session: lines and data in, batched replies out,
// a deadline for everything, and the limit on its speed.
type wire struct {
	srv          *Server
	raw          net.Conn // as accepted
	conn         net.Conn // raw, or TLS over it
	in           *smtp.LineReader
	out          *[]byte // replies that were not sent yet; nil while there are none
	writeTimeout time.Duration
	// waited is the time spent in reading from the client; bandwidth limits it to
	// so many bytes/s, 0 for no limit.
	waited    time.Duration
	bandwidth int64

	// mu guards the deadline against stop and kill from another goroutine.
	mu              sync.Mutex
	interruptible   bool
	stopped, killed bool
}

// Read reads from the client, no faster than allowed. It is the source of in.
func (w *wire) Read(p []byte) (int, error) {
	if w.bandwidth > 0 {
		// A quarter of a second's worth at a time keeps the speed even.
		p = p[:min(int64(len(p)), max(1, w.bandwidth/4))]
	}
	start := time.Now()
	n, err := w.conn.Read(p)
	w.waited += time.Since(start)
	if w.bandwidth > 0 && n > 0 {
		sleep(w.srv.ctx, nil, time.Duration(n)*time.Second/time.Duration(w.bandwidth))
	}
	return n, err
}

// readBy sets the deadline of the following reads. Where interruptible, stop ends
// them at once.
func (w *wire) readBy(t time.Time, interruptible bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interruptible = interruptible
	if w.killed || w.stopped && interruptible {
		t = longAgo
	}
	w.conn.SetReadDeadline(t)
}

// stop makes the session end when it next waits for a command, or now if it does.
func (w *wire) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.interruptible {
		w.conn.SetReadDeadline(longAgo)
	}
}

// kill makes the session end whatever it waits for.
func (w *wire) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped, w.killed = true, true
	w.conn.SetReadDeadline(longAgo)
	w.conn.SetWriteDeadline(time.Now().Add(killGrace))
}

func (w *wire) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

func (w *wire) dying() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.killed
}

// secure puts TLS on the connection. All that was read before must have been
// used: in has to be empty.
func (w *wire) secure(cfg *tls.Config, timeout time.Duration) (tls.ConnectionState, error) {
	conn := tls.Server(w.raw, cfg)
	w.readBy(time.Now().Add(timeout), true)
	w.raw.SetWriteDeadline(time.Now().Add(timeout))
	if err := conn.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	w.mu.Lock()
	w.conn = conn
	w.mu.Unlock()
	return conn.ConnectionState(), nil
}

// pending returns the buffer for replies.
func (w *wire) pending() *[]byte {
	if w.out == nil {
		w.out = w.srv.outBufs.Get().(*[]byte)
	}
	return w.out
}

// flush sends the replies that wait.
func (w *wire) flush() error {
	if w.out == nil {
		return nil
	}
	w.mu.Lock()
	if !w.killed {
		w.conn.SetWriteDeadline(time.Now().Add(w.writeTimeout))
	}
	w.mu.Unlock()
	_, err := w.conn.Write(*w.out)
	w.discardOut()
	return err
}

func (w *wire) discardOut() {
	if w.out == nil {
		return
	}
	// A buffer that an unusual reply has made large is left to the collector.
	if cap(*w.out) <= 4*outBuffer {
		*w.out = (*w.out)[:0]
		w.srv.outBufs.Put(w.out)
	}
	w.out = nil
}

// borrow lets in work on a large buffer, release gives it back when what is left
// fits into the small one.
func (w *wire) borrow() {
	if !w.in.Borrowed() {
		w.in.Borrow(w.srv.dataBufs.Get().(*[dataBuffer]byte)[:])
	}
}

func (w *wire) release() {
	if b := w.in.Release(); b != nil {
		w.srv.dataBufs.Put((*[dataBuffer]byte)(b))
	}
}

// close ends the connection. With linger it first waits, within limits, for the
// client to stop sending: closing with unread data makes the kernel send a RST,
// which can overtake the last reply.
func (w *wire) close(linger bool) {
	defer w.raw.Close()
	w.discardOut()
	if tc, ok := w.conn.(*tls.Conn); ok {
		tc.SetWriteDeadline(time.Now().Add(time.Second))
		tc.CloseWrite()
	}
	half, ok := w.raw.(interface{ CloseWrite() error })
	if !linger || !ok || half.CloseWrite() != nil {
		return
	}
	buf := w.srv.outBufs.Get().(*[]byte)
	defer w.srv.outBufs.Put(buf)
	wait := lingerTimeout
	if w.dying() {
		wait = killGrace / 4
	}
	w.raw.SetReadDeadline(time.Now().Add(wait))
	for n := 0; n < lingerMax; {
		got, err := w.raw.Read((*buf)[:cap(*buf)])
		if err != nil {
			return
		}
		n += got
	}
}

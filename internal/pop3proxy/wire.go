package pop3proxy

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"gatepost/internal/pop3"
)

// lingerTimeout and lingerMax are how long, and how much, is read and thrown away after
// the last answer, so that a client which is still sending gets it.
const (
	lingerTimeout = 2 * time.Second
	lingerMax     = 1 << 20
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// wire is the client's connection: lines in, batched answers out, a deadline for
// everything.
type wire struct {
	srv          *Server
	raw          net.Conn // as accepted
	conn         net.Conn // raw, or TLS over it
	in           *pop3.Reader
	out          []byte // what was not yet sent
	sent         int64
	writeTimeout time.Duration

	// mu guards what stop and kill touch from another goroutine.
	mu              sync.Mutex
	interruptible   bool
	stopped, killed bool
	upstream        net.Conn
}

// Read reads from the client. It is the source of in.
func (w *wire) Read(p []byte) (int, error) { return w.conn.Read(p) }

// readBy sets the deadline of the following reads. Where interruptible, stop ends them
// at once.
func (w *wire) readBy(t time.Time, interruptible bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.interruptible = interruptible
	if w.stopped && interruptible {
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

// kill ends the session whatever it waits for.
func (w *wire) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped, w.killed = true, true
	w.raw.Close()
	if w.upstream != nil {
		w.upstream.Close()
	}
}

func (w *wire) stopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

// behind tells kill of the server's connection, nil for none. It reports false when the
// session was killed before.
func (w *wire) behind(conn net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.upstream = conn
	return !w.killed
}

// secure puts TLS on the connection. All that was read before must have been used.
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

// Write buffers what is for the client, and sends it when there is enough.
func (w *wire) Write(p []byte) (int, error) {
	if len(w.out) > 0 && len(w.out)+len(p) > outBuffer {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	if len(p) >= outBuffer {
		return len(p), w.send(p)
	}
	if w.out == nil {
		w.out = make([]byte, 0, 256)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// flush sends what waits.
func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	err := w.send(w.out)
	if w.out = w.out[:0]; cap(w.out) > 512 {
		w.out = nil // an idle session holds little
	}
	return err
}

func (w *wire) send(p []byte) error {
	w.conn.SetWriteDeadline(time.Now().Add(w.writeTimeout))
	n, err := w.conn.Write(p)
	w.sent += int64(n)
	return err
}

// borrow lets a reader work on a large buffer, giveBack ends that.
func (s *Server) borrow(r *pop3.Reader) {
	if !r.Borrowed() {
		r.Borrow(s.buffers.Get().(*[dataBuffer]byte)[:])
	}
}

func (s *Server) giveBack(r *pop3.Reader) {
	if b := r.Release(); len(b) == dataBuffer {
		s.buffers.Put((*[dataBuffer]byte)(b))
	}
}

// close ends the connection. With linger it first waits, within limits, for the client
// to stop sending: closing with unread data resets the connection, which can overtake
// the last answer.
func (w *wire) close(linger bool) {
	defer w.raw.Close()
	if tc, ok := w.conn.(*tls.Conn); ok {
		tc.SetWriteDeadline(time.Now().Add(time.Second))
		tc.CloseWrite()
	}
	half, ok := w.raw.(interface{ CloseWrite() error })
	if !linger || !ok || half.CloseWrite() != nil {
		return
	}
	buf := make([]byte, outBuffer)
	w.raw.SetReadDeadline(time.Now().Add(lingerTimeout))
	for n := 0; n < lingerMax; {
		got, err := w.raw.Read(buf)
		if err != nil {
			return
		}
		n += got
	}
}

package memconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWritesAreBufferedUntilRead(t *testing.T) {
	c, s := Pipe()
	for _, line := range []string{"NOOP\r\n", "NOOP\r\n"} {
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	got, err := io.ReadAll(s)
	if err != nil || string(got) != "NOOP\r\nNOOP\r\n" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed peer: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestAFullBufferMakesTheWriterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := Pipe()
		want := bytes.Repeat([]byte("0123456789abcdef"), bufferSize/8)
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(want)
			c.(*Conn).CloseWrite()
			done <- err
		}()
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("twice the buffer was written without a reader")
		}
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlinesPassInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := Pipe()
		start := time.Now()
		s.SetReadDeadline(start.Add(time.Hour))
		_, err := s.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		// A later deadline makes the connection usable again.
		s.SetReadDeadline(time.Now().Add(time.Hour))
		c.Write([]byte("x"))
		if n, err := s.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(make([]byte, 2*bufferSize)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write into a full buffer: %v", err)
		}
	})
}

func TestADeadlineInThePastWakesAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := s.Read(make([]byte, 1))
			done <- err
		}()
		synctest.Wait()
		s.SetDeadline(time.Unix(1, 0))
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestResetLosesWhatIsUnderWay(t *testing.T) {
	c, s := Pipe()
	c.Write([]byte("lost"))
	c.(*Conn).Reset()
	if n, err := s.Read(make([]byte, 8)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestClosingWithUnreadDataResets(t *testing.T) {
	c, s := Pipe()
	c.Write([]byte("never read"))
	s.Write([]byte("421 goodbye\r\n"))
	s.Close()
	if n, err := c.Read(make([]byte, 20)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := c.Write([]byte("x")); err == nil {
		t.Error("a write after the reset went through")
	}
}

func TestListener(t *testing.T) {
	l := Listen()
	c, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if s.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("server sees %v, client is %v", s.RemoteAddr(), c.LocalAddr())
	}
	waiting, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that nobody accepted: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if _, err := l.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dial after close: %v", err)
	}
}

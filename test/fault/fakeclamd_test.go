package fault

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gatepost/test/clamd"
)

// hangWord is what the fake clamd hangs at.
const hangWord = "HANG-AT-THIS-WORD"

// fakeClamd answers as clamd does, but for a stream with hangWord in it: then it
// says no more.
type fakeClamd struct {
	address string
	hung    chan struct{} // gets a value for each hang

	mu    sync.Mutex
	count int
	conns map[net.Conn]bool
	ended bool
}

func startFake(t *testing.T) *fakeClamd {
	t.Helper()
	dir, err := os.MkdirTemp("", "fake") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "clamd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeClamd{address: "unix:" + ln.Addr().String(), hung: make(chan struct{}, 100), conns: map[net.Conn]bool{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.end()
		wg.Wait()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fakeClamd) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	for c := range f.conns {
		c.Close()
	}
}

func (f *fakeClamd) enter(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	if f.ended {
		c.Close()
	}
}

func (f *fakeClamd) serve(c net.Conn) {
	f.enter(c)
	defer func() {
		c.Close()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	command, err := r.ReadString(0)
	if err != nil {
		return
	}
	answer := "UNKNOWN COMMAND"
	switch command {
	case "zPING\x00":
		answer = "PONG"
	case "zVERSION\x00":
		answer = "ClamAV 1.4.6"
	case "zINSTREAM\x00":
		data, err := stream(r)
		if err != nil {
			return
		}
		answer = "stream: OK"
		switch {
		case bytes.Contains(data, clamd.EICAR()):
			answer = "stream: Test.Eicar FOUND"
		case bytes.Contains(data, []byte(hangWord)):
			f.hang(r)
			return
		}
	}
	// The gateway may be dead by now.
	_, _ = io.WriteString(c, answer+"\x00")
}

// hang waits until the client is gone.
func (f *fakeClamd) hang(r io.Reader) {
	f.mu.Lock()
	f.count++
	f.mu.Unlock()
	f.hung <- struct{}{}
	_, _ = io.Copy(io.Discard, r)
}

func (f *fakeClamd) hangs() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// waitForHang waits until the fake hangs once more.
func (f *fakeClamd) waitForHang(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(time.Minute)
	defer timer.Stop()
	select {
	case <-f.hung:
	case <-timer.C:
		t.Fatal("the message is not scanned")
	}
}

// stream reads chunks up to the empty one.
func stream(r io.Reader) ([]byte, error) {
	var data bytes.Buffer
	for {
		var size [4]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return nil, err
		}
		n := int64(binary.BigEndian.Uint32(size[:]))
		if n == 0 {
			return data.Bytes(), nil
		}
		if n > 1<<20 {
			return nil, errors.New("a chunk of more than 1 MiB")
		}
		if _, err := io.CopyN(&data, r, n); err != nil {
			return nil, err
		}
	}
}

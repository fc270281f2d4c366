package logs

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// faulty is an output whose disk can be full, in part, or hang.
type faulty struct {
	buffer
	room  chan int      // each write takes one value: how many bytes fit; closed: all
	hang  chan struct{} // nil, or writes wait until it is closed
	begun chan struct{} // has room for one: a write began
}

func (f *faulty) Write(p []byte) (int, error) {
	select {
	case f.begun <- struct{}{}:
	default:
	}
	if f.hang != nil {
		<-f.hang
	}
	if n, ok := <-f.room; ok && n < len(p) {
		f.buffer.Write(p[:n])
		return n, syscall.ENOSPC
	}
	return f.buffer.Write(p)
}

func (f *faulty) Reopen() error { return nil }
func (f *faulty) Close() error  { return nil }

func TestAFullDiskLosesNothingThatFitsInMemoryAndTearsNoLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &faulty{room: make(chan int, 2)}
		out.room <- 10
		out.room <- 0
		var alarm buffer
		l := open(t, Config{Stderr: &alarm})
		must(t, l.mail.replace(out, time.Second))
		log := l.Logger("Queue")
		log.Info("first")
		time.Sleep(time.Second / 2)
		if err := l.Health(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("health while the disk is full: %v", err)
		}
		log.Info("second")
		time.Sleep(time.Second)
		close(out.room)
		time.Sleep(2 * time.Second)
		if err := l.Health(); err != nil {
			t.Errorf("health afterwards: %v", err)
		}
		lines := strings.Split(out.String(), "\n")
		if len(lines) != 3 || !strings.HasSuffix(lines[0], "Queue first") || !strings.HasSuffix(lines[1], "Queue second") {
			t.Errorf("%q", lines)
		}
		if a := alarm.String(); strings.Count(a, "\n") != 2 || !strings.Contains(a, "no space left") || !strings.Contains(a, "works again") {
			t.Errorf("alarm: %q", a)
		}
	})
}

func TestADiskThatHangsNeverBlocksAndLossIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &faulty{room: make(chan int), hang: make(chan struct{}), begun: make(chan struct{}, 1)}
		close(out.room)
		l := open(t, Config{Stderr: io.Discard, Buffer: 1000, Patience: time.Second})
		must(t, l.mail.replace(out, time.Second))
		log := l.Logger("Queue")
		log.Info("first")
		<-out.begun
		for range 1000 {
			log.Info("flood") // returns at once, or synctest finds a deadlock
		}
		time.Sleep(2 * time.Second)
		if err := l.Health(); !errors.Is(err, errSlow) {
			t.Errorf("health: %v", err)
		}
		if err := l.Reopen(); !errors.Is(err, errSlow) {
			t.Errorf("reopen: %v", err)
		}
		dropped := l.Dropped()
		if dropped < 900 || dropped > 999 {
			t.Errorf("dropped %d", dropped)
		}
		close(out.hang)
		time.Sleep(time.Second)
		if got := out.String(); !strings.Contains(got, fmt.Sprintf("warn Log lines were lost file=mail.log lines=%d\n", dropped)) {
			t.Errorf("the loss is not told: %s", got)
		}
		must(t, l.Health())
	})
}

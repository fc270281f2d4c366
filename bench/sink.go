package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sinkAddr is where smtp-sink listens.
const sinkAddr = "127.0.0.1:12527"

// mailSink is a running smtp-sink. It takes mail, throws it away and counts.
type mailSink struct {
	p      *process
	output string
}

func (b *bench) startSink() (*mailSink, error) {
	s := &mailSink{output: filepath.Join(b.dir, "smtp-sink.out")}
	if err := os.RemoveAll(s.output); err != nil {
		return nil, fmt.Errorf("remove old count: %w", err)
	}
	args := []string{"/usr/sbin/smtp-sink", "-c", "-m", "5000"}
	if os.Getuid() == 0 {
		args = append(args, "-u", "root")
	}
	var err error
	if s.p, err = startProcess(nil, s.output, append(args, sinkAddr, "1000")...); err != nil {
		return nil, err
	}
	return s, awaitReady(sinkAddr, "", s.p)
}

func (s *mailSink) stop() error { return s.p.stop(syscall.SIGTERM, 10*time.Second) }

// count is how many messages arrived so far: the last "mesg=N" of the output,
// of which only the end is read.
func (s *mailSink) count() (int, error) {
	f, err := os.Open(s.output)
	if err != nil {
		return 0, fmt.Errorf("read count: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("read count: %w", err)
	}
	tail := make([]byte, min(info.Size(), 512))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return 0, fmt.Errorf("read count: %w", err)
	}
	end := bytes.LastIndexByte(tail, '\r')
	if end < 0 {
		return 0, nil
	}
	line := string(tail[:end])
	at := strings.LastIndex(line, "mesg=")
	if at < 0 {
		return 0, errors.New("smtp-sink says nothing of messages: " + line)
	}
	return strconv.Atoi(line[at+len("mesg="):])
}

// await waits for n messages more than before; it gives up when none has come
// for a minute.
func (s *mailSink) await(ctx context.Context, before, n int) error {
	last, since := before, time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := s.count()
		if err != nil {
			return err
		}
		if got-before >= n {
			return nil
		}
		if got != last {
			last, since = got, time.Now()
		}
		if time.Since(since) > time.Minute {
			return fmt.Errorf("%d of %d messages arrived, and no more", got-before, n)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Command load makes the SMTP load that smtp-source cannot: thousands of
// sessions that are idle or slow, messages of mixed sizes, many large messages
// at once. It shares no code with the server that it is for.
//
//	load -mode idle -n 10000 127.0.0.1:2525     sessions that say EHLO and wait
//	load -mode slow -n 2000 127.0.0.1:2525      sessions that send a line a second
//	load -mode mixed -n 5000 127.0.0.1:2525     70% 4 kB, 20% 40 kB, 9% 400 kB, 1% 4 MB
//	load -mode large -n 100 -size 52428800 …    all at once
//	load -mode files -n 5000 -dir mail …        the messages of the files, in turn
//	load -mode refused -n 5000 -kind mix …      clients that nobody wants, by PROXY header
//
// In the modes idle and slow it prints "ready" when all sessions stand, and ends
// when its standard input ends. Clients come from several loopback addresses, so
// that one address does not run out of ports.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/test/wire"
)

// settings are the command line.
type settings struct {
	mode, addr, from, to string
	n, sessions, size    int
	dir                  string
	xclient              bool
	kind                 string
	first                int
}

func main() {
	var s settings
	flag.StringVar(&s.mode, "mode", "mixed", "idle, slow, mixed, large, files or refused")
	flag.IntVar(&s.n, "n", 1000, "sessions (idle, slow), messages (mixed, large, files) or connections (refused)")
	flag.IntVar(&s.sessions, "sessions", 20, "sessions of mixed, files and refused")
	flag.StringVar(&s.dir, "dir", "", "directory of raw messages, one in a file (files)")
	flag.BoolVar(&s.xclient, "xclient", false, "stand for clients in the Internet, by XCLIENT (files)")
	flag.StringVar(&s.kind, "kind", "mix", "what is wrong with the clients: listed, early, denied, unknown, no-domain, bad-helo, spoof, fine or mix (refused)")
	flag.IntVar(&s.first, "first", 0, "number of the first client (refused)")
	flag.IntVar(&s.size, "size", 50<<20, "bytes of a large message")
	flag.StringVar(&s.from, "from", "load@client.example", "sender")
	flag.StringVar(&s.to, "to", "user@bench.example", "recipient")
	flag.Parse()
	s.addr = flag.Arg(0)
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	switch s.mode {
	case "idle":
		return s.hold(func(context.Context, *wire.Conn) error { return nil })
	case "slow":
		return s.hold(s.dribble)
	case "mixed":
		return s.each(s.sessions, func(c *wire.Conn, _ int) error { return s.message(c, mixedSize(rand.IntN(100))) })
	case "large":
		return s.each(s.n, func(c *wire.Conn, _ int) error { return s.message(c, s.size) })
	case "files":
		return s.files()
	case "refused":
		return s.refused()
	}
	return fmt.Errorf("unknown mode %q", s.mode)
}

// source is the i-th client address.
func source(i int) string { return fmt.Sprintf("127.0.1.%d", 1+i%200) }

// hold opens n sessions, says so, runs fn in each and waits for the end of
// standard input.
func (s settings) hold(fn func(context.Context, *wire.Conn) error) error {
	conns := make([]*wire.Conn, s.n)
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	var firstErr error
	var once sync.Once
	for range 50 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < s.n; i = int(next.Add(1)) - 1 {
				c, _, err := wire.Hello(s.addr, wire.Options{Source: source(i), Timeout: time.Minute})
				if err != nil {
					failed.Add(1)
					once.Do(func() { firstErr = err })
					continue
				}
				conns[i] = c
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d sessions failed, the first with: %w", n, s.n, firstErr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var errs atomic.Int64
	for _, c := range conns {
		wg.Go(func() {
			if fn(ctx, c) != nil {
				errs.Add(1)
			}
		})
	}
	fmt.Println("ready")
	// The end of the input is all that counts.
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	for _, c := range conns {
		c.Close()
	}
	wg.Wait()
	if n := errs.Load(); n > 0 {
		return fmt.Errorf("%d of %d sessions did not last", n, s.n)
	}
	return nil
}

// dribble sends a line of data each second.
func (s settings) dribble(ctx context.Context, c *wire.Conn) error {
	if err := c.Open(s.from, s.to); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := c.Send("X-Slow: a line a second\r\n"); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// mixedSize is the size of a message for a percentile.
func mixedSize(percent int) int {
	switch {
	case percent < 70:
		return 4000
	case percent < 90:
		return 40_000
	case percent < 99:
		return 400_000
	}
	return 4_000_000
}

// each sends n messages over so many sessions; send is given the number of the
// message.
func (s settings) each(sessions int, send func(c *wire.Conn, i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, sessions)
	for i := range sessions {
		wg.Go(func() {
			c, _, err := wire.Hello(s.addr, wire.Options{Source: source(i), Timeout: 10 * time.Minute})
			if err != nil {
				errs <- err
				return
			}
			defer c.Quit()
			if s.xclient {
				err = standFor(c, i)
			}
			for n := next.Add(1); err == nil && n <= int64(s.n); n = next.Add(1) {
				err = send(c, int(n)-1)
			}
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return fmt.Errorf("%d sessions failed, one with: %w", len(errs)+1, err)
	}
	return nil
}

// message sends one message in pieces, so that a hundred of 50 MB do not need
// five gigabytes here.
func (s settings) message(c *wire.Conn, size int) error {
	if err := c.Open(s.from, s.to); err != nil {
		return err
	}
	if err := c.Send("From: <" + s.from + ">\r\nSubject: load\r\n\r\n"); err != nil {
		return err
	}
	piece := strings.Repeat(strings.Repeat("x", 74)+"\r\n", 860) // 65,360 bytes
	for sent := 0; sent < size; {
		// Whole lines, so that a piece never ends between CR and LF.
		n := min(len(piece), (size-sent+75)/76*76)
		if err := c.Send(piece[:n]); err != nil {
			return err
		}
		sent += n
	}
	if err := c.Send(".\r\n"); err != nil {
		return err
	}
	r, err := c.Reply()
	if err == nil && r.Code != 250 {
		err = fmt.Errorf("answer to the final dot: %v", r)
	}
	return err
}

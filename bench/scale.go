package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// generator is the load generator at work.
type generator struct {
	cmd *exec.Cmd
	out bytes.Buffer
	in  io.WriteCloser
}

// startLoad starts the load generator. It says "ready" when the load stands,
// and ends its work when its input is closed, or by itself.
func (b *bench) startLoad(ctx context.Context, args ...string) (*generator, error) {
	g := &generator{cmd: exec.CommandContext(ctx, b.load, args...)}
	g.cmd.Stderr = &g.out
	in, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	g.in = in
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	var line [64]byte
	n, err := out.Read(line[:])
	if err != nil || !strings.HasPrefix(string(line[:n]), "ready") {
		return nil, errors.Join(fmt.Errorf("load %v is not ready: %q, %w", args, line[:n], err), g.end())
	}
	return g, nil
}

// end stops the load and returns what went wrong with it.
func (g *generator) end() error {
	g.in.Close()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("load: %w: %s", err, g.out.String())
	}
	return nil
}

// alone starts a Gatepost and a sink for a part of the run and calls fn.
func (b *bench) alone(s gatepostSettings, fn func(*server, *mailSink) error) (err error) {
	sink, err := b.startSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	srv, err := b.newGatepost(&meters{}, sinkAddr, s)
	if err != nil {
		return err
	}
	defer srv.meter.close()
	if err := srv.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	return fn(srv, sink)
}

// idleSessions measures what sessions cost that have said EHLO and then nothing.
func (b *bench) idleSessions(ctx context.Context) error {
	return b.alone(gatepostSettings{}, func(s *server, sink *mailSink) error {
		if _, err := runJob(ctx, s, sink, ordinary(2000)); err != nil {
			return err
		}
		before := s.meter.memory()
		g, err := b.startLoad(ctx, "-mode", "idle", "-n", strconv.Itoa(b.o.idle), s.addr)
		if err != nil {
			return err
		}
		during := s.meter.memory()
		r, err := runJob(ctx, s, sink, ordinary(2000))
		if err != nil {
			return err
		}
		fmt.Printf("\n## %d idle sessions\n\n%d MB before, %d MB with them (%.1f kB each); %.0f msg/s and %.2f ms CPU a message beside them.\n",
			b.o.idle, before>>20, during>>20, float64(during-before)/1024/float64(b.o.idle), r.rate(), r.perMessage())
		return g.end()
	})
}

// slowSessions measures what is left for others while thousands of clients send
// a byte now and then.
func (b *bench) slowSessions(ctx context.Context) error {
	n := min(2000, b.o.idle)
	return b.alone(gatepostSettings{limits: `min_data_rate = "1B/s"`}, func(s *server, sink *mailSink) error {
		j := ordinary(4000)
		without, err := runJob(ctx, s, sink, j)
		if err != nil {
			return err
		}
		g, err := b.startLoad(ctx, "-mode", "slow", "-n", strconv.Itoa(n), s.addr)
		if err != nil {
			return err
		}
		with, err := runJob(ctx, s, sink, j)
		if err != nil {
			return err
		}
		fmt.Printf("\n## %d slow sessions (a line of data a second each)\n\n%.0f msg/s without them, %.0f msg/s beside them; %d MB.\n",
			n, without.rate(), with.rate(), with.memory>>20)
		return g.end()
	})
}

// mixedSizes measures a mix as mail servers see it: many small, few large.
func (b *bench) mixedSizes(ctx context.Context) error {
	messages := 5000
	if b.o.short {
		messages = 500
	}
	return b.alone(gatepostSettings{}, func(s *server, sink *mailSink) error {
		before, err := sink.count()
		if err != nil {
			return err
		}
		cpu, err := s.meter.cpu()
		if err != nil {
			return err
		}
		memory := s.meter.watchMemory(200 * time.Millisecond)
		start := time.Now()
		cmd := exec.CommandContext(ctx, b.load, "-mode", "mixed", "-n", strconv.Itoa(messages), "-sessions", "20", s.addr)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("load: %w: %s", err, out)
		}
		if err := sink.await(ctx, before, messages); err != nil {
			return err
		}
		took := time.Since(start)
		after, err := s.meter.cpu()
		if err != nil {
			return err
		}
		fmt.Printf("\n## Mixed sizes (70%% 4 kB, 20%% 40 kB, 9%% 400 kB, 1%% 4 MB)\n\n%d messages in %.1f s: %.0f msg/s, %.2f ms CPU a message, %d MB.\n",
			messages, took.Seconds(), float64(messages)/took.Seconds(), (after-cpu).Seconds()*1000/float64(messages), memory()>>20)
		return nil
	})
}

// largeMessages sends a hundred messages of 50 MB at once.
func (b *bench) largeMessages(ctx context.Context) error {
	n := 100
	if b.o.short {
		n = 10
	}
	return b.alone(gatepostSettings{limits: "max_message_size = \"60MiB\"\ndata_timeout = \"30m\"", transport: "sessions = 20"}, func(s *server, sink *mailSink) error {
		memory := s.meter.watchMemory(200 * time.Millisecond)
		start := time.Now()
		cmd := exec.CommandContext(ctx, b.load, "-mode", "large", "-n", strconv.Itoa(n), "-size", strconv.Itoa(50<<20), s.addr)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("load: %w: %s", err, out)
		}
		taken := time.Since(start)
		if err := sink.await(ctx, 0, n); err != nil {
			return err
		}
		most, err := peak(s.pid())
		if err != nil {
			return err
		}
		fmt.Printf("\n## %d × 50 MB at once\n\nAll taken after %.1f s, all arrived after %.1f s; most memory %d MB (resident, as the kernel saw it: %d MB).\n",
			n, taken.Seconds(), time.Since(start).Seconds(), memory()>>20, most>>20)
		return nil
	})
}

// ordinary is a job to see how the server is beside something else.
func ordinary(messages int) job {
	return job{sessions: 20, bytes: 4000, reuse: true, messages: messages}
}

// longQueue fills the queue for a next hop that is down, starts the server
// again, and looks how mail for another next hop fares beside it.
func (b *bench) longQueue(ctx context.Context) error {
	return b.alone(gatepostSettings{}, func(s *server, sink *mailSink) error {
		without, err := runJob(ctx, s, sink, ordinary(10_000))
		if err != nil {
			return err
		}
		start := time.Now()
		dead := job{sessions: 50, bytes: 1000, reuse: true, messages: b.o.queued, to: "user@dead.example"}
		if err := source(ctx, s.addr, dead); err != nil {
			return err
		}
		filled := time.Since(start)
		full := s.meter.memory()
		if err := s.stop(); err != nil {
			return err
		}
		start = time.Now()
		if err := s.start(); err != nil {
			return err
		}
		ready := time.Since(start)
		// Loading the queue may go on behind the first greeting.
		if err := s.awaitQueued(ctx, b.o.queued); err != nil {
			return err
		}
		loaded, atStart := time.Since(start), s.meter.memory()
		with, err := runJob(ctx, s, sink, ordinary(10_000))
		if err != nil {
			return err
		}
		fmt.Printf("\n## %d queued messages of 1 kB for a next hop that is down\n\n", b.o.queued)
		fmt.Printf("Filled at %.0f msg/s; %d MB of memory then, %d MB on disk.\n",
			float64(b.o.queued)/filled.Seconds(), full>>20, directorySize(filepath.Join(s.dir, "data"))>>20)
		fmt.Printf("Started again: serving after %.1f s, all loaded after %.1f s, %d MB.\n", ready.Seconds(), loaded.Seconds(), atStart>>20)
		fmt.Printf("Mail for another next hop: %.0f msg/s and %.2f ms CPU with an empty queue, %.0f msg/s and %.2f ms beside the long one (%d MB).\n",
			without.rate(), without.perMessage(), with.rate(), with.perMessage(), with.memory>>20)
		return nil
	})
}

// awaitQueued waits until the server knows of so many queued messages.
func (s *server) awaitQueued(ctx context.Context, want int) error {
	deadline := time.Now().Add(5 * time.Minute)
	for {
		n, err := s.queued()
		if err != nil {
			return err
		}
		if n >= want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d queued messages are known after the start", n, want)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// metric sums the samples of one metric over all its labels.
func metric(url, name string) (int, error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	sum, seen := 0.0, false
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		f := strings.Fields(line)
		v, err := strconv.ParseFloat(f[len(f)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum, seen = sum+v, true
	}
	if !seen {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return int(sum), nil
}

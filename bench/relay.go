package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

// job is one relay job.
type job struct {
	sessions, bytes int
	reuse           bool   // one connection for many messages
	messages        int    // for Postfix; Gatepost is given more, to take as long
	to              string // default user@bench.example
	// send is the load instead of smtp-source.
	send func(ctx context.Context, addr string) error
}

func (j job) String() string {
	return fmt.Sprintf("%d sessions, %d kB, %s", j.sessions, j.bytes/1000, map[bool]string{true: "reused", false: "one each"}[j.reuse])
}

// jobs of the comparison. The number of messages makes a job take some seconds.
func jobs(short bool) []job {
	if short {
		return []job{{sessions: 20, bytes: 4000, reuse: true, messages: 1000}, {sessions: 20, bytes: 4000, messages: 1000}}
	}
	var list []job
	for _, size := range []int{4000, 100_000} {
		for _, sessions := range []int{1, 20, 200} {
			messages := map[int]int{1: 1000, 20: 4000, 200: 4000}[sessions]
			if size > 10_000 {
				messages /= 2
			}
			j := job{sessions: sessions, bytes: size, messages: messages}
			reused := j
			reused.reuse = true
			list = append(list, reused, j)
		}
	}
	return list
}

// result is what one job cost one server.
type result struct {
	messages     int
	taken, whole time.Duration // until all were taken, until all had arrived
	cpu          time.Duration
	memory       int64
}

func (r result) rate() float64       { return float64(r.messages) / r.whole.Seconds() }
func (r result) takenRate() float64  { return float64(r.messages) / r.taken.Seconds() }
func (r result) perMessage() float64 { return r.cpu.Seconds() * 1000 / float64(r.messages) } // ms

// relay runs every job with both servers in turn.
func (b *bench) relay(ctx context.Context) error {
	ms := &meters{}
	fmt.Printf("\n## Relay, closed loop, synced before 250 (medians of %d rounds; rates until the sink had every message)\n\n", b.o.rounds)
	fmt.Println("| sessions | size | connection | Postfix msg/s | Gatepost msg/s | ratio | Postfix CPU ms/msg | Gatepost CPU ms/msg | ratio | Postfix MB | Gatepost MB |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	var method string
	for _, j := range jobs(b.o.short) {
		var postfix, gatepost []result
		for range b.o.rounds {
			p, how, err := b.measure(ctx, ms, j, "Postfix")
			if err != nil {
				return fmt.Errorf("measure Postfix, %v: %w", j, err)
			}
			method = how
			j5 := j
			j5.messages *= 5
			g, _, err := b.measure(ctx, ms, j5, "Gatepost")
			if err != nil {
				return fmt.Errorf("measure Gatepost, %v: %w", j, err)
			}
			postfix, gatepost = append(postfix, p), append(gatepost, g)
		}
		p, g := median(postfix), median(gatepost)
		fmt.Printf("| %d | %d kB | %s | %.0f | %.0f | **%.1f** | %.2f | %.2f | **%.1f** | %d | %d |\n", j.sessions, j.bytes/1000,
			map[bool]string{true: "reused", false: "one each"}[j.reuse], p.rate(), g.rate(), g.rate()/p.rate(),
			p.perMessage(), g.perMessage(), p.perMessage()/g.perMessage(), p.memory>>20, g.memory>>20)
	}
	fmt.Printf("\nProcessor time: %s, whole process tree. CPU ms/msg is also CPU seconds per 1,000 messages.\n", method)
	return nil
}

// median by processor time per message; its other numbers are of the same round.
func median(results []result) result {
	slices.SortFunc(results, func(a, b result) int { return cmp.Compare(a.perMessage(), b.perMessage()) })
	return results[len(results)/2]
}

// measure starts a fresh server, warms it up, gives it the job and stops it.
func (b *bench) measure(ctx context.Context, ms *meters, j job, name string) (r result, method string, err error) {
	sink, err := b.startSink()
	if err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	var s *server
	if name == "Postfix" {
		s, err = b.newPostfix(ms, sinkAddr, j.sessions, nil)
	} else {
		s, err = b.newGatepost(ms, sinkAddr, gatepostSettings{})
	}
	if err != nil {
		return r, "", err
	}
	defer s.meter.close()
	if err := s.start(); err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, s.stop()) }()

	warm := j
	warm.messages = max(100, 2*j.sessions)
	if _, err := runJob(ctx, s, sink, warm); err != nil {
		return r, "", fmt.Errorf("warm up: %w", err)
	}
	r, err = runJob(ctx, s, sink, j)
	if b.o.verbose && err == nil {
		fmt.Fprintf(os.Stderr, "%-8s %v: %d messages, taken %.0f/s, arrived %.0f/s, %.2f ms CPU, %d MB\n",
			name, j, r.messages, r.takenRate(), r.rate(), r.perMessage(), r.memory>>20)
	}
	return r, s.meter.method(), err
}

// runJob gives the server a job and waits until the sink has every message.
func runJob(ctx context.Context, s *server, sink *mailSink, j job) (result, error) {
	before, err := sink.count()
	if err != nil {
		return result{}, err
	}
	cpu, err := s.meter.cpu()
	if err != nil {
		return result{}, err
	}
	memory := s.meter.watchMemory(500 * time.Millisecond)
	start := time.Now()
	if j.send != nil {
		err = j.send(ctx, s.addr)
	} else {
		err = source(ctx, s.addr, j)
	}
	r := result{messages: j.messages, taken: time.Since(start)}
	if err == nil {
		err = sink.await(ctx, before, j.messages)
	}
	r.whole = time.Since(start)
	r.memory = memory()
	if err != nil {
		return r, err
	}
	after, err := s.meter.cpu()
	r.cpu = after - cpu
	return r, err
}

// source runs smtp-source for the job.
func source(ctx context.Context, addr string, j job) error {
	args := []string{"-s", strconv.Itoa(j.sessions), "-m", strconv.Itoa(j.messages), "-l", strconv.Itoa(j.bytes),
		"-f", "source@client.example", "-t", cmp.Or(j.to, "user@bench.example")}
	if j.reuse {
		args = append(args, "-d")
	}
	cmd := exec.CommandContext(ctx, "/usr/sbin/smtp-source", append(args, addr)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	return nil
}

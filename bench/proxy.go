package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gatepost/test/wire"
)

// passing is a server of the part proxy.
type passing struct {
	name     string
	messages int // those that work faster are given more, to take as long
	start    func(ms *meters) (*server, error)
}

// passed is what one round showed.
type passed struct {
	result
	// latency is the median of a transaction, one at a time.
	latency time.Duration
}

const proxySessions = 20

// proxy compares servers that hold a session with the destination while the client
// waits: nobody of them stores anything.
func (b *bench) proxy(ctx context.Context) error {
	servers := b.proxyServers()
	var method string
	var missing []string
	results := make([][]passed, len(servers))
	direct, err := b.directLatency()
	if err != nil {
		return err
	}
	for range b.o.rounds {
		for i, s := range servers {
			r, how, err := b.measureProxy(ctx, s)
			switch {
			case errors.Is(err, errNoPeer):
				if !slices.Contains(missing, s.name) {
					missing = append(missing, s.name)
					fmt.Fprintf(os.Stderr, "bench: proxy: %s is left out: %v\n", s.name, err)
				}
				continue
			case err != nil:
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
			results[i], method = append(results[i], r), how
		}
	}
	fmt.Printf("\n## Passing mail through: 4 kB, %d sessions of many messages (medians of %d rounds)\n\n", proxySessions, b.o.rounds)
	fmt.Println("| server | msg/s | CPU ms/msg | Gatepost without a flow takes | a transaction takes, ms | added, ms | MB |")
	fmt.Println("|---|---|---|---|---|---|---|")
	ours := medianPassed(results[0]).perMessage()
	for i, s := range servers {
		if len(results[i]) == 0 {
			continue
		}
		r := medianPassed(results[i])
		fmt.Printf("| %s | %.0f | %.2f | %.2f of it | %.2f | %.2f | %d |\n", s.name, r.rate(), r.perMessage(), ours/r.perMessage(),
			ms(r.latency), ms(r.latency-direct), r.memory>>20)
	}
	fmt.Printf("\nProcessor time: %s, whole process trees. One transaction at a time, straight to the sink: %.2f ms.\n", method, ms(direct))
	return nil
}

// ms is a time in milliseconds.
func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// medianPassed is the round with the median of processor time, and the median of the
// latencies.
func medianPassed(rounds []passed) passed {
	var results []result
	var latencies []time.Duration
	for _, r := range rounds {
		results, latencies = append(results, r.result), append(latencies, r.latency)
	}
	slices.Sort(latencies)
	return passed{median(results), latencies[len(latencies)/2]}
}

// proxyServers are those that are compared; the first is what others are compared
// with.
func (b *bench) proxyServers() []passing {
	n := 2000
	if b.o.short {
		n = 500
	}
	gatepost := func(s gatepostSettings) func(*meters) (*server, error) {
		s.domain += "\ndelivery = \"proxy\"\n"
		return func(ms *meters) (*server, error) { return b.newGatepost(ms, sinkAddr, s) }
	}
	full := gatepostSettings{tables: fmt.Sprintf(scanFlow, "127.0.0.1:12553"), listener: `flows = { content = "full" }`}
	haraka := func(plugin string) func(*meters) (*server, error) {
		return func(ms *meters) (*server, error) { return b.newHaraka(ms, sinkAddr, plugin) }
	}
	return []passing{
		{"Gatepost, no flow", 5 * n, gatepost(gatepostSettings{})},
		{"Gatepost, full flow", 5 * n, gatepost(full)},
		{"nginx, which cannot scan", 5 * n, func(ms *meters) (*server, error) {
			return b.newNginx(ms, "127.0.0.1:12529", sinkAddr, "protocol smtp; smtp_auth none; xclient off; timeout 5m; proxy_timeout 5m;")
		}},
		{"Haraka, smtp_forward", n, haraka("smtp_forward")},
		{"Haraka, smtp_proxy", n, haraka("smtp_proxy")},
	}
}

// measureProxy starts a fresh server, warms it up, and gives it the job.
func (b *bench) measureProxy(ctx context.Context, what passing) (r passed, method string, err error) {
	names, err := startNames("127.0.0.1:12553")
	if err != nil {
		return r, "", err
	}
	defer names.stop()
	sink, err := b.startSink()
	if err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	s, err := what.start(&b.meters)
	if err != nil {
		return r, "", err
	}
	defer s.meter.close()
	if err := s.start(); err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	j := job{sessions: proxySessions, bytes: 4000, reuse: true, messages: 200}
	if _, err := runJob(ctx, s, sink, j); err != nil {
		return r, "", fmt.Errorf("warm up: %w", err)
	}
	if r.latency, err = latency(s.addr, 300); err != nil {
		return r, "", err
	}
	j.messages = what.messages
	r.result, err = runJob(ctx, s, sink, j)
	if b.o.verbose && err == nil {
		fmt.Fprintf(os.Stderr, "%-26s %.0f/s, %.2f ms CPU, %.2f ms a transaction, %d MB\n", what.name, r.rate(), r.perMessage(), ms(r.latency), r.memory>>20)
	}
	return r, s.meter.method(), err
}

// directLatency is how long a transaction takes without anybody between.
func (b *bench) directLatency() (d time.Duration, err error) {
	sink, err := b.startSink()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	return latency(sinkAddr, 300)
}

// latency is the median time of a transaction from MAIL to the answer to the end of
// data, one after the other in one session.
func latency(addr string, n int) (time.Duration, error) {
	c, _, err := wire.Hello(addr, wire.Options{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	body := []byte("Subject: bench\r\n\r\n" + strings.Repeat(strings.Repeat("x", 78)+"\r\n", 50))
	var all []time.Duration
	for range n {
		begun := time.Now()
		if r, err := c.Deliver("load@client.example", []string{"user@bench.example"}, body); err != nil || r.Code != 250 {
			return 0, fmt.Errorf("send a message: %v, %w", r, err)
		}
		all = append(all, time.Since(begun))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

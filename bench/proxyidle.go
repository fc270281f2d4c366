package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
)

// proxySessionsOpen measures what open sessions cost servers that pass mail through. Most
// say EHLO and then nothing; with Gatepost a tenth is in the middle of a message that
// comes a line a second, with a session at the server behind open.
func (b *bench) proxySessionsOpen(ctx context.Context) error {
	n := b.o.idle
	slow := n / 10
	fmt.Printf("\n## %d sessions of servers that pass mail through\n\n", n)
	fmt.Println("| server | sessions | MB before | MB with them | msg/s beside them | CPU ms/msg beside them |")
	fmt.Println("|---|---|---|---|---|---|")
	ways := []struct {
		name       string
		idle, slow int
		start      func() (*server, error)
	}{
		{"Gatepost", n - slow, slow, func() (*server, error) {
			return b.newGatepost(&b.meters, sinkAddr, gatepostSettings{domain: "\ndelivery = \"proxy\"\n", limits: `min_data_rate = "1B/s"`, transport: "proxy_sessions = 2000"})
		}},
		{"nginx", n, 0, func() (*server, error) {
			return b.newNginx(&b.meters, "127.0.0.1:12529", sinkAddr, "protocol smtp; smtp_auth none; xclient off; timeout 5m; proxy_timeout 5m;")
		}},
		{"Haraka smtp_forward", n, 0, func() (*server, error) { return b.newHaraka(&b.meters, sinkAddr, "smtp_forward") }},
	}
	for _, w := range ways {
		s, err := w.start()
		if errors.Is(err, errNoPeer) {
			fmt.Fprintf(os.Stderr, "bench: proxyidle: %s is left out: %v\n", w.name, err)
			continue
		}
		if err == nil {
			err = b.measureOpen(ctx, s, w.idle, w.slow)
		}
		if err != nil {
			return fmt.Errorf("measure %s: %w", w.name, err)
		}
	}
	return nil
}

// measureOpen opens the sessions and gives the server a job beside them.
func (b *bench) measureOpen(ctx context.Context, s *server, idle, slow int) (err error) {
	sink, err := b.startSink()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.stop()) }()
	defer s.meter.close()
	if err := s.start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	j := job{sessions: 20, bytes: 4000, reuse: true, messages: 2000}
	if _, err := runJob(ctx, s, sink, j); err != nil {
		return err
	}
	before := s.meter.memory()
	what := strconv.Itoa(idle) + " idle"
	var loads []*generator
	for mode, n := range map[string]int{"idle": idle, "slow": slow} {
		if n == 0 {
			continue
		}
		g, err := b.startLoad(ctx, "-mode", mode, "-n", strconv.Itoa(n), s.addr)
		if err != nil {
			return err
		}
		loads = append(loads, g)
	}
	if slow > 0 {
		what += ", " + strconv.Itoa(slow) + " slow"
	}
	r, err := runJob(ctx, s, sink, j)
	if err != nil {
		return err
	}
	fmt.Printf("| %s | %s | %d | %d | %.0f | %.2f |\n", s.name, what, before>>20, max(r.memory, s.meter.memory())>>20, r.rate(), r.perMessage())
	for _, g := range loads {
		err = errors.Join(err, g.end())
	}
	return err
}

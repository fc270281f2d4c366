package main

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/bench/strangers"
	"gatepost/test/wire"
)

// refused plays clients that no server wants, each with a connection and an address
// of its own, which a PROXY header says. It prints how many of each kind were answered
// how, and fails where one was not refused for good (or was, of those that are fine).
// Clients that are listed or early are let in by a server that is too busy to hear from
// the list or from the client in time.
func (s settings) refused() error {
	kinds, err := strangers.Of(s.kind)
	if err != nil {
		return err
	}
	if s.first+s.n > strangers.Each {
		return fmt.Errorf("there are %d clients of a kind", strangers.Each)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	tally := make(map[string]int)
	errs := make(chan error, s.sessions)
	for range s.sessions {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < s.n; n = int(next.Add(1)) - 1 {
				k := kinds[n%len(kinds)]
				answer, err := s.visit(k, s.first+n)
				if err != nil {
					errs <- fmt.Errorf("%v client: %w", k, err)
					return
				}
				mu.Lock()
				tally[k.String()+": "+answer]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(errs)
	for _, line := range slices.Sorted(maps.Keys(tally)) {
		fmt.Println(tally[line], line)
	}
	if err := <-errs; err != nil {
		return fmt.Errorf("%d sessions failed, one with: %w", len(errs)+1, err)
	}
	return nil
}

// visit is one connection, up to the answer to RCPT.
func (s settings) visit(k strangers.Kind, i int) (string, error) {
	c, err := wire.Dial(s.addr, wire.Options{Source: source(i), Timeout: time.Minute})
	if err != nil {
		return "", err
	}
	defer c.Quit()
	hello, from, to := fmt.Sprintf("EHLO h%d.client.example", i), fmt.Sprintf("a%d@s%d.client.example", i, i%1000), s.to
	switch k {
	case strangers.BadHelo:
		hello = "EHLO workstation"
	case strangers.NoDomain:
		from = fmt.Sprintf("a%d@s%d.gone.example", i, i%1000)
	case strangers.Spoof:
		from = fmt.Sprintf("a%d@bench.example", i)
	case strangers.Unknown:
		to = fmt.Sprintf("nobody%d@bench.example", i)
	}
	preface := fmt.Sprintf("PROXY TCP4 %v 127.0.0.1 %d 25\r\n", strangers.Addr(k, i), 1024+i)
	if k == strangers.Early {
		preface += hello + "\r\n"
	}
	if err := c.Send(preface); err != nil {
		return "", err
	}
	lines := []string{"", hello, "MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">"}
	for at, line := range lines {
		if at > 1 || at == 1 && k != strangers.Early {
			if err := c.Send(line + "\r\n"); err != nil {
				return "", err
			}
		}
		r, err := c.Reply()
		if err != nil && k == strangers.Early && at == 0 {
			// postscreen lets the greeting's last line out when it has been talked to. That
			// was the first line of the answer to EHLO then; the others follow.
			continue
		}
		if err != nil {
			return "", fmt.Errorf("answer to %q: %w", line, err)
		}
		if at == len(lines)-1 || !r.Positive() {
			return fmt.Sprintf("%.4s %d", line, r.Code), wanted(k, r)
		}
	}
	return "", nil
}

// wanted is an error unless the answer is one that the client should have got.
func wanted(k strangers.Kind, r wire.Reply) error {
	switch {
	case r.Code/100 == 5 && k != strangers.Fine, r.Code == 451 && k == strangers.Fine:
		return nil
	case r.Positive() && (k == strangers.Listed || k == strangers.Early || k == strangers.Fine):
		return nil
	}
	return fmt.Errorf("not the answer for it: %v", r)
}

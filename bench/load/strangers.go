package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/test/wire"
)

// strangers are clients of which each comes once, behind a load balancer that says so
// with the PROXY protocol. Of ten, six are on a DNS list (11.1.0.0/16), two on a list
// of the server's own (11.2.0.0/16), one talks before the banner (11.3.0.0/16), and one
// is good but names a recipient that does not exist (11.4.0.0/16). All must be turned
// away, wherever.
func (s settings) strangers() error {
	var next, failed atomic.Int64
	var firstErr error
	var once sync.Once
	var wg sync.WaitGroup
	for range s.sessions {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < s.n; i = int(next.Add(1)) - 1 {
				if err := s.stranger(s.offset + i); err != nil {
					failed.Add(1)
					once.Do(func() { firstErr = err })
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d clients were not turned away, one with: %w", n, s.n, firstErr)
	}
	return nil
}

// network is that of the i-th client.
func network(i int) int { return [10]int{1, 2, 1, 3, 1, 1, 4, 1, 2, 1}[i%10] }

func (s settings) stranger(i int) error {
	c, err := wire.Dial(s.addr, wire.Options{Source: source(i), Timeout: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()
	header := fmt.Sprintf("PROXY TCP4 11.%d.%d.%d 11.9.9.9 40000 25\r\n", network(i), i/250%250, 1+i%250)
	commands := []string{fmt.Sprintf("EHLO mx%d.client.example\r\n", i), "MAIL FROM:<" + s.from + ">\r\n", "RCPT TO:<" + s.to + ">\r\n"}
	if network(i) == 3 {
		return early(c, header+strings.Join(commands, "")+"QUIT\r\n")
	}
	if err := c.Send(header); err != nil {
		return err
	}
	r, err := c.Reply()
	for _, command := range commands {
		if err != nil || r.Code >= 400 {
			break
		}
		if err = c.Send(command); err == nil {
			r, err = c.Reply()
		}
	}
	switch {
	case err != nil:
		return err
	case r.Code < 400:
		return fmt.Errorf("client %d of 11.%d.0.0/16 was let in: %v", i, network(i), r)
	}
	c.Quit()
	return nil
}

// early says everything at once, as programs do that do not listen, and looks at the
// answers for a refusal. postscreen's are not in step then.
func early(c *wire.Conn, all string) error {
	if err := c.Send(all); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	refused := false
	lines := bufio.NewScanner(c.Conn)
	for lines.Scan() {
		refused = refused || strings.HasPrefix(lines.Text(), "4") || strings.HasPrefix(lines.Text(), "5")
	}
	if !refused {
		return errors.New("a client that talked first was let in")
	}
	return nil
}

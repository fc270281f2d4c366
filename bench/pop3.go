package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/test/dovecot"
)

// fetching is a way to a mailbox of the part pop3.
type fetching struct {
	name  string
	start func(ms *meters, mailboxes string) (*server, error) // nil: straight to Dovecot
}

// What is fetched: each user's mailbox in a session of its own, all users at once.
const (
	popUsers    = 20
	popMessages = 100
	popSize     = 4000
)

// pop3 compares what stands between clients and Dovecot.
func (b *bench) pop3(ctx context.Context) error {
	mailboxes, err := b.startMailboxes()
	if err != nil {
		return err
	}
	defer func() {
		mailboxes.Stop()
		_ = os.RemoveAll(mailboxes.Dir) // of no use to anybody
	}()
	names, err := startNames("127.0.0.1:12553")
	if err != nil {
		return err
	}
	defer names.stop()
	ways := b.popWays()
	results := make([][]result, len(ways))
	var method string
	for range b.o.rounds {
		for i, w := range ways {
			r, how, err := b.measurePOP(ctx, w, mailboxes.Addr)
			if errors.Is(err, errNoPeer) {
				fmt.Fprintf(os.Stderr, "bench: pop3: %s is left out: %v\n", w.name, err)
				continue
			}
			if err != nil {
				return fmt.Errorf("measure %s: %w", w.name, err)
			}
			results[i] = append(results[i], r)
			if how != "" {
				method = how
			}
		}
	}
	fmt.Printf("\n## Fetching mail: %d sessions, %d messages of %d kB each, Dovecot behind (medians of %d rounds)\n\n", popUsers, popMessages, popSize/1000, b.o.rounds)
	fmt.Println("| way | msg/s | CPU ms/msg of what stands between | MB |")
	fmt.Println("|---|---|---|---|")
	for i, w := range ways {
		if len(results[i]) == 0 {
			continue
		}
		r := median(results[i])
		fmt.Printf("| %s | %.0f | %.3f | %d |\n", w.name, r.rate(), r.perMessage(), r.memory>>20)
	}
	fmt.Printf("\nProcessor time: %s, whole process trees; Dovecot's own is not counted.\n", method)
	return nil
}

// startMailboxes starts Dovecot and fills it.
func (b *bench) startMailboxes() (*dovecot.Instance, error) {
	// Its processes are other users', who cannot enter every directory.
	dir, err := os.MkdirTemp("", "gatepost-bench-dovecot")
	if err != nil {
		return nil, fmt.Errorf("make mailboxes: %w", err)
	}
	var users []string
	for i := range popUsers {
		users = append(users, fmt.Sprintf("user%d", i))
	}
	d, err := dovecot.New(dovecot.Config{Dir: dir, Users: users})
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		for i := range popMessages {
			head := fmt.Sprintf("From: Ada <ada@client.example>\r\nTo: %s@bench.example\r\nSubject: message %d\r\nMessage-ID: <%d.%s@client.example>\r\nDate: Thu, 1 Oct 2026 10:00:00 +0000\r\n\r\n", u, i, i, u)
			body := strings.Repeat("Some words that stand in the place of a text.\r\n", (popSize-len(head))/48)
			if err := d.Put(u, dovecot.Name(i), []byte(head+body)); err != nil {
				return nil, err
			}
		}
	}
	return d, d.Start()
}

func (b *bench) popWays() []fetching {
	gatepost := func(listener, tables string) func(*meters, string) (*server, error) {
		return func(ms *meters, mailboxes string) (*server, error) {
			text := fmt.Sprintf("[[listener]]\nname = \"pop\"\nprotocol = \"pop3\"\naddress = [%q]\nupstream = %q\n%s\n%s", popAddr, mailboxes, listener, tables)
			s, err := b.newGatepost(ms, sinkAddr, gatepostSettings{tables: text})
			if s != nil {
				s.addr = popAddr
			}
			return s, err
		}
	}
	scans := `flows = { content = "full" }`
	flow := fmt.Sprintf(scanFlow, "127.0.0.1:12553")
	return []fetching{
		{"straight to Dovecot", nil},
		{"nginx, which cannot scan", func(ms *meters, mailboxes string) (*server, error) {
			return b.newNginx(ms, "127.0.0.1:12510", mailboxes, "protocol pop3; pop3_auth plain; timeout 5m; proxy_timeout 5m;")
		}},
		{"Gatepost, no flow", gatepost("", "")},
		{"Gatepost, full flow, each message for the first time", gatepost(scans, flow)},
		{"Gatepost, full flow, again", gatepost(scans, flow)},
	}
}

// popAddr is where Gatepost listens for POP3.
const popAddr = "127.0.0.1:12511"

// again reports whether a way is measured with verdicts that are known.
func (w fetching) again() bool { return strings.HasSuffix(w.name, "again") }

// measurePOP starts a fresh server and fetches every mailbox through it.
func (b *bench) measurePOP(ctx context.Context, w fetching, mailboxes string) (r result, method string, err error) {
	r.messages = popUsers * popMessages
	if w.start == nil {
		begun := time.Now()
		err = fetchAll(ctx, mailboxes)
		r.whole = time.Since(begun)
		return r, "", err
	}
	s, err := w.start(&b.meters, mailboxes)
	if err != nil {
		return r, "", err
	}
	defer s.meter.close()
	if err := s.start(); err != nil {
		return r, "", err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if w.again() {
		if err := fetchAll(ctx, s.addr); err != nil {
			return r, "", fmt.Errorf("fetch for the first time: %w", err)
		}
		// What was judged is written within a second.
		select {
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
			return r, "", ctx.Err()
		}
	}
	before, err := s.meter.cpu()
	if err != nil {
		return r, "", err
	}
	memory := s.meter.watchMemory(100 * time.Millisecond)
	begun := time.Now()
	err = fetchAll(ctx, s.addr)
	r.whole, r.memory = time.Since(begun), memory()
	if err != nil {
		return r, "", err
	}
	after, err := s.meter.cpu()
	r.cpu = after - before
	if b.o.verbose && err == nil {
		fmt.Fprintf(os.Stderr, "%-50s %.0f/s, %.3f ms CPU, %d MB\n", w.name, r.rate(), r.perMessage(), r.memory>>20)
	}
	return r, s.meter.method(), err
}

// fetchAll fetches all mailboxes at once and leaves everything there.
func fetchAll(ctx context.Context, addr string) error {
	var wg sync.WaitGroup
	errs := make([]error, popUsers)
	var messages atomic.Int64
	for i := range popUsers {
		wg.Go(func() { errs[i] = fetchMailbox(ctx, addr, fmt.Sprintf("user%d", i), &messages) })
	}
	wg.Wait()
	if n := messages.Load(); n != popUsers*popMessages {
		errs = append(errs, fmt.Errorf("%d messages fetched", n))
	}
	return errors.Join(errs...)
}

func fetchMailbox(ctx context.Context, addr, user string, messages *atomic.Int64) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("fetch mail of %s: %w", user, err)
	}
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 64<<10)
	lines := []string{"", "USER " + user, "PASS " + dovecot.Password}
	for i := range popMessages {
		lines = append(lines, fmt.Sprintf("RETR %d", i+1))
	}
	for _, line := range append(lines, "QUIT") {
		if line != "" {
			if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
				return fmt.Errorf("fetch mail of %s: %w", user, err)
			}
		}
		answer, err := r.ReadSlice('\n')
		if err != nil || !bytes.HasPrefix(answer, []byte("+OK")) {
			return fmt.Errorf("fetch mail of %s: %s: %q, %w", user, line, answer, err)
		}
		if !strings.HasPrefix(line, "RETR") {
			continue
		}
		for string(answer) != ".\r\n" {
			if answer, err = r.ReadSlice('\n'); err != nil {
				return fmt.Errorf("fetch mail of %s: %w", user, err)
			}
		}
		messages.Add(1)
	}
	return nil
}

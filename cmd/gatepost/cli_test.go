package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gatepost/internal/admin"
	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gatepost": main})
}

// TestCommands runs the dialogues of testdata/script with the real commands.
// "server start" starts the API of a gateway on gatepost.sock in the directory of
// the script, with a queue of three items; "server calls" compares what was asked
// of the queue with a file; "status N command" wants that exit status.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("SUDO_USER", "anna")
			e.Values[queueKey{}] = &cannedQueue{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": cmdServer,
			"status": cmdStatus,
			"mode":   cmdMode,
		},
	})
}

// queueKey finds the queue of a script.
type queueKey struct{}

// cmdStatus runs a command and compares its exit status.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command [args]")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%v: status %s, want %s", args[1:], got, args[0])
	}
}

// cmdMode compares the permissions of a file.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server start|calls FILE")
	}
	q := ts.Value(queueKey{}).(*cannedQueue)
	switch args[0] {
	case "start":
		ts.Defer(startAPI(ts, q, ts.MkAbs(admin.SocketName)))
	case "calls":
		q.mu.Lock()
		got := strings.Join(q.calls, "\n") + "\n"
		q.calls = nil
		q.mu.Unlock()
		if want := ts.ReadFile(args[1]); got != want {
			ts.Fatalf("calls:\n%swant:\n%s", got, want)
		}
	default:
		ts.Fatalf("unknown: server %s", args[0])
	}
}

// startAPI serves q and returns the function that stops it.
func startAPI(ts *testscript.TestScript, q admin.Queue, path string) func() {
	started := time.Now().Add(-3*time.Hour - 30*time.Minute)
	s, err := admin.New(admin.Config{
		Queue:  q,
		Health: checks{admin.Required("spool", nil), admin.Advisory("logs", errors.New("mail.log: no space left on device"))},
		Status: func() admin.Status {
			return admin.Status{
				Version: "1.2.3", Hostname: "gw.example.com", PID: 4711, Started: started, ConfigFile: "/etc/gatepost/gatepost.toml",
				ConfigLoaded: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Listeners: map[string][]string{"inbound": {"0.0.0.0:25", "[::]:25"}},
			}
		},
		Reload: func(context.Context) error { return errors.New("a.toml:1:2: x: is wrong\na.toml:3:4: y: is wrong too") },
	})
	ts.Check(err)
	l, err := admin.ListenSocket(path)
	ts.Check(err)
	done := make(chan error, 1)
	go func() { done <- s.ServeAPI(l) }()
	return func() {
		ts.Check(s.Shutdown(context.Background()))
		ts.Check(<-done)
	}
}

type checks []admin.Check

func (c checks) Checks() []admin.Check { return slices.Clone(c) }

// cannedQueue always holds the same items, and notes what it is asked to do.
type cannedQueue struct {
	mu    sync.Mutex
	calls []string
}

func (c *cannedQueue) note(what string, sel queue.Selector, more ...string) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, strings.TrimSpace(fmt.Sprintf("%s %+v %s", what, sel, strings.Join(more, " "))))
	if sel.Error == "(" {
		return 0, fmt.Errorf("%w: error: missing )", queue.ErrSelector)
	}
	if slices.Contains(sel.IDs, "gone") {
		return 0, nil
	}
	return 3, nil
}

func cannedID(n byte) mail.ID { return mail.ID{0: 1, 15: n} }

func (c *cannedQueue) details() []queue.Detail {
	now := time.Now()
	row := func(n byte, item uint16) queue.Row {
		return queue.Row{
			ID: cannedID(n), QueueID: mail.QueueID{Message: cannedID(n), N: item}, Sender: "a@sender.example", Size: 4200,
			Recipients: []string{"b@example.com"}, Transport: "exchange", State: mail.QueueDeferred,
			Created: now.Add(-2*time.Hour - time.Minute), NextAttempt: now.Add(12*time.Minute + 30*time.Second),
		}
	}
	received := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := queue.Detail{
		Row: row(1, 1), Subject: "Hello", MessageID: "<x@sender.example>", Received: received, Listener: "inbound",
		Client: "192.0.2.1:4711", Helo: "mx.sender.example", LastAttempt: received, GiveUp: received,
		States: []queue.RecipientDetail{{
			Address: "b@example.com", Original: "info@example.net", Status: mail.Deferred, Time: received,
			Reply: "450 4.2.0 Mailbox \x1b[31mbusy", Stage: "rcpt", Host: "10.0.0.5:25", TLS: "TLSv1.3",
		}},
	}
	first.Attempts, first.LastError = 3, "10.0.0.5:25: 450 4.2.0 Mailbox \x1b[31mbusy\r\nforged line"
	second := queue.Detail{Row: row(2, 1), Received: received, States: []queue.RecipientDetail{{Address: "b@example.com"}, {Address: "c@example.com"}}}
	second.Sender, second.Recipients, second.State = "<>", []string{"b@example.com", "c@example.com"}, mail.QueueHold
	second.Reason, second.HoldBy, second.HoldReason, second.NextAttempt = "looks odd", "anna", "looks odd", time.Time{}
	third := queue.Detail{Row: row(2, 2), Received: received, States: []queue.RecipientDetail{{Address: "d@example.org"}}}
	third.Sender, third.Recipients, third.Transport, third.NextHop = "<>", []string{"d@example.org"}, "internet", "example.org"
	third.Reason, third.Paused = "paused: patch day", true
	return []queue.Detail{first, second, third}
}

func (c *cannedQueue) List(_ context.Context, sel queue.Selector, limit int, after string) ([]queue.Row, error) {
	if _, err := c.note("list", sel, fmt.Sprint(limit), after); err != nil || sel.Domain == "empty.example" {
		return nil, err
	}
	var rows []queue.Row
	for _, d := range c.details() {
		if d.QueueID.String() > after && len(rows) < limit {
			rows = append(rows, d.Row)
		}
	}
	return rows, nil
}

func (c *cannedQueue) Show(_ context.Context, id string) ([]queue.Detail, error) {
	var list []queue.Detail
	for _, d := range c.details() {
		if d.ID.String() == id || d.QueueID.String() == id {
			list = append(list, d)
		}
	}
	if list == nil {
		return nil, fmt.Errorf("%s: %w", id, queue.ErrNotFound)
	}
	return list, nil
}

func (c *cannedQueue) Count(_ context.Context, sel queue.Selector) (int, error) {
	return c.note("count", sel)
}

func (c *cannedQueue) Retry(_ context.Context, sel queue.Selector, by string) (int, error) {
	return c.note("retry", sel, by)
}

func (c *cannedQueue) Release(_ context.Context, sel queue.Selector, by string) (int, error) {
	return c.note("release", sel, by)
}

func (c *cannedQueue) Delete(_ context.Context, sel queue.Selector, by string) (int, error) {
	return c.note("delete", sel, by)
}

func (c *cannedQueue) Hold(_ context.Context, sel queue.Selector, by, reason string) (int, error) {
	return c.note("hold", sel, by, reason)
}

func (c *cannedQueue) Reroute(_ context.Context, sel queue.Selector, transport, by string) (int, error) {
	if transport == "nowhere" {
		return 0, fmt.Errorf("reroute to %q: %w", transport, queue.ErrNoTransport)
	}
	return c.note("reroute", sel, transport, by)
}

func (c *cannedQueue) Pause(_ context.Context, p queue.PauseTarget, by, reason string) error {
	_, err := c.note("pause", queue.Selector{}, p.Transport, p.Domain, by, reason)
	return err
}

func (c *cannedQueue) Resume(_ context.Context, p queue.PauseTarget, by string) error {
	if p.Transport == "running" {
		return queue.ErrNotPaused
	}
	_, err := c.note("resume", queue.Selector{}, p.Transport, p.Domain, by)
	return err
}

func (c *cannedQueue) Pauses() []queue.Pause {
	return []queue.Pause{{
		PauseTarget: queue.PauseTarget{Transport: "exchange"}, Reason: "patch day", By: "anna",
		Since: time.Now().Add(-3*time.Hour - time.Minute),
	}}
}

func (c *cannedQueue) Stats() queue.Stats {
	return queue.Stats{
		Active: 1, Deferred: 2, Hold: 1, Oldest: time.Now().Add(-2*time.Hour - time.Minute),
		Destinations: []queue.DestinationStats{
			{Destination: mail.Destination{Transport: "exchange"}, Active: 1, Ready: 2, Waiting: 3, Hold: 1, Limit: 20, Dead: true},
			{Destination: mail.Destination{Transport: "internet", NextHop: "example.org"}, Waiting: 1, Limit: 5, Paused: true, Missing: true},
		},
	}
}

func TestALongListIsAskedForPageByPage(t *testing.T) {
	q := &longQueue{}
	for i := range 2 * admin.MaxPage {
		id := mail.ID{13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}
		q.rows = append(q.rows, queue.Row{ID: id, QueueID: mail.QueueID{Message: id, N: 1}})
	}
	s, err := admin.New(admin.Config{Queue: q, Health: checks{}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), admin.SocketName)
	l, err := admin.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.ServeAPI(l) }()
	defer func() {
		s.Shutdown(context.Background())
		<-done
	}()
	for limit, want := range map[int]int{0: len(q.rows), 1: 1, admin.MaxPage: admin.MaxPage, admin.MaxPage + 1: admin.MaxPage + 1} {
		var out, errs strings.Builder
		status := run([]string{"queue", "list", "--socket", path, "--limit", fmt.Sprint(limit)}, &terminal{out: &out, err: &errs})
		if got := strings.Count(out.String(), "\n") - 1; status != 0 || got != want {
			t.Errorf("limit %d: status %d, %d rows, want %d; %s", limit, status, got, want, errs.String())
		}
	}
}

// longQueue is a queue with many rows.
type longQueue struct {
	cannedQueue
	rows []queue.Row
}

func (q *longQueue) List(_ context.Context, _ queue.Selector, limit int, after string) ([]queue.Row, error) {
	i, _ := slices.BinarySearchFunc(q.rows, after, func(r queue.Row, id string) int {
		if r.QueueID.String() <= id {
			return -1
		}
		return 1
	})
	return q.rows[i:min(i+limit, len(q.rows))], nil
}

func TestASocketThatNobodyServesIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), admin.SocketName)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	var out, errs strings.Builder
	if status := run([]string{"queue", "stats", "--socket", path}, &terminal{out: &out, err: &errs}); status != 1 {
		t.Errorf("status %d", status)
	}
	if want := "gatepost: the gateway is not running: nobody answers on " + path + "\n"; errs.String() != want {
		t.Errorf("%q", errs.String())
	}
}

func TestThePackagedConfigurationIsGood(t *testing.T) {
	var out, errs strings.Builder
	if status := run([]string{"check", "-c", "../../packaging/gatepost.toml"}, &terminal{out: &out, err: &errs}); status != 0 {
		t.Errorf("status %d: %s", status, errs.String())
	}
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/queue"
)

// bench is a running gateway with a maildir, a next hop that is down, and the
// command line beside it.
type bench struct {
	t    *testing.T
	dir  string
	smtp string
}

func startBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), smtp: unusedAddress(t)}
	config := fmt.Sprintf(`
hostname = "gw.example.com"
data_dir = "data"
log_dir = "log"

[limits]
free_disk = "0B"

[[listener]]
name = "inbound"
address = [%q]
tls = "off"

[[domain]]
name = "example.com"
transport = "down"

[[transport]]
name = "down"
kind = "smtp"
hosts = [%q]

[[transport]]
name = "box"
kind = "maildir"
path = "box"
`, b.smtp, unusedAddress(t))
	if err := os.WriteFile(b.file(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := startApp(t.Context(), b.file())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) file() string { return filepath.Join(b.dir, "gw.toml") }

// unusedAddress is an address on which nobody listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// send sends one message and returns its ID.
func (b *bench) send(from, to string) string {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.smtp)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	var last string
	for _, line := range []string{
		"", "HELO test", "MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA", "Subject: hello\r\n\r\nbody\r\n.", "QUIT",
	} {
		if line != "" {
			fmt.Fprintf(conn, "%s\r\n", line)
		}
		reply, err := r.ReadString('\n')
		if err != nil || reply[0] > '3' {
			b.t.Fatalf("%q: %q %v", line, reply, err)
		}
		if strings.HasPrefix(line, "Subject") {
			last = reply
		}
	}
	_, id, _ := strings.Cut(last, "(")
	id, _, _ = strings.Cut(id, ")")
	if _, err := mail.ParseID(id); err != nil {
		b.t.Fatalf("no ID in %q", last)
	}
	return id
}

// run runs a queue command, wants the status, and returns what it printed.
func (b *bench) run(status int, args ...string) string {
	b.t.Helper()
	var out, errs strings.Builder
	args = append([]string{"queue", args[0], "-c", b.file()}, args[1:]...)
	if got := run(args, &terminal{out: &out, err: &errs}); got != status {
		b.t.Fatalf("%v: status %d, want %d: %s", args, got, status, errs.String())
	}
	return out.String()
}

func (b *bench) list(args ...string) []queue.Row {
	b.t.Helper()
	var rows []queue.Row
	if err := json.Unmarshal([]byte(b.run(0, append([]string{"list", "--json"}, args...)...)), &rows); err != nil {
		b.t.Fatal(err)
	}
	return rows
}

func TestTheQueueOfARunningGatewayIsWorkedByTheCommandLine(t *testing.T) {
	b := startBench(t)
	b.run(0, "pause", "--transport", "down", "--reason", "patch day")
	first := b.send("a@one.example", "x@example.com")
	second := b.send("b@two.example", "y@example.com")
	third := b.send("", "z@example.com")

	rows := b.list()
	// IDs of the same millisecond have no order, so neither has the list.
	senders := map[string]string{}
	for _, r := range rows {
		senders[r.ID.String()] = r.Sender
	}
	if len(rows) != 3 || senders[first] != "a@one.example" || senders[second] != "b@two.example" || senders[third] != "<>" {
		t.Fatalf("%+v", rows)
	}
	for _, r := range rows {
		if !r.Paused || !strings.Contains(r.Reason, "patch day") || r.Attempts != 0 || r.State != mail.QueueDeferred {
			t.Errorf("%+v", r)
		}
	}
	if rows := b.list("--sender", "@two.example"); len(rows) != 1 || rows[0].ID.String() != second {
		t.Errorf("by the domain of the sender: %+v", rows)
	}

	if got := b.run(0, "hold", second, "--reason", "looks odd"); got != "1 item put on hold\n" {
		t.Error(got)
	}
	if rows := b.list("--state", "hold"); len(rows) != 1 || rows[0].Reason != "looks odd" || !rows[0].NextAttempt.IsZero() {
		t.Errorf("on hold: %+v", rows)
	}
	if got := b.run(0, "show", second); !strings.Contains(got, "looks odd") || !strings.Contains(got, "b@two.example") {
		t.Error(got)
	}

	if got := b.run(1, "delete", "--sender", "<>"); got != "1 item would be deleted\n" {
		t.Error(got)
	}
	if got := b.run(0, "delete", "--sender", "<>", "--yes"); got != "1 item deleted\n" {
		t.Error(got)
	}
	b.run(1, "show", third)
	b.run(1, "retry", third)

	b.run(2, "reroute", first, "--to", "nowhere")
	if got := b.run(0, "reroute", first, "--to", "box"); got != "1 item rerouted\n" {
		t.Error(got)
	}
	b.waitFor(func() bool { return len(b.list(first)) == 0 })
	delivered, err := filepath.Glob(filepath.Join(b.dir, "box", "new", "*"))
	if err != nil || len(delivered) != 1 {
		t.Fatalf("maildir: %v %v", delivered, err)
	}

	b.run(0, "release", second)
	b.run(0, "resume", "--transport", "down")
	b.waitFor(func() bool {
		rows := b.list(second)
		return len(rows) == 1 && rows[0].Attempts > 0
	})
	if rows := b.list("--error", "refused"); len(rows) != 1 || rows[0].LastError == "" {
		t.Errorf("by the last error: %+v", b.list())
	}
	b.run(1, "resume", "--transport", "down")
}

// waitFor waits until what the gateway does in the background is done.
func (b *bench) waitFor(done func() bool) {
	b.t.Helper()
	patience := time.After(30 * time.Second)
	for !done() {
		select {
		case <-patience:
			b.t.Fatal("it did not happen")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

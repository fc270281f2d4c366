package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/peer"
	"gatepost/test/wire"
)

// smtp-source and smtp-sink come with Postfix and make load; here they are two
// more SMTP implementations, many sessions at once.
func TestSourceToSink(t *testing.T) {
	peer.Require(t, "smtp-source", "smtp-sink")
	tests := []struct {
		name                      string
		messages, sessions, bytes int
		args                      []string
	}{
		{"a session each", 300, 10, 4096, nil},
		{"one connection for many messages", 300, 10, 4096, []string{"-d"}},
		{"five recipients", 50, 5, 1000, []string{"-r", "5"}},
		{"1 MB", 20, 4, 1 << 20, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr, dumps := startSink(t)
			g := gatepost.Start(t, gatepost.Options{Settings: gatepost.Settings{Next: addr}})
			args := append(tt.args, "-s", fmt.Sprint(tt.sessions), "-m", fmt.Sprint(tt.messages), "-l", fmt.Sprint(tt.bytes),
				"-f", "source@out.example", "-t", "user@in.example", g.SMTP)
			if r := peer.Run(t, "", "smtp-source", args...); r.Status != 0 {
				t.Fatalf("smtp-source: status %d\n%s", r.Status, r.Output)
			}
			var sizes []int64
			// smtp-sink creates the file first and then writes to it: a message is
			// there when all of it is. It writes lines with LF, so a byte per line is
			// gone.
			short := func(n int64) bool { return n < int64(tt.bytes)*98/100 }
			gatepost.Eventually(t, fmt.Sprintf("all %d messages whole at smtp-sink", tt.messages), patience, func() bool {
				sizes = fileSizes(t, dumps)
				return len(sizes) >= tt.messages && !slices.ContainsFunc(sizes, short)
			})
			if len(sizes) != tt.messages {
				t.Errorf("%d messages arrived, %d were sent", len(sizes), tt.messages)
			}
		})
	}
}

// startSink starts smtp-sink, which writes each message to a file of its own in
// the directory that is returned.
func startSink(t *testing.T) (addr, dumps string) {
	t.Helper()
	addr, dumps = gatepost.FreeAddress(t), t.TempDir()
	args := []string{"-d", filepath.Join(dumps, "mail."), addr, "1000"}
	if os.Getuid() == 0 {
		args = append([]string{"-u", "root"}, args...)
	}
	cmd := exec.Command(peer.Find("smtp-sink"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		// It was killed, so its status says nothing.
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("smtp-sink: %s", out.String())
		}
	})
	gatepost.Eventually(t, "smtp-sink greets", patience, func() bool {
		c, err := wire.Dial(addr, wire.Options{Timeout: time.Second})
		if err != nil {
			return false
		}
		defer c.Close()
		r, err := c.Reply()
		return err == nil && r.Code == 220
	})
	return addr, dumps
}

// fileSizes are the sizes of the files that smtp-sink has finished; a message
// that is being written is not among them.
func fileSizes(t *testing.T, dir string) []int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var sizes []int64
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && info.Size() > 0 {
			sizes = append(sizes, info.Size())
		}
	}
	return sizes
}

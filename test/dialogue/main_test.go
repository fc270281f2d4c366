package dialogue

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

func TestMain(m *testing.M) {
	// The tests wait more than they work.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(gatepost.Main(m))
}

// patience is how long tests wait for what is to come.
const patience = 20 * time.Second

// next starts a next hop. At the end of the test it checks what went over the
// wire.
func next(t *testing.T, o sink.Options) *sink.Sink {
	t.Helper()
	s := sink.Start(t, o)
	t.Cleanup(func() {
		for _, raw := range s.Wire() {
			if i := bareAt(raw); i >= 0 {
				t.Errorf("the next hop got a bare CR or LF or a NUL: …%q", raw[max(0, i-60):min(len(raw), i+60)])
			}
		}
	})
	return s
}

// bareAt returns where a CR without LF, a LF without CR or a NUL stands, or -1.
func bareAt(s string) int {
	for i := range len(s) {
		switch s[i] {
		case '\r':
			if i+1 < len(s) && s[i+1] != '\n' {
				return i
			}
		case '\n':
			if i == 0 || s[i-1] != '\r' {
				return i
			}
		case 0:
			return i
		}
	}
	return -1
}

// behind starts a gateway in front of the next hop.
func behind(t *testing.T, s *sink.Sink, settings gatepost.Settings) *gatepost.Instance {
	t.Helper()
	settings.Next = s.Addr
	return gatepost.Start(t, gatepost.Options{Settings: settings})
}

// give has the gateway accept a message and returns its ID.
func give(t *testing.T, c *wire.Conn, from, to, data string) string {
	t.Helper()
	r, err := c.Deliver(from, strings.Split(to, ","), []byte(crlf(data)))
	if err != nil || r.Code != 250 {
		t.Fatalf("from %s to %s: %v, %v", from, to, r, err)
	}
	return idOf(t, r)
}

// idOf is the ID at the end of a reply.
func idOf(t *testing.T, r wire.Reply) string {
	t.Helper()
	text := r.Text()
	open := strings.LastIndexByte(text, '(')
	if open < 0 || !strings.HasSuffix(text, ")") || len(text)-open != 28 {
		t.Fatalf("no ID in the reply %v", r)
	}
	return text[open+1 : len(text)-1]
}

// say sends lines, each after the reply to the one before, and compares the
// start of each reply.
func say(t *testing.T, c *wire.Conn, lines ...string) {
	t.Helper()
	for _, pair := range slices.Collect(slices.Chunk(lines, 2)) {
		r, err := c.Cmd("%s", pair[0])
		if err != nil || !strings.HasPrefix(r.String(), pair[1]) {
			t.Fatalf("%.100q: got %v, %v, want %s", pair[0], r, err, pair[1])
		}
	}
}

// drained waits until the queue of the gateway is empty.
func drained(t *testing.T, g *gatepost.Instance) {
	t.Helper()
	gatepost.Eventually(t, "the queue is empty", patience, func() bool { return waiting(t, g) == 0 })
}

// waiting is how many items the metrics count in the queue.
func waiting(t *testing.T, g *gatepost.Instance) (n int) {
	t.Helper()
	for line := range strings.Lines(get(t, g, "/metrics")) {
		if rest, ok := strings.CutPrefix(line, "gatepost_queue_items{"); ok {
			_, value, _ := strings.Cut(rest, "} ")
			var items int
			if _, err := fmt.Sscan(value, &items); err != nil {
				t.Fatalf("metric %q: %v", line, err)
			}
			n += items
		}
	}
	return n
}

// crlf turns the line ends of a Go literal into those of the wire.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// mustContain fails the test for each of the texts that is missing.
func mustContain(t *testing.T, what, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%s lacks %q:\n%s", what, w, text)
		}
	}
}

// freeSpace is how many bytes are free for everybody where the file is.
func freeSpace(t *testing.T, file string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(file, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * int64(s.Bsize)
}

// Command bench measures Gatepost beside Postfix: the same relay job, on the
// same machine, in one run, in turn, with Postfix's own load generator and sink
// (smtp-source and smtp-sink), so that anybody can repeat it by hand. Both sync
// a message to the same disk before they answer 250; both write a log.
//
// What is counted:
//   - The whole job: the clock runs until the sink has every message, not only
//     until the last one was taken.
//   - Processor time of the server's whole process tree, dead children
//     included, and of nothing else: not of the load, not of the sink.
//   - Memory as proportional set size, so that pages shared by Postfix's many
//     processes count once.
//
// It then measures what only one server can show about itself: idle sessions,
// slow sessions, large messages at once, a million queued messages. For these it
// uses the generator in bench/load, because smtp-source cannot make such load.
//
// The part scan does the same with what is in the mail looked at: Gatepost with a
// full content flow beside Postfix with rspamd as milter.
//
// The part connect is about clients that are turned away: Gatepost with all blocks
// before content beside Postfix with postscreen.
//
// The part proxy is about servers that pass mail through and store nothing: Gatepost
// beside nginx and, where it is installed, Haraka. The part pop3 fetches mail from a
// Dovecot through Gatepost, through nginx, and straight.
//
// The part history fills a history and searches it. The part pages asks the web
// administration for its pages when history, quarantine and queue are full.
//
// See docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// options are the command line.
type options struct {
	gatepost string
	dir      string
	only     string
	mail     string
	spam     string
	haraka   string
	short    bool
	verbose  bool
	rounds   int
	queued   int
	idle     int
	events   int
	store    string
	history  string
	held     int
}

func main() {
	var o options
	flag.StringVar(&o.gatepost, "gatepost", "bin/gatepost", "binary to measure")
	flag.StringVar(&o.dir, "dir", ".scratch/bench", "directory for spools and logs; it should be on the disk that a server would use")
	flag.StringVar(&o.only, "only", "", "comma-separated parts to run: relay, scan, connect, proxy, proxyidle, pop3, idle, slow, mixed, large, queue, history, pages; default all")
	flag.StringVar(&o.mail, "mail", "", "directory of raw messages, or pattern of their files, for the part scan; default generated ones")
	flag.StringVar(&o.spam, "spam", "", "the same for spam, which is only learned from")
	flag.StringVar(&o.haraka, "haraka", "", "directory of an installed Haraka (node_modules/Haraka) for the part proxy; without it Haraka is left out")
	flag.BoolVar(&o.short, "short", false, "a taste: fewer jobs, fewer messages, smaller numbers")
	flag.BoolVar(&o.verbose, "v", false, "print each measurement to standard error")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of each relay job; the median is reported")
	flag.IntVar(&o.queued, "queued", 1_000_000, "messages for the part queue")
	flag.IntVar(&o.idle, "idle", 10_000, "sessions for the part idle")
	flag.IntVar(&o.events, "events", 10_000_000, "events for the part history")
	flag.StringVar(&o.store, "store", "", "URL of an empty PostgreSQL database for the part history; default SQLite")
	flag.StringVar(&o.history, "history", "", "directory with a history.db for the part pages, which is copied; default one is made, which takes minutes")
	flag.IntVar(&o.held, "held", 100_000, "quarantined, and queued, messages for the part pages")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.short {
		o.rounds, o.queued, o.idle, o.events, o.held = 1, min(o.queued, 20_000), min(o.idle, 1000), min(o.events, 200_000), min(o.held, 5000)
	}
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	b.machine()
	parts := []struct {
		name string
		run  func(context.Context) error
	}{
		{"relay", b.relay}, {"scan", b.scan}, {"connect", b.connect}, {"proxy", b.proxy}, {"proxyidle", b.proxySessionsOpen}, {"pop3", b.pop3}, {"idle", b.idleSessions}, {"slow", b.slowSessions}, {"mixed", b.mixedSizes},
		{"large", b.largeMessages}, {"queue", b.longQueue}, {"history", b.keepHistory}, {"pages", b.pages},
	}
	var errs []error
	for _, p := range parts {
		if !wanted(o.only, p.name) || ctx.Err() != nil {
			continue
		}
		if err := p.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", p.name, err)
		}
	}
	return errors.Join(errs...)
}

func wanted(only, name string) bool {
	if only == "" {
		return true
	}
	for part := range strings.SplitSeq(only, ",") {
		if strings.TrimSpace(part) == name {
			return true
		}
	}
	return false
}

// bench is one run.
type bench struct {
	o      options
	dir    string // absolute, emptied
	load   string // the load generator's binary
	meters meters
}

func newBench(o options) (*bench, error) {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return nil, err
	}
	if o.gatepost, err = filepath.Abs(o.gatepost); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("empty %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", dir, err)
	}
	if err := raiseFileLimit(); err != nil {
		return nil, err
	}
	b := &bench{o: o, dir: dir, load: filepath.Join(dir, "load")}
	if out, err := exec.Command("go", "build", "-o", b.load, "gatepost/bench/load").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build load generator: %w: %s", err, out)
	}
	return b, nil
}

// close removes spools, which may be large; the logs stay for a look.
func (b *bench) close() {
	matches, err := filepath.Glob(filepath.Join(b.dir, "*", "data"))
	if err != nil {
		return
	}
	for _, m := range append(matches, b.load) {
		// What is left over is overwritten by the next run.
		_ = os.RemoveAll(m)
	}
}

// machine prints what the numbers were measured on.
func (b *bench) machine() {
	var st syscall.Statfs_t
	fs := "unknown file system"
	if err := syscall.Statfs(b.dir, &st); err == nil {
		fs = fileSystem(int64(st.Type))
	}
	fmt.Printf("%d processors, spools on %s\n", processors(), fs)
	if fs == "tmpfs" {
		fmt.Println("WARNING: a sync costs nothing on tmpfs; these numbers say little about a disk")
	}
}

func fileSystem(magic int64) string {
	switch magic {
	case 0xEF53:
		return "ext4"
	case 0x58465342:
		return "XFS"
	case 0x9123683E:
		return "btrfs"
	case 0x01021994:
		return "tmpfs"
	}
	return fmt.Sprintf("file system %#x", magic)
}

// raiseFileLimit allows as many descriptors as the system permits: ten thousand
// sessions need as many, here and in the server, which inherits the limit.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

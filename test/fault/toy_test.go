package fault

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatepost/test/wire"
)

// The ways in which a toy server can be wrong. The toy "right" does none of
// them.
const (
	toyRight          = "right"
	toyAckFirst       = "acknowledges before the data is written"
	toyNoSync         = "does not sync"
	toyNoDirSync      = "renames without syncing the directory"
	toyInPlace        = "writes in place, so that a half message looks like a whole"
	toyIgnoreErrors   = "takes every error for success"
	toyDieOnError     = "ends at the first error of the disk"
	toyNoLock         = "lets a second process in"
	toyOpenModes      = "leaves access to the umask"
	toySpin           = "accepts again at once when there are no descriptors"
	toyDropOnTerm     = "ends at once when asked to end"
	toyDieOnStrange   = "ends at a file that it does not know"
	toyFollowLinks    = "takes a symbolic link for a message"
	toyForgetsOnError = "removes a message when the next hop is unwell"
	toyKeepsAborted   = "keeps what came before the client vanished"
	toyRemoveFirst    = "removes a message before it is delivered"
	toySameName       = "names messages by the second"
)

// toy is a mail relay in a few lines: a file per message, one goroutine that
// delivers. It exists to be right or wrong on purpose.
type toy struct {
	mode           string
	dir, next      string
	number         atomic.Int64
	ln             net.Listener
	sessions       sync.WaitGroup
	stopping       atomic.Bool
	conns          sync.Map
	deliveryPaused time.Time
}

func toyMain(mode string) int {
	t := &toy{mode: mode, dir: os.Getenv("GATEPOST_TEST_DATA"), next: os.Getenv("GATEPOST_TEST_NEXT")}
	if err := t.run(os.Getenv("GATEPOST_TEST_SMTP")); err != nil {
		fmt.Fprintln(os.Stderr, "toy:", err)
		return 1
	}
	return 0
}

func (t *toy) is(modes ...string) bool { return slices.Contains(modes, t.mode) }

func (t *toy) run(addr string) (err error) {
	if t.mode == toyOpenModes {
		err = os.MkdirAll(t.dir, 0o777)
	} else {
		err = os.MkdirAll(t.dir, 0o700)
	}
	if err != nil {
		return err
	}
	if !t.is(toyNoLock) {
		lock, err := os.OpenFile(filepath.Join(t.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer lock.Close()
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return fmt.Errorf("data directory is locked by another process: %w", err)
		}
	}
	if err := t.scan(); err != nil {
		return err
	}
	if t.ln, err = net.Listen("tcp", addr); err != nil && !t.is(toyNoLock) {
		return err
	}
	go t.deliverForever()
	if t.ln == nil {
		select {} // the second process of a toy without a lock: it delivers only
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		if t.is(toyDropOnTerm) {
			os.Exit(0)
		}
		t.stopping.Store(true)
		t.ln.Close()
		t.conns.Range(func(c, _ any) bool {
			// Reads end now; what was begun is answered.
			c.(net.Conn).SetReadDeadline(time.Now().Add(2 * time.Second))
			return true
		})
	}()
	t.accept()
	t.sessions.Wait()
	return nil
}

func (t *toy) accept() {
	for {
		c, err := t.ln.Accept()
		if err != nil {
			if t.stopping.Load() {
				return
			}
			if !t.is(toySpin) {
				<-time.After(100 * time.Millisecond)
			}
			continue
		}
		t.conns.Store(c, true)
		t.sessions.Go(func() {
			defer t.conns.Delete(c)
			defer c.Close()
			t.serve(c)
		})
	}
}

func (t *toy) serve(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(s string) { fmt.Fprint(c, s+"\r\n") }
	say("220 toy")
	var from string
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if t.stopping.Load() {
				say("421 4.3.2 stopping")
			}
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch strings.ToUpper(verb) {
		case "MAIL FROM":
			from, to = arg, nil
			say("250 2.1.0 ok")
		case "RCPT TO":
			to = append(to, arg)
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go")
			reply, ok := t.data(r, from, to)
			if !ok {
				if t.stopping.Load() {
					say("421 4.3.2 stopping")
				}
				return
			}
			say(reply)
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// data receives and spools one message and returns the reply to its final dot.
func (t *toy) data(r *bufio.Reader, from string, to []string) (string, bool) {
	name := fmt.Sprintf("m%d-%d", time.Now().UnixNano(), t.number.Add(1))
	if t.is(toySameName) {
		name = fmt.Sprintf("m%d", time.Now().Unix())
	}
	w := &toyWriter{toy: t, final: filepath.Join(t.dir, name)}
	w.open()
	w.write(from + "\n" + strings.Join(to, ",") + "\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if !t.is(toyKeepsAborted) || w.commit() != nil {
				w.abort()
			}
			return "", false
		}
		if line == ".\r\n" {
			break
		}
		w.write(strings.TrimPrefix(line, "."))
	}
	if t.is(toyAckFirst) {
		go func() {
			<-time.After(20 * time.Millisecond)
			w.commit()
		}()
		return "250 2.0.0 ok", true
	}
	if err := w.commit(); err != nil && !t.is(toyIgnoreErrors) {
		w.abort()
		if t.is(toyDieOnError) {
			fmt.Fprintln(os.Stderr, "toy:", err)
			os.Exit(1)
		}
		if errors.Is(err, syscall.ENOSPC) {
			return "452 4.3.1 disk full", true
		}
		return "451 4.3.0 disk is unwell", true
	}
	return "250 2.0.0 ok " + name, true
}

// toyWriter writes one message to a temporary file that is renamed.
type toyWriter struct {
	toy        *toy
	f          *os.File
	final, tmp string
	err        error
}

func (w *toyWriter) open() {
	w.tmp = w.final + ".tmp"
	if w.toy.is(toyInPlace) {
		w.tmp = w.final
	}
	mode := os.FileMode(0o600)
	if w.toy.is(toyOpenModes) {
		mode = 0o666
	}
	w.f, w.err = os.OpenFile(w.tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
}

func (w *toyWriter) write(s string) {
	if w.err == nil {
		_, w.err = w.f.WriteString(s)
	}
	if w.err == nil && w.toy.is(toyInPlace) {
		// Each piece is on the disk when the next begins, so that a kill at a sync finds
		// half a message whatever the timing is.
		w.err = w.f.Sync()
	}
}

func (w *toyWriter) commit() error {
	if w.err != nil {
		return w.err
	}
	if !w.toy.is(toyNoSync) {
		w.err = w.f.Sync()
	}
	w.f.Close()
	if w.err == nil || w.toy.is(toyIgnoreErrors) {
		if err := os.Rename(w.tmp, w.final); err != nil {
			w.err = err
		}
	}
	if w.err == nil && !w.toy.is(toyNoDirSync, toyNoSync) {
		var d *os.File
		if d, w.err = os.Open(w.toy.dir); w.err == nil {
			w.err = d.Sync()
			d.Close()
		}
	}
	return w.err
}

func (w *toyWriter) abort() {
	if w.f != nil {
		w.f.Close()
		os.Remove(w.tmp)
		os.Remove(w.final)
	}
}

// scan looks at what is in the directory when the toy starts.
func (t *toy) scan() error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		known := e.Name() == "lock" || strings.HasPrefix(e.Name(), "m") && e.Type().IsRegular()
		if !known && t.is(toyDieOnStrange) {
			return fmt.Errorf("what is %s?", e.Name())
		}
		if strings.HasSuffix(e.Name(), ".tmp") {
			if err := os.Remove(filepath.Join(t.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *toy) deliverForever() {
	for range time.Tick(50 * time.Millisecond) {
		entries, err := os.ReadDir(t.dir)
		if err != nil || t.next == "" || time.Now().Before(t.deliveryPaused) {
			continue
		}
		for _, e := range entries {
			if e.Name() == "lock" || strings.HasSuffix(e.Name(), ".tmp") || strings.HasPrefix(e.Name(), "gatepost") {
				continue
			}
			if e.Type().IsRegular() && strings.HasPrefix(e.Name(), "m") || t.is(toyFollowLinks) && !e.IsDir() {
				t.deliver(filepath.Join(t.dir, e.Name()))
			}
		}
	}
}

func (t *toy) deliver(file string) {
	content, err := os.ReadFile(file)
	if err != nil {
		return
	}
	parts := strings.SplitN(string(content), "\n", 3)
	if len(parts) < 3 {
		parts = []string{"<>", "<damaged@in.example>", string(content)}
	}
	trim := func(s string) string { return strings.Trim(strings.Fields(s + " <>")[0], "<>") }
	var to []string
	for _, r := range strings.Split(parts[1], ",") {
		to = append(to, trim(r))
	}
	c, _, err := wire.Hello(t.next, wire.Options{})
	if err != nil {
		return
	}
	defer c.Quit()
	if t.is(toyRemoveFirst) {
		os.Remove(file)
	}
	reply, err := c.Deliver(trim(parts[0]), to, []byte(parts[2]))
	if err == nil && reply.Positive() || t.is(toyForgetsOnError) {
		os.Remove(file)
		return
	}
	t.deliveryPaused = time.Now().Add(time.Second)
}

// processCPU is the user and system time that a process has used, in clock
// ticks of 10 ms.
func processCPU(pid int) (int, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	return user + system, errors.Join(errUser, errSystem)
}

package fault

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/sink"
)

// killedAtEachSync runs the server under strace, which kills it on entering the
// n-th call that makes something durable or visible, for n from 1 on: in
// start-up, reception, delivery or removal, wherever that is. Then the server
// starts again and must have kept what it acknowledged.
func killedAtEachSync(t *testing.T, o gatepost.Options) []string {
	const last = 40
	var (
		mu     sync.Mutex
		wrong  []string
		killed int
		wg     sync.WaitGroup
	)
	steps := make(chan int)
	for range 2 {
		wg.Go(func() {
			for n := range steps {
				hit, bad := killedAtSync(t, o, n)
				mu.Lock()
				if hit {
					killed++
				}
				wrong = append(wrong, bad...)
				mu.Unlock()
			}
		})
	}
	for n := 1; n <= last; n++ {
		if testing.Short() && n > 10 && n%5 != 0 {
			continue
		}
		mu.Lock()
		enough := len(wrong) > 5
		mu.Unlock()
		if enough {
			break
		}
		steps <- n
	}
	close(steps)
	wg.Wait()
	if killed < 8 {
		wrong = append(wrong, fmt.Sprintf("only %d runs came to the call at which they were to be killed", killed))
	}
	slices.Sort(wrong)
	return wrong
}

func killedAtSync(t *testing.T, o gatepost.Options, n int) (hit bool, wrong []string) {
	// Not with --seccomp-bpf: with it strace 6.1 injects errors, but no signals.
	const calls = "fsync,fdatasync,syncfs,renameat,renameat2,linkat,unlinkat"
	o.Wrap = []string{"strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls,
		"-e", "inject=" + calls + ":signal=KILL:when=" + strconv.Itoa(n)}
	r := newRig(t, o)
	// Every other time the next hop takes mail at once, so that deliveries and
	// what follows them are cut as well.
	if n%2 == 1 {
		r.refuse()
	}
	if err := r.g.Start(); err == nil {
		for range 4 {
			if acked, _, err := r.send(30, 3000); err != nil || acked < 30 {
				break
			}
		}
	}
	// A killed process is gone soon; one that never made the n-th call stays.
	_, err := r.g.Wait(500 * time.Millisecond)
	hit = err == nil
	r.g.Kill()
	r.g.Rewrap()
	r.accept()
	if err := r.g.Start(); err != nil {
		return hit, []string{fmt.Sprintf("killed at call %d: does not start again: %v", n, err)}
	}
	wrong = r.sendOne("after the restart")
	wrong = append(wrong, r.settle(4)...)
	r.g.Kill()
	for i := range wrong {
		wrong[i] = fmt.Sprintf("killed at call %d: %s", n, wrong[i])
	}
	return hit, wrong
}

// killedAfterDelivery kills the server when the next hop has the message but
// the server does not know yet: one more copy is right, two or none are not.
func killedAfterDelivery(t *testing.T, o gatepost.Options) []string {
	var wrong []string
	for range 5 {
		r := newRig(t, o)
		kill := make(chan struct{})
		var once sync.Once
		r.next.SetScript(func(s sink.Step) sink.Reaction {
			if s.Stage != sink.EOD {
				return sink.Reaction{}
			}
			first := false
			once.Do(func() { first = true })
			if first {
				close(kill)
				return sink.Reaction{Drop: true, Keep: true}
			}
			return sink.Reaction{}
		})
		if err := r.g.Start(); err != nil {
			return []string{err.Error()}
		}
		go func() {
			<-kill
			r.g.Signal(syscall.SIGKILL)
		}()
		// A quick server delivers, and is killed, before its client has heard the 250.
		if _, _, err := r.send(1, 1000); err != nil {
			t.Log("killed before the answer: ", err)
		}
		r.next.Wait(r.patience, func() bool { return len(r.next.Mails()) > 0 })
		r.g.Kill()
		if err := r.g.Start(); err != nil {
			return append(wrong, "after the kill: "+err.Error())
		}
		if !r.next.Wait(r.patience, func() bool { return len(r.next.Mails()) > 1 }) {
			wrong = append(wrong, "the message whose delivery nobody noted was not tried again")
		}
		wrong = append(wrong, r.sendOne("after the restart")...)
		wrong = append(wrong, r.settle(1)...)
		r.g.Kill()
	}
	return wrong
}

// stoppedInData asks the server to end while twenty clients are in the middle
// of their data. Each must hear 250, and the mail then be delivered, or 421.
func stoppedInData(t *testing.T, o gatepost.Options) []string {
	r := newRig(t, o)
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	var (
		mu    sync.Mutex
		wrong []string
		wg    sync.WaitGroup
	)
	conns, messages := openInData(r, 20)
	r.g.Signal(syscall.SIGTERM)
	for i, c := range conns {
		wg.Go(func() {
			// Half of them finish their message now, the others say no more.
			if i%2 == 0 {
				if err := c.Send(strings.Repeat("more\r\n", 10) + ".\r\n"); err != nil {
					t.Log(err)
				}
			}
			reply, err := c.Reply()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && reply.Code == 250 && i%2 == 0:
				r.book.Acked(messages[i])
			case err == nil && reply.Code == 421:
			default:
				wrong = append(wrong, fmt.Sprintf("client %d hears %v, %v, want 421 (or 250 if it finished)", i, reply, err))
			}
		})
	}
	wg.Wait()
	if status, err := r.g.Wait(30e9); err != nil || status != 0 {
		wrong = append(wrong, fmt.Sprintf("end: status %d, %v", status, err))
	}
	r.g.Kill()
	if err := r.g.Start(); err != nil {
		return append(wrong, "after the stop: "+err.Error())
	}
	wrong = append(wrong, r.sendOne("after the restart")...)
	return append(wrong, r.settle(0)...)
}

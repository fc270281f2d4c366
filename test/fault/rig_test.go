package fault

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

// scenario does something to a server and returns what went wrong.
type scenario struct {
	name string
	run  func(t *testing.T, o gatepost.Options) []string
	// toys are the wrong ones that it must catch.
	toys []string
	// root and programs are what it needs.
	root     bool
	programs []string
}

// scenarios are all of them. The number in front is that of the test catalogue.
func scenarios() []scenario {
	return []scenario{
		{name: "DUR-01 killed at each sync", run: killedAtEachSync, toys: []string{toyAckFirst, toyInPlace},
			root: true, programs: []string{"strace"}},
		{name: "DUR-04 power cut, ext4", run: powerCutExt4, toys: []string{toyNoSync, toyNoDirSync, toyAckFirst},
			root: true, programs: []string{"mkfs.ext4", "xfs_io", "mount"}},
		{name: "DUR-04 power cut, XFS", run: powerCutXFS, toys: []string{toyNoSync, toyNoDirSync},
			root: true, programs: []string{"mkfs.xfs", "xfs_io", "mount"}},
		{name: "DUR-06 sync fails", run: syncFails, toys: []string{toyIgnoreErrors},
			root: true, programs: []string{"strace"}},
		{name: "DUR-08 disk full", run: diskFull, toys: []string{toyIgnoreErrors, toyDieOnError},
			root: true, programs: []string{"mount"}},
		{name: "DUR-09 no inodes", run: noInodes, toys: []string{toyIgnoreErrors, toyDieOnError},
			root: true, programs: []string{"mkfs.ext4", "mount"}},
		{name: "DUR-11 disk full while mail is retried", run: fullWhileRetrying, toys: []string{toyForgetsOnError},
			root: true, programs: []string{"mount"}},
		{name: "DUR-12 no file descriptors", run: noDescriptors, toys: []string{toySpin}, programs: []string{"prlimit"}},
		{name: "DUR-13 killed between delivery and the note of it", run: killedAfterDelivery, toys: []string{toyRemoveFirst}},
		{name: "DUR-15 client resets in the middle", run: clientResets, toys: []string{toyKeepsAborted}},
		{name: "DUR-17 asked to end with sessions in DATA", run: stoppedInData, toys: []string{toyDropOnTerm}},
		{name: "DUR-19 strange files in the data directory", run: strangeFiles, toys: []string{toyDieOnStrange, toyFollowLinks}},
		{name: "DUR-28 second process", run: secondProcess, toys: []string{toyNoLock}},
		{name: "DUR-29 many messages at once and a restart", run: manyAtOnce, toys: []string{toySameName}},
		{name: "DUR-32 umask 000", run: openUmask, toys: []string{toyOpenModes}},
	}
}

func TestGatepostSurvives(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.require(t)
			for _, wrong := range s.run(t, gatepost.Options{}) {
				t.Error(wrong)
			}
		})
	}
}

func TestScenariosCatchToys(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios() {
		for _, mode := range append([]string{toyRight}, s.toys...) {
			t.Run(s.name+"/"+mode, func(t *testing.T) {
				t.Parallel()
				s.require(t)
				wrong := s.run(t, gatepost.Options{Binary: self, Env: []string{toyVar + "=" + mode}})
				t.Logf("%d accusations: %.300q", len(wrong), wrong)
				switch {
				case mode == toyRight && len(wrong) > 0:
					t.Errorf("the toy that does it right is accused: %q", wrong)
				case mode != toyRight && len(wrong) == 0:
					t.Errorf("the toy that %s is not caught", mode)
				}
			})
		}
	}
}

func (s *scenario) require(t *testing.T) {
	t.Helper()
	if s.root {
		peer.RequireRoot(t)
	}
	peer.Require(t, s.programs...)
}

// patience is how long a scenario waits for what must come. It only bounds a
// run that goes wrong, which is what most runs with a toy do.
func patience(o gatepost.Options) time.Duration {
	if o.Binary != "" && !slices.Contains(o.Env, toyVar+"="+toyRight) {
		return 3 * time.Second
	}
	return 20 * time.Second
}

// rig is a server with a recording next hop and the books.
type rig struct {
	t        *testing.T
	patience time.Duration
	next     *sink.Sink
	book     *ledger.Book
	g        *gatepost.Instance
}

// newRig prepares a server but does not start it.
func newRig(t *testing.T, o gatepost.Options) *rig {
	t.Helper()
	r := &rig{t: t, patience: patience(o), book: ledger.NewBook()}
	r.next = sink.Start(t, sink.Options{Received: func(m sink.Mail) { r.book.Arrived(m.Data) }})
	o.Next = r.next.Addr
	r.g = gatepost.New(t, o)
	return r
}

// refuse makes the next hop defer everything, accept lets it take mail again.
func (r *rig) refuse() { r.next.SetScript(sink.Fail(sink.RcptTo, "451 4.3.0 not now")) }
func (r *rig) accept() { r.next.SetScript(nil) }

// send sends up to n messages of the size over one connection and stops at the
// first error or refusal; a refusal, at whatever stage, is a reply and no error.
func (r *rig) send(n, size int) (acked int, reply wire.Reply, err error) {
	c, _, err := wire.Hello(r.g.SMTP, wire.Options{})
	if err != nil {
		return 0, reply, err
	}
	defer c.Close()
	for range n {
		m := ledger.New(size)
		r.book.Sending(m.ID)
		reply, err = c.Deliver("sender@out.example", []string{"user@in.example"}, m.Data)
		if refused, ok := errors.AsType[*wire.RefusedError](err); ok {
			return acked, refused.Reply, nil
		}
		if err != nil || !reply.Positive() {
			return acked, reply, err
		}
		r.book.Acked(m.ID)
		acked++
	}
	return acked, reply, nil
}

// sendOne sends one message and returns what is wrong if it is not taken.
func (r *rig) sendOne(what string) []string {
	if _, reply, err := r.send(1, 1000); err != nil || reply.Code != 250 {
		return []string{fmt.Sprintf("%s: a message is answered %v, %v", what, reply, err)}
	}
	return nil
}

// settle waits until all acknowledged messages have arrived, and returns the
// state of the books.
func (r *rig) settle(duplicates int) []string {
	r.next.Wait(r.patience, func() bool { return r.book.Pending() == 0 })
	return r.book.Audit(duplicates)
}

// run runs a program of the system and returns what is wrong if it fails.
func run(t *testing.T, program string, args ...string) []string {
	t.Helper()
	if r := peer.Run(t, "", program, args...); r.Status != 0 {
		return []string{fmt.Sprintf("%s %q: status %d: %s", program, args, r.Status, r.Output)}
	}
	return nil
}

func must(t *testing.T, program string, args ...string) {
	t.Helper()
	for _, wrong := range run(t, program, args...) {
		t.Fatal(wrong)
	}
}

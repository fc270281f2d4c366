package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"

	"gatepost/internal/gateway"
	"gatepost/internal/mail"
)

// big does not fit in one record of the spool.
var big = crlf("Subject: big\n\n") + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab\r\n", 10000)

const small = "Subject: small\r\n\r\nbody\r\n"

func TestPositiveReplyNamesTheMessageAndQueuesIt(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.envelope("ada@out.example", "bob@in.example")
	got := r.accept(env, small)
	if got.m.Envelope != env || len(got.items) != 1 {
		t.Fatalf("queued %+v", got)
	}
	if body := readAll(t, got.m.Body); body != small {
		t.Errorf("body in the queue is %q", body)
	}
	line := r.traffic.last(t, 1)
	if want := mail.ReplyQueued.Reply().WithID(env.ID); line.id != env.ID || cmp.Diff(want, line.reply) != "" || line.decision.Act != mail.Accept {
		t.Errorf("traffic line %+v", line)
	}
	if env.Subject != "small" || env.Size != int64(len(small)) {
		t.Errorf("subject %q, size %d", env.Subject, env.Size)
	}
}

func TestAfterThePositiveReplyACrashLosesNothing(t *testing.T) {
	for name, data := range map[string]string{"small": small, "big": big, "empty": ""} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			env := r.envelope("ada@out.example", "bob@in.example", "eve@in.example")
			r.accept(env, data)
			for _, percent := range []int{0, 100} {
				left := storedIn(t, crash(r.fs, percent))
				m, ok := left[env.ID]
				if !ok || len(left) != 1 {
					t.Fatalf("%d messages after the crash, want the one that was acknowledged", len(left))
				}
				if m.body != data {
					t.Errorf("%d bytes after the crash, want %d", len(m.body), len(data))
				}
				if diff := cmp.Diff(env.Recipients, m.env.Recipients); diff != "" {
					t.Errorf("recipients (-sent +left):\n%s", diff)
				}
				if len(m.items) != 1 || len(m.items[0].Recipients) != 2 || m.items[0].State != mail.QueueDeferred {
					t.Errorf("queue items after the crash: %+v", m.items)
				}
				if string(m.env.Edits.Prepend) != string(env.Edits.Prepend) || env.Edits.Prepend == nil {
					t.Errorf("Received field after the crash: %q", m.env.Edits.Prepend)
				}
			}
		})
	}
}

func TestBeforeTheFinalDotACrashLeavesNothing(t *testing.T) {
	r := newRig(t, rigOptions{})
	in := r.write(r.envelope("ada@out.example", "bob@in.example"), big)
	if left := storedIn(t, crash(r.fs, 100)); len(left) != 0 {
		t.Errorf("%d messages in the spool before the final dot", len(left))
	}
	in.Abort()
	in.Abort() // as often as one likes
	if len(r.queue.added) != 0 || len(r.traffic.lines) != 0 {
		t.Errorf("queued %v, traffic %v", r.queue.added, r.traffic.lines)
	}
}

// crasher takes a copy of the file system before each write operation.
type crasher struct {
	fs   *vfs.MemFS
	on   atomic.Bool
	mu   sync.Mutex
	left []vfs.FS
}

func (c *crasher) String() string { return "crasher" }

// MaybeError implements errorfs.Injector. It never fails an operation.
func (c *crasher) MaybeError(op errorfs.Op) error {
	if c.on.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.left = append(c.left, crash(c.fs, len(c.left)%3*50))
	}
	return nil
}

// crash returns what a crash leaves when so much of what was not synced
// happens to be on the disk.
func crash(fs *vfs.MemFS, percent int) vfs.FS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, uint64(percent)))})
}

func TestACrashDuringTheCommitLeavesAllOrNothing(t *testing.T) {
	for name, data := range map[string]string{"small": small, "big": big} {
		t.Run(name, func(t *testing.T) {
			c := &crasher{}
			r := newRig(t, rigOptions{wrap: func(fs *vfs.MemFS) vfs.FS {
				c.fs = fs
				return errorfs.Wrap(fs, c)
			}})
			env := r.envelope("ada@out.example", "bob@in.example")
			c.on.Store(true)
			r.accept(env, data)
			c.on.Store(false)
			if len(c.left) == 0 {
				t.Fatal("no write was seen")
			}
			for i, fs := range c.left {
				for id, m := range storedIn(t, fs) {
					if id != env.ID || m.body != data || len(m.items) != 1 {
						t.Errorf("crash %d left message %s with %d of %d bytes", i, id, len(m.body), len(data))
					}
				}
			}
		})
	}
}

// failer fails every sync of the log.
type failer struct {
	err error
	on  atomic.Bool
}

func (f *failer) String() string { return "failer" }

// MaybeError implements errorfs.Injector.
func (f *failer) MaybeError(op errorfs.Op) error {
	sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
	if f.on.Load() && sync && strings.HasSuffix(op.Path, ".log") {
		return f.err
	}
	return nil
}

func TestAFailedSyncIsNeverAPositiveReply(t *testing.T) {
	tests := []struct {
		err  error
		want mail.ReplyKey
	}{
		{syscall.EIO, mail.ReplyLocalError},
		{syscall.ENOSPC, mail.ReplyNoSpace},
	}
	for _, tt := range tests {
		for name, data := range map[string]string{"small": small, "big": big} {
			t.Run(fmt.Sprint(tt.err, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { failSync(t, tt.err, tt.want, data) })
			})
		}
	}
}

func failSync(t *testing.T, err error, want mail.ReplyKey, data string) {
	f := &failer{err: err}
	r := newRig(t, rigOptions{wrap: func(fs *vfs.MemFS) vfs.FS { return errorfs.Wrap(fs, f) }})
	env := r.envelope("ada@out.example", "bob@in.example")
	in := r.write(env, data)
	f.on.Store(true)
	if got := in.Commit(t.Context()); cmp.Diff(want.Reply().WithID(env.ID), got) != "" {
		t.Errorf("reply %v, want %v", got, want.Reply())
	}
	f.on.Store(false)
	if len(r.queue.added) != 0 {
		t.Error("a message that was not acknowledged is in the queue")
	}
	if line := r.traffic.last(t, 1); line.decision.Act != mail.Defer || line.decision.Reason == "" {
		t.Errorf("traffic line %+v", line)
	}
	deadline := time.Now().Add(time.Hour)
	for r.spool.Health() != nil && time.Now().Before(deadline) {
		<-time.After(10 * time.Millisecond) // no time passes outside
	}
	next := r.envelope("ada@out.example", "bob@in.example")
	r.accept(next, small)
	left := storedIn(t, crash(r.fs, 100))
	if _, there := left[env.ID]; there {
		t.Error("the message that the client was told to send again comes back")
	}
	if _, there := left[next.ID]; !there || len(left) != 1 {
		t.Errorf("%d messages after the crash, want the one that was acknowledged", len(left))
	}
}

func TestAFullDiskIsSaidEarlyAndLate(t *testing.T) {
	const spare = 100 << 10
	r := newRig(t, rigOptions{reserve: 5 << 20, freeSpace: func() (int64, error) { return 5<<20 + spare, nil }})
	env := r.envelope("ada@out.example", "bob@in.example")
	for size, want := range map[int64]mail.Act{0: mail.Accept, spare: mail.Accept, spare + 1: mail.Defer} {
		env.Size = size
		d := r.gateway.Mail(t.Context(), env)
		if d.Act != want || want == mail.Defer && d.Reply.String() != mail.ReplyNoSpace.Reply().String() {
			t.Errorf("MAIL with SIZE=%d: %v %v, want %v", size, d.Act, d.Reply, want)
		}
	}
	in, err := r.gateway.Open(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Abort()
	_, err = io.WriteString(in, big)
	var known interface{ SMTPReply() mail.ReplyKey }
	if !errors.As(err, &known) || known.SMTPReply() != mail.ReplyNoSpace {
		t.Errorf("writing beyond the reserve: %v, want an error that chooses 452", err)
	}
	if reply := in.Commit(t.Context()); reply.Code != 452 {
		t.Errorf("commit beyond the reserve: %v, want 452", reply)
	}
	if len(r.queue.added) != 0 {
		t.Error("queued all the same")
	}
	r.accept(r.envelope("ada@out.example", "bob@in.example"), small)
}

func TestMessagesThatAreRefused(t *testing.T) {
	received := func(n int) string {
		return strings.Repeat("Received: from a by b; Mon, 2 Nov 2026 10:00:00 +0000\r\n", n)
	}
	o := rigOptions{maxHops: 10, maxHeader: 4 << 10}
	tests := []struct {
		name string
		data string
		want mail.ReplyKey
	}{
		{"as many hops as may be", received(10) + "\r\n", mail.ReplyQueued},
		{"one hop too many", received(11) + "\r\n", mail.ReplyTooManyHops},
		{"hops in any case, folded and with space before the colon",
			strings.Repeat("RECEIVED: from a\r\n\tby b\r\n", 4) + strings.Repeat("received  : from a\r\n", 4) + received(3) + "\r\n", mail.ReplyTooManyHops},
		{"hops of an attached message", received(9) + "Content-Type: message/rfc822\r\n\r\n" + received(9) + "\r\nx\r\n", mail.ReplyQueued},
		{"hops in a folded field", received(9) + "X-Text: a\r\n Received: b\r\n Received: c\r\n\r\n", mail.ReplyQueued},
		{"a header section at the limit", "X: " + strings.Repeat("x", 4<<10-7) + "\r\n\r\nbody\r\n", mail.ReplyQueued},
		{"a header section above the limit", "X: " + strings.Repeat("x", 4<<10-6) + "\r\n\r\nbody\r\n", mail.ReplyHeaderTooBig},
		{"a header section that never ends", "X: " + strings.Repeat("x", 8<<10), mail.ReplyHeaderTooBig},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, o)
			env := r.envelope("ada@out.example", "bob@in.example")
			got := r.receive(env, tt.data)
			if want := tt.want.Reply().WithID(env.ID); cmp.Diff(want, got) != "" {
				t.Errorf("reply %v, want %v", got, want)
			}
			accepted := tt.want == mail.ReplyQueued
			if (len(r.queue.added) > 0) != accepted {
				t.Errorf("%d messages queued", len(r.queue.added))
			}
			if act := r.traffic.last(t, 1).decision.Act; (act == mail.Accept) != accepted {
				t.Errorf("logged as %v", act)
			}
			if left := storedIn(t, crash(r.fs, 100)); (len(left) > 0) != accepted {
				t.Errorf("%d messages in the spool", len(left))
			}
		})
	}
}

func TestShutdownBeforeTheCommitDefersTheMessage(t *testing.T) {
	r := newRig(t, rigOptions{})
	in := r.write(r.envelope("ada@out.example", "bob@in.example"), small)
	if reply := in.Commit(cancelled(t)); reply.Code != 421 {
		t.Errorf("reply %v, want 421", reply)
	}
	if left := storedIn(t, crash(r.fs, 100)); len(left) != 0 || len(r.queue.added) != 0 {
		t.Error("the message was kept")
	}
}

func TestOneItemForEachDestination(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.trusted(r.envelope("ada@in.example"), "a@in.example", "b@far.example", "c@in.example", "d@FAR.example", "e@other.example")
	got := r.accept(env, small)
	var items []string
	for _, item := range got.items {
		line := fmt.Sprintf("%d %s/%s %s", item.ID.N, item.Transport, item.NextHop, item.State)
		for _, rcpt := range item.Recipients {
			line += " " + rcpt.Address.String()
		}
		items = append(items, line)
		if item.ID.Message != env.ID || !item.Created.Equal(arrival) || !item.NextAttempt.Equal(arrival) || item.Attempts != 0 {
			t.Errorf("item %+v", item)
		}
	}
	want := []string{
		"1 next/ deferred a@in.example c@in.example",
		"2 mx/far.example deferred b@far.example d@FAR.example",
		"3 mx/other.example deferred e@other.example",
	}
	if diff := cmp.Diff(want, items); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if left := storedIn(t, crash(r.fs, 0))[env.ID]; len(left.items) != 3 {
		t.Errorf("%d items in the spool, want 3", len(left.items))
	}
}

func TestAStrangerMayNotRelay(t *testing.T) {
	r := newRig(t, rigOptions{})
	env := r.envelope("ada@in.example")
	for rcpt, want := range map[string]mail.ReplyKey{
		"b@far.example":            mail.ReplyRelayDenied,
		"b%far.example@in.example": mail.ReplyRelayDenied,
		"b@[192.0.2.1]":            mail.ReplyAddressLiteral,
	} {
		recipient := mail.Recipient{Address: address(t, rcpt)}
		d := r.gateway.Rcpt(t.Context(), env, &recipient)
		if d.Act != mail.Reject || cmp.Diff(want.Reply(), d.Reply) != "" {
			t.Errorf("%s: %v %v, want %v", rcpt, d.Act, d.Reply, want.Reply())
		}
	}
}

func TestAGatewayNeedsItsParts(t *testing.T) {
	if _, err := gateway.New(gateway.Config{Hostname: "gw.example.com"}); err == nil {
		t.Error("no error without a spool")
	}
	if _, err := gateway.New(gateway.Config{}); err == nil {
		t.Error("no error without a hostname")
	}
}

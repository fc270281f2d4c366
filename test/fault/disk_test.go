package fault

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/test/gatepost"
	"gatepost/test/ledger"
	"gatepost/test/peer"
	"gatepost/test/sink"
	"gatepost/test/wire"
)

func powerCutExt4(t *testing.T, o gatepost.Options) []string {
	return powerCut(t, o, "ext4", "64M", "mkfs.ext4", "-q", "-F")
}

func powerCutXFS(t *testing.T, o gatepost.Options) []string {
	return powerCut(t, o, "xfs", "320M", "mkfs.xfs", "-q", "-f")
}

// powerCut puts the data directory on a file system of its own, and cuts that
// off right after an acknowledgement, so that nothing is written any more that
// was not written by then. What the server acknowledged must be there when it
// starts again: in the middle of a burst, and the single last message before a
// quiet moment, whose name only a sync of the directory makes durable.
func powerCut(t *testing.T, o gatepost.Options, kind, size string, mkfs ...string) []string {
	dir := t.TempDir()
	image, mountpoint := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	if err := os.Mkdir(mountpoint, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "truncate", "-s", size, image)
	must(t, mkfs[0], append(mkfs[1:], image)...)
	mount := func() { must(t, "mount", "-t", kind, "-o", "loop", image, mountpoint) }
	mount()
	t.Cleanup(func() { peer.Run(t, "", "umount", "-l", mountpoint) })

	o.DataDir = filepath.Join(mountpoint, "data")
	r := newRig(t, o)
	t.Cleanup(r.g.Kill) // before the umount
	var wrong []string
	for round, messages := range []int{1, 25, 1, 3} {
		r.refuse()
		if err := r.g.Start(); err != nil {
			return append(wrong, fmt.Sprintf("round %d: %v", round, err))
		}
		if acked, reply, err := r.send(messages, 20_000); acked != messages {
			return append(wrong, fmt.Sprintf("round %d: %d messages taken, then %v, %v", round, acked, reply, err))
		}
		must(t, "xfs_io", "-x", "-c", "shutdown", mountpoint)
		r.g.Kill()
		must(t, "umount", mountpoint)
		mount()
	}
	r.accept()
	if err := r.g.Start(); err != nil {
		return append(wrong, "after the power cuts: "+err.Error())
	}
	wrong = append(wrong, r.sendOne("after the power cuts")...)
	return append(wrong, r.settle(0)...)
}

// syncFails makes every sync of a running server fail for a while, as a disk
// that dies does. Nothing may be acknowledged meanwhile, a sync that works
// later is no proof for what came before (the kernel has dropped the pages by
// then), and the next message after the repair is taken again; a server that
// ends itself is started again, as systemd would.
func syncFails(t *testing.T, o gatepost.Options) []string {
	r := newRig(t, o)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	wrong := r.sendOne("before the disk fails")
	pid, err := r.g.ServerPid()
	if err != nil {
		t.Fatal(err)
	}
	detach := injectErrors(t, pid, "EIO")
	for range 3 {
		acked, reply, err := r.send(1, 3000)
		if acked > 0 {
			wrong = append(wrong, "a message is acknowledged though no sync works")
		} else if err == nil && reply.Code/100 != 4 {
			wrong = append(wrong, fmt.Sprintf("a message is answered %v while no sync works, want 451", reply))
		}
	}
	detach()
	if !gatepost.Holds(2*time.Second, r.g.Running) || !serves(r.g) {
		t.Log("the server ended or stopped serving when the disk failed; it is started again")
		r.g.Kill()
		if err := r.g.Start(); err != nil {
			return append(wrong, "after the disk is well: "+err.Error())
		}
	}
	r.accept()
	wrong = append(wrong, r.takesAgain("after the disk is well")...)
	return append(wrong, r.settle(0)...)
}

// takesAgain waits until a message is taken: a server may look at its disk only
// once in a while.
func (r *rig) takesAgain(when string) []string {
	if !gatepost.Holds(r.patience, func() bool { acked, _, _ := r.send(1, 1000); return acked == 1 }) {
		return []string{"no mail is taken " + when}
	}
	return nil
}

// serves reports whether a message of no importance is taken.
func serves(g *gatepost.Instance) bool {
	c, _, err := wire.Hello(g.SMTP, wire.Options{Timeout: 5 * time.Second})
	if err != nil {
		return false
	}
	defer c.Close()
	reply, err := c.Cmd("NOOP")
	return err == nil && reply.Code == 250
}

// injectErrors lets every sync of the process fail until the returned function
// is called.
func injectErrors(t *testing.T, pid int, errno string) (detach func()) {
	t.Helper()
	const calls = "fsync,fdatasync,syncfs,sync_file_range,msync"
	cmd := exec.Command(peer.Find("strace"), "-f", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":error="+errno, "-p", strconv.Itoa(pid))
	log := filepath.Join(t.TempDir(), "strace")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gatepost.Eventually(t, "strace is attached", 20*time.Second, func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), "attached")
	})
	return func() {
		// SIGINT makes strace detach; it then ends with the status of a signal.
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
	}
}

// onSmallDisk mounts a file system for the data directory and returns where.
func onSmallDisk(t *testing.T, args ...string) string {
	t.Helper()
	mountpoint := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(mountpoint, 0o700); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", append(args, mountpoint)...)
	t.Cleanup(func() { peer.Run(t, "", "umount", "-l", mountpoint) })
	return mountpoint
}

// diskFull fills the disk of the spool while mail comes in: 452 after the whole
// of the data was read, the session in step, nothing lost, nothing left over,
// and mail is taken again when there is room.
func diskFull(t *testing.T, o gatepost.Options) []string {
	disk := onSmallDisk(t, "-t", "tmpfs", "-o", "size=96m", "tmpfs")
	o.DataDir = filepath.Join(disk, "data")
	o.Limits = "free_disk = \"0B\""
	r := newRig(t, o)
	t.Cleanup(r.g.Kill)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	wrong := r.sendOne("while there is room")
	// These begin while there is room and end when there is none.
	var conns []*wire.Conn
	for range 8 {
		c := r.g.Hello("")
		if err := c.Open("sender@out.example", "user@in.example"); err != nil {
			return append(wrong, "while there is room: "+err.Error())
		}
		conns = append(conns, c)
	}
	filler := fill(t, disk, 2<<20)
	refused := 0
	for _, c := range conns {
		hit, bad := r.finishOnFullDisk(c, ledger.New(3<<20))
		if hit {
			refused++
		}
		wrong = append(wrong, bad...)
	}
	if refused == 0 {
		wrong = append(wrong, "eight messages of 3 MB were taken on a disk with 2 MB left")
	}
	for range 3 {
		if acked, reply, err := r.send(1, 3<<20); acked == 0 && (err != nil || reply.Code/100 != 4) {
			wrong = append(wrong, fmt.Sprintf("with a full disk: %v, %v", reply, err))
		}
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.accept()
	wrong = append(wrong, r.takesAgain("after room was made")...)
	return append(wrong, r.settle(0)...)
}

// finishOnFullDisk sends the data of a message and reports whether it was
// refused for want of room.
func (r *rig) finishOnFullDisk(c *wire.Conn, m ledger.Message) (refused bool, wrong []string) {
	r.book.Sending(m.ID)
	err := c.Send(string(wire.Stuff(m.Data)) + ".\r\n")
	var reply wire.Reply
	if err == nil {
		reply, err = c.Reply()
	}
	if err != nil {
		return false, []string{"no answer to a message that does not fit: " + err.Error()}
	}
	switch {
	case reply.Code == 250:
		r.book.Acked(m.ID)
	case (reply.Code == 452 || reply.Code == 451) && strings.HasPrefix(reply.Text(), "4.3."):
		refused = true
	default:
		wrong = append(wrong, fmt.Sprintf("a message that does not fit is answered %v, want 452 4.3.1", reply))
	}
	if noop, err := c.Cmd("NOOP"); err != nil || noop.Code != 250 {
		wrong = append(wrong, fmt.Sprintf("out of step after a message that does not fit: %v, %v", noop, err))
	}
	return refused, wrong
}

// fill writes a file that leaves so many bytes free.
func fill(t *testing.T, disk string, leave int64) string {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(disk, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := int64(st.Bavail)*st.Bsize - leave; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// noInodes takes all inodes of the disk: messages that need a new file are
// refused, and all that were taken arrive.
func noInodes(t *testing.T, o gatepost.Options) []string {
	image := filepath.Join(t.TempDir(), "image")
	must(t, "truncate", "-s", "128M", image)
	must(t, "mkfs.ext4", "-q", "-F", "-N", "128", image)
	disk := onSmallDisk(t, "-t", "ext4", "-o", "loop", image)
	o.DataDir = filepath.Join(disk, "data")
	o.Limits = "free_disk = \"0B\""
	r := newRig(t, o)
	t.Cleanup(r.g.Kill)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	wrong := r.sendOne("while there are inodes")
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(disk, "inode"+strconv.Itoa(i)))
		if err != nil {
			break
		}
		f.Close()
	}
	for range 40 {
		if !r.g.Running() {
			return append(wrong, "ended for lack of inodes")
		}
		if _, reply, err := r.send(1, 1_000_000); err != nil || reply.Code != 250 && reply.Code/100 != 4 {
			wrong = append(wrong, fmt.Sprintf("without inodes: %v, %v", reply, err))
		}
	}
	files, err := filepath.Glob(filepath.Join(disk, "inode*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	wrong = append(wrong, r.takesAgain("after there are inodes again")...)
	r.accept()
	return append(wrong, r.settle(0)...)
}

// fullWhileRetrying fills the disk to the last byte after mail was accepted
// whose next hop is unwell: its state cannot be written, yet it stays, is tried
// at its pace and leaves when the next hop is well.
func fullWhileRetrying(t *testing.T, o gatepost.Options) []string {
	disk := onSmallDisk(t, "-t", "tmpfs", "-o", "size=96m", "tmpfs")
	o.DataDir = filepath.Join(disk, "data")
	o.Limits = "free_disk = \"0B\""
	r := newRig(t, o)
	t.Cleanup(r.g.Kill)
	r.refuse()
	if err := r.g.Start(); err != nil {
		return []string{err.Error()}
	}
	wrong := r.sendOne("while there is room")
	filler := fill(t, disk, 0)
	attempts := func() int { return countMail(r.next) }
	before, since := attempts(), time.Now()
	r.next.Wait(6*time.Second, func() bool { return attempts() > before+20 })
	if n, d := attempts()-before, time.Since(since); float64(n) > 3*d.Seconds()+3 {
		wrong = append(wrong, fmt.Sprintf("%d attempts in %v", n, d.Round(time.Millisecond)))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	r.accept()
	wrong = append(wrong, r.takesAgain("after room was made")...)
	return append(wrong, r.settle(0)...)
}

// countMail is how often MAIL was said to the sink.
func countMail(s *sink.Sink) int {
	n := 0
	for _, raw := range s.Wire() {
		n += strings.Count(raw, "MAIL FROM")
	}
	return n
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// meter counts the processor time and the memory of a process and everything
// that it started.
//
// With a cgroup of version 2 the server is started inside one of its own, and
// the kernel keeps the sum, dead processes included. Without one, the sum is
// taken over the tree below the process: user and system time of each process
// and of the children that it has waited for, in ticks of 10 ms. Postfix's
// master waits for its children, so none is missed either way.
type meter struct {
	cgroup string // directory; "" without
	pid    int
	beside int // another process that counts with its tree; 0 for none
}

// meters makes names for cgroups that do not repeat within a run.
type meters struct{ n atomic.Int64 }

// newMeter makes the cgroup, if that is possible here.
func (ms *meters) newMeter() *meter {
	parent := cgroupParent()
	if parent == "" {
		return &meter{}
	}
	dir := filepath.Join(parent, fmt.Sprintf("gatepost-bench-%d-%d", os.Getpid(), ms.n.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return &meter{}
	}
	return &meter{cgroup: dir}
}

// close removes the cgroup; its processes must have ended.
func (m *meter) close() {
	if m.cgroup == "" {
		return
	}
	deadline := time.Now().Add(5 * time.Second)
	for os.Remove(m.cgroup) != nil && time.Now().Before(deadline) {
		<-time.After(50 * time.Millisecond)
	}
}

// cgroupParent is the directory of this process's own cgroup of version 2, or
// "" where there is none.
func cgroupParent() string {
	mount := ""
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			mount = f[1]
		}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || mount == "" {
		return ""
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(mount, path)
		}
	}
	return ""
}

// method says how processor time is counted.
func (m *meter) method() string {
	if m.cgroup != "" {
		return "cgroup v2 cpu.stat"
	}
	return "utime+stime+cutime+cstime over the process tree"
}

// cpu is the processor time used so far.
func (m *meter) cpu() (time.Duration, error) {
	if m.cgroup != "" {
		stat, err := os.ReadFile(filepath.Join(m.cgroup, "cpu.stat"))
		if err != nil {
			return 0, fmt.Errorf("read cpu.stat: %w", err)
		}
		var usec int64
		if _, err := fmt.Sscanf(string(stat), "usage_usec %d", &usec); err != nil {
			return 0, fmt.Errorf("read cpu.stat: %w", err)
		}
		return time.Duration(usec) * time.Microsecond, nil
	}
	var ticks int64
	for _, pid := range m.pids() {
		ticks += ticksOf(pid)
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// pids are the processes now.
func (m *meter) pids() []int {
	if m.cgroup == "" {
		pids := tree(m.pid)
		if m.beside != 0 {
			pids = append(pids, tree(m.beside)...)
		}
		return pids
	}
	procs, err := os.ReadFile(filepath.Join(m.cgroup, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, f := range strings.Fields(string(procs)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func tree(pid int) []int {
	pids := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return pids
	}
	for _, file := range tasks {
		// A thread may have ended since.
		children, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(children)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// ticksOf is utime, stime, cutime and cstime of a process, 0 if it has ended.
func ticksOf(pid int) int64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest)
	if len(f) < 15 {
		return 0
	}
	var sum int64
	for _, s := range f[11:15] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return sum
		}
		sum += n
	}
	return sum
}

// memory is the proportional set size of all processes, in bytes.
func (m *meter) memory() int64 {
	var sum int64
	for _, pid := range m.pids() {
		sum += pss(pid)
	}
	return sum
}

func pss(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int64
		if n, _ := fmt.Sscanf(s.Text(), "Pss: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	return 0
}

// peak is the resident set size that a single process reached at most (VmHWM).
func peak(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read process status: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10, nil
		}
	}
	return 0, errors.New("no VmHWM in process status")
}

// watchMemory samples the memory until stop is called, which returns the most
// that was seen.
func (m *meter) watchMemory(every time.Duration) (stop func() int64) {
	var most atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			most.Store(max(most.Load(), m.memory()))
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() int64 {
		close(done)
		wg.Wait()
		return most.Load()
	}
}

func processors() int { return runtime.NumCPU() }

// directorySize is the bytes that a directory takes.
func directorySize(dir string) int64 {
	var sum int64
	// Files come and go while we look; what cannot be seen does not count.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}

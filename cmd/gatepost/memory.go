package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// heedMemoryLimit has the garbage collector work harder before the process reaches
// the limit of its cgroup (systemd's MemoryMax, a container's), where the kernel
// would kill it. GOMEMLIMIT, where it is set, comes first. It returns the limit in
// bytes, 0 for none.
func heedMemoryLimit() int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return debug.SetMemoryLimit(-1)
	}
	limit := cgroupLimit("/proc/self/cgroup", "/sys/fs/cgroup")
	if limit == 0 {
		return 0
	}
	// The rest is for what the collector does not count: stacks, the binary, SQLite's
	// and Pebble's own.
	limit -= limit / 7
	debug.SetMemoryLimit(limit)
	return limit
}

// cgroupLimit is the lowest memory.max (cgroup v2) on the way from the process's
// group to the root, in bytes; 0 where there is none.
func cgroupLimit(self, root string) int64 {
	text, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	var group string
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			group = rest
		}
	}
	if group == "" {
		return 0
	}
	lowest := int64(0)
	for dir := filepath.Clean("/" + group); ; dir = filepath.Dir(dir) {
		if text, err := os.ReadFile(filepath.Join(root, dir, "memory.max")); err == nil {
			n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			if err == nil && n > 0 && (lowest == 0 || n < lowest) {
				lowest = n
			}
		}
		if dir == "/" {
			return lowest
		}
	}
}

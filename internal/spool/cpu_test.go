package spool

import (
	"runtime"

	"golang.org/x/sys/unix"
)

func usage() unix.Rusage {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for bad arguments only
	return u
}

// cpuTime is the CPU time of the process in nanoseconds.
func cpuTime() int64 {
	u := usage()
	return u.Utime.Nano() + u.Stime.Nano()
}

// residentPeak is the most memory that the process ever had, in bytes.
func residentPeak() int64 { return usage().Maxrss << 10 }

// heapInUse is the live heap after a collection.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

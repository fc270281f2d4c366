package main

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"syscall"
	"time"

	"gatepost/internal/config"
	"gatepost/internal/smtpserver"
)

// Sessions are turned away (421) before descriptors or memory run out: a client that is
// told to come again loses nothing, a process that can't open a file or is killed does.

// Descriptors of a process: what is not for sessions, and how many a session may take:
// its own connection, and one to the server behind.
const (
	otherDescriptors      = 512
	descriptorsPerSession = 2
)

// limiterLimits are the configured limits, and no more sessions than there are
// descriptors for.
func limiterLimits(cfg *config.Config) smtpserver.Limits {
	return smtpserver.Limits{Sessions: min(cfg.Limits.MaxSessions, sessionsFor(descriptorLimit())), PerNetwork: cfg.Limits.MaxSessionsPerIP,
		IPv4Prefix: cfg.Limits.IPv4Prefix, IPv6Prefix: cfg.Limits.IPv6Prefix}
}

// sessionsFor is how many sessions a process may have that may open so many files.
func sessionsFor(descriptors uint64) int {
	if descriptors > math.MaxInt32 {
		return math.MaxInt32
	}
	n := int(descriptors)
	// With very few, half of them are better than none.
	return max(1, (n-min(otherDescriptors, n/2))/descriptorsPerSession)
}

// descriptorLimit is how many files the process may open. The Go runtime raises the soft
// limit to the hard one at the start (since Go 1.19).
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return math.MaxUint64 // then nobody knows of a limit
	}
	return limit.Cur
}

// warnOfFewDescriptors tells that max_sessions can't be reached.
func (a *app) warnOfFewDescriptors(cfg *config.Config) {
	if most := limiterLimits(cfg).Sessions; most < cfg.Limits.MaxSessions {
		a.log.Warn("fewer sessions than max_sessions are possible: the limit of open files is too low",
			"sessions", most, "max_sessions", cfg.Limits.MaxSessions, "open_files", descriptorLimit())
	}
}

// shedEvery is how often it is looked how much memory is in use.
const shedEvery = time.Second

// watchMemory turns new sessions away while memory is short, until the process stops.
func (a *app) watchMemory() {
	tick := time.NewTicker(shedEvery)
	defer tick.Stop()
	short := false
	for {
		select {
		case <-tick.C:
		case <-a.running.Done():
			return
		}
		used, limit := memoryInUse(), debug.SetMemoryLimit(-1)
		now := memoryShort(used, limit, a.listening().Limits.ShedMemory)
		if now == short {
			continue
		}
		short = now
		a.limiter.Shed(short)
		if short {
			a.log.Warn("memory is short: new sessions are turned away", "bytes", used, "limit", limit)
		} else {
			a.log.Info("memory is no longer short", "bytes", used, "limit", limit)
		}
	}
}

// memoryShort reports whether what is in use is more than so many percent of the limit;
// without one nothing is ever short.
func memoryShort(used uint64, limit int64, percent int) bool {
	return limit < math.MaxInt64 && percent > 0 && used > uint64(limit)/100*uint64(percent)
}

// memoryInUse is what the collector can't free: the heap that was alive when it looked
// the last time, stacks, and its own books. What is above that is garbage, of which there
// is always as much as the limit allows.
func memoryInUse() uint64 {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/memory/classes/os-stacks:bytes"},
		{Name: "/memory/classes/metadata/other:bytes"}, {Name: "/memory/classes/other:bytes"},
	}
	metrics.Read(samples)
	var sum uint64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}

// roomHealth is whether new sessions are taken.
func (a *app) roomHealth() error {
	if a.limiter.Shedding() {
		return fmt.Errorf("new sessions are turned away: %w", errMemoryShort)
	}
	return nil
}

var errMemoryShort = errors.New("memory is short")

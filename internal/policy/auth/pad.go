package auth

import (
	"sync"
	"time"
)

// pad makes answers of no take the same time, whichever backend gave them: the next
// multiple of grid that the slowest of late has fitted in.
type pad struct {
	grid, most time.Duration

	mu      sync.Mutex
	slowest time.Duration
}

// until returns how long an answer that took so long has to take.
func (p *pad) until(took time.Duration) time.Duration {
	if p.grid <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// It is forgotten slowly: a backend that was slow once does not cost for good.
	p.slowest = min(max(took, p.slowest-p.slowest/64), p.most)
	return (p.slowest + p.grid - 1) / p.grid * p.grid
}

package spool

import (
	"fmt"
	"sync"
	"time"
)

// spaceAge is how long an answer of the file system is good for.
const spaceAge = time.Second

// space knows how much the disk has left.
type space struct {
	reserve int64
	free    func() (int64, error) // nil: unlimited

	mu    sync.Mutex
	asked time.Time
	left  int64
	err   error
}

// check reports whether n more bytes leave the reserve untouched.
func (s *space) check(n int64) error {
	if s.free == nil {
		return nil
	}
	left, err := s.get()
	if err != nil {
		return err
	}
	if left-n < s.reserve {
		return fmt.Errorf("%w: %d bytes free, %d wanted, %d reserved", ErrNoSpace, left, n, s.reserve)
	}
	return nil
}

// take is check for bytes that are written now: until the file system is asked
// again they count as gone, so that many writers at once stay above the reserve.
func (s *space) take(n int64) error {
	if s.free == nil {
		return nil
	}
	if err := s.check(n); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left -= n
	return nil
}

// get asks the file system at most once per spaceAge. One caller asks, the
// others go on with the last answer.
func (s *space) get() (int64, error) {
	s.mu.Lock()
	if !s.asked.IsZero() && time.Since(s.asked) < spaceAge {
		defer s.mu.Unlock()
		return s.left, s.err
	}
	s.asked = time.Now()
	s.mu.Unlock()

	left, err := s.free()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.err = left, err
	return left, err
}

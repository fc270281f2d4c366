package queue

// Destinations is how many destinations the queue remembers.
func Destinations(q *Queue) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.sched.numbers)
}

// Package lookup keeps answers: those of a service that is asked over a network
// (Cache), and what a file said when it was read (File).
//
//	answers := lookup.NewCache(lookup.Config{}, func(known bool) bool { return !known })
//	known, err := answers.Get(ctx, "user@example.com", ask)
//
// Invariants:
//   - Equal questions of one moment are asked once. A question ends with the last
//     of those who wait for it, so that no goroutine outlives the work it is for.
//   - An error is never kept as an answer; it is only repeated for a moment, so
//     that a service that is down is not asked by everyone at once.
//   - A file that has gone bad never changes what is known: the last good state
//     stays and the log says so, once.
//   - No lock is held while a service or a disk is asked.
package lookup

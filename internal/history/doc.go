// Package history keeps what happened: to sessions, messages and queue items, and
// what administrators did. It is told events (mail.Event), finds them again by what
// stands in them, counts them by the hour, and shows them live to whoever watches.
//
// The way of an event: Note encodes it in the goroutine that saw it; where it is
// about an accepted message it becomes a note in the spool, in front of what is done
// next to that message, so that a crash loses neither or both. A writer puts what has
// gathered into a segment of the store every few seconds, and drops the notes. Other
// segments are merged into larger ones (docs/adr has why).
//
// Invariants:
//   - Note never fails and never waits for the store. What does not fit is dropped
//     and counted, with one exception: events that are in the spool wait there, up to
//     a bound.
//   - A segment is never changed. Its events are in the order of their IDs, and IDs are
//     in the order of time; so a page of results stays what it was.
//   - Who may see some domains only is shown events of these, and of their recipients
//     only those (see visible.go), wherever the events come from.
package history

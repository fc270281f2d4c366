// Package queue delivers what the spool holds: it decides which queue item is
// tried when, hands it to its transport, keeps the outcome of each recipient,
// tries again, gives up, and tells the sender.
//
// Invariants:
//   - The store is the truth. The scheduler keeps a small fixed record per item
//     and reads item, envelope and body when an attempt begins; memory does not
//     grow with the size of the mail that waits.
//   - No item leaves the store before every recipient is delivered, or failed
//     and its report durable (or none due). A crash at any point repeats an
//     attempt or a report; it never loses one.
//   - Destinations (transport and next hop) do not wait for each other: each has
//     its own ready list, limit and back-off, and the slots that all of them
//     share are kept from being used up by those that are slow or dead.
//   - Only a failed attempt ends an item. Age alone, a stepped clock, a pause
//     or a dead destination never does.
//   - The lock is never held across a call to the store, a transport or the
//     bouncer.
package queue

// Package spool keeps messages on disk from the moment they are accepted until
// the last queue item is done. It is one Pebble store: body chunks, envelopes,
// queue items, a small schedule record for each item, and settings.
//
// Invariants:
//   - Writer.Commit returns nil only after the whole message is durable. What
//     was answered so survives a crash, a power cut and a full disk; what was
//     not is there completely or not at all.
//   - A sync that failed is never trusted later: the messages that waited for it
//     are refused, and nothing is accepted until everything in memory has been
//     written to a fresh file and synced (see health.go).
//   - A damaged record, block or file stops nothing but itself: its bytes are
//     kept under Dir/corrupt, it is named in the log and in SetAside.
//   - Every record carries a version and a CRC32C. The body of a message is
//     never held in memory as a whole when it is larger than one chunk.
//   - Calls for different items may run at the same time. Calls that change the
//     same item must not overlap: the queue owns each of its items.
package spool

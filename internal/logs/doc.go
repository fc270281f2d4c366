// Package logs writes Gatepost's log files: mail.log, which holds everything,
// smtp_proxy.log, one line for each mail that passed the SMTP proxy, and pop_proxy.log,
// one for each message that was fetched through the POP3 proxy and for each session.
// With no directory configured all go to standard error.
//
//	l, err := logs.Open(logs.Config{Dir: "/var/log/gatepost"})
//	queue := l.Logger("Queue")
//	queue.Info("delivered", "id", id, "host", host)
//
// Invariants:
//   - One record is one line. Whatever a remote peer put into a value, control
//     characters, line separators and text-direction marks are escaped, and a
//     value is cut at Config.MaxValue bytes.
//   - Logging never waits for a disk. A line goes into a bounded buffer; one
//     goroutine per file writes it within Config.FlushEvery. When the disk fails
//     or is too slow, lines are kept up to Config.Buffer, then dropped, counted
//     and reported by Health, and mail flows on.
//   - A file and its backups never take more than MaxSize × (Backups + 1).
//   - Values under keys that name secrets (password, token, …) are not written.
package logs

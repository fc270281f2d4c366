// Package smtpserver is the server side of SMTP: listeners, sessions, and one file
// for each verb. It knows the protocol and its limits and nothing of domains,
// queues or scanners; those are behind the small interfaces in hooks.go.
//
// Invariants:
//   - Only CRLF ends a command, only CRLF.CRLF ends DATA. A command line with a
//     bare CR or LF is answered 500 and ends the session, because what stands
//     behind it may be meant as a command by somebody else.
//   - After an error inside mail data the session is in step or closed: the rest of
//     a message is never read as commands.
//   - A 250 to the end of data is exactly what Intake.Commit returned; a message
//     that did not come to its end is given to Intake.Abort.
//   - Each session is one goroutine with a deadline on every read and write; what it
//     buffers, counts and waits for is bounded by Config.
//   - Nothing the client sent before STARTTLS is believed or executed after it.
//   - Credentials and message content never reach the log.
package smtpserver

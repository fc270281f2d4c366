// Package smtp is the grammar of SMTP in both directions: command lines,
// addresses and parameters, replies, and the strict readers and writers of mail
// data. It has no state of a session and opens no connection; smtpserver and
// smtpclient are built on it.
//
// Invariants:
//   - Only CRLF ends a command line, only CRLF.CRLF ends DATA.
//   - What a parser accepts can be written back to a wire without adding a line:
//     no accepted address, parameter or reply holds CR, LF or NUL.
//   - Every reader has a bound on what it buffers.
package smtp

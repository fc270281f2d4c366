// Package smtpclient holds one outbound conversation over SMTP or LMTP: connect,
// greet, STARTTLS, AUTH, and any number of messages. It decides nothing about
// where mail goes, whether TLS is good enough, or what to try next; package
// transport does.
//
// Invariants:
//   - Each recipient of a message gets exactly one answer: the remote's reply
//     word for word, or ours where the remote gave none.
//   - A reply is matched with the command that it answers or the session is over.
//     What arrives without a command, what has an unexpected code, and what is not
//     a reply at all ends the session, and the mail is tried again later.
//   - Deferred is the answer to every doubt. Failed needs a 5xx to MAIL, RCPT,
//     DATA or the message itself, or a fact about the message that will not change.
//   - Every wait has an end: one per stage (RFC 5321 §4.5.3.2), and the context.
//   - Nothing illegal is written: paths and parameters without control
//     characters, data through smtp.DataWriter.
package smtpclient

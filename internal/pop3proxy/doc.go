// Package pop3proxy stands between POP3 clients and their servers: listeners, sessions,
// the conversation with the server behind each session, and one file for each group of
// verbs. What becomes of a message is decided behind the small interfaces in hooks.go.
//
// Invariants:
//   - No byte of a message reaches a client before the whole of it was judged. What the
//     client then gets is exactly what was judged, with the edits of the verdict, or a
//     notice in its place. Commands that are not known are not passed on.
//   - A message that could not be judged, or that broke off, never ends with a dot: the
//     client gets -ERR, or the end of the connection.
//   - One command is with the server at a time. Replies are in the order of the commands,
//     and a server that says more than it was asked ends the session.
//   - Commands are written anew, never passed on as they came. QUIT reaches the server
//     only when the client said it: who vanishes deletes nothing.
//   - What opens a mailbox is passed on and forgotten. It never reaches a log.
//   - Each session is one goroutine, and a second one while a message is judged. What it
//     buffers, counts and waits for is bounded by Config.
//   - Nothing that came before STLS, on either side, is believed or executed after it.
package pop3proxy

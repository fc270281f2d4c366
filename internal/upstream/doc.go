// Package upstream is the far half of the pass-through proxy: it holds sessions
// with the servers behind Gatepost and gives each transaction of a client one of
// them, command by command, with the server's own answers.
//
//	up, err := upstream.New(upstream.Config{Name: "exchange", Hosts: …}, upstream.Deps{…})
//	tx, res := up.Begin(ctx, envelope)        // MAIL; tx is nil unless it was accepted
//	res = tx.Rcpt(ctx, &recipient)            // RCPT
//	res = tx.Data(ctx, upstream.Content{…})   // DATA or BDAT up to the answer to the end
//	tx.Abort()                                // instead of Data: nothing is delivered
//
// Invariants:
//   - An upstream gets commands that are written here from parsed values, never
//     bytes of a client; and the end of the data only where the content was
//     written without an error.
//   - A reply that an upstream gave is passed on word for word. What cannot be
//     matched with a command, or has a code that does not belong there, ends the
//     session and is a 451 of ours. So is every outage: it is never a 5xx.
//   - Result.Fault says whether the upstream can have the message: only then may a
//     caller not queue it instead without telling of a possible duplicate.
//   - A transaction is begun a second time only in the place of a session from the
//     pool that turns out to be dead, and never once a recipient was answered.
//   - A session keeps nothing of one transaction for the next: it is reset or
//     closed before it is given away, and never serves another client where it
//     was opened in the name of one.
//   - There are at most Config.Sessions sessions to one address, MaxWaiting
//     transactions wait for one, and no wait is without end.
package upstream

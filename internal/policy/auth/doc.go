// Package auth decides whether a client is who it says: it asks the backends of an
// authentication flow in their order, slows down who guesses, and says what a user
// may do after that.
//
//	gate, err := auth.New(auth.Config{Blocks: []auth.Block{{Use: "auth-file", Backend: users}}})
//	decision := gate.Authenticate(ctx, session, user, password) // smtpserver.Authenticator
//
// Invariants:
//   - Who is let in was let in by a backend. Where none says yes or no, and one
//     could not tell, the client may try again (454).
//   - A user who does not exist and a wrong password have the same answer, text and
//     time: answers of no are padded to the same length.
//   - Guessing gets slower with each failure, for the account and for the network;
//     then the network waits. No account is ever locked: what is locked is a network,
//     or one account for one network. A user who logged in from a network before is
//     spared what others do there.
//   - Memory is bounded, whatever names and addresses are tried.
//   - No password is logged, returned, or kept longer than the attempt; of wrong
//     ones a keyed hash is.
package auth

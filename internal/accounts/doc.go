// Package accounts knows who may use the administration: local accounts with their
// passwords and second factors, what each role may do, sessions of browsers, tokens
// of programs, and the log of what was done.
//
//	a, err := accounts.New(accounts.Config{Store: s})
//	err = a.Create(ctx, accounts.Account{Name: "ada", Role: accounts.Administrator}, password)
//	secret, session, err := a.Open(ctx, accounts.Session{Account: "ada", Role: …})
//
// Invariants:
//   - The store never has a password, the secret of a session or a token: it has
//     an Argon2id hash of the first and SHA-256 sums of the others, which are random.
//   - A name that is not there and a wrong password cost the same time.
//   - A session ends with its idle time, its absolute time, a change of the
//     password, role or second factor elsewhere, and when its account goes.
//   - A code of the second factor works once.
//   - The last administrator with a password is neither deleted nor made less.
//   - What a role may do stands in one table, in role.go, and nowhere else.
package accounts

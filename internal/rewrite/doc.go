// Package rewrite changes addresses by tables, in the order in which Postfix does
// it: canonical, masquerade, automatic BCC, virtual alias; then the transport map
// and the relocated users, which say where a recipient's mail goes; generic when
// the mail leaves.
//
//	e, errs := rewrite.New(rewrite.Config{Virtual: []rewrite.Table{{File: "/etc/gatepost/virtual"}}})
//	x, err := e.Recipient(ctx, address, nil) // x.To are those who get the mail
//
// Invariants:
//   - An error means that a table can't be asked now, or that the tables go round
//     in circles. Then nothing is decided: the mail waits, it is neither refused
//     nor sent to half of its recipients.
//   - A table never makes an address that can't stand on the wire: every result is
//     parsed, also one that an expression made of a stranger's address.
//   - Headers are changed at the very bytes of an address; names, comments, folding
//     and the body stay as they are.
//   - An address that no table names stays as it was written.
package rewrite

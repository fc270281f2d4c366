// Package transport takes messages to their next hop: over SMTP to given hosts
// or to the mail exchangers of a domain, over LMTP, into a maildir, or nowhere.
// One file is one kind; relay.go is the way of a message over SMTP and LMTP.
//
//	t, err := transport.New(transport.Config{Name: "exchange", Kind: transport.SMTP, …}, deps)
//	outcomes := t.Deliver(ctx, delivery)
//
// Invariants:
//   - Deliver returns one outcome per recipient in their order, whatever happens,
//     and changes nothing of what it was given.
//   - A next hop that does not keep to the TLS policy gets no byte of the mail.
//   - A message leaves as it is or as the standards let it be converted; what
//     would have to be mangled fails with a reply that says so.
//   - Failed needs a definite no: a 5xx about the message, a domain that does not
//     exist or takes no mail. Outages, policies and doubts are Deferred.
//   - There are at most Config.Sessions sessions to one address at any moment.
package transport

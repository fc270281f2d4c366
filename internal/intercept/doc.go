// Package intercept finds out whom a connection was really from and meant for,
// when something stands between the client and Gatepost: a load balancer that
// speaks the PROXY protocol, or a firewall that diverts connections to us.
//
// A diverted connection was meant for a server elsewhere: Original says for
// which, Guard refuses what would come back to ourselves, and Dialer goes on to
// the server, with a mark by which the firewall lets us through, and if wanted
// from the client's own address.
//
// Invariants:
//   - Nothing here decides whom to believe: callers ask only for connections from
//     networks, or at listeners, that the configuration names.
//   - A header is read to its last byte and no further, so that the next reader,
//     a TLS handshake for example, starts at the right place.
//   - What is malformed in any way is an error, never a guess.
//   - Our own connection, diverted to ourselves, is found at the first turn, even
//     where the rules of the firewall are not ours and know no mark.
package intercept

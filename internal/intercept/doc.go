// Package intercept finds out whom a connection was really from and meant for,
// when something stands between the client and Gatepost: for now a load balancer
// that speaks the PROXY protocol.
//
// Invariants:
//   - Nothing here decides whom to believe: callers ask only for connections from
//     networks that the configuration names.
//   - A header is read to its last byte and no further, so that the next reader,
//     a TLS handshake for example, starts at the right place.
//   - What is malformed in any way is an error, never a guess.
package intercept

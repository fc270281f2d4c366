// Package icap is the block "icap": it gives messages and the files in them to an
// antivirus server that speaks ICAP (RFC 3507), as web proxies do, and says what
// the server thinks of them.
//
//	s, err := icap.New(icap.Config{URL: "icap://127.0.0.1:1344/avscan"})
//	defer s.Close()
//	findings, err := s.Scan(ctx, in)
//
// Invariants:
//   - Clean is 204, or 200 with what was sent, byte for byte. A named threat or
//     something else in its place is a match. Whatever else comes is an error,
//     which means unknown.
//   - The service is asked for its OPTIONS before its first request and every
//     minute, and must then find the EICAR test file: one that finds nothing, such
//     as an echo service, does not count as a scanner.
//   - Connections are bounded by Config.Sessions and by what the server allows, and
//     used again. Nobody waits for a server that is known to be down.
//   - Bodies are streamed; what the server says is hostile text.
package icap

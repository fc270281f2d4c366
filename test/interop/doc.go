// Package interop holds tests of the real binary against real peers, on loopback:
// swaks, smtp-source and smtp-sink, a Postfix of its own on either side, openssl
// and nmap. It has no code but tests; harness and peers are in the packages
// beside it. Where a peer is missing a test is skipped, or fails if
// GATEPOST_REQUIRE_PEERS is set, as `make test` does.
package interop

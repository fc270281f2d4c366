// Package firewall writes the rules by which Linux diverts connections to
// Gatepost, and puts them in place: one table of nftables, a second one where a
// bridge carries them, and for mode TProxy one routing rule and one route for
// each IP family.
//
// Invariants:
//   - It touches the tables "inet gatepost" and "bridge gatepost", and routing rules
//     and routes with exactly its mark, table number and priority; nothing else.
//   - The tables are replaced in one transaction: there is no moment with half of
//     the rules. Applying twice is the same as applying once.
//   - Connections that Gatepost makes itself carry a mark and are never diverted,
//     and neither is what is meant for the host itself.
//   - Everything in a Config is a number, an address or a name that was checked:
//     nothing from a configuration file can become a rule of its own.
//
// It does not switch forwarding on, opens no ports and filters nothing: a packet
// that is not diverted goes where it would have gone.
package firewall

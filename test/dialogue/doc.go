// Package dialogue talks to the real binary as clients, next hops and
// administrators do, and compares what each of them gets to see: the replies,
// the bytes that leave, the reports, the queue, the log.
//
// The files testdata/*.txtar are dialogues that can be read without knowing Go;
// script_test.go says what may stand in them. What needs a table, a key or a
// name server is a Go test beside it. Both are also tried against a gateway with flows
// of every stage, limits of users and rewriting tables: flowson_test.go has its set-up,
// eachWay runs a test twice. A number such as SMG-07 in a name or a
// comment is a case of the catalogue that the tests follow.
//
// Invariants:
//   - Each test has a gateway of its own, and next hops of its own.
//   - In every test, no client's trick ever makes a bare CR, a bare LF or a NUL
//     go out to a next hop.
package dialogue

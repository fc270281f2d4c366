// Package lint holds the rules of this repository that a compiler does not
// know, as checks that a test runs over the whole tree: which package may
// import which, how long a function may grow, that nothing keeps state in
// package variables, that tests do not sleep. A rule that nobody checks is
// forgotten; a rule that fails a test with its reason explains itself.
//
// Invariants:
//   - A check is a function of a Tree and reports Problems; it never changes
//     anything and never reads outside the Tree. What it does not understand it
//     lets pass: these are heuristics over syntax, without types.
//   - Every check has at least one case under testdata that it must report, so
//     a check that has gone blind fails too.
//   - Nothing in the product imports this package.
//
// The list of RFC sections that the code cites, docs/standards.md, is made here
// as well; "go generate" writes it again.
package lint

//go:generate go run gatepost/internal/lint/standards -root ../..

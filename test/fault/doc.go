// Package fault does to the real binary what the world does to servers: it kills
// it at each step, cuts the power, fills the disk, takes away file descriptors,
// makes the disk lie, and then counts the mail.
//
// Invariants:
//   - Every scenario is a function that returns what went wrong, and it runs
//     against toy servers too: one that does it right and must pass, and ones
//     that each do one thing wrong and must be caught. A scenario that cannot
//     catch its toys proves nothing about Gatepost.
//   - Mounts live in a mount namespace of the test's own and vanish with it.
package fault

// Package scan looks at the content of a message: it gives every module the same
// Input, runs them under one budget of time, and collects what they found. Each
// module is a package below this one; what follows from the findings is decided
// by package flow.
//
// Invariants:
//   - Modules observe. They change nothing of the message and decide nothing.
//   - A module that is down, too slow, panics or cannot understand the message
//     says Unknown, and so does Run in its place. There is no way to fail silently:
//     every block that was asked has a Report.
//   - What is costly to derive (the tree, the texts, the files in archives) is
//     made once per message, when the first module asks for it.
//   - Run returns when its budget is spent, whatever the modules do.
package scan

// Package change applies changes to the configuration file, and to the files that it
// names, while the gateway runs: checked as a whole, written atomically, loaded without
// dropping a session, kept as a revision with who and why, and rolled back.
//
// Invariants:
//   - Nothing is written that config.Load would refuse, and what was written but could
//     not be loaded is put back. A change that needs a restart is written only where
//     that was asked for.
//   - A change is made to what its author saw: every file of it carries the version it
//     was made from, and a file that has changed since is a ConflictError.
//   - Only files that the configuration names and that lie below its directory, not
//     behind links, are read and written. Keys, passwords and tokens are written but
//     never read back; in all other texts they are replaced by marks, which stand for
//     them on the way back.
//   - Files are edited by hand at any time: what was changed there is found when it is
//     loaded, and kept as a revision, too.
//
// One file per topic: keeper.go (what the outside sees), apply.go (how a change is
// made), journal.go (revisions on disk), files.go (the files), mask.go (secrets).
package change

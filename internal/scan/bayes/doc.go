// Package bayes is a statistical classifier that learns which mail is spam from
// the messages that it is given.
//
// A message becomes a set of tokens (tokens.go, words.go, header.go, body.go); for
// each token the database counts how many ham and spam messages held it (package
// store, bayes.go); score.go weighs what the counts say about a message. A
// Classifier is shared by all flows; a Module is a block of one flow, with its
// scores.
//
// Invariants:
//   - What was learned is nothing but sums. Learning is independent of its order,
//     counts a message once whatever way it came (see digest), and can be undone.
//   - Classifying never asks the database: all counts are in memory, in a table of
//     bounded size that is filled at the start and follows what other nodes learn.
//     While the database is away the table stays as it is.
//   - The work and the number of tokens per message are bounded.
//   - Below Config.MinTrained messages of each kind there is no score.
package bayes

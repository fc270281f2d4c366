// Package filter is the module "filters": the [[filter]]s that administrators
// write. It evaluates their conditions and reports which filters match, for whom
// and why; what follows is decided by package flow.
//
//	f, err := filter.Compile(filter.Spec{Name: "no zips", When: when})
//	module := filter.New([]*filter.Filter{f})
//
// Invariants:
//   - A filter sees every reading of a message: each name of each part and archive
//     member, each instance of a field, raw and decoded, each text.
//   - A match is one finding for each part that it is about, with the name of the
//     filter as symbol and the condition and value that matched as reason. A filter
//     that cannot be evaluated is a finding with the result "unknown".
//   - Expressions are RE2: their time grows with the length of the text only, they
//     are refused above a size, and they stop when the context ends.
//   - What is costly to derive is asked for by filters that need it only, after
//     their cheap conditions hold.
package filter

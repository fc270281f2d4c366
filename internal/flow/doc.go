// Package flow decides what becomes of a message: a Flow is the list of blocks
// that the administrator put together, and Decide goes through it once for every
// recipient, with what the scan modules found.
//
//	verdict := flow.Decide(f, reports, &recipient)
//	fields := flow.Fields(verdict, id)
//
// DecideStage, and StageWalk block by block, do the same for a client or a recipient
// before there is a message.
//
// Invariants:
//   - Decide is pure: the same flow, reports and recipient give the same verdict.
//     It reads no clock, no network and no configuration.
//   - A block that cannot say, or has no report, takes its OnUnknown action. There
//     is no way from "unknown" to "delivered" but by that action.
//   - The match of a virus scanner is the one thing that a filter's "deliver"
//     does not hold up.
//   - What a finding concerns one recipient for, no other recipient feels.
//   - No text from a message or a scanner reaches a reply, and none reaches a header
//     field but as printable ASCII.
package flow

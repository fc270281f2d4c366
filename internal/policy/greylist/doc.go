// Package greylist is the block "greylist" of recipient flows: who was never seen
// sending from here, with this sender, to this recipient, is asked to try again a
// little later. Mail servers do; much of what sends spam does not (RFC 6647).
//
//	g, err := greylist.New(greylist.Config{Store: records})
//	findings, err := g.Check(ctx, in)
//
// A match says that the client has to wait, and for how long (policy.PropertyWait);
// clean says why it need not; unknown that the records cannot be read.
//
// Invariants:
//   - Authenticated and trusted clients never wait, and the null sender not before
//     DATA (CheckData): a callout asks with it, and ends after RCPT.
//   - What has passed is not asked for again as long as it comes back within
//     Config.Keep; a source of which several triplets have passed never waits.
//   - A lost store or a clock that jumped costs one more delay at most: no state is
//     a refusal for good.
//   - A triplet costs one statement of the database at most, those that were seen
//     lately none; what is remembered in memory is bounded.
package greylist

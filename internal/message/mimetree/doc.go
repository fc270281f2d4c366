// Package mimetree reads the structure of a message the way that all mail
// programs together read it. Where they differ (two boundaries, damaged base64,
// a field that only some of them see), it does not choose: every reading becomes
// a Part or a Content of its own, so that scanners see what any recipient could
// open, and the difference is a finding.
//
//	tree, err := mimetree.Read(ctx, body, mimetree.Limits{})
//	for _, p := range tree.Parts {
//		for _, c := range p.Contents {
//			scan(p.Names, c.Types, c.Open())
//		}
//	}
//
// Two passes over the bytes: one notes the lines that could mean something
// (delimiters, the beginnings of uuencoded files), one looks at each leaf. What is
// declared gives the main reading. Whatever delimiter is followed by a Content-
// field gives parts too, whether or not anybody declared it; this is what makes
// the reader hold against tricks that it has never seen.
//
// Invariants:
//   - Nothing in a message is an error: Read fails only where the body cannot be
//     read or the context ends. Damage, doubt and limits are findings, see Symbols.
//   - Parts and contents are offsets into the body; a content is decoded when it
//     is read, again each time. No more than some windows of the body are held.
//   - The work is bounded by the size of the message times Limits.Work, whatever
//     the message says of itself.
//   - A Tree does not change after Read, and may be used by many goroutines as
//     long as the body lives.
package mimetree

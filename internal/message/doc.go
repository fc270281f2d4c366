// Package message reads and re-shapes messages: the header section with the exact
// place of every field, the content as it leaves after the envelope's edits, the
// conversion to 7 bit, and the Received field that each hop adds.
//
//	header, err := message.ReadHeader(m.Body, 1<<20)
//	hops := header.Count("Received")
//	content := message.NewContent(m).Prepend(signature)
//	_, err = io.Copy(w, content.Reader())
//
// Invariants:
//   - The spooled bytes are never changed: a Content is a list of pieces of memory
//     and of the body, and what is not edited leaves byte for byte.
//   - Bodies are streamed. Only header sections are held in memory, and only up to
//     the caller's limit.
//   - A line ends with CRLF and nothing else, and the header section ends at the
//     first empty line. Every reader of a message in Gatepost goes by this rule,
//     so that all of them see the same fields.
//   - Nothing that a client said reaches a header that Gatepost writes unless it
//     is printable ASCII and fits into a line.
package message

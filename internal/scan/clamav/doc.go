// Package clamav is the block "clamav": it gives messages to a real clamd over
// INSTREAM and says what clamd found in them.
//
//	s, err := clamav.New(clamav.Config{Address: "unix:/run/clamav/clamd.ctl"})
//	s.Start(ctx)
//	defer s.Close()
//	findings, err := s.Scan(ctx, in)
//
// Invariants:
//   - Only a complete answer, word for word, is believed. Whatever else comes of a
//     stream (half an answer, bytes behind it, a broken connection) is an error,
//     which means unknown.
//   - clamd sees the message, and every reading of it that clamd would not come
//     to by itself; plan.go has the rule.
//   - clamd is only believed while it finds the EICAR test file and does not find
//     it in a harmless text. Both are tried at the start and every minute.
//   - Nobody waits for a clamd that is known to be down. It is tried again every
//     few seconds, by one goroutine.
//   - A message is streamed through one buffer; what clamd says is hostile text.
package clamav

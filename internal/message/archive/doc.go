// Package archive opens what a message carries: archives and compressed files,
// nested in each other, and the documents that hold other files or programs
// (Office, RTF, PDF). It gives every member to a visitor and reports what is
// wrong with the wrapping.
//
//	u := archive.New(archive.Config{Temp: archive.DirTemp(dir)})
//	budget := u.NewBudget() // one for a whole message
//	result, err := u.Walk(ctx, budget, archive.Input{Name: "a.zip", Body: part}, func(m *archive.Member) error {
//		return scan(m.Name, m.Content)
//	})
//
// Invariants:
//   - Types are found by content, never by name, and a file that has several is
//     opened as each of them.
//   - Where two programs would read an archive differently (the central directory
//     and the local headers of a zip, several encodings of a name) both readings
//     are given, and the difference is a finding.
//   - What cannot be read is a finding with the result "unknown", never an error,
//     and never hides the other members. Errors are for the visitor, the context
//     and broken storage.
//   - One Budget bounds members, nesting, bytes, ratio, time and decoder memory of
//     all walks of a message. Content is kept in memory up to Config.Spill and in
//     a Temp beyond that; it is gone when the visitor has seen the member and what
//     is in it.
//   - Nothing is ever written under a name that an archive gives.
//   - Decoders of others are called through guard.go only: a panic there is a
//     damaged archive, not the end of the process.
//
// The findings, by module and symbol; (u) is unknown, (m) is match:
//
//	archive encrypted    u  a member, or the whole archive, needs a password
//	archive damaged      u  content or structure is broken; what could be read was given
//	archive method       u  a compression method that is not supported
//	archive unsupported  u  a format that is known but not opened (ARJ, ACE, LZH, UDF, VHD …)
//	archive volumes      u  only a part of an archive in several volumes
//	archive depth        u  nested deeper than Limits.Depth; not opened further
//	archive files        u  more members than Limits.Files
//	archive bytes        u  more bytes than Limits.Bytes
//	archive ratio        u  expands by more than Limits.Ratio
//	archive time         u  took longer than Limits.Time, or the context ended
//	archive memory       u  wants more decoder memory than Limits.Memory
//	archive mismatch     m  central directory and local header of a zip contradict each other
//	archive hidden       m  members that the directory of a zip does not list
//	archive overlap      m  members of a zip share bytes
//	archive ambiguous    m  several directories of a zip that list different members
//	archive prefixed     m  an archive behind other data: self-extracting, or two types in one
//	archive name         m  a name made to deceive: direction marks, NUL, path out of the archive
//	office  macro        m  VBA, Basic or script macros
//	office  autorun      m  macros that run when the document is opened or closed
//	office  xlm          m  an Excel 4.0 macro sheet
//	office  object       m  an embedded file (Ole10Native, OLE 1 package)
//	office  equation     m  an object for the Equation Editor
//	office  activex      m  an ActiveX control
//	office  template     m  a template that is fetched from elsewhere
//	office  link         m  an object, frame or document that is fetched from elsewhere
//	office  dde          m  a DDE field or link
//	office  encrypted    u  a document that needs a password
//	office  damaged      u  the structure is broken
//	pdf     javascript   m  a script
//	pdf     launch       m  an action that starts a program
//	pdf     action       m  something happens on opening
//	pdf     embedded     m  an attached file
//	pdf     submit       m  a form that sends or imports data
//	pdf     encrypted    u  strings and streams need a password
//	pdf     damaged      u  a stream that matters could not be decoded
package archive

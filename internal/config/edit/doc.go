// Package edit changes a TOML file by machine and keeps the rest of it as people
// wrote it: comments, order, formatting, line ends.
//
//	doc, err := edit.Parse(text)
//	err = doc.Set(edit.MustPath(`listener[inbound].tls`), "required")
//	text = doc.Text()
//
// Invariants:
//   - What an operation does not concern stays byte for byte.
//   - After every operation the text is TOML again, and holds the value that was
//     asked for; an operation that cannot do that returns an error and changes
//     nothing.
//   - A string with a line end, NUL or another control character is refused: no
//     value of a form can become a second line of the file.
//
// The package knows TOML and nothing of what the keys mean; package config checks
// that. Comments right above a [[table]] or an element of a list belong to it and go
// where it goes; a comment behind a key goes with the key.
package edit

package mimetree

// Limits bound what Read does with one message. A zero field stands for its
// default. What goes over a limit is left unread and reported.
type Limits struct {
	// Depth is how deep parts may lie in parts; 50.
	Depth int
	// Parts is how many parts all readings together may have; 2,000.
	Parts int
	// Header is the size of one header section in bytes; 256 KiB.
	Header int64
	// Field is how much of the value of one Content- field is understood, in
	// bytes; 16 KiB.
	Field int
	// Lines is how many lines that look like delimiters are remembered; 50,000,
	// which take some 60 bytes of memory each.
	Lines int
	// Work is how often the contents of all readings together may cover the
	// message; 8. A mebibyte comes on top, so that small messages may be read in
	// every way there is.
	Work int
}

func (l Limits) orDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = 50
	}
	if l.Parts <= 0 {
		l.Parts = 2000
	}
	if l.Header <= 0 {
		l.Header = 256 << 10
	}
	if l.Field <= 0 {
		l.Field = 16 << 10
	}
	if l.Lines <= 0 {
		l.Lines = 50_000
	}
	if l.Work <= 0 {
		l.Work = 8
	}
	return l
}

// freeWork is what Limits.Work leaves even to the smallest message, in bytes.
const freeWork = 1 << 20

package archive

import (
	"context"
	"sync"

	"gatepost/internal/mail"
)

// Config is what an Unpacker needs. The zero Config works, but then members that
// do not fit into memory are cut off and reported.
type Config struct {
	// Limits of each budget; zero fields take the defaults.
	Limits Limits
	// Temp keeps members longer than Spill. Nil: nothing is kept beyond Spill.
	Temp Temp
	// Spill is how many bytes of a member are held in memory; default 1 MiB. A
	// walk holds at most one such member for each level of nesting.
	Spill int64
	// OldRAR is how many compressed RAR archives of versions 1.5 to 4 may be
	// decoded at the same time in the whole process; default 1. Their format asks
	// for up to 256 MiB in the middle of a stream and runs programs of its own,
	// and neither can be limited from outside.
	OldRAR int
}

// Unpacker walks archives. It is safe for concurrent use.
type Unpacker struct {
	config Config
	// oldRAR holds a token for each old RAR archive that is being decoded.
	oldRAR  chan struct{}
	buffers sync.Pool
}

// New returns an Unpacker.
func New(c Config) *Unpacker {
	c.Limits = c.Limits.withDefaults()
	if c.Spill <= 0 {
		c.Spill = 1 << 20
	}
	if c.OldRAR <= 0 {
		c.OldRAR = 1
	}
	return &Unpacker{
		config:  c,
		oldRAR:  make(chan struct{}, c.OldRAR),
		buffers: sync.Pool{New: func() any { return new([]byte) }},
	}
}

// NewBudget returns a fresh budget for one message; its time starts now.
func (u *Unpacker) NewBudget() *Budget { return NewBudget(u.config.Limits) }

// Input is the file to open: an attachment of a message.
type Input struct {
	// Name is the file name, for paths and for names that derive from it; it
	// decides nothing.
	Name string
	Body mail.Body
}

// Kind is what a member is.
type Kind uint8

// The kinds of members.
const (
	File Kind = iota
	Directory
	Symlink // Member.Link says where to
	Hardlink
	Device // and other special files
)

// Member is one thing found inside another. It is valid until the visitor
// returns.
type Member struct {
	// Path is the names from the input down to the member, Name last.
	Path []string
	// Name is the normalised name, see CleanName; never empty.
	Name string
	// Names are all readings of the name, Name first: from each header and in
	// each decoding. A filter on names looks at all of them.
	Names []string
	// RawName is the name as it stands in the archive, cut at 4 KiB.
	RawName string
	// In is the format of what holds the member.
	In   Format
	Kind Kind
	// Link is the target of a link, as it stands in the archive.
	Link string
	// Claimed and Packed are the size and the compressed size that the archive
	// states, -1 where it does not. Content.Size() is the real size.
	Claimed, Packed int64
	// Content is never nil. It is empty where nothing could be read.
	Content mail.Body
	// Formats are the types, by content, that this package opens.
	Formats []Format
	// Encrypted says that the content needs a password.
	Encrypted bool
	// Cut says that Content is not all there is: damaged, or over a limit.
	Cut bool
	// Derived says that this is no file but text that was taken out of a document:
	// the source of a macro, a script.
	Derived bool
}

// Finding is what was found, and where.
type Finding struct {
	mail.Finding
	// Path is the names from the input down to the object it is about.
	Path []string
}

// Link is a place elsewhere that a document refers to.
type Link struct {
	URL  string
	Path []string
	// Kind is "uri" for a link that a reader clicks, "template", "object",
	// "image" and the like for what a program fetches.
	Kind string
}

// Result is what a walk found.
type Result struct {
	// Formats are the types, by content, of the input itself.
	Formats  []Format
	Findings []Finding
	Links    []Link
	// Members counts the members that were visited.
	Members int
}

// Walk opens in and everything inside, within the budget, and calls visit with
// every member: a member first, then what is in it. An error of visit ends the
// walk and is returned. Other errors are that the context has ended or that
// in.Body or the Temp failed; the result then holds what was found before.
func (u *Unpacker) Walk(ctx context.Context, b *Budget, in Input, visit func(*Member) error) (*Result, error) {
	w := &walk{unpacker: u, ctx: ctx, budget: b, visit: visit, result: &Result{}}
	err := w.run(in)
	return w.result, err
}

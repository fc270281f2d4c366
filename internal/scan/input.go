package scan

import (
	"context"
	"sync"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/message/archive"
	"gatepost/internal/message/mimetree"
	"gatepost/internal/message/textview"
)

// Direction is which way a message goes, from the point of view of the
// administrator's domains.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"  // for a configured domain
	Outbound Direction = "outbound" // from a trusted client or user, to elsewhere
	POP3     Direction = "pop3"     // fetched from a mailbox
)

// Options are how messages are read.
type Options struct {
	Tree     mimetree.Limits
	Text     textview.Limits
	Unpacker *archive.Unpacker
	// MaxHeader bounds the header section in bytes; default 1 MiB.
	MaxHeader int64
}

// Input is one message as modules see it. Everything in it is shared by all of
// them and must not be changed.
type Input struct {
	Message   mail.Message
	Direction Direction
	Header    *message.Header
	Tree      *mimetree.Tree
	// Reports are those of the blocks that ran before, for blocks with After.
	Reports []Report
	// Before tells a block with After, by its key, what the flow of a recipient saw before
	// it, and what that counts. It reports false where that flow does not have the block.
	// Nil: nobody knows of flows.
	Before func(key string, reports []Report, r *mail.Recipient) (seen []mail.Finding, score float64, ok bool)

	options Options
	text    once[*textview.View]
	files   once[*Files]
}

// NewInput reads the structure of a message. The errors are those of reading the
// body and of ctx; what is wrong with the message is found by the modules.
func NewInput(ctx context.Context, m mail.Message, d Direction, o Options) (*Input, error) {
	if o.MaxHeader <= 0 {
		o.MaxHeader = 1 << 20
	}
	read := message.ReadHeader
	if d == POP3 {
		read = message.ReadAnyHeader // whatever its server sends
	}
	header, err := read(m.Body, o.MaxHeader)
	if err != nil {
		return nil, err
	}
	tree, err := mimetree.Read(ctx, m.Body, o.Tree)
	if err != nil {
		return nil, err
	}
	return &Input{Message: m, Direction: d, Header: header, Tree: tree, options: o}, nil
}

// Text returns what a reader sees of the message. It is made once.
func (in *Input) Text(ctx context.Context) (*textview.View, error) {
	return in.text.get(func() (*textview.View, error) {
		return textview.Read(ctx, in.Tree, in.Header, in.options.Text)
	})
}

// Files returns the files that the message carries, those in archives included.
// It is made once.
func (in *Input) Files(ctx context.Context) (*Files, error) {
	return in.files.get(func() (*Files, error) { return in.listFiles(ctx) })
}

// Finding looks for a finding of a block that ran before.
func (in *Input) Finding(module, symbol string) (mail.Finding, bool) {
	for i := range in.Reports {
		for _, f := range in.Reports[i].Findings {
			if f.Module == module && (symbol == "" || f.Symbol == symbol) {
				return f, true
			}
		}
	}
	return mail.Finding{}, false
}

// once makes a value at the first call. Unlike sync.Once it tries again after an
// error: the context of the first caller may have been shorter than that of the
// second.
type once[T any] struct {
	mu   sync.Mutex
	done bool
	v    T
}

func (o *once[T]) get(make func() (T, error)) (T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return o.v, nil
	}
	v, err := make()
	if err == nil {
		o.v, o.done = v, true
	}
	return v, err
}

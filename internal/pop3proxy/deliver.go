package pop3proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/pop3"
)

// deliver gives the client what it may have.
func (f *fetch) deliver(r *Retrieved) {
	f.sum.Result = r
	fate := FatePassed
	body := mail.Message{Envelope: &mail.Envelope{Edits: r.Edits}, Body: r.Body}
	if !r.Pass {
		fate = FateReplaced
		body = mail.Message{Body: memory{bytes.NewReader(r.Notice)}}
		if f.replaced == nil {
			f.replaced = make(map[int]bool)
		}
		if len(f.replaced) < maxUIDLs {
			f.replaced[f.number] = true
		}
	}
	content := message.NewContent(body)
	if !f.greeted {
		f.begin(content.Size(), r)
	}
	if err := f.write(content); err != nil {
		f.out = nil
		f.account(FateFailed, err.Error())
		f.endBecause("connection lost")
		return
	}
	f.account(fate, r.Reason)
	if f.up.dead != nil {
		f.lost(f.up.dead)
	}
}

// begin is the first line of the answer. The server's own stands for what it is true of.
func (f *fetch) begin(size int64, r *Retrieved) {
	f.greeted = true
	edited := len(r.Edits.Prepend)+len(r.Edits.Cut)+len(r.Edits.Replace) > 0
	switch {
	case f.lines >= 0:
		f.say(f.verb.String(), "+OK top of message follows")
	case r.Pass && !edited && f.status != nil:
		f.relay(f.verb.String(), f.status)
	default:
		f.say(f.verb.String(), "+OK "+strconv.FormatInt(size, 10)+" octets")
	}
}

// errEnough ends the reading of a message of which only the top is wanted.
var errEnough = errors.New("enough")

// write sends the message, or its top, and the dot.
func (f *fetch) write(content *message.Content) error {
	stuffer := &pop3.Stuffer{W: patient{f}}
	var to io.Writer = stuffer
	if f.lines >= 0 {
		to = topOnly{&pop3.Head{W: stuffer, Lines: f.lines}}
	}
	if _, err := content.Reader().WriteTo(to); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return stuffer.Close()
}

// topOnly stops who writes to it when the head is complete.
type topOnly struct{ *pop3.Head }

func (t topOnly) Write(p []byte) (int, error) {
	if t.Done() {
		return 0, errEnough
	}
	return t.Head.Write(p)
}

// patient writes to the client and keeps the server awake meanwhile.
type patient struct{ *fetch }

func (p patient) Write(b []byte) (int, error) {
	p.keepAlive()
	return p.session.Write(b)
}

// memory is a Body that is in memory.
type memory struct{ *bytes.Reader }

// passThrough gives the client what the server sends, as it comes.
func (f *fetch) passThrough(reason string) {
	reply, bare, ok := f.ask(f.request.String())
	if !ok {
		f.account(FateFailed, "server lost")
		return
	}
	f.relay(f.verb.String(), reply)
	if pop3.ParseStatus(reply) != pop3.StatusOK {
		return
	}
	f.greeted = true
	u := f.up
	f.srv.borrow(u.in)
	defer f.srv.giveBack(u.in)
	un, stuffer := pop3.Unstuffer{LFOnly: bare}, &pop3.Stuffer{W: f.session}
	for {
		for buf := u.in.Buffered(); len(buf) > 0; {
			text, n, end := un.Next(buf)
			f.sum.Size += int64(len(text))
			if _, err := stuffer.Write(text); err != nil {
				f.fail(errClient)
				return
			}
			u.in.Discard(n)
			if buf = buf[n:]; end {
				f.env.Size = f.sum.Size
				stuffer.Close() // a client that is gone is noticed by the next command
				f.account(FateUnscanned, reason)
				return
			}
		}
		u.patience(u.timeout)
		if f.flush() != nil {
			f.fail(errClient)
			return
		}
		if _, err := u.in.Fill(); err != nil {
			f.fail(u.fail(fmt.Errorf("read message: %w", err)))
			return
		}
	}
}

package milter

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"gatepost/internal/mail"
	"gatepost/internal/message"
	"gatepost/internal/scan"
)

// errDecided ends a conversation: the milter knows what it wants.
var errDecided = errors.New("the milter has decided")

// talk is the conversation about one message.
type talk struct {
	s   *Scanner
	in  *scan.Input
	env *mail.Envelope
	r   *bufio.Reader
	w   *bufio.Writer

	version uint32
	steps   uint32 // what was agreed on
	// seen are the fields that the milter sees: those that are delivered.
	seen     []message.Field
	findings []mail.Finding
	edits    int // how many were reported, and the bytes of their values
	editSize int
	refused  int
}

func newTalk(s *Scanner, in *scan.Input, c net.Conn) *talk {
	t := &talk{s: s, in: in, env: in.Message.Envelope, r: bufio.NewReaderSize(c, 4<<10), w: bufio.NewWriterSize(c, 72<<10)}
	for _, f := range in.Header.Fields() {
		if !cutOut(f.Span, t.env.Edits.Cut) {
			t.seen = append(t.seen, f)
		}
	}
	return t
}

func cutOut(s mail.Span, cut []mail.Span) bool {
	for _, c := range cut {
		if c.Start <= s.Start && s.End <= c.End {
			return true
		}
	}
	return false
}

// run leads the conversation to its end.
func (t *talk) run() error {
	for _, step := range []func() error{t.negotiate, t.session, t.envelope, t.header, t.body, t.end} {
		if err := step(); err != nil {
			if errors.Is(err, errDecided) {
				// It has heard less than it may expect: that the rest does not come is
				// for it alone, and the answer is there already.
				_ = writePacket(t.w, cmdAbort, nil)
				t.quit()
				return nil
			}
			return err
		}
	}
	t.quit()
	return nil
}

// quit says goodbye. Whether the milter hears it changes nothing.
func (t *talk) quit() {
	_ = writePacket(t.w, cmdQuit, nil)
	_ = t.w.Flush()
}

// negotiate agrees on a version and on what is left out.
func (t *talk) negotiate() error {
	var offer [12]byte
	binary.BigEndian.PutUint32(offer[:], version)
	binary.BigEndian.PutUint32(offer[4:], allActions)
	binary.BigEndian.PutUint32(offer[8:], allSteps)
	if err := writePacket(t.w, cmdNegotiate, offer[:]); err != nil {
		return err
	}
	p, err := t.receive()
	if err != nil {
		return err
	}
	if p.code != cmdNegotiate || len(p.data) < len(offer) {
		return fmt.Errorf("the milter answers %q with %d bytes to the negotiation", p.code, len(p.data))
	}
	t.version = min(version, binary.BigEndian.Uint32(p.data))
	t.steps = binary.BigEndian.Uint32(p.data[8:])
	switch actions := binary.BigEndian.Uint32(p.data[4:]); {
	case t.version < oldest:
		return fmt.Errorf("the milter speaks version %d of the protocol", t.version)
	case actions&^allActions != 0 || t.steps&^uint32(allSteps) != 0:
		return fmt.Errorf("the milter wants what was not offered: actions %#x, steps %#x", actions, t.steps)
	}
	return nil
}

// receive sends what is waiting and reads the next packet.
func (t *talk) receive() (packet, error) {
	if err := t.w.Flush(); err != nil {
		return packet{}, fmt.Errorf("send to the milter: %w", err)
	}
	for {
		p, err := readPacket(t.r)
		if err != nil || p.code != saysProgress {
			return p, err
		}
	}
}

// command is one step of the conversation.
type command struct {
	code byte
	// skip and quiet are the bits which say that the milter does not want to hear
	// it, or has nothing to say to it.
	skip, quiet uint32
	data        []byte
	// recipient is the one that it is about, "" for the whole message.
	recipient string
}

// say sends a command and understands the answer. The error is errDecided where
// the milter wants to hear no more of this message.
func (t *talk) say(c command) (code byte, err error) {
	if t.steps&c.skip != 0 {
		return saysContinue, nil
	}
	if err := writePacket(t.w, c.code, c.data); err != nil {
		return 0, err
	}
	if t.steps&c.quiet != 0 {
		return saysContinue, nil
	}
	p, err := t.receive()
	if err != nil {
		return 0, err
	}
	return p.code, t.answer(p, c)
}

// answer understands an answer to a command, but for the end of the message.
func (t *talk) answer(p packet, c command) error {
	if p.code == saysContinue || p.code == saysSkip && c.code == cmdBody && t.steps&canSkip != 0 {
		return nil
	}
	f, err := verdict(p)
	if err != nil {
		return err
	}
	if f.Symbol == "" {
		return errDecided // accepted
	}
	if c.recipient != "" && f.Symbol != "discard" && p.code != saysShutdown && p.code != saysConnFail {
		// It refuses this one and goes on.
		f.Recipients = []string{c.recipient}
		t.findings = append(t.findings, f)
		return nil
	}
	t.findings = append(t.findings, f)
	return errDecided
}

// verdict understands a final answer; accept is the zero Finding.
func verdict(p packet) (mail.Finding, error) {
	switch p.code {
	case saysAccept, saysContinue:
		return mail.Finding{}, nil
	case saysReject:
		return saw("reject", mail.Match, "rejects it", ""), nil
	case saysDiscard:
		return saw("discard", mail.Match, "wants it discarded", ""), nil
	case saysTempfail:
		return saw("tempfail", mail.Unknown, "cannot say now", ""), nil
	case saysShutdown, saysConnFail:
		return saw("tempfail", mail.Unknown, "wants to end the session", ""), nil
	case saysReply:
		return ofReply(p.data)
	}
	return mail.Finding{}, fmt.Errorf("the milter answers %q, which is no answer here", p.code)
}

// ofReply understands an SMTP reply: "550 5.7.1 text", or several lines of it.
func ofReply(data []byte) (mail.Finding, error) {
	text, _, _ := cutText(data)
	code, rest := text[:min(3, len(text))], ""
	if len(text) > 4 {
		rest = text[4:]
	}
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(rest, "\r\n", "\n"), "\n") {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, code+"-"), code+" "))
	}
	// libmilter doubles per cent signs for the sake of the MTA.
	rest = strings.ReplaceAll(strings.Join(lines, " "), "%%", "%")
	n, err := strconv.Atoi(code)
	switch {
	case err != nil || n < 400 || n > 599 || len(text) > 3 && text[3] != ' ' && text[3] != '-':
		return mail.Finding{}, fmt.Errorf("the milter replies %q, which is no reply", message.SafeText(text, maxText))
	case n < 500:
		return saw("tempfail", mail.Unknown, "cannot say now ("+code+")", rest), nil
	}
	return saw("reject", mail.Match, "rejects it ("+code+")", rest), nil
}

// body sends what follows the header section.
func (t *talk) body() error {
	if t.steps&noBody != 0 {
		return nil
	}
	size := t.in.Message.Body.Size()
	buf := make([]byte, min(maxChunk, max(size-t.in.Header.Size, 0)))
	for at := t.in.Header.Size; at < size; {
		n, err := t.in.Message.Body.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n == 0 {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return &scan.SourceError{Err: err}
		}
		at += int64(n)
		code, err := t.say(command{code: cmdBody, quiet: quietBody, data: buf[:n]})
		if err != nil {
			return err
		}
		if code == saysSkip {
			return nil
		}
	}
	return nil
}

// end says that this was all, and hears what the milter thinks of it.
func (t *talk) end() error {
	if err := t.macros(cmdEOM, "i", t.env.ID.String()); err != nil {
		return err
	}
	if err := writePacket(t.w, cmdEOM, nil); err != nil {
		return err
	}
	heard := 0
	var wishes []wish
	for {
		p, err := t.receive()
		if err != nil {
			return err
		}
		if heard += len(p.data) + 5; heard > maxTalk {
			return errors.New("the milter says more than a message may be changed")
		}
		w, ok, err := wishOf(p)
		if err != nil {
			return err
		}
		if ok {
			if n := len(wishes); w.kind == asksBody && n > 0 && wishes[n-1].kind == asksBody {
				continue // more of the same body
			}
			if wishes = append(wishes, w); len(wishes) > maxWishes {
				return fmt.Errorf("the milter wants more than %d changes", maxWishes)
			}
			continue
		}
		f, err := verdict(p)
		if err != nil {
			return err
		}
		if f.Symbol != "" {
			t.findings = append(t.findings, f)
			return nil
		}
		t.take(wishes)
		return nil
	}
}

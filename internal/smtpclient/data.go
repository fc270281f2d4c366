package smtpclient

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"gatepost/internal/mail"
	"gatepost/internal/smtp"
)

// ErrSpent says that the remote wants no more messages in this session, and
// another one would do.
var ErrSpent = errors.New("the session takes no more messages")

var errSize = errors.New("the content does not have the size that it says")

// sent is how far the message itself got.
type sent struct {
	// err is why it did not get out whole; nil if it did.
	err error
	// local says that the fault is ours: the content could not be read or must
	// not be sent.
	local bool
	// ended says that the remote may have seen the end all the same.
	ended bool
}

// blockSize is the block that Timeouts.DataBlock is for, in bytes.
const blockSize = 64 << 10

// bodySink is where the content is written to. It gives the remote time for each
// block, and keeps an eye on the average.
type bodySink struct {
	c     *Conn
	begun time.Time
	bytes int64
	err   error
}

// Write implements io.Writer.
func (s *bodySink) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		block := p[n:min(len(p), n+blockSize)]
		s.bytes += int64(len(block))
		s.c.armUntil(s.deadline())
		var wrote int
		wrote, err = s.c.nc.Write(block)
		n += wrote
	}
	s.err = err
	return n, err
}

// deadline is until when the block that is next must have been taken.
func (s *bodySink) deadline() time.Time {
	t := &s.c.d.cfg.Timeouts
	deadline := time.Now().Add(t.DataBlock)
	if t.MinRate > 0 {
		allowed := t.DataBlock + time.Duration(float64(s.bytes)/float64(t.MinRate)*float64(time.Second))
		if at := s.begun.Add(allowed); at.Before(deadline) {
			return at
		}
	}
	return deadline
}

// sendData sends the message after a 354.
func (t *txn) sendData() sent {
	sink := &bodySink{c: t.c, begun: time.Now()}
	return t.pump(sink, t.req.Content, smtp.NewDataWriter(sink, t.buf[:0]))
}

// sendChunk sends the message as one BDAT command (RFC 3030 §2). What was
// written cannot be taken back, so it was checked before that somebody wants it.
func (t *txn) sendChunk() sent {
	t.buf = append(t.buf[:0], "BDAT "...)
	t.buf = strconv.AppendInt(t.buf, t.req.Content.Size(), 10)
	t.buf = append(t.buf, " LAST\r\n"...)
	sink := &bodySink{c: t.c, begun: time.Now()}
	return t.pump(sink, bounded{t.req.Content}, smtp.NewChunkWriter(sink, t.buf, t.binary()))
}

// pump moves the content into w.
func (t *txn) pump(sink *bodySink, content Content, w *smtp.DataWriter) sent {
	size := content.Size()
	_, err := content.WriteTo(w)
	if err == nil && size >= 0 && w.Written() != size {
		err = fmt.Errorf("%w: %d instead of %d", errSize, w.Written(), size)
	}
	if err == nil {
		if err = w.Close(); err == nil {
			return sent{}
		}
		return sent{err: err, local: sink.err == nil, ended: sink.err != nil}
	}
	return sent{err: err, local: sink.err == nil}
}

// bounded is the content of a BDAT command, which is complete as soon as it has
// as many bytes as it said. So there are never more, and the last one waits until
// the content has ended without an error.
type bounded struct{ Content }

// WriteTo implements io.WriterTo.
func (b bounded) WriteTo(w io.Writer) (int64, error) {
	l := &lastByte{w: w, left: b.Size()}
	n, err := b.Content.WriteTo(l)
	if err == nil && len(l.held) > 0 {
		_, err = w.Write(l.held)
	}
	return n, err
}

// lastByte writes all but the last of left bytes.
type lastByte struct {
	w    io.Writer
	left int64
	held []byte
}

// Write implements io.Writer.
func (l *lastByte) Write(p []byte) (int, error) {
	n := len(p)
	if int64(n) > l.left {
		return 0, errSize
	}
	l.left -= int64(n)
	if l.left == 0 && n > 0 {
		l.held = []byte{p[n-1]}
		n--
	}
	if n > 0 {
		if wrote, err := l.w.Write(p[:n]); err != nil {
			return wrote, err
		}
	}
	return len(p), nil
}

// finish reads the answer to the message and gives it to those who were accepted.
func (t *txn) finish(s sent) *Error {
	if s.err == nil {
		return t.finalReplies()
	}
	c := t.c
	c.over = true
	if s.local {
		return t.unreadable(s.err)
	}
	// Who stops reading has often said why.
	c.arm(time.Second)
	if r, err := c.replies.Read(); err == nil && (r.Temporary() || r.Permanent()) {
		for _, i := range t.accepted {
			t.set(i, "eod", r)
		}
		return &Error{Stage: "eod", Reply: r}
	}
	err := c.ioError("eod", s.err)
	t.lost(t.accepted, err, s.ended)
	return err
}

// finalReplies reads what the remote says to the whole message.
func (t *txn) finalReplies() *Error {
	c := t.c
	c.arm(c.d.cfg.Timeouts.DataDone)
	step := len(t.accepted)
	if c.d.cfg.LMTP {
		step = 1 // RFC 2033 §4.2: one reply for each recipient that was accepted
	}
	for n := 0; n < len(t.accepted); n += step {
		if err := t.finalReply(t.accepted[n : n+step]); err != nil {
			t.lost(t.accepted[n+step:], err, true)
			return err
		}
	}
	if c.replies.Buffered() > 0 {
		// The answer stands, but the next message must not get what follows it.
		c.over = true
	}
	return nil
}

// finalReply reads one reply to the message, for the given recipients.
func (t *txn) finalReply(whom []int) *Error {
	c := t.c
	r, err := c.reply("eod", c.d.cfg.Timeouts.DataDone)
	if err == nil && r.Code/100 == 3 {
		err = c.violation("eod", r)
	}
	if err != nil && err.Reply.IsZero() {
		t.lost(whom, err, true)
		return err
	}
	for _, i := range whom {
		t.set(i, "eod", r)
	}
	return err
}

// lost records that the session ended with the message on its way. Where its end
// was sent, the remote may have it, and we must send it again nevertheless: better
// twice than never (RFC 1047 §2).
func (t *txn) lost(whom []int, err *Error, ended bool) {
	o := t.stamp(err.Outcome())
	o.MaybeDuplicate = ended
	for _, i := range whom {
		t.out[i] = o
	}
}

// unreadable records that the content itself is at fault. What must not be sent
// today must not be sent tomorrow; everything else may pass.
func (t *txn) unreadable(cause error) *Error {
	o := mail.Outcome{Status: mail.Deferred, Reply: mail.ReplyLocalError.Reply(), Stage: "data", Time: time.Now(), Cause: cause.Error()}
	if errors.Is(cause, smtp.ErrIllegalData) {
		o.Status, o.Reply = mail.Failed, mail.ReplyBareLineEnd.Reply()
	}
	for _, i := range t.accepted {
		t.out[i] = t.stamp(o)
	}
	return &Error{Stage: "data", Key: mail.ReplyLocalError, Err: fmt.Errorf("read content: %w", cause)}
}

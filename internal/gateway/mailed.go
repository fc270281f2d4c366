package gateway

import (
	"bytes"
	"io"
	"net"

	"gatepost/internal/mail"
)

// mailed makes an envelope out of one of a message that was fetched from a mailbox, for
// when it is mailed after all: its client sent nothing, and its server brought it.
func mailed(env *mail.Envelope) {
	s := &env.Session
	host, _, err := net.SplitHostPort(s.Server)
	if err != nil {
		host = s.Server
	}
	*s = mail.Session{ID: s.ID, Listener: s.Listener, Protocol: mail.POP3, Server: s.Server, Helo: host}
	env.Body = mail.Body8Bit
}

// copyLines copies a body and gives it the line ends that mail has on its way (RFC 5321
// §2.3.8): bytes from a mailbox may have others.
func copyLines(w io.Writer, body mail.Body) error {
	l := &lineEnds{w: w}
	if _, err := io.Copy(l, io.NewSectionReader(body, 0, body.Size())); err != nil {
		return err
	}
	return l.close()
}

// lineEnds writes CRLF for each CR or LF that stands alone, and behind the last line.
type lineEnds struct {
	w    io.Writer
	cr   bool // a CR was read and not yet written
	open bool // the last line has no end yet
	buf  bytes.Buffer
}

func (l *lineEnds) Write(p []byte) (int, error) {
	l.buf.Reset()
	for _, c := range p {
		if l.cr || c == '\n' {
			l.buf.WriteString("\r\n")
			alone := l.cr && c != '\n'
			l.cr, l.open = false, false
			if !alone {
				continue
			}
		}
		if c == '\r' {
			l.cr = true
			continue
		}
		l.buf.WriteByte(c)
		l.open = true
	}
	if _, err := l.w.Write(l.buf.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *lineEnds) close() error {
	if !l.cr && !l.open {
		return nil
	}
	_, err := io.WriteString(l.w, "\r\n")
	return err
}
